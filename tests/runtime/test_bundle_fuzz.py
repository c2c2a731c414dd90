"""Damaged bundles: whatever bytes a manifest, a graph or a weights file holds, the answer is a documented
error that names a field and says what was expected, or a bundle that loads."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import keystep

SHIPPED = Path("bundles/franka3blocks-state.keystep")
MESSAGE = re.compile(r"\S[^\0]*?: expected [^\0]+, got [^\0]", re.DOTALL)
MOST = 2000  # bytes of a message
TEXTS = [
    "",
    "\0",
    "a\0b",
    "\ud800",
    "\udfff\ud800",
    "é" * 200,
    "x" * 100_000,
    "../x",
    "/etc/passwd",
    "\x1b[31m",
    ".",
]
NUMBERS = [-1, 0, 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, -(2**63), 1e308, -1e308, 1e-320, 0.5, 10**300]
OTHERS: list[Any] = [None, True, False, [], {}, [[]], {"": {}}, [None] * 5, {"file": "x", "sha256": "y"}]


def assert_documented(work: Callable[[], Any], what: str) -> bool:
    """Whether it was refused."""
    try:
        answer = work()
    except keystep.BundleError as error:
        message = str(error)
        assert MESSAGE.match(message), f"{what}: {message!r}"
        assert len(message.encode()) <= MOST, what
        return True
    if isinstance(answer, keystep.Runtime):
        answer.close()
    return False


def assert_answered(folder: Path, text: bytes, what: str) -> None:
    (folder / "manifest.json").write_bytes(text)
    refused = assert_documented(lambda: keystep.read_manifest(folder), what)
    assert refused == assert_documented(lambda: keystep.load(folder, engine="stub", threads=1), what)


# ---- manifests


def damaged_bytes(text: bytes, rng: random.Random) -> bytes:
    """One to three edits: a byte changed, a slice cut out, doubled, or something put in."""
    for _ in range(rng.randint(1, 3)):
        at, length = rng.randrange(len(text)), rng.choice([1, 1, 2, 5, 40])
        inserted = rng.choice(
            [rng.randbytes(length), b"\xff", b"\xef\xbb\xbf", b"\0", b"\\ud800", b'"', b"[" * 50]
        )
        text = rng.choice(
            [
                text[:at] + bytes([rng.randrange(256)]) + text[at + 1 :],
                text[:at] + text[at + length :],
                text[:at] + text[at : at + length] + text[at:],
                text[:at] + inserted + text[at:],
            ]
        )
    return text + rng.choice([b""] * 6 + [b"\0", b"\0 garbage", b" garbage", b"\n \t\r", b"\v"])


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a JSON value with every key or index in it."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


def deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def damaged_structure(manifest: dict[str, Any], rng: random.Random) -> bytes:
    """One to three values replaced, dropped, renamed or moved; sometimes one key twice."""
    manifest = copy.deepcopy(manifest)
    for _ in range(rng.randint(1, 3)):
        container, key = rng.choice(list(places(manifest)))
        action = rng.randrange(6)
        if action == 0:
            container[key] = rng.choice([*TEXTS, *NUMBERS, *OTHERS, deep(40)])
        elif action == 1:
            del container[key]
        elif action == 2 and isinstance(container, dict):
            container[rng.choice([*TEXTS, "unknown"])] = container.pop(key)
        elif action == 3 and isinstance(container, list):
            container.insert(key, copy.deepcopy(container[key]))
        elif isinstance(container[key], int | float) and not isinstance(container[key], bool):
            container[key] = rng.choice(
                [*NUMBERS, container[key] + 1, -container[key], float(container[key])]
            )
        else:
            other, where = rng.choice(list(places(manifest)))
            container[key] = copy.deepcopy(other[where])
    text = json.dumps(manifest, ensure_ascii=rng.random() < 0.5, allow_nan=True)
    if rng.random() < 0.1:
        text = text.replace('"name"', '"name": 1, "name"', 1)
    return text.encode(errors=rng.choice(["surrogatepass", "replace"]))


@pytest.fixture
def manifests(stub_bundle: Path, tmp_path: Path) -> list[tuple[Path, bytes]]:
    """A flat policy, and the shipped hierarchy (its manifest, with files of a few bytes)."""
    hierarchy = tmp_path / "hierarchy.keystep"
    hierarchy.mkdir()
    manifest = json.loads((SHIPPED / "manifest.json").read_text())
    weights = [part["unet"] for part in (manifest, manifest["planner"]) if part["unet"] is not None]
    for entry in [*manifest["graphs"].values(), manifest["golden"], *weights]:
        (hierarchy / entry["file"]).write_bytes(entry["file"].encode())
        entry["sha256"] = hashlib.sha256(entry["file"].encode()).hexdigest()
    flat = (stub_bundle / "manifest.json").read_bytes()
    return [(stub_bundle, flat), (hierarchy, json.dumps(manifest).encode())]


@pytest.mark.parametrize("seed", range(4))
def test_damaged_bytes_of_a_manifest(manifests: list[tuple[Path, bytes]], seed: int) -> None:
    rng = random.Random(seed)
    for folder, text in manifests:
        assert_answered(folder, text, "as it is")
        for round_ in range(200):
            assert_answered(folder, damaged_bytes(text, rng), f"seed {seed}, round {round_}")


@pytest.mark.parametrize("seed", range(4))
def test_damaged_structure_of_a_manifest(manifests: list[tuple[Path, bytes]], seed: int) -> None:
    rng = random.Random(100 + seed)
    for folder, text in manifests:
        manifest = json.loads(text)
        for round_ in range(200):
            assert_answered(folder, damaged_structure(manifest, rng), f"seed {seed}, round {round_}")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda text: b"\xef\xbb\xbf" + text,
            "manifest.json: expected JSON in UTF-8 without a byte order mark",
        ),
        (lambda text: text.decode().encode("utf-16"), "manifest.json: expected valid JSON"),
        (lambda text: text.replace(b'"stub"', b'"\xff"', 1), "ill-formed UTF-8 byte"),
        (lambda text: text.replace(b'"stub"', b'"\\ud800"', 1), "manifest.json: expected valid JSON"),
        (lambda text: text.replace(b'"stub"', b'"\xed\xa0\x80"', 1), "ill-formed UTF-8 byte"),
        (
            lambda text: text.replace(b'"goal"', b'"go\\u0000al": 1, "goal"', 1),
            r"go\x00al: expected one of the keys",
        ),
        (
            lambda text: text.replace(b'"goal"', b'"\\ud800": 1, "goal"', 1),
            "manifest.json: expected valid JSON",
        ),
        (lambda text: text.replace(b'"goal"', b'"\\u001b": 1, "goal"', 1), r"\x1b: expected one of the keys"),
        (lambda text: b"[" * 100_000 + b"]" * 100_000, "manifest.json: expected at most 32 levels, got more"),
        (lambda text: b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "at most 32 levels, got more"),
        (lambda text: b"9" * 1_000_000, "manifest.json: expected valid JSON"),
        (lambda text: text + b"\0", "manifest.json: expected valid JSON, got a NUL at byte"),
        (lambda text: text + b"\0 garbage", "manifest.json: expected valid JSON, got a NUL at byte"),
        (lambda text: text + b"\n\0\0", "manifest.json: expected valid JSON, got a NUL at byte"),
        (lambda text: b"\0" + text, "manifest.json: expected valid JSON, got a NUL at byte 0"),
        (lambda text: text + b" garbage", "manifest.json: expected valid JSON"),
        (lambda text: text + b"\x1a", "manifest.json: expected valid JSON"),
        (lambda text: text + b"\xff", "manifest.json: expected valid JSON"),
        (lambda text: text + text, "manifest.json: expected valid JSON"),
        (lambda text: text + b"\xc2\xa0", "manifest.json: expected valid JSON"),
        (lambda text: b"// a comment\n" + text, "manifest.json: expected valid JSON"),
        *[
            (
                lambda text, value=value: text.replace(
                    b'"provenance": {', b'"provenance": {"x": %s, ' % value
                ),
                "manifest.json: expected valid JSON",
            )
            for value in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000, b"01", b"+1", b"'x'")
        ],
    ],
)
def test_text_of_a_manifest(stub_bundle: Path, change: Callable[[bytes], bytes], reason: str) -> None:
    manifest = stub_bundle / "manifest.json"
    manifest.write_bytes(change(manifest.read_bytes()))
    for work in (
        lambda: keystep.read_manifest(stub_bundle),
        lambda: keystep.load(stub_bundle, engine="stub"),
    ):
        with pytest.raises(keystep.BundleError) as caught:
            work()
        assert reason in str(caught.value)
        assert len(str(caught.value)) < 700


@pytest.mark.parametrize("end", [b"\n", b" \t\r\n" * 100])
def test_white_space_after_a_manifest(stub_bundle: Path, end: bytes) -> None:
    manifest = stub_bundle / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + end)
    assert keystep.read_manifest(stub_bundle)["name"] == "stub"


def test_what_only_cpp_reads_is_refused(stub_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("{", "[" * 100_000, '{"x": ' + "9" * 5000 + "}", "\ufeff{}"):
        monkeypatch.setattr(keystep._core, "read_manifest", lambda path, text=text: text)
        with pytest.raises(keystep.BundleError, match=r"manifest.json: expected valid JSON, got "):
            keystep.read_manifest(stub_bundle)


@pytest.mark.parametrize("name", [b"caf\xe9.keystep", b"\xff\xfe", b"x" * 200, b"x" * 5000])
def test_text_of_a_path(tmp_path: Path, name: bytes) -> None:
    import os

    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    assert assert_documented(lambda: keystep.load(path, engine="stub"), repr(name))
    assert assert_documented(lambda: keystep.read_manifest(path), repr(name))


# ---- files with the right hash


def rehash(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    entries = [
        *manifest["graphs"].values(),
        manifest.get("unet"),
        (manifest.get("planner") or {}).get("unet"),
        *(data for graph in manifest["graphs"].values() for data in graph.get("external", [])),
    ]
    for entry in filter(None, entries):
        entry["sha256"] = hashlib.sha256((folder / entry["file"]).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("seed", range(2))
def test_damaged_graphs(onnx_bundle: Path, seed: int) -> None:
    rng = random.Random(200 + seed)
    graphs = {name: (onnx_bundle / name).read_bytes() for name in ("encode.onnx", "denoise.onnx")}
    for round_ in range(100):
        for name, content in graphs.items():
            damaged = rng.random() < 0.7
            (onnx_bundle / name).write_bytes(damaged_bytes(content, rng) or b"x" if damaged else content)
        rehash(onnx_bundle)
        load = lambda: keystep.load(onnx_bundle, engine="onnxruntime", threads=1)  # noqa: E731
        assert_documented(load, f"seed {seed}, round {round_}")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shipped") / "x.keystep"
    shutil.copytree(SHIPPED, folder)
    return folder


def with_header(content: bytes, header: bytes) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def header_of(content: bytes) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    return content[8 : 8 + length]


@pytest.mark.parametrize("place", ["shape", "data_offsets", "dtype", "__metadata__"])
def test_deep_headers_of_weights(shipped: Path, place: str) -> None:
    content = (SHIPPED / "unet.safetensors").read_bytes()
    marker = b'"nested here"'
    header = json.loads(header_of(content))
    first = next(name for name in header if name != "__metadata__")
    (header if place == "__metadata__" else header[first])[place] = "nested here"
    for nested in (b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000):
        damaged = with_header(content, json.dumps(header).encode().replace(marker, nested))
        (shipped / "unet.safetensors").write_bytes(damaged)
        rehash(shipped)
        assert assert_documented(lambda: keystep.load(shipped, threads=1), place)


@pytest.mark.parametrize("end", [b"\0", b"\0 garbage", b" garbage"])
def test_what_follows_the_header_of_weights(shipped: Path, end: bytes) -> None:
    content = (SHIPPED / "unet.safetensors").read_bytes()
    header = header_of(content).rstrip() + end
    (shipped / "unet.safetensors").write_bytes(with_header(content, header.ljust(-(-len(header) // 64) * 64)))
    rehash(shipped)
    with pytest.raises(keystep.BundleError, match=r"unet\.safetensors: expected valid JSON"):
        keystep.load(shipped, threads=1)


def test_damaged_weights(shipped: Path) -> None:
    rng = random.Random(300)
    content = (SHIPPED / "unet.safetensors").read_bytes()
    header = header_of(content)
    for round_ in range(40):
        manifest = json.loads(header)
        damaged = damaged_structure(manifest, rng) if round_ % 2 else damaged_bytes(header, rng)
        (shipped / "unet.safetensors").write_bytes(with_header(content, damaged))
        rehash(shipped)
        assert_documented(lambda: keystep.load(shipped, engine="native", threads=1), f"round {round_}")


# ---- planners that write code


@pytest.fixture(scope="module", params=["words", "pieces"])
def code_bundle(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A bundle of the family code, and its manifest; with a tokenizer of either kind."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from code_checkpoints import code_checkpoint

    from keystep.export.code_bundle import export_code_bundle

    run = code_checkpoint(tmp_path_factory.mktemp("code") / "run", "micro-state", context=300)
    made = export_code_bundle(run, run.parent / "it.keystep", reply_tokens=6, constrained=True)
    manifest = json.loads((made / "manifest.json").read_text())
    if request.param == "pieces":
        words = manifest["planner"]["tokenizer"]["words"]
        words[:3] = [" ", "ab", " ab"]
        manifest["planner"]["tokenizer"] |= {"format": "keystep-pieces", "merges": [[260, 261]]}
        text = json.dumps(manifest).encode()
        (made / "manifest.json").write_bytes(text)
        keystep.read_manifest(made)
    return made, json.dumps(manifest).encode()


@pytest.mark.parametrize("seed", range(3))
def test_damaged_manifests_of_planners_that_write(code_bundle: tuple[Path, bytes], seed: int) -> None:
    folder, text = code_bundle
    rng, refused = random.Random(seed), 0
    for number in range(40):
        damaged = damaged_bytes(text, rng) if number % 2 else damaged_structure(json.loads(text), rng)
        (folder / "manifest.json").write_bytes(damaged)
        refused += assert_documented(lambda: keystep.read_manifest(folder), f"{seed}: {number}")
        assert_documented(lambda: keystep.load(folder, threads=1).close(), f"{seed}: {number}, loaded")
    assert refused > 5
