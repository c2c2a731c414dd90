"""Messages as bytes: msgpack, arrays as openpi's clients write them.

An array is the map {b"__ndarray__": True, b"data": bytes, b"dtype": "<f4", b"shape": [..]}, a numpy scalar
{b"__npgeneric__": True, b"data": number, b"dtype": ..}. Nothing else is extended, and nothing is pickled.
"""

from __future__ import annotations

import math
from typing import Any

import msgpack
import numpy as np

ARRAY, SCALAR = b"__ndarray__", b"__npgeneric__"
DTYPES = {
    text: np.dtype(text)
    for text in [
        "|b1",
        "|i1",
        "|u1",
        "<i2",
        "<u2",
        "<i4",
        "<u4",
        "<i8",
        "<u8",
        "<f2",
        "<f4",
        "<f8",
        ">i2",
        ">u2",
        ">i4",
        ">u4",
        ">i8",
        ">u8",
        ">f2",
        ">f4",
        ">f8",
    ]
}
MAX_AXES = 8
MAX_LENGTH, MAX_ITEMS = 4096, 65536
"""Of a list or map, of all of a message: memory, not bytes, is what they cost."""


class WireError(ValueError):
    """The bytes are no message."""


def pack(message: Any) -> bytes:
    """Raises:
    WireError: something in it that has no bytes here, such as an array of objects.
    """
    try:
        return msgpack.packb(message, default=_array_to_map)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"message: expected what msgpack and numpy have, got {error}") from None


def unpack(data: bytes | bytearray | memoryview, length: int = MAX_LENGTH, items: int = MAX_ITEMS) -> Any:
    """Arrays are views into the message, which cannot be written.

    Args:
        length: most items of a list or map.
        items: most of all lists and maps together.

    Raises:
        WireError: truncated, too deep, too long, or an array that disagrees with itself. No other error.
    """
    try:
        room = _Room(items)
        return msgpack.unpackb(
            data,
            object_hook=room.map,
            list_hook=room.list,
            max_array_len=length,
            max_map_len=length,
        )
    except WireError:
        raise
    except (ValueError, TypeError, RecursionError, MemoryError, msgpack.UnpackException) as error:
        told = " ".join(str(error).split())[:100] or type(error).__name__
        raise WireError(f"message: expected msgpack, got bytes that are none ({told})") from None


class _Room:
    """What a message may still have of lists, maps and their items."""

    def __init__(self, items: int) -> None:
        self._items = self._left = items

    def map(self, value: dict[Any, Any]) -> Any:
        self._take(len(value))
        return _map_to_array(value)

    def list(self, value: list[Any]) -> list[Any]:
        self._take(len(value))
        return value

    def _take(self, items: int) -> None:
        self._left -= 1 + items
        if self._left < 0:
            raise WireError(f"message: expected at most {self._items} items, got more")


def _array_to_map(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.str not in DTYPES:
        raise TypeError(f"an array of {value.dtype}")
    if isinstance(value, np.ndarray):
        return {ARRAY: True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        return {SCALAR: True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(type(value).__name__)


def _map_to_array(value: dict[Any, Any]) -> Any:
    if ARRAY in value:
        return _array(value)
    if SCALAR in value:
        return _scalar(value)
    return value


def _array(value: dict[Any, Any]) -> np.ndarray:
    dtype, shape, data = _dtype(value), value.get(b"shape"), value.get(b"data")
    if not isinstance(shape, list) or len(shape) > MAX_AXES or not all(_is_extent(n) for n in shape):
        raise WireError(f"array.shape: expected up to {MAX_AXES} extents, got {str(shape)[:60]}")
    size = math.prod(shape) * dtype.itemsize
    if not isinstance(data, bytes) or len(data) != size:
        got = f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__
        raise WireError(f"array.data: expected {size} bytes for {dtype.str} {tuple(shape)}, got {got}")
    return np.frombuffer(data, dtype).reshape(shape)


def _scalar(value: dict[Any, Any]) -> np.generic:
    dtype, number = _dtype(value), value.get(b"data")
    if not isinstance(number, bool | int | float):
        raise WireError(f"scalar.data: expected a number, got {type(number).__name__}")
    try:
        with np.errstate(over="ignore"):
            return dtype.type(number)
    except (OverflowError, ValueError):
        raise WireError(f"scalar.data: expected a {dtype.str}, got {number}") from None


def _dtype(value: dict[Any, Any]) -> np.dtype[Any]:
    name = value.get(b"dtype")
    if not isinstance(name, str) or name not in DTYPES:
        raise WireError(f"array.dtype: expected one of {' '.join(DTYPES)}, got {str(name)[:40]!r}")
    return DTYPES[name]


def _is_extent(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40
