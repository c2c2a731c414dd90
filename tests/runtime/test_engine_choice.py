"""The engine's options from Python: what they choose, what the runtime says of it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stub_bundle import sha256, value_info, write_manifest

import keystep
from keystep.commands.options import PolicyOptions
from keystep.evaluate import profile

CONDITION = {"name": "condition", "dtype": "float32", "shape": [1, 2], "role": "condition"}
UNET = {
    "kind": "unknown",
    "file": "unet.safetensors",
    "down_dims": [8],
    "kernel_size": 5,
    "groups": 4,
    "film_scale": True,
    "horizon": 4,
    "condition": 2,
    "precision": "fp32",
    "errors": {"fp32": {"max": 1e-6, "rms": 1e-7}},
}


@pytest.fixture
def split_bundle(onnx_bundle: Path) -> Path:
    """The ONNX bundle in version 3: `encode` writes a condition, `film` what `denoise` takes."""
    onnx = pytest.importorskip("onnx")
    manifest = json.loads((onnx_bundle / "manifest.json").read_text())
    graphs = manifest["graphs"]
    film = graphs["encode"]["outputs"]
    graphs["film"] = {"file": "film.onnx", "inputs": [CONDITION], "outputs": film}
    graphs["encode"]["outputs"] = [CONDITION]
    encode = onnx.load(onnx_bundle / "encode.onnx")
    encode.graph.node[0].output[0] = encode.graph.output[0].name = "condition"
    onnx.save(encode, onnx_bundle / "encode.onnx")
    node = onnx.helper.make_node("Identity", ["condition"], ["film"])
    graph = onnx.helper.make_graph([node], "film", [value_info(onnx, CONDITION)], [value_info(onnx, film[0])])
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), onnx_bundle / "film.onnx")
    for entry in graphs.values():
        entry["sha256"] = sha256(onnx_bundle / entry["file"])
    write_manifest(onnx_bundle, manifest)
    return onnx_bundle


def add_unet(bundle: Path, **changes: Any) -> None:
    (bundle / "unet.safetensors").write_bytes(b"no weights")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["unet"] = UNET | {"sha256": sha256(bundle / "unet.safetensors")} | changes
    write_manifest(bundle, manifest)


def chunk(bundle: Path, observation: dict[str, Any], **options: Any) -> np.ndarray:
    with keystep.load(bundle, threads=1, **options) as policy:
        policy.reset(task="lift_red", seed=3)
        return policy.predict_chunk(observation)


def test_film_of_its_own_changes_no_bit(onnx_bundle, observation, request):
    whole = chunk(onnx_bundle, observation)
    split = request.getfixturevalue("split_bundle")  # edits the same folder
    np.testing.assert_array_equal(chunk(split, observation), whole)


def test_runtime_says_what_runs_where(split_bundle):
    with keystep.load(split_bundle, threads=1) as policy:
        assert policy.engine_choices == [
            {"file": f"{name}.onnx", "engine": "onnxruntime", "reason": "no U-Net with weights of its own"}
            for name in ("encode", "film", "denoise")
        ]
        report = policy.latency()
        assert (report.engine, report.engine_choices) == (policy.description, policy.engine_choices)
        assert f"engine: {policy.description}" in str(report)
        assert json.loads(report.to_json())["engine_choices"] == policy.engine_choices
        choices = policy.engine_choices
    assert policy.engine_choices == choices  # of a closed runtime, too


@pytest.mark.parametrize(
    ("changes", "options", "reason"),
    [
        ({}, {}, "kind: expected conditional_unet1d, got"),
        ({"errors": {}}, {}, "unet.errors.fp32: expected a measured error, got none"),
        ({}, {"engine": "onnxruntime"}, "engine: onnxruntime"),
    ],
)
def test_graphs_stand_in_for_a_unet(split_bundle, observation, changes, options, reason):
    add_unet(split_bundle, **changes)
    with keystep.load(split_bundle, threads=1, **options) as policy:
        chosen = {choice["file"]: choice for choice in policy.engine_choices}
        for file in ("film.onnx", "denoise.onnx"):
            assert chosen[file]["engine"] == "onnxruntime" and reason in chosen[file]["reason"]
        policy.reset(task="lift_red")
        assert np.isfinite(policy.act(observation)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "native"}, "engine: expected a U-Net that native runs, got unet.safetensors: unet.kind"),
        ({"precision": "int8"}, "engine: expected a U-Net that native runs, got unet.safetensors: unet.kind"),
    ],
)
def test_what_is_asked_for_is_not_replaced(split_bundle, options, message):
    add_unet(split_bundle)
    with pytest.raises(keystep.ProviderError, match=message):
        keystep.load(split_bundle, threads=1, **options)


def test_native_without_a_unet(onnx_bundle):
    with pytest.raises(keystep.ProviderError, match=r"engine: expected auto \| onnxruntime \(the bundle has"):
        keystep.load(onnx_bundle, engine="native")


def test_a_file_that_holds_no_weights(split_bundle):
    add_unet(split_bundle, kind="conditional_unet1d")
    with pytest.raises(keystep.BundleError, match=r"graphs\.film\."):
        keystep.load(split_bundle, engine="native", threads=1)


def test_commands_pass_the_options_on(split_bundle):
    assert PolicyOptions().load_options().keys().isdisjoint({"engine", "precision", "isa"})
    options = PolicyOptions(engine="native", precision="int8", isa="portable")
    assert options.load_options() | {"engine": "native", "precision": "int8", "isa": "portable"} == (
        options.load_options()
    )
    report = profile(split_bundle, ticks=8, threads=1)
    assert report.provider == report.latency.engine and report.allocations_per_tick == 0
