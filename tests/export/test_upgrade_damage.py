"""`keystep upgrade` of files from anywhere: a documented error, or a bundle."""

from __future__ import annotations

import json
import random
import re
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")

import onnx
from older_bundles import Edit, edit, make_older, refusal, with_hashes

import keystep
from keystep.export.manifest import VERSION, ExportError, validate
from keystep.export.upgrade import upgrade_bundle

SHIPPED = Path(__file__).parents[2] / "bundles" / "franka3blocks-state.keystep"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The state bundle as version 4 wrote it."""
    shutil.copytree(SHIPPED, tmp_path / "mine.keystep")
    make_older(tmp_path / "mine.keystep", 4)
    return tmp_path / "mine.keystep"


# ---- files whose hashes are right


def tensors(*shape: Any, **changes: Any) -> bytes:
    """A safetensors file of one tensor of 4 KiB."""
    entry = {"dtype": "F32", "shape": [*shape], "data_offsets": [0, 4096]} | changes
    header = json.dumps({"a": {key: value for key, value in entry.items() if value is not None}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4096)


def header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


WEIGHTS = {
    "garbage": b"\xff" * 100,
    "text": b"garbage" * 100,
    "list": header(b"[1]"),
    "deep": header(b"[" * 100_000),
    "entry": header(b'{"a": 1}'),
    "long header": struct.pack("<Q", 2**63) + b"{}",
    "no offsets": tensors(1024, data_offsets=None),
    "one offset": tensors(1024, data_offsets=[0]),
    "texts": tensors(1024, data_offsets=["0", "4096"]),
    "negative": tensors(1024, data_offsets=[-4096, 0]),
    "outside": tensors(2048, data_offsets=[0, 8192]),
    "no shape": tensors(),
    "empty shape": tensors(0),
    "floats": tensors(1024.0),
    "no dtype": tensors(1024, dtype=None),
    "other dtype": tensors(1024, dtype=[]),
    "shared": header(
        b'{"a": %s, "b": %s}' % ((b'{"dtype":"F32","shape":[256],"data_offsets":[0,1024]}',) * 2)
    )
    + bytes(1024),
}


@pytest.mark.parametrize("content", WEIGHTS.values(), ids=WEIGHTS)
def test_weights_from_anywhere(old: Path, content: bytes) -> None:
    (old / "unet.safetensors").write_bytes(content)
    with_hashes(old)
    message = refusal(old, keystep.BundleError)
    assert re.fullmatch(r"unet.safetensors: expected [^\n]+, got [^\n]+", message), message


def external(location: str | None, **changes: Any) -> bytes:
    """A graph with an initializer in another file."""
    tensor = onnx.helper.make_tensor("a", onnx.TensorProto.FLOAT, [1024], bytes(4096), raw=True)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entries = {"location": location, "offset": "0", "length": "4096"} | changes
    for key, value in entries.items():
        if value is not None:
            tensor.external_data.add(key=key, value=value)
    return onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [tensor])).SerializeToString()


def initializer(dims: list[int], content: bytes) -> bytes:
    tensor = onnx.TensorProto(name="a", data_type=onnx.TensorProto.FLOAT, dims=dims, raw_data=content)
    return onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [tensor])).SerializeToString()


GRAPHS = {
    "garbage": b"\xff" * 100,
    "outside": external("../mine.keystep/golden.npz"),
    "absolute": external("/etc/hostname"),
    "missing": external("none"),
    "folder": external("."),
    "no location": external(None),
    "offset": external("golden.npz", offset="-1"),
    "far": external("golden.npz", offset=str(2**70)),
    "long": external("golden.npz", length=str(2**62)),
    "no number": external("golden.npz", length="x"),
    "too few values": initializer([1024], bytes(1024)),
    "negative": initializer([-1, -1], bytes(4096)),
}


@pytest.mark.parametrize("content", GRAPHS.values(), ids=GRAPHS)
def test_graphs_from_anywhere(old: Path, content: bytes) -> None:
    (old / "denoise.onnx").write_bytes(content)
    with_hashes(old)
    message = refusal(old, keystep.BundleError)
    assert re.fullmatch(r"denoise.onnx: expected [^\n]+, got [^\n]+", message), message


def test_a_graph_is_read_by_its_content(old: Path) -> None:
    """Not by its name, which onnx would take for another format."""
    (old / "denoise.onnx").rename(old / "denoise.json")
    edit(old, lambda manifest: manifest["graphs"]["denoise"].update(file="denoise.json"))
    upgrade_bundle(old)
    assert keystep.read_manifest(old)["graphs"]["denoise"]["file"] == "denoise.json"


def test_a_location_that_no_initializer_uses(old: Path) -> None:
    """Its weights are in the graph: no file of that name is looked for, and the loader wants none named."""
    model = onnx.load(old / "denoise.onnx")
    for tensor in model.graph.initializer:
        tensor.external_data.add(key="location", value="../none")
    (old / "denoise.onnx").write_bytes(model.SerializeToString())
    with_hashes(old)
    assert "graphs.denoise.external: expected every file" in refusal(old)


@pytest.mark.parametrize("name", ["unet.safetensors", "denoise.onnx", "golden.npz"])
def test_empty_files(old: Path, name: str) -> None:
    (old / name).write_bytes(b"")
    with_hashes(old)
    assert "expected" in refusal(old)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random policy of 0.6 MB as version 3 wrote it."""
    pytest.importorskip("torch")
    from keystep.export.bundle import export_bundle
    from keystep.models import PRESETS, random_checkpoint

    folder = tmp_path_factory.mktemp("small")
    random_checkpoint(folder / "checkpoint", PRESETS["tiny"])
    make_older(export_bundle(folder / "checkpoint", folder / "small.keystep"), 3)
    return folder / "small.keystep"


def damage(bundle: Path, rng: random.Random) -> str:
    """Up to four bytes of a file are others, mostly where its structure is, and its hash is right again."""
    path = bundle / rng.choice(["unet.safetensors", "denoise.onnx", "encode.onnx", "film.onnx", "golden.npz"])
    content = bytearray(path.read_bytes())
    most = rng.choice([16, 4000, len(content)])
    places = [rng.randrange(min(most, len(content))) for _ in range(rng.randint(1, 4))]
    for place in places:
        content[place] ^= rng.randrange(1, 256)
    path.write_bytes(content)
    with_hashes(bundle)
    if rng.random() < 0.2:
        text = bytearray((bundle / "manifest.json").read_bytes())
        text[rng.randrange(len(text))] ^= rng.randrange(1, 256)
        (bundle / "manifest.json").write_bytes(text)
    return f"{path.name}: {places}"


@pytest.mark.parametrize(("seeds", "proved"), [(range(300), False), (range(300, 330), True)])
def test_random_damage(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds: range, proved: bool
) -> None:
    """The answer is a documented error or a bundle; most are tried without the proof, which takes longer."""
    if not proved:
        monkeypatch.setattr("keystep.export.upgrade.differences", lambda folder: [])
    refused = 0
    for seed in seeds:
        bundle, new = tmp_path / "a.keystep", tmp_path / "new.keystep"
        shutil.copytree(small, bundle)
        damaged = damage(bundle, random.Random(seed))
        try:
            upgrade_bundle(bundle, new)
            assert keystep.read_manifest(new)["version"] == VERSION
        except (keystep.BundleError, ExportError) as error:
            refused += 1
            assert "expected" in str(error) and len(str(error)) < 2000, damaged
            assert [path.name for path in tmp_path.iterdir()] == [bundle.name], damaged
        except Exception as error:
            raise AssertionError(f"seed {seed}, {damaged}") from error
        for folder in (bundle, new):
            shutil.rmtree(folder, ignore_errors=True)
    assert len(seeds) / 10 < refused < len(seeds)


# ---- the check of a manifest, whatever is wrong with it


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(observation=[3]), "observation[0].kind: expected"),
        (lambda m: m["observation"][0].update(key=3), "observation[0].key: expected"),
        (lambda m: m["observation"][0].update(key="\ud800"), "observation[0].key: expected text"),
        (lambda m: m["observation"][0].update(history=0), "observation.state.history: expected"),
        (lambda m: m.update({"observation[7]": float("nan")}), "observation[7]: expected a finite number"),
        (lambda m: m.update({f"observation[{'9' * 5000}]": float("nan")}), "expected a finite number"),
        (
            lambda m: m.update({"observation[0]": float("nan")}) or m.pop("observation"),
            "observation[0]: expected",
        ),
        (
            lambda m: m["provenance"].update(a=nested(900)),
            "manifest.json: expected at most 32 levels, got more",
        ),
        (
            lambda m: m["provenance"].update(a=nested(5000)),
            "manifest.json: expected at most 32 levels, got more",
        ),
    ],
)
def test_validate_tells_what_is_wrong(change: Edit, message: str) -> None:
    manifest = keystep.read_manifest(SHIPPED)
    change(manifest)
    with pytest.raises(ExportError) as caught:
        validate(manifest)
    assert message in str(caught.value)
    str(caught.value).encode()


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value
