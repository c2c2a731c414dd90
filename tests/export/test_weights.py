"""Each weight of a bundle stands once: graphs point into its safetensors, and compute the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from keystep.export.weights import LEAST_BYTES, external_entries, save_graph, share_weights
from keystep.files import sha256

RNG = np.random.default_rng(0)
SQUARE = RNG.normal(size=(32, 32)).astype(np.float32)
WIDE = RNG.normal(size=(32, 48)).astype(np.float32)
SMALL = RNG.normal(size=LEAST_BYTES // 4 - 1).astype(np.float32)


def write(
    folder: Path, weight: Any, operator: str = "MatMul", most: int = 2**30, **attributes: Any
) -> dict[str, Any]:
    """A graph y = x @ weight in `folder`; returns the manifest's entry."""
    node = helper.make_node(operator, ["x", "weight"], ["y"], **attributes)
    width = weight.shape[1] if attributes.get("transB") else weight.shape[0]
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, weight.size // width])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    save_graph(model, folder / "graph.onnx", most)
    return {"file": "graph.onnx", "sha256": sha256(folder / "graph.onnx")}


def run(folder: Path, width: int) -> np.ndarray:
    session = onnxruntime.InferenceSession(folder / "graph.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.random.default_rng(1).normal(size=(1, width)).astype(np.float32)})[0]


def shared(folder: Path, entry: dict[str, Any]) -> dict[str, Any]:
    share_weights({"graph": entry}, folder)
    assert entry["sha256"] == sha256(folder / "graph.onnx")
    return entry


def test_a_weight_that_is_there_is_taken_from_there(tmp_path: Path) -> None:
    save_file({"a": SMALL, "b": WIDE, "c": SQUARE}, tmp_path / "unet.safetensors")
    entry = write(tmp_path, WIDE)
    before, size = run(tmp_path, 32), (tmp_path / "graph.onnx").stat().st_size
    external = [{"file": "unet.safetensors", "sha256": sha256(tmp_path / "unet.safetensors")}]
    assert shared(tmp_path, entry)["external"] == external == external_entries(tmp_path / "graph.onnx")
    assert (tmp_path / "graph.onnx").stat().st_size < size - WIDE.nbytes + 500
    np.testing.assert_array_equal(run(tmp_path, 32), before)
    again = (tmp_path / "graph.onnx").read_bytes()
    shared(tmp_path, entry)
    assert (tmp_path / "graph.onnx").read_bytes() == again


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_gemm_takes_the_other_layout(tmp_path: Path, transposed: int) -> None:
    save_file({"film.weight": np.ascontiguousarray(WIDE.T)[None]}, tmp_path / "unet.safetensors")
    entry = write(tmp_path, WIDE, "Gemm", transB=transposed)
    width = WIDE.shape[1] if transposed else WIDE.shape[0]
    before = run(tmp_path, width)
    assert shared(tmp_path, entry)["external"][0]["file"] == "unet.safetensors"
    np.testing.assert_array_equal(run(tmp_path, width), before)


@pytest.mark.parametrize(
    "stored",
    [
        WIDE + 1,  # other values
        np.ascontiguousarray(WIDE.T),  # MatMul has no flag for it
        WIDE.astype(np.float16),
        WIDE.view(np.int32),  # the same bytes of another type
    ],
)
def test_what_is_not_there_stays(tmp_path: Path, stored: Any) -> None:
    save_file({"a": stored}, tmp_path / "unet.safetensors")
    entry = write(tmp_path, WIDE)
    before = (tmp_path / "graph.onnx").read_bytes()
    assert "external" not in shared(tmp_path, entry)
    assert (tmp_path / "graph.onnx").read_bytes() == before


def test_small_tensors_are_not_worth_a_pointer(tmp_path: Path) -> None:
    row = SMALL[None]
    save_file({"a": row}, tmp_path / "unet.safetensors")
    assert "external" not in shared(tmp_path, write(tmp_path, row))


def test_weights_beside_a_graph_move_too(tmp_path: Path) -> None:
    save_file({"a": SQUARE}, tmp_path / "unet.safetensors")
    entry = write(tmp_path, SQUARE, most=10)
    assert (tmp_path / "graph.onnx.data").exists()
    before = run(tmp_path, 32)
    assert [data["file"] for data in shared(tmp_path, entry)["external"]] == ["unet.safetensors"]
    assert not (tmp_path / "graph.onnx.data").exists()
    np.testing.assert_array_equal(run(tmp_path, 32), before)
