"""What a chunk of a 1-D U-Net cannot go below, by the precision of its weights.

Counted from the shapes in the bundle's weights and the horizon: a tap of a convolution that meets nothing but
padding at that length is neither read nor multiplied. The observation's encoder is left out.
"""

import json
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

from benchmarks.floors import GraphCost, Peaks, measure_peaks, operation_rates
from benchmarks.loop import read_manifest

BYTES = {"fp32": 4, "bf16": 2, "int8": 1}


def chunk_floors(case: Path, threads: int, steps: int = 0) -> dict[str, dict[str, Any]]:
    """By precision: {"step", "film", "peaks", "memory_ms", "arithmetic_ms", "floor_ms"}.

    Args:
        steps: denoise steps; 0: as the bundle says.
    """
    steps = steps or read_manifest(case)["sampler"]["inference_steps"]
    return {precision: _floor(case, precision, threads, steps) for precision in BYTES}


def _floor(case: Path, precision: str, threads: int, steps: int) -> dict[str, Any]:
    film, step = unet_cost(case, precision)
    peaks: Peaks = measure_peaks(step.weight_bytes, threads, precision)
    once, often = film.floor_ms(peaks, 1), step.floor_ms(peaks, steps)
    bounds = {name: once[name] + often[name] for name in once}
    return {
        "step": asdict(step),
        "film": asdict(film),
        "peaks": asdict(peaks),
        "operation_rates": operation_rates(threads),
        **bounds,
        "floor_ms": max(bounds.values()),
    }


def unet_cost(case: Path, precision: str) -> tuple[GraphCost, GraphCost]:
    """Of the FiLM projection, once per chunk, and of a denoise step."""
    manifest = read_manifest(case)
    shapes = _shapes(case / "bundle.keystep" / manifest["unet"]["file"])
    levels, horizon = len(manifest["unet"]["down_dims"]), manifest["chunk"]["horizon"]
    film = prod(shapes["film.weight"])
    once = GraphCost(film * BYTES[precision] + 4 * prod(shapes["film.bias"]), 2 * film)
    weights = operations = 0
    others = shapes["film.steps"][-1]  # values that stay fp32: one row of the table, biases, norms
    for name, shape in shapes.items():
        if name.startswith("film."):
            continue
        if len(shape) < 3:
            others += prod(shape)
            continue
        taps = _positions(name, shape[0], horizon, levels)
        channels = shape[1] * shape[2]
        weights += channels * sum(count > 0 for count in taps)
        operations += 2 * channels * sum(taps)
    return once, GraphCost(weights * BYTES[precision] + 4 * others, operations)


def _positions(name: str, kernel: int, horizon: int, levels: int) -> list[int]:
    """How many pairs of an input and an output position each tap of a convolution connects.

    A tap connects `many = few * stride + tap - padding`, where `few` is the strided side: the output of a
    convolution, the input of a transposed one.
    """
    part, index = name.split(".")[:2]
    if part in ("down", "shrink"):
        level = int(index)
    else:
        level = {"middle": levels - 1, "final": 0}.get(part, levels - 1 - int(index))
    length = horizon >> level
    few, many, stride, padding = {
        "shrink": (length >> 1, length, 2, 1),
        "grow": (length, 2 * length, 2, 1),
    }.get(part, (length, length, 1, kernel // 2))
    return [
        sum(0 <= position * stride + tap - padding < many for position in range(few)) for tap in range(kernel)
    ]


def _shapes(file: Path) -> dict[str, list[int]]:
    """Of the tensors of a safetensors file, from its header."""
    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
