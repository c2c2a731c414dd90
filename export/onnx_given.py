"""ONNX graphs that come from anywhere: read whole, and their tensors renamed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import uses_external_data

from keystep.export.errors import ExportError

Given = Path | str | onnx.ModelProto


def read_given(kind: str, given: Any) -> onnx.ModelProto:
    """A copy of the graph with all its weights inside. Nothing but protobuf is ever parsed.

    Raises:
        ExportError: no such file, no ONNX, weights beside it that are missing or lie elsewhere.
    """
    field = f"graphs.{kind}"
    if isinstance(given, onnx.ModelProto):
        model = onnx.ModelProto()
        model.CopyFrom(given)
        outside = next(_external(model), None)
        if outside is not None:
            wanted = "a file's path where weights lie beside it"
            raise misfit(field, wanted, f"a ModelProto whose {outside} is external data")
    elif isinstance(given, Path | str):
        model = _read_file(field, Path(given))
    else:
        raise misfit(field, "a path or an onnx.ModelProto", type(given).__name__)
    if not model.graph.node:
        raise misfit(field, "an ONNX graph", "one without nodes")
    for node in nodes(model):
        if node.op_type == "EPContext":
            raise misfit(field, "a graph that any provider runs", "one compiled for a device (EPContext)")
    return model


def _read_file(field: str, path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise misfit(field, "an ONNX file", f"{path}, which is none")
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise ExportError(f"{field}: expected an ONNX file, got {path.name}: {said(error)}") from None
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (onnx.checker.ValidationError, ValueError, OSError) as error:
        wanted = f"its weights in files beside {path.name}"
        raise ExportError(f"{field}: expected {wanted}, got {said(error)}") from None
    left = next(_external(model), None)
    if left is not None:  # onnx reads no sparse ones
        raise misfit(field, "weights inside it, or beside it and dense", f"{left}, which is neither")
    return model


def _external(model: onnx.ModelProto) -> Iterator[str]:
    for graph in all_graphs(model):
        sparse = [tensor for both in graph.sparse_initializer for tensor in (both.values, both.indices)]
        yield from (tensor.name for tensor in [*graph.initializer, *sparse] if uses_external_data(tensor))
    for node in nodes(model):
        for attribute in node.attribute:
            yield from (
                tensor.name for tensor in [attribute.t, *attribute.tensors] if uses_external_data(tensor)
            )


def nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """All of them, those of branches, loops and functions too."""
    for graph in all_graphs(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def all_graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The graph, and those of branches and loops, of functions too."""
    yield from graphs_in(model.graph)
    for function in model.functions:
        yield from _inner_graphs(function.node)


def graphs_in(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph, and those in attributes of its nodes."""
    yield graph
    yield from _inner_graphs(graph.node)


def _inner_graphs(given: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    for node in given:
        for attribute in node.attribute:
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from graphs_in(inner)


def rename(graph: onnx.GraphProto, renamed: dict[str, str]) -> None:
    """Calls tensors otherwise, wherever they are read or written; who has a new name already makes room."""
    used = {name for inner in graphs_in(graph) for name in _names(inner)}
    chosen = {old: new for old, new in renamed.items() if old != new}
    for new in {*chosen.values()} & (used - set(chosen)):
        other = f"{new}_"
        while other in used or other in chosen.values():
            other += "_"
        chosen[new] = other
    for inner in graphs_in(graph):
        for value in [*inner.input, *inner.output, *inner.value_info, *inner.initializer]:
            value.name = chosen.get(value.name, value.name)
        for sparse in inner.sparse_initializer:
            sparse.values.name = chosen.get(sparse.values.name, sparse.values.name)
        for noted in inner.quantization_annotation:
            noted.tensor_name = chosen.get(noted.tensor_name, noted.tensor_name)
        for node in inner.node:
            node.input[:] = [chosen.get(name, name) for name in node.input]
            node.output[:] = [chosen.get(name, name) for name in node.output]


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    yield from (value.name for value in [*graph.input, *graph.output, *graph.initializer])
    yield from (sparse.values.name for sparse in graph.sparse_initializer)
    for node in graph.node:
        yield from [*node.input, *node.output]


def misfit(field: str, wanted: str, got: str) -> ExportError:
    """To be raised."""
    return ExportError(f"{field}: expected {wanted}, got {got:.200}")


def said(error: Exception) -> str:
    """In one line, without what a library quotes at length."""
    return f"{type(error).__name__} {' '.join(str(error).split()):.200}"
