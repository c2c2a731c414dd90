"""golden.npz from anywhere: what is not what the manifest asks for is a BundleError that names the array."""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keystep

pytest.importorskip("onnxruntime")

from keystep.export import golden_file
from keystep.export.golden_file import read_golden
from keystep.features import Feature

Arrays = dict[str, np.ndarray]
SAMPLER = {
    "kind": "ddim",
    "train_steps": 10,
    "inference_steps": 3,
    "beta_schedule": "squaredcos_cap_v2",
    "betas": [],
    "timestep_rule": "leading",
    "steps_offset": 0,
    "set_alpha_to_one": True,
    "eta": 0.5,
    "guidance": 0.0,
}
STATE = Feature("observation.state", "vector", (3,), names=("x", "y", "z"))
CAMERA = Feature("observation.images.top", "rgb", (3, 5, 3))
MANIFEST: dict[str, Any] = {
    "action": {"names": ["a", "b"]},
    "chunk": {"horizon": 4},
    "observation": [feature.to_dict() | {"normalization": {}} for feature in (STATE, CAMERA)],
    "tasks": [{"name": "lift", "instruction": "Lift."}, {"name": "push", "instruction": "Push."}],
    "sampler": SAMPLER,
    "unet": None,
    "planner": {
        "subgoal": "observation.state",
        "subgoals": 2,
        "sampler": SAMPLER | {"eta": 0.0},
        "text": {"max_bytes": 40},
    },
    "graphs": {
        "encode": {
            "inputs": [
                {"role": role}
                for role in ("observation.state", "observation.images.top", "goal.images.top", "task")
            ]
        },
        "denoise": {},
    },
    "golden": {"file": "golden.npz"},
}
N = 3


def arrays() -> Arrays:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    return {
        "observation.state": normal(N, 3),
        "observation.images.top": rng.integers(0, 256, (N, 3, 5, 3), np.uint8),
        "goal.images.top": rng.integers(0, 256, (N, 3, 5, 3), np.uint8),
        "task": np.array([0, 1, 0]),
        "noise": normal(N, 3, 4, 2),
        "actions": normal(N, 4, 2),
        "model_output": normal(N, 4, 2),
        "text": np.array(["Lift it.", "Pousse-le, d\u00e9j\u00e0!", "x" * 40]),
        "plan.noise": normal(N, 1, 2, 3),
        "plan": normal(N, 2, 3),
        "plan.model_output": normal(N, 2, 3),
    }


def packed(content: Arrays, compress: bool = False) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(file, **content)  # type: ignore[arg-type]
    return file.getvalue()


def zipped(members: list[tuple[str, bytes]], **options: Any) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def npy(values: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values, **options)
    return file.getvalue()


def with_header(header: str, content: bytes = bytes(96), version: bytes = b"\1\0") -> bytes:
    text = header.encode("latin1") + b"\n"
    return (
        b"\x93NUMPY" + version + struct.pack("<H" if version == b"\1\0" else "<I", len(text)) + text + content
    )


def read(folder: Path, raw: bytes, manifest: dict[str, Any] = MANIFEST, sha256: str | None = None) -> Arrays:
    (folder / "golden.npz").write_bytes(raw)
    golden = {"file": "golden.npz", "sha256": sha256 or hashlib.sha256(raw).hexdigest()}
    return read_golden(folder, manifest | {"golden": golden})


def members(content: Arrays) -> list[tuple[str, bytes]]:
    return [(f"{name}.npy", npy(values, allow_pickle=True)) for name, values in content.items()]


@pytest.mark.parametrize("compress", [False, True])
def test_reads_what_was_written(compress: bool, tmp_path: Path) -> None:
    wanted = arrays() | {"noise": np.asfortranarray(arrays()["noise"])}
    found = read(tmp_path, packed(wanted, compress))
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype and found[name].flags.c_contiguous


@pytest.mark.parametrize("name", list(arrays()))
def test_every_array_must_be_there(name: str, tmp_path: Path) -> None:
    content = {other: values for other, values in arrays().items() if other != name}
    with pytest.raises(
        keystep.BundleError, match=rf"^golden\.{name}: expected an array in golden.npz, got none$"
    ):
        read(tmp_path, packed(content))


FLOATS = [name for name, values in arrays().items() if values.dtype == np.float32]
WRONG: dict[str, tuple[str, Any, str]] = {
    "0-d": ("actions", np.float32(1), r"expected float32 \(N, 4, 2\) with N in 1..256, got <f4 \(\)"),
    "no case": ("actions", np.zeros((0, 4, 2), np.float32), r"got <f4 \(0, 4, 2\)"),
    "too many cases": ("task", np.zeros(257, np.int64), r"expected int64 \(N,\) .*, got <i8 \(257,\)"),
    "a row too few": ("noise", np.zeros((N, 2, 4, 2), np.float32), r"expected float32 \(N, 3, 4, 2\)"),
    "another rank": ("noise", np.zeros((N, 4, 2), np.float32), r"got <f4 \(3, 4, 2\)"),
    "float64": ("noise", np.zeros((N, 3, 4, 2)), r"expected float32 .*, got <f8"),
    "big-endian": ("noise", np.zeros((N, 3, 4, 2), ">f4"), r"expected float32 .*, got >f4"),
    "float16 plan": ("plan", np.zeros((N, 2, 3), np.float16), r"got <f2"),
    "float images": ("goal.images.top", np.zeros((N, 3, 5, 3), np.float32), r"expected uint8 \(N, 3, 5, 3\)"),
    "CHW images": ("goal.images.top", np.zeros((N, 3, 3, 5), np.uint8), r"got \|u1 \(3, 3, 3, 5\)"),
    "int32 tasks": ("task", np.zeros(N, np.int32), r"expected int64"),
    "objects": ("actions", np.array([{}], object), r"got \|O \(1,\)"),
    "object text": (
        "text",
        np.array(["a", "b", "c"], object),
        r"expected text of at most 40 characters ",
    ),
    "bytes": ("text", np.array([b"a", b"b", b"c"]), r"got \|S1"),
    "long text": ("text", np.array(["x" * 41, "b", "c"]), r"got <U41"),
    "long in bytes": (
        "text",
        np.array(["\u00e9" * 21, "b", "c"]),
        r"at most 40 bytes .* in case 0",
    ),
    "no text": ("text", np.array(["a", "  ", "c"]), r"expected words .*, got '  ' in case 1"),
    "NUL": ("text", np.array(["a", "b\0c", "c"]), r"in case 1"),
    "surrogate": ("text", np.array([0xD800, 65, 65], np.uint32).view("<U1"), r"in case 0"),
    "no character": ("text", np.array([65, 0x110000, 65], np.uint32).view("<U1"), r"in case 1"),
    "no such task": ("task", np.array([0, 2, 0]), r"expected 0..1, got 2"),
    "negative task": ("task", np.array([0, 1, -1]), r"expected 0..1, got -1"),
    "structured": ("task", np.zeros(N, [("a", "<i8")]), r"expected a plain array, got the header"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arrays(case: str, tmp_path: Path) -> None:
    name, values, message = WRONG[case]
    content = arrays() | {name: values}
    with pytest.raises(keystep.BundleError, match=rf"^golden\.{name}: ") as caught:
        read(tmp_path, zipped(members(content)))
    assert re.search(message, str(caught.value)), str(caught.value)
    assert "pickle" not in str(caught.value)


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(name: str, value: float, tmp_path: Path) -> None:
    content = arrays()
    content[name][1].reshape(-1)[0] = value
    message = rf"^golden\.{name}: expected finite numbers, got NaN or Inf in case 1$"
    with pytest.raises(keystep.BundleError, match=message):
        read(tmp_path, packed(content))


def test_as_many_cases_of_everything(tmp_path: Path) -> None:
    for name, values in arrays().items():
        shorter = arrays() | {name: values[:-1]}
        with pytest.raises(keystep.BundleError, match=r"cases as of golden.actions, got"):
            read(tmp_path, packed(shorter))


def bomb() -> bytes:
    """64 MB of zeros in 64 KB, of an array of 288 bytes."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("noise.npy", "w", force_zip64=True) as member,
    ):
        member.write(with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 3, 4, 2), }", b""))
        for _ in range(64):
            member.write(bytes(1 << 20))
    return file.getvalue()


def one_member(content: bytes) -> Callable[[], bytes]:
    rest = [member for member in members(arrays()) if member[0] != "actions.npy"]
    return lambda: zipped([("actions.npy", content), *rest])


def twice() -> bytes:
    with pytest.warns(UserWarning, match="Duplicate name"):
        return zipped([*members(arrays()), ("task.npy", npy(arrays()["task"]))])


def encrypted() -> bytes:
    raw = bytearray(packed(arrays()))
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = raw.find(signature)
        raw[at + offset] |= 1
    return bytes(raw)


def flipped() -> bytes:
    raw = bytearray(packed(arrays()))
    raw[raw.find(npy(arrays()["actions"])) + 130] ^= 1
    return bytes(raw)


PLAIN = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4, 2), }"
FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", r"golden.file: expected an archive of arrays \(.npz\), got"),
    "text": (lambda: b"hello world" * 9, r"golden.file: expected an archive of arrays \(.npz\), got"),
    "a pickle": (lambda: b"\x80\x04N.", r"golden.file: expected an archive of arrays"),
    ".npy": (lambda: npy(arrays()["actions"]), r"golden.file: expected an archive of arrays"),
    "truncated": (lambda: packed(arrays())[:-30], r"golden.file: expected an archive of arrays"),
    "half": (lambda: packed(arrays())[:900], r"golden.file: expected an archive of arrays"),
    "a flipped bit": (flipped, r"golden.file: expected an archive of arrays"),
    "empty archive": (lambda: zipped([]), r"golden.\S+: expected an array in golden.npz, got none"),
    "nested": (
        lambda: zipped([("a/actions.npy", b"")]),
        r"golden.file: .*, got 'a/actions.npy'",
    ),
    "outside": (lambda: zipped([("../actions.npy", b"")]), r"golden.file: .*, got '../actions.npy'"),
    "absolute": (lambda: zipped([("/actions.npy", b"")]), r"golden.file: .*, got '/actions.npy'"),
    "no suffix": (lambda: zipped([("actions", b"")]), r"golden.file: .*, got 'actions'"),
    "folder": (lambda: zipped([("actions.npy/", b"")]), r"golden.file: .*, got 'actions.npy/'"),
    "unknown": (lambda: zipped([*members(arrays()), ("x.npy", b"")]), r"golden.file: .*, got 'x.npy'"),
    "a long name": (lambda: zipped([("x" * 60000, b"")]), r"golden.file: .*, got 'x{70,80}\.\."),
    "twice": (twice, r"golden.task: expected one array, got two"),
    "encrypted": (encrypted, r"golden.observation.state: expected no encryption"),
    "lzma": (
        lambda: zipped(members(arrays()), compression=zipfile.ZIP_LZMA),
        r"expected stored or deflated, got 14",
    ),
    "bzip2": (
        lambda: zipped(members(arrays()), compression=zipfile.ZIP_BZIP2),
        r"expected stored or deflated",
    ),
    "bomb": (bomb, r"golden.noise: expected at most \d+ bytes, got 671\d+"),
    "no array": (one_member(b"hello"), r"golden.actions: expected an array \(.npy\), got b'hello'"),
    "an empty member": (one_member(b""), r"golden.actions: expected an array \(.npy\), got b''"),
    "version 9": (
        one_member(with_header(PLAIN, version=b"\x09\0")),
        r"expected an array \(.npy\), got b'.x93NUMPY",
    ),
    "version 2": (one_member(with_header(PLAIN, version=b"\2\0")), ""),
    "short": (one_member(with_header(PLAIN, bytes(95))), r"golden.actions: expected 96 bytes, got 95"),
    "long": (one_member(with_header(PLAIN, bytes(97))), r"golden.actions: expected 96 bytes, got more"),
    "cut header": (
        one_member(with_header(PLAIN)[:40]),
        r"golden.actions: expected a plain array",
    ),
    "cut length": (one_member(b"\x93NUMPY\1\0\1"), r"golden.file: expected an archive"),
    "code": (
        one_member(with_header("__import__('os')")),
        r"golden.actions: expected a plain array",
    ),
    "nesting": (one_member(with_header("(" * 9000)), r"golden.actions: expected a plain array"),
    "huge": (
        one_member(with_header(PLAIN.replace("3,", "9" * 18 + ","))),
        r"golden.actions: expected float32 \(N, 4, 2\) with N in 1..256, got <f4 \(9{18}, 4, 2\)",
    ),
    "negative": (
        one_member(with_header(PLAIN.replace("3,", "-3,"))),
        r"golden.actions: expected a plain array",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_wrong_files(case: str, tmp_path: Path) -> None:
    make, message = FILES[case]
    if not message:
        assert read(tmp_path, make())["actions"].shape == (3, 4, 2)
        return
    with pytest.raises(keystep.BundleError, match=message) as caught:
        read(tmp_path, make())
    assert len(str(caught.value)) < 600 and "allow_pickle" not in str(caught.value)


def test_what_is_hashed_is_what_is_parsed(tmp_path: Path) -> None:
    with pytest.raises(keystep.BundleError, match=r"^golden.sha256: expected 00, got [0-9a-f]{64}$"):
        read(tmp_path, packed(arrays()), sha256="00")


def test_a_file_that_grew(tmp_path: Path) -> None:
    with pytest.raises(keystep.BundleError, match=r"golden.file: expected at most \d+ bytes, got more"):
        read(tmp_path, packed(arrays()) + bytes(1 << 21))
    with pytest.raises(keystep.BundleError, match=r"golden.file: expected a file that can be read, got"):
        read_golden(tmp_path / "nowhere", MANIFEST | {"golden": {"file": "golden.npz", "sha256": ""}})


@pytest.mark.parametrize("seed", range(6))
def test_mutations(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes changed, cut, doubled, anywhere in the file: read, or refused by a BundleError."""
    rng = np.random.default_rng(seed)
    original = packed(arrays(), compress=bool(seed % 2))
    interesting = [0, 1, 0x7F, 0x80, 0xFF]
    read_or_refused = {"read": 0, "refused": 0}
    for _ in range(250):
        raw = bytearray(original)
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(len(raw)))
            kind = int(rng.integers(4))
            if kind == 0:
                raw[at] = int(rng.choice(interesting))
            elif kind == 1:
                raw[at] ^= 1 << int(rng.integers(8))
            elif kind == 2:
                del raw[at : at + int(rng.integers(1, 40))]
            else:
                raw[at:at] = raw[at : at + int(rng.integers(1, 40))]
        try:
            read(tmp_path, bytes(raw))
            read_or_refused["read"] += 1
        except keystep.BundleError as error:
            assert str(error).startswith("golden."), str(error)
            read_or_refused["refused"] += 1
    assert read_or_refused["refused"] > 100, read_or_refused


def test_no_torch_is_needed() -> None:
    source = Path(golden_file.__file__).read_text()
    assert "import torch" not in source and "np.load" not in source
