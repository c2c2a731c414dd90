"""Whether a graph takes and makes what the runtime gives it and takes of it, and the graph made to fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from keystep.export.errors import ExportError
from keystep.export.onnx_given import all_graphs, graphs_in, misfit, nodes, rename, said
from keystep.export.weights import MAX_BYTES, save_graph

Tensors = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Of operators that every build of ONNX Runtime has."""
RANDOM = (
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
)

SAME = "the same answer each time (noise is the sampler's)"


def fitted(
    kind: str,
    model: onnx.ModelProto,
    names: Mapping[str, str],
    inputs: Tensors,
    output: str,
    shape: tuple[int, ...] | None,
    folder: Path,
) -> tuple[tuple[int, ...], onnxruntime.InferenceSession]:
    """Changes `model` in place, so that it has exactly these inputs and this output, of fixed shapes.

    Args:
        names: by the graph's own. inputs: what it is given. output: what it makes, of `shape` (None: any with
            one row).
        folder: for a file or two, gone when the session is.

    Returns:
        The output's shape, and the graph ready to be run.

    Raises:
        ExportError: "graphs.KIND: expected X, got Y".
    """
    graph, field = model.graph, f"graphs.{kind}"
    _check_operators(field, model)
    stored = {tensor.name for tensor in graph.initializer}
    for value in [value for value in graph.input if value.name in stored]:
        graph.input.remove(value)  # a default value, as files before 2019 list every weight
    _check_given(field, graph, names)
    _choose_output(field, graph, names, output)
    rename(graph, dict(names) | {graph.output[0].name: output})
    _check_inputs(field, graph, inputs)
    _check_read(field, graph)
    declared = graph.output[0]
    _check_output(field, declared, shape)
    del graph.value_info[:]  # with symbols that are numbers now
    declared.type.tensor_type.ClearField("shape")
    session = _session(field, model, folder / kind)
    made = run(field, session, {key: np.zeros(size, dtype) for key, (dtype, size) in inputs.items()})
    wanted = f"float32 {[*shape]}" if shape else "float32 [1, ..]"
    if made.ndim == 0 or len(made) != 1 or (shape is not None and made.shape != shape):
        raise misfit(f"{field}.outputs.{output}", wanted, f"float32 {[*made.shape]}")
    _check_repeats(field, session, inputs, made.shape)
    declared.CopyFrom(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, made.shape))
    return made.shape, session


def run(field: str, session: onnxruntime.InferenceSession, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """Its only output. Raises ExportError."""
    try:
        (made,) = session.run(None, inputs)
    except Exception as error:  # of a library that says no more of what it raises
        raise ExportError(f"{field}: expected it to take its inputs, got {said(error)}") from None
    return made


def _check_repeats(
    field: str, session: onnxruntime.InferenceSession, inputs: Tensors, shape: tuple[int, ...]
) -> None:
    """That what it makes of an input is the same each time, and as large as of zeros. Raises ExportError."""
    rng = np.random.default_rng(0)  # 0..1 is what an image has, and within what vectors have
    drawn = {
        key: (rng.random(size) if dtype.kind == "f" else np.zeros(size)).astype(dtype)
        for key, (dtype, size) in inputs.items()
    }
    once, again = run(field, session, drawn), run(field, session, drawn)
    if once.shape != shape or again.shape != shape:
        wanted = f"answers of {[*shape]}, whatever it is given"
        raise misfit(field, wanted, f"one of {[*once.shape]}")
    if not np.array_equal(once, again, equal_nan=True):
        raise misfit(field, SAME, "another one")


def check_numbers(session: onnxruntime.InferenceSession, inputs: Tensors, train_steps: int) -> None:
    """That `denoise` takes the first, middle and last time-step. Raises ExportError."""
    zeros = {key: np.zeros(size, dtype) for key, (dtype, size) in inputs.items()}
    for step in sorted({0, train_steps // 2, train_steps - 1}):
        try:
            made = run("graphs.denoise", session, zeros | {"timestep": np.array([step])})
        except ExportError as error:
            wanted = f"every time-step of 0..{train_steps - 1}"
            raise ExportError(f"graphs.denoise.inputs.timestep: expected {wanted}, {step}: {error}") from None
        if not np.isfinite(made).all():
            raise misfit("graphs.denoise", "finite answers", f"NaN or Inf at time-step {step}")


def _check_operators(field: str, model: onnx.ModelProto) -> None:
    known, off = {*DOMAINS, *(function.domain for function in model.functions)}, _switched_off(model)
    for node in nodes(model):
        if node.domain not in known:
            wanted = "operators of ai.onnx, ai.onnx.ml and com.microsoft"
            raise misfit(field, wanted, f"{node.domain}.{node.op_type} (node {node.name!r})")
        if node.op_type in RANDOM:
            raise misfit(field, SAME, f"{node.op_type} (node {node.name!r})")
        if _trains(node, off):
            wanted = "a graph exported for evaluation"
            raise misfit(field, wanted, f"{node.op_type} in training mode (node {node.name!r})")
    newest = onnx.defs.onnx_opset_version()
    for used in model.opset_import:
        if used.domain in ("", "ai.onnx") and not 1 <= used.version <= newest:
            raise misfit(f"{field}.opset_import", f"ai.onnx 1..{newest}", str(used.version))


def _trains(node: onnx.NodeProto, off: set[str]) -> bool:
    """Whether it drops values, or takes its statistics of what it is given. `off`: see `_switched_off`."""
    if node.op_type == "Dropout":
        return len(node.input) > 2 and node.input[2] not in {"", *off}
    modes = (attribute.i for attribute in node.attribute if attribute.name == "training_mode")
    return node.op_type == "BatchNormalization" and any(modes)


def _switched_off(model: onnx.ModelProto) -> set[str]:
    """The names of stored values that are false."""
    stored = [tensor for graph in all_graphs(model) for tensor in graph.initializer]
    found = [(tensor.name, tensor) for tensor in stored]
    for node in nodes(model):
        if node.op_type == "Constant":
            found += [(node.output[0], held.t) for held in node.attribute if held.name == "value"]
    flags = [(name, tensor) for name, tensor in found if tensor.data_type == onnx.TensorProto.BOOL]
    on = {name for name, tensor in flags if any(tensor.raw_data) or any(tensor.int32_data)}
    return {name for name, _ in flags} - on


def _check_given(field: str, graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    own = [value.name for value in [*graph.input, *graph.output]]
    for name in names:
        if name not in own:
            raise misfit(f"names of {field}", " | ".join(own), name)


def _choose_output(field: str, graph: onnx.GraphProto, names: Mapping[str, str], output: str) -> None:
    """Keeps the one that is meant: `names` goes before what the graph itself calls one."""
    found = [value for value in graph.output if names.get(value.name) == output]
    unnamed = [value for value in graph.output if value.name not in names]
    if not found:
        alone = len(graph.output) == 1
        found = [value for value in unnamed if alone or value.name == output]
    if not found:
        got = ", ".join(names.get(value.name, value.name) for value in graph.output)
        raise misfit(f"{field}.outputs", f"{output} (`names` says which it is)", got)
    if found[0].name in {value.name for value in graph.input}:
        raise misfit(f"{field}.outputs", "one that is computed", f"the input {found[0].name}")
    kept = onnx.ValueInfoProto()
    kept.CopyFrom(found[0])
    del graph.output[:]
    graph.output.append(kept)


def _check_inputs(field: str, graph: onnx.GraphProto, wanted: Tensors) -> None:
    names = [value.name for value in graph.input]
    if sorted(names) != sorted(wanted):
        missing = ", ".join(name for name in wanted if name not in names)
        other = ", ".join(name for name in names if name not in wanted)
        told = f"{', '.join(wanted)} (`names` says which is which)"
        parts = [f"none for {missing}"] if missing else []
        parts += [f"{other} besides"] if other and not missing else [f"but {other}"] if other else []
        raise misfit(f"{field}.inputs", told, " ".join(parts))
    symbols: dict[str, int] = {}
    for value in graph.input:
        dtype, shape = wanted[value.name]
        got = value.type.tensor_type
        told = f"{dtype} {[*shape]}"
        where = f"{field}.inputs.{value.name}"
        if _dtype(value) != dtype or not _fits(got, shape):
            raise misfit(where, told, described_tensor(value))
        for axis, size in zip(got.shape.dim, shape, strict=False):
            if axis.dim_param and symbols.setdefault(axis.dim_param, size) != size:
                taken = symbols[axis.dim_param]
                raise misfit(where, told, f"{axis.dim_param} = {taken} elsewhere")
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, got.elem_type, shape))


def _check_output(field: str, value: onnx.ValueInfoProto, shape: tuple[int, ...] | None) -> None:
    """What can be said before it is run."""
    told = f"float32 {[*shape]}" if shape else "float32 [1, ..]"
    got, first = value.type.tensor_type, value.type.tensor_type.shape.dim[:1]
    fixed = first and first[0].HasField("dim_value") and first[0].dim_value != 1
    if _dtype(value) != np.float32 or fixed or (shape is not None and not _fits(got, shape)):
        raise misfit(f"{field}.outputs.{value.name}", told, described_tensor(value))


def _fits(got: Any, shape: tuple[int, ...]) -> bool:
    """Whether a declared type may have this shape."""
    if not got.HasField("shape"):
        return True
    axes = got.shape.dim
    return len(axes) == len(shape) and all(
        not axis.HasField("dim_value") or axis.dim_value == size
        for axis, size in zip(axes, shape, strict=True)
    )


def _dtype(value: onnx.ValueInfoProto) -> np.dtype[Any] | None:
    """None of what is no tensor of numbers."""
    if not value.type.HasField("tensor_type"):
        return None
    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    except (KeyError, TypeError):
        return None


def described_tensor(value: onnx.ValueInfoProto) -> str:
    """Its type and shape as messages tell them."""
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return f"no tensor but {(kind or 'nothing').removesuffix('_type')}"
    known = _dtype(value)
    name = (
        "string"
        if known is not None and known.kind == "O"
        else str(known)
        if known is not None
        else "an unknown type"
    )
    if not value.type.tensor_type.HasField("shape"):
        return f"{name} of any shape"
    axes = value.type.tensor_type.shape.dim
    sizes = [str(axis.dim_value) if axis.HasField("dim_value") else axis.dim_param or "?" for axis in axes]
    return f"{name} [{', '.join(sizes)}]"


def _check_read(field: str, graph: onnx.GraphProto) -> None:
    """That the answer depends on every input."""
    needed = {value.name for value in graph.output}
    for node in reversed(graph.node):
        if needed & {*node.output}:
            needed |= {*node.input}
            for attribute in node.attribute:  # a branch reads what is around it
                inner = [attribute.g] if attribute.HasField("g") else [*attribute.graphs]
                for one in (deep for each in inner for deep in graphs_in(each)):
                    needed |= {name for within in one.node for name in within.input}
                    needed |= {value.name for value in one.output}
    unread = [value.name for value in graph.input if value.name not in needed]
    if unread:
        wanted = f"it to read {', '.join(unread)}"
        raise misfit(field, wanted, "an answer that does not depend on that")


def _session(field: str, model: onnx.ModelProto, folder: Path) -> onnxruntime.InferenceSession:
    """Raises ExportError for what this ONNX Runtime does not run."""
    folder.mkdir(parents=True)
    save_graph(model, folder / "graph.onnx", MAX_BYTES)
    onnx.load_external_data_for_model(model, str(folder))  # saving moves large weights out of it
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # it says so itself, in an exception
    try:
        return onnxruntime.InferenceSession(
            str(folder / "graph.onnx"), settings, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # of a library that says no more of what it raises
        wanted = f"a graph that ONNX Runtime {onnxruntime.__version__} runs"
        raise ExportError(f"{field}: expected {wanted}, got {said(error)}") from None
