"""What was hashed is what is loaded: files that change meanwhile, weights beside a graph, memory, threads."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stub_bundle import ACTION, HORIZON, sha256, stub_observation, write_manifest

import keystep
from keystep.export.onnx_policy import OnnxPolicy

onnx = pytest.importorskip("onnx")
CASES = 40


def scale_model(folder: Path, scale: float) -> Any:
    """The denoise graph of `onnx_bundle` with another factor."""
    model = onnx.load(folder / "denoise.onnx")
    (weight,) = model.graph.initializer
    weight.CopyFrom(onnx.numpy_helper.from_array(np.float32(scale), "weight"))
    return model


def chunk(policy: keystep.Runtime) -> np.ndarray:
    policy.reset(task="lift_red", seed=3)
    return policy.predict_chunk(stub_observation())


def test_a_graph_swapped_while_it_loads(onnx_bundle: Path, tmp_path: Path) -> None:
    """The bytes that were hashed run, or the swap is noticed."""
    graph = onnx_bundle / "denoise.onnx"
    with keystep.load(onnx_bundle, engine="onnxruntime", threads=1) as policy:
        wanted = chunk(policy)
    contents = [graph.read_bytes(), scale_model(onnx_bundle, 0.9).SerializeToString()]
    done = threading.Event()

    def swap() -> None:
        turn = 0
        while not done.is_set():
            (tmp_path / "next").write_bytes(contents[turn % 2])
            (tmp_path / "next").replace(graph)
            turn += 1

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(CASES):
            try:
                with keystep.load(onnx_bundle, engine="onnxruntime", threads=1) as policy:
                    np.testing.assert_array_equal(chunk(policy), wanted)
            except keystep.BundleError as error:
                assert "graphs.denoise" in str(error)
    finally:
        done.set()
        swapper.join()


# ---- external data


WEIGHT = (0.1 * np.arange(1, HORIZON * ACTION + 1, dtype=np.float32)).reshape(1, HORIZON, ACTION)


@pytest.fixture
def external_bundle(onnx_bundle: Path) -> Path:
    """`onnx_bundle`, the weights of `denoise` in a file of their own."""
    model = onnx.load(onnx_bundle / "denoise.onnx")
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(WEIGHT, "weight"))
    save_external(model, onnx_bundle)
    return onnx_bundle


def save_external(model: Any, folder: Path, **changes: str) -> None:
    """`changes` of the entries location, offset, length; "": left out."""
    onnx.save(
        model, folder / "denoise.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    model = onnx.load(folder / "denoise.onnx", load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = changes.get(entry.key, entry.value)
    (folder / "denoise.onnx").write_bytes(model.SerializeToString())
    manifest = json.loads((folder / "manifest.json").read_text())
    files = [{"file": "weights.bin", "sha256": sha256(folder / "weights.bin")}]
    manifest["graphs"]["denoise"] |= {"sha256": sha256(folder / "denoise.onnx"), "external": files}
    write_manifest(folder, manifest)


def refusal(folder: Path) -> str:
    with pytest.raises(keystep.BundleError) as caught:
        keystep.load(folder, engine="onnxruntime", threads=1)
    return str(caught.value)


def test_external_data_are_loaded_from_memory(
    external_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # nothing is found relative to where we are
    with keystep.load(external_bundle, engine="onnxruntime", threads=1) as policy:
        policy.reset(task="lift_red", seed=0)
        first = policy.predict_chunk(stub_observation())
        assert np.isfinite(first).all()
    manifest = json.loads((external_bundle / "manifest.json").read_text())
    files = keystep._core.read_files(external_bundle)
    assert set(files) == {"encode.onnx", "denoise.onnx", "weights.bin", "golden.npz"}
    python = OnnxPolicy(external_bundle, manifest, 1)
    sample = np.ones((1, HORIZON, ACTION), np.float32)
    film = np.zeros((1, 2), np.float32)
    known = {"sample": sample, "timestep": np.array([0]), "film": film}
    np.testing.assert_allclose(python._run("denoise", known)["model_output"], WEIGHT, rtol=1e-6)


def test_external_data_that_changed(external_bundle: Path) -> None:
    content = bytearray((external_bundle / "weights.bin").read_bytes())
    content[0] ^= 1
    (external_bundle / "weights.bin").write_bytes(content)
    assert "graphs.denoise.external[0].sha256: expected " in refusal(external_bundle)
    with pytest.raises(keystep.BundleError, match=r"external\[0\]\.sha256"):
        keystep.read_manifest(external_bundle)


def test_external_data_that_no_manifest_lists(
    external_bundle: Path, edit_manifest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where ONNX Runtime itself would look for them."""
    monkeypatch.chdir(external_bundle)
    edit_manifest(external_bundle, lambda manifest: manifest["graphs"]["denoise"].pop("external"))
    wanted = "graphs.denoise.external: expected every file that the graph's weights are in, with its SHA-256"
    assert refusal(external_bundle) == f"{wanted}, got none for 'weights.bin'"
    with pytest.raises(keystep.BundleError, match=r"graphs\.denoise\.external: expected every file"):
        keystep._core.read_files(external_bundle)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([], "external: expected at least one file"),
        ("weights.bin", "external: expected an array"),
        ([{"file": "weights.bin"}], "external[0].sha256: expected a value, got no such key"),
        ([{"file": "weights.bin", "sha256": "0" * 63}], "external[0].sha256: expected 64 lower-case"),
        ([{"file": "a/weights.bin", "sha256": "0" * 64}], "external[0].file: expected the name of a file"),
        ([{"file": "..", "sha256": "0" * 64}], "external[0].file: expected the name of a file"),
        ([{"file": "none.bin", "sha256": "0" * 64}], "external[0].file: expected a file inside the bundle"),
    ],
)
def test_entries_of_external_data(
    external_bundle: Path, edit_manifest: Any, entries: Any, reason: str
) -> None:
    edit_manifest(external_bundle, lambda manifest: manifest["graphs"]["denoise"].update(external=entries))
    assert f"graphs.denoise.{reason}" in refusal(external_bundle)


def test_external_data_twice_or_of_no_graph(external_bundle: Path, edit_manifest: Any) -> None:
    edit_manifest(
        external_bundle,
        lambda m: m["graphs"]["denoise"]["external"].append(dict(m["graphs"]["denoise"]["external"][0])),
    )
    assert "external[1].file: expected each file once" in refusal(external_bundle)
    golden = {"file": "golden.npz", "sha256": sha256(external_bundle / "golden.npz")}
    edit_manifest(external_bundle, lambda m: m["graphs"]["denoise"]["external"].__setitem__(1, golden))
    assert "external: expected files that the graph names, got 'golden.npz'" in refusal(external_bundle)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"location": "../weights.bin"}, "got none for '../weights.bin'"),
        ({"location": "/etc/passwd"}, "got none for '/etc/passwd'"),
        ({"location": "*/_ORT_MEM_ADDR_/*"}, "got none for '*/_ORT_MEM_ADDR_/*'"),
        ({"location": "we\nights"}, "got none for"),
        ({"offset": "4096"}, "external: expected 'weights.bin' of at least"),
        ({"offset": "18446744073709551615"}, "expected a graph that onnxruntime loads"),
        ({"offset": "-8"}, "expected a graph that onnxruntime loads"),
        ({"length": "4096"}, "external: expected 'weights.bin' of at least"),
        ({"length": "1e3"}, "expected a graph that onnxruntime loads"),
    ],
)
def test_places_of_external_data(onnx_bundle: Path, changes: dict[str, str], reason: str) -> None:
    model = onnx.load(onnx_bundle / "denoise.onnx")
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(WEIGHT, "weight"))
    save_external(model, onnx_bundle, **changes)
    assert reason in refusal(onnx_bundle)


def test_files_named_elsewhere_in_a_graph(onnx_bundle: Path, edit_manifest: Any) -> None:
    """In a node's attribute nothing can be put in the file's place."""
    tensor = onnx.numpy_helper.from_array(np.float32(0.1), "weight")
    constant = onnx.helper.make_node("Constant", [], ["weight"], value=tensor)
    onnx.external_data_helper.set_external_data(constant.attribute[0].t, "weights.bin", 0, 4)
    context = onnx.helper.make_node(
        "EPContext", ["sample"], ["x"], domain="com.microsoft", ep_cache_context="/x"
    )
    for node, reason in (
        (constant, "external data of the main graph's initializers only"),
        (context, "EPContext"),
    ):
        model = onnx.load(onnx_bundle / "encode.onnx")
        model.graph.node.insert(0, node)
        graph = onnx_bundle / "denoise.onnx"
        graph.write_bytes(model.SerializeToString())
        digest = sha256(graph)
        edit_manifest(onnx_bundle, lambda m, digest=digest: m["graphs"]["denoise"].update(sha256=digest))
        assert reason in refusal(onnx_bundle)


# ---- memory and threads


def test_a_claim_of_the_manifest_takes_no_memory(onnx_bundle: Path, edit_manifest: Any) -> None:
    """Shapes are compared with the graph's before anything is allocated; what no graph backs is bounded."""

    def widen(manifest: dict[str, Any], width: int) -> None:
        for graph in manifest["graphs"].values():
            for tensor in graph["inputs"] + graph["outputs"]:
                if tensor["role"] == "condition":
                    tensor["shape"][-1] = width

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    edit_manifest(onnx_bundle, lambda m: widen(m, 250_000_000))
    assert "graphs.encode.outputs[0].shape: expected [1, 250000000] (manifest), got [1, 2]" in refusal(
        onnx_bundle
    )
    edit_manifest(onnx_bundle, lambda m: widen(m, 2**29))
    assert "graphs: expected tensors of at most 1073741824 bytes together" in refusal(onnx_bundle)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KB
    with pytest.raises(keystep.BundleError, match="graphs: expected tensors of at most"):
        keystep.load(onnx_bundle, engine="stub")


@pytest.mark.parametrize("engine", ["auto", "onnxruntime", "native", "stub"])
@pytest.mark.parametrize("threads", [-1, 400, 5000, 2**31 - 1])
def test_more_threads_than_cores(onnx_bundle: Path, engine: str, threads: int) -> None:
    cores = len(os.sched_getaffinity(0))
    error = keystep.ProviderError if engine == "native" else keystep.ArgumentError  # this bundle has no U-Net
    with pytest.raises(error) as caught:
        keystep.load(onnx_bundle, engine=engine, threads=threads)
    if engine != "native":
        assert str(caught.value).startswith("threads: expected 0 (one per core) .. ")
        assert int(str(caught.value).split(" .. ")[1].split()[0]) <= cores


def test_threads_follow_the_affinity(onnx_bundle: Path) -> None:
    program = f"""
import os, keystep
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
policy = keystep.load({str(onnx_bundle)!r}, engine="onnxruntime")
print(policy.description)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=900, check=True
    )
    assert done.stdout.strip().endswith(", 1 thread")


def truncated(folder: Path, name: str, size: int) -> str:
    """What is said of a file that has grown to `size`, a hole but for its beginning."""
    os.truncate(folder / name, size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = refusal(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KB
    return message


def test_weights_larger_than_their_network(tmp_path: Path) -> None:
    """Known from the manifest, before any of it is read."""
    name = "unet.safetensors"
    folder = tmp_path / "x.keystep"
    shutil.copytree("bundles/franka3blocks-state.keystep", folder)
    message = truncated(folder, name, 60 << 30)
    assert f".file: expected a file inside the bundle, got '{name}', which has {60 << 30} bytes" in message
    with pytest.raises(keystep.BundleError, match=rf"\.file: .* has {60 << 30} bytes, more than"):
        keystep.read_manifest(folder)


def test_a_large_file_takes_memory_once_its_hash_is_right(external_bundle: Path) -> None:
    assert "graphs.denoise.external[0].sha256: expected" in truncated(
        external_bundle, "weights.bin", (1 << 30) + 1
    )


def test_a_file_that_memory_cannot_hold(external_bundle: Path) -> None:
    """Its hash is right; a process of little memory says so."""
    size = 1 << 30
    os.truncate(external_bundle / "weights.bin", size)
    manifest = json.loads((external_bundle / "manifest.json").read_text())
    manifest["graphs"]["denoise"]["external"][0]["sha256"] = keystep._core.sha256_file(
        external_bundle / "weights.bin"
    )
    write_manifest(external_bundle, manifest)
    program = (
        "import os, resource, sys, keystep\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * os.sysconf('SC_PAGE_SIZE')\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (512 << 20),) * 2)\n"
        "try: keystep.load(sys.argv[1], engine='onnxruntime', threads=1)\n"
        "except keystep.BundleError as error: print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(external_bundle)], capture_output=True, text=True, timeout=300
    )
    said = f"file: expected a file that fits into memory, got 'weights.bin' of {size} bytes"
    assert f"graphs.denoise.external[0].{said}" in result.stdout, result.stderr
