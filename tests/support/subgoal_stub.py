"""Changes that make the stub bundle of conftest one of the family subgoal: plans of 3 subgoals, 4 actions."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stub_bundle import camera_entry, state_entry

import keystep

SUBGOALS, STEPS, STATE, HORIZON, ACTION = 3, 4, 4, 4, 3
STATE_KEY, IMAGE = "observation.state", "observation.images.static"
SHAPES = {"observation.state": [STATE], IMAGE: [3, 6, 8]}


def tensor(name: str, shape: list[int], role: str | None = None, dtype: str = "float32") -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": shape, "role": role or name}


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def rollout(
    policy: keystep.Runtime, observation: dict[str, Any], ticks: int = 30, **context: Any
) -> np.ndarray:
    policy.reset(**{"task": "lift_red", "seed": 3, "episode": 1} | context)
    return np.stack([policy.act(observation) for _ in range(ticks)])


def subgoal_changes(
    key: str = "observation.state", *, guided: bool = True, resize: bool = False, **planner: Any
) -> dict[str, Any]:
    """Subgoals are the state or the camera's image; keyword arguments change the planner's entry."""
    rows, shape = 2 if guided else 1, SHAPES[key]
    sampler = keystep.SamplerSpec(
        inference_steps=2,
        prediction="v_prediction",
        timestep_rule="hd_expit",
        guidance=2.0 if guided else 0.0,
    )
    width = 3 if key == IMAGE else STATE
    entry = {
        "subgoals": SUBGOALS,
        "steps_per_subgoal": STEPS,
        "replan": True,
        "guided": guided,
        "subgoal": key,
        "normalization": {"mode": "min_max", "min": [0.0] * width, "max": [1.0] * width},
        "sampler": sampler.as_dict(),
        "text": {"encoder": "stub", "max_bytes": 64},
        "unet": None,
    }
    return {
        "family": "subgoal",
        "goal": "text",
        "observation": [state_entry(), camera_entry(resize=resize)],
        "planner": entry | planner,
        "graphs": controller_graphs(key) | planner_graphs(key, rows, shape),
    }


def controller_graphs(key: str) -> dict[str, Any]:
    seen = [tensor(name, [1, *shape]) for name, shape in SHAPES.items()]
    goal = tensor(key.replace("observation.", "goal."), [1, *SHAPES[key]])
    film = tensor("film", [1, 2], "condition")
    step = [tensor("sample", [1, HORIZON, ACTION]), tensor("timestep", [1], dtype="int64"), film]
    output = tensor("model_output", [1, HORIZON, ACTION])
    return {
        "encode": {"file": "encode.onnx", "inputs": [*seen, goal], "outputs": [film]},
        "denoise": {"file": "denoise.onnx", "inputs": step, "outputs": [output]},
    }


def planner_graphs(key: str, rows: int, shape: list[int]) -> dict[str, Any]:
    goal_text = tensor("goal_text", [rows, 5], "condition")
    plan = [rows, SUBGOALS, *shape]
    inputs = [
        tensor("plan.sample", plan, "sample"),
        tensor("plan.timestep", [1], "timestep", "int64"),
        goal_text,
        tensor(f"plan.{key}", [1, *shape], key),
    ]
    output = tensor("plan.model_output", plan, "model_output")
    return {
        "text": {
            "file": "text.onnx",
            "inputs": [tensor("text", [1], dtype="string")],
            "outputs": [goal_text],
        },
        "plan_denoise": {"file": "plan_denoise.onnx", "inputs": inputs, "outputs": [output]},
    }


def act_changes() -> dict[str, Any]:
    """A flat policy whose controller is one graph, `act`."""
    inputs = [tensor(name, [1, *shape]) for name, shape in SHAPES.items()]
    task = tensor("task", [1], dtype="int64")
    act = {
        "file": "act.onnx",
        "inputs": [*inputs, task],
        "outputs": [tensor("actions", [1, HORIZON, ACTION])],
    }
    return {
        "sampler": None,
        "graphs": {"act": act},
    }


# ---- graphs that run


def write_onnx_graphs(folder: Path) -> None:
    """Gives the bundle of `subgoal_changes()` in `folder` real graphs of these closed forms.

    text: goal_text = the number that the text is, null row 0; plan_denoise: 0.1 sample + mean of its row;
    encode: film = sum of state and goal; denoise: 0.1 sample + mean of film.
    """
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node
    ones = np.ones((1, 5), np.float32)
    nodes = {
        "text": [
            node("Cast", ["text"], ["number"], to=onnx.TensorProto.FLOAT),
            node("Mul", ["number", "rows"], ["goal_text"]),
        ],
        "plan_denoise": [
            node("ReduceMean", ["goal_text"], ["mean"], axes=[1], keepdims=1),
            node("Unsqueeze", ["mean", "axis"], ["bias"]),
            node("Mul", ["plan.sample", "gain"], ["scaled"]),
            node("Add", ["scaled", "bias"], ["plan.model_output"]),
        ],
        "encode": [
            node("Add", ["observation.state", "goal.state"], ["sum"]),
            node("MatMul", ["sum", "ones"], ["film"]),
        ],
        "denoise": [
            node("ReduceMean", ["film"], ["bias"], axes=[1], keepdims=1),
            node("Mul", ["sample", "gain"], ["scaled"]),
            node("Add", ["scaled", "bias"], ["model_output"]),
        ],
    }
    constants = {
        "rows": np.concatenate([ones, 0 * ones]),
        "axis": np.array([2], np.int64),
        "gain": np.float32(0.1),
        "ones": np.ones((STATE, 2), np.float32),
    }
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, spec in manifest["graphs"].items():
        used = {key: constants[key] for n in nodes[name] for key in n.input if key in constants}
        sides = [
            [_value(onnx, entry, name == "plan_denoise") for entry in spec[side]]
            for side in ("inputs", "outputs")
        ]
        weights = [onnx.numpy_helper.from_array(np.asarray(value), key) for key, value in used.items()]
        graph = onnx.helper.make_graph(nodes[name], name, *sides, weights)
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, folder / spec["file"])
        spec["sha256"] = hashlib.sha256((folder / spec["file"]).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _value(onnx: Any, entry: dict[str, Any], rows_are_symbolic: bool) -> Any:
    types = {"float32": "FLOAT", "int64": "INT64", "string": "STRING"}
    shape: list[int | str] = list(entry["shape"])
    if rows_are_symbolic and shape[0] == 2:
        shape[0] = "rows"
    dtype = getattr(onnx.TensorProto, types[entry["dtype"]])
    return onnx.helper.make_tensor_value_info(entry["name"], dtype, shape)
