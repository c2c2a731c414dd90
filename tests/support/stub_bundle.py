"""Bundles to test with: for the stub engine, which reads no graphs, and with hand-made ONNX graphs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keystep
from keystep.features import Feature

STATE, ACTION, HORIZON, EXECUTE = 4, 3, 4, 4
TASKS = [
    {"name": "lift_red", "instruction": "Lift the red block."},
    {"name": "push_red_left", "instruction": "Push the red block to the left."},
]


def state_entry(names: Sequence[str] = ("a", "b", "c", "d")) -> dict[str, Any]:
    width = len(names)
    statistics = {"mode": "mean_std", "mean": [0.0] * width, "std": [1.0] * width}
    feature = Feature("observation.state", "vector", (width,), names=tuple(names))
    return feature.to_dict() | {"normalization": statistics}


def camera_entry(camera: str = "static", resize: bool = False) -> dict[str, Any]:
    statistics = {"mode": "mean_std", "mean": [0.5] * 3, "std": [0.5] * 3}
    feature = Feature(f"observation.images.{camera}", "rgb", (6, 8, 3), resize=resize)
    return feature.to_dict() | {"normalization": statistics}


def stub_manifest(**changes: Any) -> dict[str, Any]:
    """A flat policy for the stub engine: state (4,), an 8 x 6 camera, action (3,), chunks of 4, two steps."""
    state = {
        "name": "observation.state",
        "dtype": "float32",
        "shape": [1, STATE],
        "role": "observation.state",
    }
    camera = "observation.images.static"
    image = {"name": camera, "dtype": "float32", "shape": [1, 3, 6, 8], "role": camera}
    task = {"name": "task", "dtype": "int64", "shape": [1], "role": "task"}
    film = {"name": "film", "dtype": "float32", "shape": [1, 2], "role": "condition"}
    sample = {"name": "sample", "dtype": "float32", "shape": [1, HORIZON, ACTION], "role": "sample"}
    timestep = {"name": "timestep", "dtype": "int64", "shape": [1], "role": "timestep"}
    output = {**sample, "name": "model_output", "role": "model_output"}
    spec = keystep.SamplerSpec(kind="ddim", inference_steps=2)
    manifest = {
        "format": "keystep-bundle",
        "version": 5,
        "name": "stub",
        "family": "flat",
        "control_rate_hz": 60.0,
        "observation": [state_entry(), camera_entry()],
        "goal": "none",
        "tasks": TASKS,
        "action": {
            "names": ["x", "y", "z"],
            "units": ["m", "m", "m"],
            "min": [-1.0] * ACTION,
            "max": [1.0] * ACTION,
            "rate_limit": None,
            "hold": {"mode": "values", "values": [0.0] * ACTION},
            "normalization": {"mode": "min_max", "min": [-1.0] * ACTION, "max": [1.0] * ACTION},
        },
        "chunk": {"horizon": HORIZON, "execute": EXECUTE, "start": 0, "merge": "consumed_index"},
        "planner": None,
        "sampler": spec.as_dict(),
        "unet": None,
        "graphs": {
            "encode": {"file": "encode.onnx", "inputs": [state, image, task], "outputs": [film]},
            "denoise": {"file": "denoise.onnx", "inputs": [sample, timestep, film], "outputs": [output]},
        },
        "golden": {"file": "golden.npz"},
        "provenance": {"keystep_version": keystep.__version__},
    }
    return manifest | changes


def write_stub_bundle(folder: Path, **changes: Any) -> Path:
    """The bundle of `stub_manifest`; graph files hold a few bytes that the stub engine does not read."""
    folder.mkdir(parents=True)
    manifest = stub_manifest(**changes)
    golden = {
        "observation.state": np.zeros((3, STATE), np.float32),
        "observation.images.static": np.zeros((3, 6, 8, 3), np.uint8),
        "task": np.array([0, 1, 0]),
        "actions": np.zeros((3, HORIZON, ACTION), np.float32),
    }
    if manifest["goal"] == "observation":
        golden |= {name.replace("observation.", "goal."): golden[name] for name in list(golden)[:2]}
    np.savez(folder / "golden.npz", **golden)  # type: ignore[arg-type]
    for name, graph in manifest["graphs"].items():
        (folder / graph["file"]).write_bytes(f"not a graph: {name}".encode())
        graph["sha256"] = sha256(folder / graph["file"])
    manifest["golden"]["sha256"] = sha256(folder / "golden.npz")
    write_manifest(folder, manifest)
    return folder


def write_onnx_bundle(folder: Path) -> Path:
    """The stub bundle with graphs that run: film = state @ ones(4, 2), model_output = 0.1 sample."""
    onnx = pytest.importorskip("onnx")
    write_stub_bundle(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    nodes = {
        "encode": ("MatMul", ["observation.state", "weight"], "film", np.ones((STATE, 2), np.float32)),
        "denoise": ("Mul", ["sample", "weight"], "model_output", np.float32(0.1)),
    }
    for name, (operator, inputs, output, weight) in nodes.items():
        spec = manifest["graphs"][name]
        node = onnx.helper.make_node(operator, inputs, [output])
        initializer = onnx.numpy_helper.from_array(np.asarray(weight), "weight")
        sides = [[value_info(onnx, tensor) for tensor in spec[side]] for side in ("inputs", "outputs")]
        graph = onnx.helper.make_graph([node], name, *sides, [initializer])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, folder / spec["file"])
        spec["sha256"] = sha256(folder / spec["file"])
    write_manifest(folder, manifest)
    return folder


def value_info(onnx: Any, tensor: dict[str, Any]) -> Any:
    dtype = {"float32": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64}[tensor["dtype"]]
    return onnx.helper.make_tensor_value_info(tensor["name"], dtype, tensor["shape"])


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / "manifest.json").write_text(json.dumps(manifest))


def stub_observation() -> dict[str, Any]:
    return {
        "observation.state": np.array([0.1, -0.2, 0.3, 0.4], np.float32),
        "observation.images.static": np.full((6, 8, 3), 128, np.uint8),
    }
