"""The graph `decode` of a planner that writes code: Phi-3's decoder, node by node.

Attention is GroupQueryAttention of ONNX Runtime (domain `MICROSOFT`) with packed queries, keys and values
and the rotation of positions inside. Its cache is one buffer that is read and written in place: `past` and
`present` of a layer are bound to the same memory, [1, heads of keys, capacity, head width], of which the
first `length` rows hold earlier tokens. Rewinding is a smaller `length`. torch.onnx has no such operator, so
the graph is written here; a test and every export compare it with torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from keystep.export.code_tensors import FIRST, LENGTH, LOGIT_AXIS, LOGITS, ROW_AXIS, VECTORS, past_names
from keystep.export.errors import ExportError
from keystep.export.graphs import OPSET

MICROSOFT = "com.microsoft"
IR_VERSION = 9

Linear = Callable[["GraphWriter", str, Tensor, str], str]
"""Writes `input [.., I] -> output [.., O]` with a weight [O, I], by its name; returns the output."""


class GraphWriter:
    """A graph that is written node by node; tensors are called by the place that makes them."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def add(
        self,
        kind: str,
        inputs: list[str],
        output: str,
        more: tuple[str, ...] = (),
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """One node; returns the name of its first output, `output`; `more` are the names of others."""
        self.nodes.append(
            helper.make_node(kind, inputs, [output, *more], output, domain=domain, **attributes)
        )
        return output

    def constant(self, name: str, value: np.ndarray | Tensor) -> str:
        if isinstance(value, Tensor):
            value = value.detach().float().numpy()
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def model(
        self, name: str, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """The ONNX model of all that was written."""
        graph = helper.make_graph(self.nodes, name, inputs, outputs, [*self.constants.values()])
        domains = {node.domain for node in self.nodes}
        opsets = [helper.make_opsetid("", OPSET)]
        opsets += [helper.make_opsetid(MICROSOFT, 1)] if MICROSOFT in domains else []
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def plain_linear(graph: GraphWriter, inputs: str, weight: Tensor, name: str) -> str:
    """In single precision."""
    return graph.add("MatMul", [inputs, graph.constant(f"{name}.weight", weight.T)], name)


def decoder_graph(
    decoder: nn.Module, head: nn.Module, capacity: int, linear: Linear = plain_linear
) -> onnx.ModelProto:
    """The ONNX model.

    Inputs: VECTORS float32 [1, S, D], rows of new tokens; LENGTH int64 [1], tokens in the cache before them;
    FIRST int64 [1], the first row whose logits are wanted; the cache. Outputs: LOGITS float32 [1, S - FIRST,
    V], and the cache.

    Args:
        decoder: transformers' Phi3Model; head: D -> V, without bias.
        capacity: rows of the cache, at least those of a prompt with its reply.
        linear: how products with weights are written.

    Raises:
        ExportError: a decoder that this graph does not know.
    """
    config: Any = decoder.config
    check_decoder(config, capacity)
    graph = GraphWriter()
    sizes = _sizes(graph)
    rotary = _rotary(graph, decoder, capacity)
    layers = list(decoder.layers)  # type: ignore[arg-type]
    stream, normed = VECTORS, _norm(graph, VECTORS, layers[0].input_layernorm, "layers.0.norm")
    for index, layer in enumerate(layers):
        last = index + 1 == len(layers)
        seen = _attention(graph, normed, layer.self_attn, index, sizes + rotary, linear)
        if last:  # of the last layer only keys and values are needed of rows without logits
            stream, seen = (_from_first(graph, name) for name in (stream, seen))
        place = f"layers.{index}"
        out = linear(graph, seen, layer.self_attn.o_proj.weight, f"{place}.out")
        normed, stream = _added(graph, out, stream, layer.post_attention_layernorm, f"{place}.middle")
        out = _feed_forward(graph, normed, layer.mlp, place, linear)
        after = decoder.norm if last else layers[index + 1].input_layernorm
        normed, stream = _added(graph, out, stream, after, f"{place}.end")  # type: ignore[arg-type]
    linear(graph, normed, head.weight, LOGITS)  # type: ignore[arg-type]
    return _model(graph, config, capacity, head)


def check_decoder(config: Any, capacity: int) -> None:
    """ExportError for a decoder of another kind."""
    rope = config.rope_parameters
    wanted: dict[str, tuple[object, object]] = {
        "model_type": ("phi3", config.model_type),
        "hidden_act": ("silu", config.hidden_act),
        "rope_type": ("default", rope.get("rope_type")),
        "partial_rotary_factor": (1.0, rope.get("partial_rotary_factor", 1.0)),
    }
    for name, (want, got) in wanted.items():
        if want != got:
            raise ExportError(f"code_planner.decoder.{name}: expected {want}, got {got}")
    most = config.max_position_embeddings
    if not 1 <= capacity <= most:
        raise ExportError(f"context: expected 1..{most} (positions of the decoder), got {capacity}")


def _sizes(graph: GraphWriter) -> list[str]:
    """For GroupQueryAttention, int32 [1] each: the number of the cache's last row, and how many it has."""
    one = graph.constant("one", np.array([1], np.int64))
    total = graph.add("Add", [LENGTH, graph.add("Shape", [VECTORS], "rows", start=1, end=2)], "total64")
    last = graph.add("Sub", [total, one], "last64")
    return [
        graph.add("Cast", [value], name, to=onnx.TensorProto.INT32)
        for value, name in ((last, "last"), (total, "total"))
    ]


def _rotary(graph: GraphWriter, decoder: nn.Module, capacity: int) -> list[str]:
    """Cosines and sines [capacity, half a head]."""
    with torch.no_grad():
        rows = torch.zeros(1, capacity, 1)
        cos, sin = decoder.rotary_emb(rows, torch.arange(capacity)[None])  # type: ignore[operator]
    half = cos.shape[-1] // 2
    return [graph.constant(name, part[0, :, :half]) for name, part in (("cos", cos), ("sin", sin))]


def _norm(graph: GraphWriter, inputs: str, norm: Any, name: str) -> str:
    weight = graph.constant(f"{name}.weight", norm.weight)
    return graph.add("SimplifiedLayerNormalization", [inputs, weight], name, epsilon=norm.variance_epsilon)


def _added(graph: GraphWriter, branch: str, stream: str, norm: Any, name: str) -> tuple[str, str]:
    """The stream with a branch added: normalised, and as it is."""
    added = [branch, stream, graph.constant(f"{name}.weight", norm.weight)]
    normed = graph.add(
        "SkipSimplifiedLayerNormalization",
        added,
        name,
        ("", "", f"{name}.sum"),
        MICROSOFT,
        epsilon=norm.variance_epsilon,
    )
    return normed, f"{name}.sum"


def _attention(
    graph: GraphWriter, normed: str, attention: Any, layer: int, common: list[str], linear: Linear
) -> str:
    place = f"layers.{layer}"
    packed = linear(graph, normed, attention.qkv_proj.weight, f"{place}.qkv")
    pasts, presents = zip(*past_names(layer + 1)[-2:], strict=True)
    return graph.add(
        "GroupQueryAttention",
        [packed, "", "", *pasts, *common],
        f"{place}.attention",
        presents,
        MICROSOFT,
        num_heads=attention.config.num_attention_heads,
        kv_num_heads=attention.num_key_value_heads,
        scale=attention.scaling,
        do_rotary=1,
    )


def _from_first(graph: GraphWriter, name: str) -> str:
    """Rows FIRST and later."""
    end = graph.constant("end", np.array([np.iinfo(np.int64).max], np.int64))
    axis = graph.constant("one", np.array([1], np.int64))
    return graph.add("Slice", [name, FIRST, end, axis], f"{name}.wanted")


def _feed_forward(graph: GraphWriter, normed: str, mlp: Any, place: str, linear: Linear) -> str:
    both = linear(graph, normed, mlp.gate_up_proj.weight, f"{place}.gate_up")
    graph.add("Split", [both], f"{place}.gate", (f"{place}.up",), axis=-1, num_outputs=2)
    # x sigmoid(alpha x), which with alpha 1 is SiLU
    open_ = graph.add("QuickGelu", [f"{place}.gate"], f"{place}.open", domain=MICROSOFT, alpha=1.0)
    product = graph.add("Mul", [open_, f"{place}.up"], f"{place}.product")
    return linear(graph, product, mlp.down_proj.weight, f"{place}.down")


def _model(graph: GraphWriter, config: Any, capacity: int, head: nn.Module) -> onnx.ModelProto:
    width, vocabulary = config.hidden_size, len(head.weight)  # type: ignore[arg-type]
    cache = [1, config.num_key_value_heads, capacity, width // config.num_attention_heads]
    names = past_names(config.num_hidden_layers)
    inputs = [
        tensor_value(VECTORS, [1, ROW_AXIS, width]),
        tensor_value(LENGTH, [1], onnx.TensorProto.INT64),
        tensor_value(FIRST, [1], onnx.TensorProto.INT64),
        *(tensor_value(past, cache) for past, _ in names),
    ]
    outputs = [
        tensor_value(LOGITS, [1, LOGIT_AXIS, vocabulary]),
        *(tensor_value(present, cache) for _, present in names),
    ]
    return graph.model("decode", inputs, outputs)


def tensor_value(
    name: str, shape: list[int | str], kind: int = onnx.TensorProto.FLOAT
) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
