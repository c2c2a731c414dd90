"""Policies with histories, depth and a row that a chunk starts at: one graph of random weights, and what it
answers, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stub_bundle import ACTION, HORIZON, STATE, sha256, state_entry, stub_manifest, value_info, write_manifest

from keystep.features import Feature, features_of

onnx = pytest.importorskip("onnx")

Frames = list[dict[str, np.ndarray]]
RGB, DEPTH = "observation.images.top", "observation.depth.wrist"


def entries(history: dict[str, int]) -> list[dict[str, Any]]:
    state = state_entry() | {"history": history["observation.state"]}
    state["normalization"] = {"mode": "mean_std", "mean": [0.5] * STATE, "std": [2.0] * STATE}
    rgb = Feature(RGB, "rgb", (4, 6, 3), history[RGB]).to_dict()
    depth = Feature(DEPTH, "depth", (5, 3), history[DEPTH]).to_dict()
    return [
        state,
        rgb | {"normalization": {"mode": "mean_std", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}},
        depth | {"normalization": {"mode": "min_max", "min": [0.0], "max": [4.0]}},
    ]


def write_policy(folder: Path, history: dict[str, int], start: int = 0) -> Path:
    """One graph: actions = sum over features of flatten(input) @ weight, weights random and fixed."""
    folder.mkdir()
    manifest = stub_manifest(observation=entries(history), sampler=None, tasks=[])
    manifest["chunk"] |= {"execute": 1, "start": start}
    # Far bounds: the gate changes nothing.
    manifest["action"] |= {"min": [-1e6] * ACTION, "max": [1e6] * ACTION}
    inputs = [
        {"name": f.key, "dtype": "float32", "shape": [*f.network_shape()], "role": f.key}
        for f in features_of(manifest["observation"])
    ]
    output = {"name": "actions", "dtype": "float32", "shape": [1, HORIZON, ACTION], "role": "actions"}
    weights = weights_of(manifest)
    make, nodes = onnx.helper.make_node, []
    for key in weights:
        nodes += [
            make("Flatten", [key], [f"{key}.flat"]),
            make("MatMul", [f"{key}.flat", f"{key}.w"], [f"{key}.y"]),
        ]
    nodes += [
        make("Sum", [f"{key}.y" for key in weights], ["sum"]),
        make("Reshape", ["sum", "shape"], ["actions"]),
    ]
    constants = {f"{key}.w": weight for key, weight in weights.items()}
    constants["shape"] = np.array([1, HORIZON, ACTION])
    graph = onnx.helper.make_graph(
        nodes,
        "act",
        [value_info(onnx, tensor) for tensor in inputs],
        [value_info(onnx, output)],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), folder / "act.onnx")
    act = {"file": "act.onnx", "sha256": sha256(folder / "act.onnx"), "inputs": inputs, "outputs": [output]}
    manifest["graphs"] = {"act": act}
    write_golden(folder, manifest)
    return folder


def weights_of(manifest: dict[str, Any]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    sizes = {f.key: int(np.prod(f.network_shape())) for f in features_of(manifest["observation"])}
    return {
        key: rng.normal(size=(size, HORIZON * ACTION)).astype(np.float32) / np.float32(size)
        for key, size in sizes.items()
    }


def draw(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "observation.state": rng.normal(size=STATE).astype(np.float32),
        RGB: rng.integers(0, 256, (4, 6, 3), np.uint8),
        DEPTH: rng.uniform(0, 4, (5, 3)).astype(np.float32),
    }


def reference(manifest: dict[str, Any], frames: Frames) -> np.ndarray:
    """A chunk [H, A] after these observations, oldest first; written out by hand."""
    total = np.zeros(HORIZON * ACTION)
    for entry in manifest["observation"]:
        key, history = entry["key"], entry["history"]
        padded = [frames[0][key]] * history + [frame[key] for frame in frames]
        values = np.stack(padded[-history:]).astype(np.float64)
        if key == RGB:
            stats = entry["normalization"]
            values = ((values / 255 - stats["mean"]) / stats["std"]).transpose(0, 3, 1, 2)
        elif key == DEPTH:
            values = values / 2 - 1
        else:
            values = (values - 0.5) / 2
        total += values.reshape(-1) @ weights_of(manifest)[key]
    return total.reshape(HORIZON, ACTION)


def write_golden(folder: Path, manifest: dict[str, Any]) -> None:
    """What the reference answers after as many observations as the longest history has."""
    rng, cases = np.random.default_rng(7), []
    longest = max(entry["history"] for entry in manifest["observation"])
    for _ in range(3):
        cases.append([draw(rng) for _ in range(longest)])
    arrays: dict[str, np.ndarray] = {
        "actions": np.stack([reference(manifest, frames) for frames in cases]).astype(np.float32)
    }
    for entry in manifest["observation"]:
        kept = [np.stack([frame[entry["key"]] for frame in frames[-entry["history"] :]]) for frames in cases]
        arrays[entry["key"]] = np.stack([frames if entry["history"] > 1 else frames[0] for frames in kept])
    np.savez(folder / "golden.npz", **arrays)  # type: ignore[arg-type]
    manifest["golden"]["sha256"] = sha256(folder / "golden.npz")
    write_manifest(folder, manifest)
