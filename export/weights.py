"""Where the weights of a bundle's graphs are: each once.

A graph file has its weights inside, or, beyond `MAX_BYTES`, in a file beside it. What the bundle's
safetensors hold already, for the native engine, a graph takes from there: ONNX's external data are a file, an
offset and a length, and a safetensors file is a header and then its tensors, one after the other. Nothing is
computed: the values of a graph stay the same bits. The manifest lists such files in the graph's `external`,
with their SHA-256.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import set_external_data, uses_external_data

from keystep.files import sha256

MAX_BYTES = 2**31 - 2**20  # of a protobuf, with room for the nodes; more weights are a file of their own
# What onnx raises for a file that is none, or names data that are not there.
_DAMAGE = (DecodeError, onnx.checker.ValidationError, ValueError, TypeError, OverflowError, MemoryError)
LEAST_BYTES = 1024  # of an initialiser that is worth a pointer


@dataclass(frozen=True)
class Place:
    """Where a tensor's bytes are."""

    file: str
    offset: int
    length: int


class StoredWeights:
    """The fp32 tensors of safetensors files, by their bytes. Rounded ones are the native engine's alone.

    Args:
        files: of one folder.

    Raises:
        ValueError: "file: expected X, got Y".
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._places: dict[bytes, Place] = {}
        self._transposed: dict[bytes, Place] = {}
        for path in files:
            self._read(path)

    def _read(self, path: Path) -> None:
        content = path.read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        for entry in _header(path.name, content, start):
            begin, end = entry["data_offsets"]
            if entry["dtype"] != "F32" or end - begin < LEAST_BYTES:
                continue
            place, data = Place(path.name, start + begin, end - begin), content[start + begin : start + end]
            self._places.setdefault(data, place)
            values = np.frombuffer(data, "<f4").reshape(-1, entry["shape"][-1])
            self._transposed.setdefault(values.T.tobytes(), place)

    def of(self, data: bytes) -> Place | None:
        """The place of these bytes."""
        return self._places.get(data)

    def of_transpose(self, data: bytes) -> Place | None:
        """The place of a matrix [.., O] whose transpose [O, ..] has these bytes."""
        return self._transposed.get(data)


def _header(name: str, content: bytes, start: int) -> list[dict[str, Any]]:
    """The tensors of a safetensors file whose data begin at `start`. No byte is that of two tensors."""
    try:
        header = json.loads(content[8:start]) if start <= len(content) else None
    except (ValueError, RecursionError):  # no UTF-8 is a ValueError, too
        header = None
    if not isinstance(header, dict):
        raise ValueError(f"{name}: expected a safetensors file, got one without a JSON header inside it")
    tensors = {key: entry for key, entry in header.items() if key != "__metadata__"}
    for key, entry in tensors.items():
        if not _is_tensor(entry, len(content) - start):
            wanted = "dtype, shape and data_offsets of a tensor inside the file"
            raise ValueError(f"{name}: expected {wanted}, got {key!r:.80} with {entry!r:.80}")
    end = 0
    for entry in sorted(tensors.values(), key=lambda entry: entry["data_offsets"]):
        if entry["data_offsets"][0] < end:
            raise ValueError(f"{name}: expected tensors with bytes of their own, got {entry!r:.80}")
        end = entry["data_offsets"][1]
    return list(tensors.values())


def _is_tensor(entry: Any, size: int) -> bool:
    """Whether a header's entry is right, in a file with `size` bytes of data."""
    if not isinstance(entry, dict) or not isinstance(dtype := entry.get("dtype"), str):
        return False
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not _are_naturals(shape) or not _are_naturals(offsets) or len(offsets) != 2:
        return False
    begin, end = offsets
    return begin <= end <= size and (dtype != "F32" or end - begin == 4 * math.prod(shape))


def _are_naturals(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def load_graph(path: Path) -> onnx.ModelProto:
    """With what lies beside it.

    Raises:
        ValueError: "file: expected X, got Y".
    """
    try:
        # By its content: a name that ends in .json does not make it one.
        return onnx.load(path, format="protobuf")
    except (*_DAMAGE, OSError) as error:
        wanted = "an ONNX graph, its weights in it or in files of the bundle"
        raise ValueError(f"{path.name}: expected {wanted}, got {_short(error)}") from None


def _short(error: Exception) -> str:
    """In one line, without what a library quotes at length."""
    return f"{type(error).__name__} {' '.join(str(error).split()):.160}"


def save_graph(model: onnx.ModelProto, path: Path, most: int) -> None:
    """Writes the file; where its weights have more than `most` bytes, they are `<file>.data` beside it."""
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if size <= most:
        onnx.save(model, path, format="protobuf")
        return
    location = f"{path.name}.data"
    onnx.save(model, path, format="protobuf", save_as_external_data=True, location=location)


def external_entries(path: Path) -> list[dict[str, str]]:
    """The manifest's `external` of a graph file: the files that its weights are in, each once."""
    model = onnx.load(path, format="protobuf", load_external_data=False)
    names = {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if uses_external_data(tensor) and entry.key == "location"
    }
    return [{"file": name, "sha256": sha256(path.parent / name)} for name in sorted(names)]


def share_weights(graphs: dict[str, dict[str, Any]], folder: Path, most: int = MAX_BYTES) -> None:
    """Lets the graphs of a folder take what they can from its safetensors.

    Args:
        graphs: the manifest's entries, which are brought up to date.
        most: see `save_graph`.

    Raises:
        ValueError: a file is none that it should be: "file: expected X, got Y".
    """
    weights = StoredWeights(sorted(folder.glob("*.safetensors")))
    for entry in graphs.values():
        path = folder / entry["file"]
        model = load_graph(path)
        try:
            shared = [_share(model.graph, tensor, weights) for tensor in model.graph.initializer]
        except _DAMAGE as error:
            wanted = "initializers with as many values as their shapes have"
            raise ValueError(f"{path.name}: expected {wanted}, got {_short(error)}") from None
        if not any(shared):
            continue
        (folder / f"{path.name}.data").unlink(missing_ok=True)
        save_graph(model, path, most)
        entry["sha256"] = sha256(path)
        entry["external"] = external_entries(path)


def _share(graph: onnx.GraphProto, tensor: onnx.TensorProto, weights: StoredWeights) -> bool:
    """Makes the tensor a pointer into `weights`. Returns whether it is there.

    A matrix that is there the other way round will do where all that reads it is a Gemm, which has a flag for
    that.
    """
    if tensor.data_type != onnx.TensorProto.FLOAT:
        return False
    data = onnx.numpy_helper.to_array(tensor).tobytes()
    place = weights.of(data)
    if place is None:
        place = weights.of_transpose(data)
        if place is None or not _turn_round(graph, tensor):
            return False
    tensor.ClearField("float_data")
    tensor.raw_data = data  # set_external_data wants it there
    set_external_data(tensor, place.file, place.offset, place.length)
    tensor.ClearField("raw_data")
    return True


def _turn_round(graph: onnx.GraphProto, tensor: onnx.TensorProto) -> bool:
    """Exchanges the axes of a matrix for all that reads it. Returns whether that can be done."""
    readers = [node for node in graph.node if tensor.name in node.input]
    only_gemm = all(node.op_type == "Gemm" and [*node.input].index(tensor.name) == 1 for node in readers)
    # A loop or a branch may read it, too.
    nested = any(attribute.HasField("g") for node in graph.node for attribute in node.attribute)
    if nested or not readers or not only_gemm or len(tensor.dims) != 2:
        return False
    for node in readers:
        before = {attribute.name: attribute.i for attribute in node.attribute}.get("transB", 0)
        kept = [attribute for attribute in node.attribute if attribute.name != "transB"]
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute("transB", 1 - before)])
    tensor.dims[:] = [*reversed(tensor.dims)]
    return True
