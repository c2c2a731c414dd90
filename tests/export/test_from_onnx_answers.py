"""ONNX graphs whose answers are not what they seem: refused, or the tensor that is meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keystep

pytest.importorskip("torch")

import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data
from plain_onnx import ACTIONS, HORIZON, WIDTH, linear, matrix, tensor

from keystep.export import Actions, ExportError, from_onnx, verify_bundle
from keystep.models import state_feature

OPTIONS: dict[str, Any] = {
    "features": [state_feature(WIDTH)],
    "action": Actions(["x", "y"], low=[-50, -50], high=[50, 50]),
    "horizon": HORIZON,
    "rate_hz": 20.0,
}
STATE = np.array([0.5, -1, 2], np.float32)
MADE = (STATE @ matrix()).reshape(HORIZON, ACTIONS)


def chunk_of(bundle: Path) -> np.ndarray:
    with keystep.load(bundle, threads=1) as runtime:
        runtime.reset(seed=0)
        return runtime.predict_chunk({"observation.state": STATE})


def dropping(ratio: float, training: bool, **attributes: int) -> onnx.ModelProto:
    """As torch exports it in training mode."""
    model = linear(extra=[helper.make_node("Dropout", ["made", "ratio", "mode"], ["actions"], **attributes)])
    for name, value in {"ratio": np.float32(ratio), "mode": np.bool_(training)}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    return model


def dropping_inside() -> onnx.ModelProto:
    """In a function, its flag a constant."""
    flag = numpy_helper.from_array(np.array(True))
    body = [
        helper.make_node("Constant", [], ["on"], value=flag),
        helper.make_node("Dropout", ["a", "", "on"], ["b"], name="hidden"),
    ]
    model = linear(extra=[helper.make_node("Layer", ["made"], ["actions"], domain="own")])
    opset = helper.make_opsetid("", 17)
    model.functions.append(helper.make_function("own", "Layer", ["a"], ["b"], body, [opset]))
    model.opset_import.append(helper.make_opsetid("own", 1))
    return model


def batch_statistics() -> onnx.ModelProto:
    values = {name: np.ones(HORIZON, np.float32) for name in ("scale", "shift", "mean", "var")}
    node = helper.make_node(
        "BatchNormalization", ["made", *values], ["actions", "m", "v"], name="norm", training_mode=1
    )
    model = linear(extra=[node])
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    return model


def some_rows() -> onnx.ModelProto:
    """As many values as the first state is not above 0: all four rows of zeros."""
    extra = [
        helper.make_node("Greater", ["observation.state", "nothing"], ["above"]),
        helper.make_node("Cast", ["above"], ["counted"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["counted"], ["count"], keepdims=0),
        helper.make_node("Reshape", ["count", "one"], ["first"]),
        helper.make_node("Slice", ["made", "first", "last", "axis"], ["actions"]),
    ]
    model = linear(extra=extra)
    stored = {"nothing": np.float32(0), "one": np.array([1]), "last": np.array([9]), "axis": np.array([1])}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(value), name) for name, value in stored.items()
    )
    return model


@pytest.mark.parametrize(
    ("made", "changes", "told"),
    [
        (lambda: dropping(0.5, True), {}, "graphs.act: expected a graph exported for evaluation, got Drop"),
        (lambda: dropping(0.1, True, seed=3), {}, "got Dropout in training mode (node '')"),
        (dropping_inside, {}, "got Dropout in training mode (node 'hidden')"),
        (batch_statistics, {}, "got BatchNormalization in training mode (node 'norm')"),
        (some_rows, {}, "graphs.act: expected answers of [1, 4, 2], whatever it is given, got one of ["),
        (linear, {"names": {"actions": "observation.state"}},
         "graphs.act.outputs: expected actions (`names` says which it is), got observation.state"),
    ],
)  # fmt: skip
def test_answers_that_are_not_those_of_the_policy(
    made: Any, changes: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError) as error:
        from_onnx(made(), tmp_path / "new.keystep", **(OPTIONS | changes))
    assert told in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_whatever_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an operator that is not on the list, too."""
    monkeypatch.setattr("keystep.export.onnx_fit.RANDOM", ())
    noise = helper.make_node("RandomNormalLike", ["made"], ["noise"])
    model = linear(extra=[noise, helper.make_node("Add", ["made", "noise"], ["actions"])])
    with pytest.raises(ExportError, match=r"expected the same answer each time .*, got another one"):
        from_onnx(model, tmp_path / "new.keystep", **OPTIONS)


def test_dropout_that_is_switched_off(tmp_path: Path) -> None:
    assert verify_bundle(from_onnx(dropping(0.5, False), tmp_path / "new.keystep", **OPTIONS)).ok


@pytest.mark.parametrize("other", [{}, {"actions": "squares"}])
def test_names_go_before_what_the_graph_calls_an_output(other: dict[str, str], tmp_path: Path) -> None:
    extra = [
        helper.make_node("Mul", ["made", "made"], ["actions"]),
        helper.make_node("Neg", ["made"], ["policy"]),
    ]
    model = linear(extra=extra)
    model.graph.output.append(tensor("policy", ["batch", HORIZON, ACTIONS]))
    names = {"policy": "actions"} | other
    bundle = from_onnx(model, tmp_path / "new.keystep", names=names, **OPTIONS)
    np.testing.assert_allclose(chunk_of(bundle), -MADE, atol=1e-5)


def in_a_branch(sparse: bool) -> onnx.ModelProto:
    """Weights beside the graph that only a branch has."""
    values = np.full((1, HORIZON, ACTIONS), 7, np.float32)
    stored = TensorProto(name="seven", data_type=TensorProto.FLOAT, dims=values.shape)
    stored.raw_data = values.tobytes()
    set_external_data(stored, "seven.bin", 0, values.nbytes)
    stored.ClearField("raw_data")
    add = [helper.make_node("Add", ["made", "seven"], ["one"])]
    then = helper.make_graph(add, "yes", [], [tensor("one", None)], [] if sparse else [stored])
    if sparse:
        stored.dims[:] = [values.size]
        places = numpy_helper.from_array(np.arange(values.size))
        then.sparse_initializer.append(helper.make_sparse_tensor(stored, places, values.shape))
    other = [helper.make_node("Neg", ["made"], ["two"])]
    extra = [
        helper.make_node("ReduceSum", ["made"], ["sum"], keepdims=0),
        helper.make_node("Equal", ["sum", "sum"], ["always"]),
        helper.make_node(
            "If",
            ["always"],
            ["actions"],
            then_branch=then,
            else_branch=helper.make_graph(other, "no", [], [tensor("two", None)]),
        ),
    ]
    return linear(extra=extra)


def test_weights_beside_a_graph_that_a_branch_has(tmp_path: Path) -> None:
    values = np.full((1, HORIZON, ACTIONS), 7, np.float32)
    (tmp_path / "seven.bin").write_bytes(values.tobytes())
    graph, bundle = tmp_path / "policy.onnx", tmp_path / "new.keystep"
    with pytest.raises(ExportError, match=r"got a ModelProto whose seven is external data"):
        from_onnx(in_a_branch(False), bundle, **OPTIONS)
    graph.write_bytes(in_a_branch(True).SerializeToString())
    with pytest.raises(ExportError, match=r"beside it and dense, got seven, which is neither"):
        from_onnx(graph, bundle, **OPTIONS)
    graph.write_bytes(in_a_branch(False).SerializeToString())
    np.testing.assert_allclose(chunk_of(from_onnx(graph, bundle, **OPTIONS)), MADE + 7, atol=1e-5)


def test_weights_of_more_than_a_file_may_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a graph above 2 GB lie beside it: here of one above 64 bytes."""
    for module in ("onnx_fit", "onnx_module", "bundle"):
        monkeypatch.setattr(f"keystep.export.{module}.MAX_BYTES", 64)
    wide = np.random.default_rng(1).normal(size=(HORIZON * ACTIONS, 400)).astype(np.float32)
    back = np.linalg.pinv(wide).astype(np.float32)
    model = linear()
    product = helper.make_node("MatMul", ["observation.state", "matrix"], ["small"])
    model.graph.node[0].CopyFrom(helper.make_node("MatMul", ["large", "back"], ["flat"]))
    model.graph.node.insert(0, helper.make_node("MatMul", ["small", "wide"], ["large"]))
    model.graph.node.insert(0, product)
    model.graph.initializer.extend(
        [numpy_helper.from_array(wide, "wide"), numpy_helper.from_array(back, "back")]
    )
    bundle = from_onnx(model, tmp_path / "new.keystep", **OPTIONS)
    entry = keystep.read_manifest(bundle)["graphs"]["act"]
    assert [weights["file"] for weights in entry["external"]] == ["act.onnx.data"]
    assert (bundle / "act.onnx.data").stat().st_size >= wide.nbytes + back.nbytes
    np.testing.assert_allclose(chunk_of(bundle), MADE, atol=1e-4)
