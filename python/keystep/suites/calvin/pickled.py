"""auto_lang_ann.npy without unpickling: the one layout that CALVIN's language annotator writes.

The file is a dict that numpy has pickled. A pickle is a program; here it may name only what an array is made
of, and gets stand-ins for that: no function of numpy's, nor of anybody else's, is ever called. An array of
numbers becomes its bytes; whatever else a pickle can name (functions, classes, modules) is refused.
"""

from __future__ import annotations

import io
import math
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keystep.data.errors import DatasetError

MAX_BYTES = 1 << 30  # the largest real one, with embeddings, has some 40 MB
_LAYOUT = (("language", "ann", str), ("language", "task", str), ("info", "indx", tuple))


@dataclass(frozen=True)
class PlaySegment:
    """A piece of play with words to it.

    Attributes:
        start, stop: numbers of the frames [start, stop).
    """

    number: int
    task: str
    sentence: str
    start: int
    stop: int


def read_segments(path: Path) -> list[PlaySegment]:
    """The language segments of a dataset folder's auto_lang_ann.npy, in the order of the file.

    Raises:
        DatasetError: the file is not there, or holds anything but lists, tuples, texts, numbers and arrays in
            this layout.
    """
    told = _Unpickled(path).value
    found = {}
    for group, name, kind in _LAYOUT:
        values = told.get(group, {}) if isinstance(told, dict) else None
        values = values.get(name) if isinstance(values, dict) else None
        values = values.tolist() if isinstance(values, np.ndarray) and values.dtype != object else values
        if not isinstance(values, list):
            raise DatasetError(f"{path}: {group}.{name}: expected a list, got {type(values).__name__}")
        found[name] = [_checked(path, f"{group}.{name}[{i}]", kind, v) for i, v in enumerate(values)]
    counts = {name: len(values) for name, values in found.items()}
    if len(set(counts.values())) != 1:
        raise DatasetError(f"{path}: expected as many of each, got {counts}")
    rows = zip(found["task"], found["ann"], found["indx"], strict=True)
    return [PlaySegment(number, task, words, *place) for number, (task, words, place) in enumerate(rows)]


def _checked(path: Path, name: str, kind: type, value: Any) -> Any:
    if kind is str:
        if not isinstance(value, str) or not value.strip():
            raise DatasetError(f"{path}: {name}: expected a text, got {value!r:.80}")
        return value
    pair = [_whole(number) for number in value] if isinstance(value, tuple | list) else []
    if len(pair) != 2 or not 0 <= pair[0] < pair[1]:
        raise DatasetError(f"{path}: {name}: expected first frame and end, got {value!r:.80}")
    return tuple(pair)


def _whole(value: Any) -> int:
    """Below 0 for what is no whole number, as no frame is."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.size == 1:
        return int(value.item())
    return value if type(value) is int else -1


class _Unpickled:
    """`value` is what the file holds."""

    def __init__(self, path: Path) -> None:
        try:
            if path.stat().st_size > MAX_BYTES:
                raise DatasetError(f"{path}: expected at most {MAX_BYTES} bytes, got {path.stat().st_size}")
            data = path.read_bytes()
        except OSError as error:
            raise DatasetError(f"{path}: expected a file that can be read, got {error}") from None
        file = io.BytesIO(data)
        try:
            version = np.lib.format.read_magic(file)
            reads = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, _, dtype = reads[version](file)
        except Exception as error:  # numpy documents no set of errors for damaged headers
            what = f"{type(error).__name__}: {error}"
            raise DatasetError(f"{path}: expected a file of numpy.save, got {what}") from None
        if dtype.kind != "O" or shape != ():
            raise DatasetError(f"{path}: expected one pickled dict, got {dtype} of shape {shape}")
        try:
            value = _Reader(file).load()
        except DatasetError as error:
            raise DatasetError(f"{path}: {error}") from None
        except Exception as error:  # of whatever the bytes make the unpickler do
            what = f"{type(error).__name__}: {error}"
            raise DatasetError(f"{path}: expected a pickle that can be read, got {what}") from None
        if isinstance(value, _Array):
            value = value.value()
        self.value = _plain(value.item() if isinstance(value, np.ndarray) and value.shape == () else value)


def _plain(value: Any) -> Any:
    """Stand-ins become arrays, as deep as the layout goes."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, _Array):
        return value.value()
    if isinstance(value, list | tuple):
        inner = [_plain(item) if isinstance(item, list | tuple | _Array) else item for item in value]
        return type(value)(inner)
    return value


class _Dtype:
    """Of numbers, texts, or objects: `numpy.dtype(kind, ..)` as pickles call it."""

    def __init__(self, kind: Any, *_: Any) -> None:
        if not isinstance(kind, str) or kind[:1] not in "biufUO" or not kind[1:].isdigit():
            raise DatasetError(f"dtype: expected numbers, texts or objects, got {kind!r:.80}")
        self.dtype = np.dtype(object if kind[0] == "O" else kind)

    def __setstate__(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise DatasetError(f"dtype: expected a byte order, got {order!r:.80}")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """An array as pickles make one: empty first, then given its state."""

    def __init__(self, *_: Any) -> None:
        self._value = np.empty(0)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _Dtype):
            raise DatasetError(f"array: expected version, shape, dtype, order and data, got {state!r:.80}")
        _, shape, kind, fortran, data = state
        self._value = _array(shape, kind.dtype, bool(fortran), data)

    def value(self) -> np.ndarray:
        return self._value


def _array(shape: Any, dtype: np.dtype, fortran: bool, data: Any) -> np.ndarray:
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise DatasetError(f"array: expected a shape, got {shape!r:.80}")
    count = math.prod(shape)
    given = len(data) if isinstance(data, list | bytes) else -1
    if given != (count if dtype.kind == "O" else count * dtype.itemsize):
        raise DatasetError(
            f"array: expected {count} elements of {dtype}, got {type(data).__name__} of {given}"
        )
    if dtype.kind == "O":
        array = np.empty(count, object)
        array[:] = data
    else:
        array = np.frombuffer(data, dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def _scalar(kind: Any, data: Any = None) -> np.ndarray:
    """One number."""
    if not isinstance(kind, _Dtype) or not isinstance(data, bytes):
        raise DatasetError("scalar: expected a dtype and bytes")
    return _array((), kind.dtype, False, data)


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any = "C") -> _Array:
    """As protocol 5 writes arrays in one piece."""
    array = _Array()
    array.__setstate__((1, shape, kind, order == "F", bytes(data)))
    return array


def _encoded(text: Any, coding: Any) -> bytes:
    """As protocols up to 2 write bytes."""
    if not isinstance(text, str) or coding != "latin1":
        raise DatasetError("bytes: expected a text in latin1")
    return text.encode("latin1")


_NUMPY = ("numpy.core", "numpy._core")
_STANDS_FOR: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("_codecs", "encode"): _encoded,
    **{(f"{core}.multiarray", "_reconstruct"): _Array for core in _NUMPY},
    **{(f"{core}.multiarray", "scalar"): _scalar for core in _NUMPY},
    **{(f"{core}.numeric", "_frombuffer"): _from_buffer for core in _NUMPY},
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STANDS_FOR:
            raise DatasetError(f"expected arrays, lists, tuples and texts, got {module}.{name}")
        return _STANDS_FOR[module, name]

    def persistent_load(self, number: Any) -> Any:
        raise DatasetError(f"expected nothing outside the file, got {number!r:.80}")
