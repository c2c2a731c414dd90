"""What a planner that writes code must read and compute: bytes and operations by its sizes, nothing timed.

python -m benchmarks.code_floors --bandwidth 24 --past 110
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.floors import graph_cost
from keystep.export.code_graphs import vision_graph
from keystep.models.code_planner.config import CodePlannerConfig
from keystep.models.code_planner.network import CodePlanner
from keystep.models.code_planner.presets import CODE_PLANNER_PRESETS

BYTES = {"fp32": 4.0, "bf16": 2.0, "int8": 1 + 4 / 64, "int4": 0.5 + 2 / 32}
"""Of a weight: int8 has a scale in single precision per 64, int4 one in half precision per 32."""


@dataclass(frozen=True)
class Options:
    bandwidth: float = 24.0
    """Of this machine's memory, 10^9 bytes a second, which `python -m benchmarks.floors` measures."""
    gpu_bandwidth: float = 4800.0
    """Of an H200."""
    past: int = 110
    """Tokens of task and memory in the cache; 110 is the mean of 930 episodes."""
    draft: int = 15
    """Tokens of the answer that is verified, its end included."""


@dataclass(frozen=True)
class Cost:
    """Of one pass of the decoder: values of weights read, of the cache read and written, operations."""

    weights: int
    cache: int
    operations: int

    def bytes(self, precision: str) -> float:
        """The cache is in single precision, as the graphs have it."""
        return self.weights * BYTES[precision] + 4 * self.cache


def sizes(config: CodePlannerConfig) -> tuple[int, int, int, int, int, int]:
    """Layers, width, width of queries, of keys, of the feed-forward layers, and vocabulary."""
    if config.network == "llava":
        text = config.llava["text_config"]
        width, head = text["hidden_size"], text["hidden_size"] // text["num_attention_heads"]
        keys = head * text["num_key_value_heads"]
        return text["num_hidden_layers"], width, width, keys, text["intermediate_size"], text["vocab_size"]
    keys = config.width // config.heads * config.key_heads
    return config.layers, config.width, config.width, keys, config.hidden, config.vocabulary


def decoder_cost(config: CodePlannerConfig, rows: int, wanted: int, past: int) -> Cost:
    """Of a pass of `rows` behind `past`, logits of the last `wanted`.

    The last layer's output and feed-forward are computed of these alone, as in the graph `decode`.
    """
    layers, width, queries, keys, hidden, vocabulary = sizes(config)
    project, after = width * (queries + 2 * keys), queries * width + 3 * width * hidden
    seen = rows * past + rows * (rows + 1) // 2
    attention = layers * 2 * queries * seen
    products = layers * rows * project + ((layers - 1) * rows + wanted) * after + wanted * width * vocabulary
    weights = layers * (project + after) + width * vocabulary
    return Cost(weights, layers * 2 * keys * (past + rows), 2 * (products + attention))


def vision_operations(config: CodePlannerConfig) -> int:
    """Convolutions and products of the graph `vision`."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vision.onnx"
        onnx.save(vision_graph(CodePlanner(config).eval()), path)
        return graph_cost(path).operations


def main(options: Options) -> None:
    console = Console()
    console.print(_small(options))
    console.print(_paper(options))


def _small(options: Options) -> Table:
    names = ("of", "precision", "weights MB", "MB", "Mop", f"ms at {options.bandwidth:g} GB/s")
    table = Table(*names, title=f"computed, not measured; {options.past} tokens in the cache")
    for preset in ("tiny", "state"):
        config = CODE_PLANNER_PRESETS[preset]
        rows = 1 + config.image_tokens + options.draft - 1
        for precision in ("fp32", "int8"):
            token = decoder_cost(config, 1, 1, options.past)
            step = decoder_cost(config, rows, options.draft, options.past)
            for what, cost in ((f"{preset}: a token", token), (f"{preset}: {rows} rows, verified", step)):
                read = cost.bytes(precision)
                values = [cost.weights * BYTES[precision] / 1e6, read / 1e6, cost.operations / 1e6]
                shown = [f"{value:.1f}" for value in values]
                table.add_row(what, precision, *shown, f"{read / options.bandwidth / 1e6:.2f}")
        table.add_row(f"{preset}: vision", "fp32", "", "", f"{vision_operations(config) / 1e6:.1f}", "")
    return table


def _paper(options: Options) -> Table:
    config = CODE_PLANNER_PRESETS["paper"]
    cpu, gpu = f"ms a token at {options.bandwidth:g} GB/s", f"at {options.gpu_bandwidth:g} GB/s"
    names = ("weights", "GB", cpu, gpu, "Gop of a picture with its draft")
    table = Table(*names, title="Phi-3-mini of `paper`, computed, not measured")
    token = decoder_cost(config, 1, 1, 0)
    rows = config.image_tokens + options.draft
    picture = decoder_cost(config, rows, options.draft, options.past)
    for precision in ("bf16", "int8", "int4"):
        read = token.bytes(precision)
        times = [f"{read / bandwidth / 1e6:.3g}" for bandwidth in (options.bandwidth, options.gpu_bandwidth)]
        table.add_row(precision, f"{read / 1e9:.2f}", *times, f"{picture.operations / 1e9:.0f}")
    return table


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
