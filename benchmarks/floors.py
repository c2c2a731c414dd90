"""Floors on this machine: no program that reads every weight once and does every multiplication once can be
faster than bytes / bandwidth, nor than operations / peak.

    python -m benchmarks.floors --megabytes 20 250 1000 --threads 1 2
"""

import tempfile
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import tyro
from onnx import numpy_helper, shape_inference

from benchmarks.programs import build, run_json

PASSES = 10  # as many as denoise steps
ROWS = "rows"  # name of the symbolic axis in a guided planner's graphs


@dataclass(frozen=True)
class Peaks:
    """What the machine was measured to do, at its best.

    Attributes:
        how: the order of reading that was the fastest.
    """

    bytes_per_second: float
    operations_per_second: float
    how: str


@dataclass(frozen=True)
class GraphCost:
    """What one run of a graph cannot avoid."""

    weight_bytes: int
    operations: int

    def floor_ms(self, peaks: Peaks, runs: int) -> dict[str, float]:
        """Milliseconds of `runs` runs, bound by memory and by arithmetic."""
        return {
            "memory_ms": 1e3 * runs * self.weight_bytes / peaks.bytes_per_second,
            "arithmetic_ms": 1e3 * runs * self.operations / peaks.operations_per_second,
        }


def measure_peaks(weight_bytes: int, threads: int, precision: str = "fp32") -> Peaks:
    """Reads a buffer of the weights' size ten times, as ten denoise steps do: weights that fit the last cache
    level come from there, and the floor must say so. Operations: multiply-adds in registers, of the fastest
    instruction for weights of this precision.
    """
    rates = operation_rates(threads)
    rate = rates.get(precision, rates["fp32"])  # a CPU without such instructions converts to fp32
    return Peaks(**read_rate(max(weight_bytes, 4096), threads), operations_per_second=rate)


@cache
def read_rate(size: int, threads: int) -> dict[str, Any]:
    """{"bytes_per_second", "how"} of the fastest of several orders of reading."""
    return run_json(build("machine_floors"), "read", size, threads, PASSES)


@cache
def operation_rates(threads: int) -> dict[str, float]:
    """Per second: fp32, and where the CPU has them bf16 (vdpbf16ps), int16 (vpdpwssd), int8 (vpdpbusd)."""
    return run_json(build("machine_floors"), "compute", threads)


def graph_cost(file: Path, rows: int = 1) -> GraphCost:
    """Weight bytes read, and operations of the convolutions and matrix products, in one run.

    Of a table that is only gathered from, one row is read. Symbolic axes (of guidance) are `rows` long.
    """
    model = shape_inference.infer_shapes(_folded(file, rows), strict_mode=True, data_prop=True)
    graph = model.graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    shapes = {name: list(array.shape) for name, array in weights.items()}
    for value in [*graph.value_info, *graph.input, *graph.output]:
        shapes[value.name] = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
    tables = {node.input[0] for node in graph.node if node.op_type == "Gather"}
    weight_bytes = sum(
        array.nbytes // (array.shape[0] if name in tables and array.ndim else 1)
        for name, array in weights.items()
        if array.dtype.kind == "f"
    )
    return GraphCost(weight_bytes, sum(_operations(node, shapes) for node in graph.node))


def _folded(file: Path, rows: int) -> onnx.ModelProto:
    """The graph with everything computed that does not depend on its inputs: shapes, products of weights."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.add_free_dimension_override_by_name(ROWS, rows)
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        folded = onnx.load(options.optimized_model_filepath, load_external_data=False)
    onnx.load_external_data_for_model(folded, str(file.parent))  # what it took over as it is
    return folded


def _operations(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    """2 x multiply-adds, from the shapes; those with padding are not counted, as they can be left out."""
    if node.op_type not in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
        return 0
    for name in filter(None, (*node.input, node.output[0])):
        if name not in shapes or 0 in shapes[name]:
            raise ValueError(f"{node.name}: expected a fixed shape of {name}, got {shapes.get(name)}")
    if node.op_type in ("Conv", "ConvTranspose"):
        return _convolution_operations(node, shapes)
    if node.op_type == "MatMul":
        return 2 * prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)  # Gemm
    return 2 * prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else 1]


def _convolution_operations(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    """One multiply-add per pair of channels and per pair of positions that a tap connects.

    A tap connects `many = few * stride + tap * dilation - padding`, where `few` is the strided side: the
    output of Conv, the input of ConvTranspose.
    """
    source, weight, result = shapes[node.input[0]], shapes[node.input[1]], shapes[node.output[0]]
    few, many = (result, source) if node.op_type == "Conv" else (source, result)
    attributes = {attribute.name: list(attribute.ints) for attribute in node.attribute}
    pairs = 1
    for axis in range(len(weight) - 2):
        stride, dilation = (attributes.get(name, [1, 1])[axis] for name in ("strides", "dilations"))
        padding = attributes.get("pads", [0] * 4)[axis]
        positions = (
            position * stride + tap * dilation - padding
            for position in range(few[2 + axis])
            for tap in range(weight[2 + axis])
        )
        pairs *= sum(0 <= position < many[2 + axis] for position in positions)
    return 2 * source[0] * weight[0] * weight[1] * pairs


def main(megabytes: tuple[int, ...] = (20, 250, 1000), threads: tuple[int, ...] = (1, 2)) -> None:
    """Prints the measured peaks, for all kinds of operations and for buffers of the given sizes."""
    for count in threads:
        rates = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in operation_rates(count).items())
        print(f"{count} threads, GOP/s: {rates}")
        for size in megabytes:
            reading = read_rate(size * 1_000_000, count)
            rate = reading["bytes_per_second"] / 1e9
            print(f"{size:6d} MB, {count} threads: {rate:7.1f} GB/s, {reading['how']}")


if __name__ == "__main__":
    tyro.cli(main)
