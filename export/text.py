"""The text graph of a bundle: one string in, the planner's goal embedding out, the tokeniser inside.

The tokeniser of the corpus encoder is made of ONNX Runtime's own operators. Those of CLIP, T5 and MiniLM are
operators of onnxruntime-extensions (domain `EXTENSIONS`), which the engine then has to load.
"""

from __future__ import annotations

import json
import string
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from keystep.export.graphs import to_onnx
from keystep.export.weights import MAX_BYTES, save_graph
from keystep.models.scorer import pooled
from keystep.models.text import TextEncoder
from keystep.models.text.corpus_encoder import CorpusEncoder
from keystep.models.text.pretrained import NOT_PLAIN, PretrainedEncoder
from keystep.models.text.words import FIRST_WORD, PADDING, START, UNKNOWN, WORD

EXTENSIONS = "ai.onnx.contrib"
DOMAINS = {"ai.onnx.ml": 3, "com.microsoft": 1, EXTENSIONS: 1}  # and their versions
TEXT, GOAL, TOLD = "text", "goal_text", "score_text"


def text_graph(
    encoder: TextEncoder,
    planner: nn.Module,
    guided: bool,
    path: Path,
    most: int = MAX_BYTES,
    scored: bool = False,
) -> None:
    """Writes the ONNX file: `text` string [1] -> `goal_text` float32 [R, E].

    Args:
        planner: its method `goal` turns tokens [B, T, D] into [B, E].
        guided: R = 2, and row 1 is the goal of tokens that are all zero; else R = 1.
        most: bytes of weights in the file, see `save_graph`.
        scored: also write `score_text` float32 [R, D], what a scorer of plans is told.

    The planner is in evaluation mode afterwards.

    Raises:
        ValueError: the encoder's tokeniser cannot be written as a graph.
    """
    inputs = (torch.ones(1, encoder.tokens, dtype=torch.int64),) * 2
    module = GoalGraph(encoder, planner, guided, scored)
    made = BOTH if scored else GOAL
    model = to_onnx(module, inputs, ["text/ids", "text/mask"], made)
    nodes = tokenizer_nodes(encoder)
    after, outputs = (
        _split(nodes, model.graph.output[0], encoder.width) if scored else ([], [*model.graph.output])
    )
    graph = helper.make_graph(
        [*nodes.nodes, *model.graph.node, *after],
        "text",
        [helper.make_tensor_value_info(TEXT, onnx.TensorProto.STRING, [1])],
        outputs,
        [*nodes.constants, *model.graph.initializer],
    )
    versions = {entry.domain: entry.version for entry in model.opset_import}
    versions |= {node.domain: DOMAINS[node.domain] for node in nodes.nodes if node.domain}
    opsets = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
    save_graph(helper.make_model(graph, opset_imports=opsets, ir_version=model.ir_version), path, most)


BOTH = "text/both"


def _split(
    nodes: Nodes, both: onnx.ValueInfoProto, width: int
) -> tuple[list[onnx.NodeProto], list[onnx.ValueInfoProto]]:
    """`BOTH` [R, E + D] cut into its two outputs."""
    rows, columns = (axis.dim_value for axis in both.type.tensor_type.shape.dim)
    sizes = (columns - width, width)
    node = helper.make_node("Split", [BOTH, nodes.integers(*sizes)], [GOAL, TOLD], axis=1)
    outputs = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [rows, size])
        for name, size in zip((GOAL, TOLD), sizes, strict=True)
    ]
    return [node], outputs


class GoalGraph(nn.Module):
    """Token ids [1, T] and mask [1, T] -> goal embedding [R, E]; `scored`: and `pooled` tokens [R, E + D]."""

    def __init__(self, encoder: TextEncoder, planner: nn.Module, guided: bool, scored: bool = False) -> None:
        super().__init__()
        self.encoder, self.planner, self.guided, self.scored = encoder, planner, guided, scored

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        tokens = self.encoder(ids, mask)
        if self.guided:
            tokens = torch.cat([tokens, torch.zeros_like(tokens)])
        goal: Tensor = self.planner.goal(tokens)  # type: ignore[operator]
        return torch.cat([goal, pooled(tokens)], dim=-1) if self.scored else goal


@dataclass
class Nodes:
    """A piece of a graph that is written node by node; names begin with `text/`."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, kind: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        """One node; `output` names its first output, which is returned."""
        outputs = [f"text/{output}", *attributes.pop("more_outputs", ())]
        self.nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, **attributes))
        return outputs[0]

    def constant(self, value: np.ndarray) -> str:
        name = f"text/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, dtype=np.int64))

    def cut(self, tensor: str, end: int, output: str) -> str:
        """tensor[:end] of one dimension."""
        return self.add("Slice", [tensor, self.integers(0), self.integers(end)], output)

    def padded(self, ids: str, padding: int, tokens: int) -> None:
        """ids [n] -> `text/ids` and `text/mask`, [1, T] both: cut or padded."""
        count = self.add("Shape", [ids], "count")
        there = self.add("Less", [self.integers(*range(tokens)), count], "there")
        filled = self.add("Concat", [ids, self.integers(*[padding] * tokens)], "filled", axis=0)
        shape = self.integers(1, tokens)
        self.add("Reshape", [self.cut(filled, tokens, "cut"), shape], "ids")
        self.add("Reshape", [self.add("Cast", [there], "valid", to=onnx.TensorProto.INT64), shape], "mask")


def tokenizer_nodes(encoder: TextEncoder) -> Nodes:
    """The encoder's `tokenize` as nodes: `text` [1] -> `text/ids`, `text/mask` [1, T]."""
    if isinstance(encoder, CorpusEncoder):
        return _word_nodes(encoder)
    if isinstance(encoder, PretrainedEncoder):
        return _pretrained_nodes(encoder)
    raise ValueError(f"text encoder: expected one whose tokeniser is known, got {type(encoder).__name__}")


def _word_nodes(encoder: CorpusEncoder) -> Nodes:
    nodes, words = Nodes(), encoder.vocabulary.words
    # Every machine has the locale C, in which only ASCII has upper and lower case.
    lower = nodes.add("StringNormalizer", [TEXT], "lower", case_change_action="LOWER", locale="C")
    options = {"mark": 0, "mincharnum": 1, "pad_value": "", "tokenexp": WORD}
    split = nodes.add("Tokenizer", [lower], "words", "com.microsoft", **options)
    ids = nodes.add(
        "LabelEncoder",
        [nodes.add("Reshape", [split, nodes.integers(-1)], "row")],
        "known",
        "ai.onnx.ml",
        keys_strings=words,
        values_int64s=range(FIRST_WORD, FIRST_WORD + len(words)),
        default_int64=UNKNOWN,
    )
    begun = nodes.add("Concat", [nodes.integers(START), ids], "begun", axis=0)
    nodes.padded(begun, PADDING, encoder.tokens)
    return nodes


def _pretrained_nodes(encoder: PretrainedEncoder) -> Nodes:
    nodes = Nodes()
    pattern, space = nodes.constant(np.array([NOT_PLAIN], object)), nodes.constant(np.array([" "], object))
    plain = nodes.add("StringRegexReplace", [TEXT, pattern, space], "plain", EXTENSIONS, global_replace=1)
    kind, attributes = _extension(encoder)
    raw = nodes.add(kind, [plain], "raw", EXTENSIONS, **attributes)
    row = nodes.add("Reshape", [raw, nodes.integers(-1)], "row")
    # The end token is put back after the cut; the T5 tokeniser also leaves it out of an empty sentence.
    body = nodes.cut(nodes.cut(row, -1, "open"), encoder.tokens - 1, "body")
    closed = nodes.add("Concat", [body, nodes.integers(encoder.end_id)], "closed", axis=0)
    nodes.padded(closed, encoder.pad_id, encoder.tokens)
    return nodes


def _extension(encoder: PretrainedEncoder) -> tuple[str, dict[str, Any]]:
    """Operator and attributes that tokenise as the encoder's tokeniser does."""
    with tempfile.TemporaryDirectory() as folder:
        encoder.tokenizer.save_pretrained(folder)
        config, tokenizer = (
            (Path(folder) / name).read_text(encoding="utf-8")
            for name in ("tokenizer_config.json", "tokenizer.json")
        )
    if encoder.kind != "minilm":
        return "HfJsonTokenizer", {"tokenizer_config": config, "tokenizer_vocab": tokenizer}
    vocabulary, lower = json.loads(tokenizer)["model"]["vocab"], json.loads(config)["do_lower_case"]
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise ValueError("tokenizer: expected ids without gaps, got a vocabulary with some")
    # Of a word with an unknown piece, Python makes one token, the operator several: there must be none.
    letters = string.digits + (string.ascii_lowercase if lower else string.ascii_letters)
    lacking = "".join(c for c in letters if c not in vocabulary or f"##{c}" not in vocabulary)
    if lacking:
        raise ValueError(
            f"tokenizer: expected all letters and digits in the vocabulary, not without {lacking}"
        )
    return "BertTokenizer", {
        "vocab_file": "\n".join(sorted(vocabulary, key=vocabulary.__getitem__)),
        "do_lower_case": int(lower),
        "strip_accents": 1,
        "more_outputs": ("text/types", "text/attention"),  # it crashes when they are left out
    }
