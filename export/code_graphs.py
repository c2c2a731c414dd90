"""The graphs of a planner that writes code.

`vision` runs once per step: what is seen and felt, as rows of the decoder. `embed` turns tokens into rows.
`decode` (keystep.export.code_decoder) takes rows behind those that its cache holds, and gives logits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from keystep.export.code_decoder import GraphWriter, Linear, decoder_graph, plain_linear, tensor_value
from keystep.export.code_tensors import (
    FELT,
    GRAPHS,
    LOGIT_AXIS,
    ROW_AXIS,
    SEEN,
    TOKENS,
    VECTORS,
    role_of,
)
from keystep.export.code_weights import int8_linear
from keystep.export.errors import ExportError
from keystep.export.graphs import to_onnx
from keystep.export.weights import MAX_BYTES, external_entries, save_graph
from keystep.files import sha256
from keystep.models.code_planner.config import CodePlannerConfig
from keystep.models.code_planner.network import CodePlanner

PRECISIONS: dict[str, Linear] = {"fp32": plain_linear, "int8": int8_linear}
"""Of the decoder's weights."""
DTYPES: dict[int, str] = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT64: "int64"}


class VisionGraph(nn.Module):
    """A normalised picture [1, 3, H, W] or objects [1, S], perhaps proprioception [1, P], -> rows.

    Those of what is seen [1, K, D], and that of what is felt [1, 1, D].
    """

    def __init__(self, planner: CodePlanner) -> None:
        super().__init__()
        self.planner, self.proprioception = planner, planner.proprioception

    def forward(self, seen: Tensor, felt: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        rows = self.planner.see(seen)
        if self.proprioception is None:
            return rows
        return rows, self.proprioception(felt)[:, None]


def vision_inputs(config: CodePlannerConfig) -> dict[str, Tensor]:
    """By name an example of what `vision` takes."""
    seen = config.picture or config.objects
    assert seen is not None
    features = [seen, *([config.proprioception] if config.proprioception else [])]
    return {f"plan.{feature.key}": torch.zeros(feature.network_shape(1)) for feature in features}


def vision_graph(planner: CodePlanner) -> onnx.ModelProto:
    """See VisionGraph. Raises ExportError where a picture is resized inside, as no operator does it alike."""
    side, picture = getattr(planner.sight, "side", None), planner.config.picture
    if picture is not None and side is not None and picture.shape[:2] != (side, side):
        height, width = picture.shape[:2]
        wanted = f"{side} x {side}, of the vision tower"
        place = f"code_planner.observation: {picture.key}.shape"
        raise ExportError(f"{place}: expected {wanted}, got {height} x {width}")
    inputs = vision_inputs(planner.config)
    outputs = (SEEN, FELT) if planner.config.proprioception else (SEEN,)
    return to_onnx(VisionGraph(planner), tuple(inputs.values()), list(inputs), outputs)


def embed_graph(planner: CodePlanner) -> onnx.ModelProto:
    """Tokens int64 [1, S] -> rows [1, S, D]; those of image and proprioception tokens mean nothing."""
    table, graph = planner.decoder.embed_tokens.weight, GraphWriter()
    graph.add("Gather", [graph.constant("table", table), TOKENS], VECTORS)
    inputs = [tensor_value(TOKENS, [1, ROW_AXIS], onnx.TensorProto.INT64)]
    return graph.model("embed", inputs, [tensor_value(VECTORS, [1, ROW_AXIS, table.shape[1]])])


def write_graphs(
    planner: CodePlanner, folder: Path, precision: str, capacity: int, reply_tokens: int
) -> dict[str, Any]:
    """Writes GRAPHS into a folder; returns the manifest's entries of them.

    Args:
        precision: of the decoder's weights.
        capacity: rows of the cache.
        reply_tokens: most rows of logits that are asked for at once.

    Raises:
        ExportError: a network that has no such graph.
    """
    greatest = {ROW_AXIS: capacity, LOGIT_AXIS: reply_tokens}
    decoder = decoder_graph(planner.decoder, planner.head, capacity, PRECISIONS[precision])
    models = {"vision": vision_graph(planner), "embed": embed_graph(planner), "decode": decoder}
    entries = {}
    for name in GRAPHS:
        path = folder / f"{name}.onnx"
        save_graph(models[name], path, MAX_BYTES)
        entries[name] = _entry(path, greatest)
    wanted, got = list(vision_inputs(planner.config)), [one["name"] for one in entries["vision"]["inputs"]]
    if got != wanted:  # torch drops inputs that nothing reads
        raise ExportError(f"graphs.vision.inputs: expected {wanted}, got {got}")
    return entries


def _entry(path: Path, greatest: dict[str, int]) -> dict[str, Any]:
    """The manifest's entry of a graph file; a symbolic axis has the greatest length that it may have."""
    graph = onnx.load(path, load_external_data=False).graph
    entry = {
        "file": path.name,
        "sha256": sha256(path),
        "inputs": [_tensor(value, greatest) for value in graph.input],
        "outputs": [_tensor(value, greatest) for value in graph.output],
    }
    if external := external_entries(path):
        entry["external"] = external
    return entry


def _tensor(value: onnx.ValueInfoProto, greatest: dict[str, int]) -> dict[str, Any]:
    kind = value.type.tensor_type
    shape = [greatest.get(axis.dim_param, axis.dim_value) for axis in kind.shape.dim]
    dtype = DTYPES[kind.elem_type]
    return {"name": value.name, "dtype": dtype, "shape": shape, "role": role_of(value.name)}
