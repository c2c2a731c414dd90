"""ONNX graphs written by hand, as tools write them that know nothing of keystep."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH, HORIZON, ACTIONS = 3, 4, 2


def tensor(name: str, shape: Any, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    stored = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(nodes, "by hand", inputs, outputs, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def linear(
    changes: dict[str, Any] | None = None, extra: list[onnx.NodeProto] | None = None
) -> onnx.ModelProto:
    """`act`: the chunk is the state times a matrix. Changes: `input`, `output` (ValueInfoProto), `opset`."""
    chosen = {
        "input": tensor("observation.state", ["batch", WIDTH]),
        "output": tensor("actions", ["batch", HORIZON, ACTIONS]),
        "opset": 17,
    } | (changes or {})
    source, result = chosen["input"].name, chosen["output"].name
    last = [*(extra or [])]
    nodes = [
        helper.make_node("MatMul", [source, "matrix"], ["flat"], name="product"),
        helper.make_node("Reshape", ["flat", "shape"], ["made" if last else result], name="shaped"),
        *last,
    ]
    weights = {"matrix": matrix(), "shape": np.array([-1, HORIZON, ACTIONS])}
    return model_of(nodes, [chosen["input"]], [chosen["output"]], weights, chosen["opset"])


def matrix() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(WIDTH, HORIZON * ACTIONS)).astype(np.float32)


def steps() -> dict[str, onnx.ModelProto]:
    """`encode` doubles the state; `denoise` takes a table's row of the time-step and the state's sum away."""
    encode = model_of(
        [helper.make_node("Add", ["observation.state", "observation.state"], ["condition"])],
        [tensor("observation.state", [1, WIDTH])],
        [tensor("condition", [1, WIDTH])],
    )
    table = np.linspace(0, 1, 100, dtype=np.float32)[:, None]
    denoise = model_of(
        [
            helper.make_node("Gather", ["table", "timestep"], ["row"]),
            helper.make_node("ReduceSum", ["condition"], ["sum"], keepdims=1),
            helper.make_node("Add", ["row", "sum"], ["told"]),
            helper.make_node("Sub", ["sample", "told"], ["model_output"]),
        ],
        [
            tensor("sample", [1, HORIZON, ACTIONS]),
            tensor("timestep", [1], TensorProto.INT64),
            tensor("condition", [1, WIDTH]),
        ],
        [tensor("model_output", [1, HORIZON, ACTIONS])],
        {"table": table},
    )
    return {"encode": encode, "denoise": denoise}
