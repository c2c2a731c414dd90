"""What a writer is given is refused before anything is written, or becomes arrays as the features say."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keystep.data.layout import Column, DatasetError

Values = np.ndarray | Sequence[str]
MAX_SEED = 2**63 - 1
MAX_LEVELS = 64
"""Of JSON values, which every reader can follow."""
MAX_NUMBER = 1e150
"""Of floats: their squares, summed over the frames of a dataset, are finite."""


def told(value: Any) -> str:
    """A value for a message: its first characters, in ASCII; its type when it cannot be written."""
    try:
        return ascii(value)[:80]
    except Exception:  # a whole number of too many digits, or whatever an object's own __repr__ raises
        return f"a value of type {type(value).__name__}"


def checked_columns(
    frames: Mapping[str, Values], features: Mapping[str, Column]
) -> tuple[dict[str, np.ndarray], int]:
    """The columns of an episode as arrays (T, *frame_shape), strings with dtype object, and T.

    Raises:
        DatasetError: other columns, shapes or types than those of the features; NaN, infinity or bad text.
    """
    if not isinstance(frames, Mapping):
        raise DatasetError(f"frames: expected a mapping of columns, got {type(frames).__name__}")
    if set(frames) != set(features):
        raise DatasetError(f"frames: expected {_listed(features)}, got {_listed(frames)}")
    length = _length(*next(iter(frames.items())))
    columns = {
        key: _texts(key, frames[key], length)
        if feature.is_string
        else _numbers(key, frames[key], feature, length)
        for key, feature in features.items()
    }
    if length == 0:
        raise DatasetError("frames: expected at least one, got none")
    return columns, length


def _listed(names: Iterable[Any]) -> str:
    return f"[{', '.join(sorted(map(told, names)))}]"


def _length(key: str, values: Values) -> int:
    try:
        return len(values)
    except TypeError:
        raise DatasetError(f"{key}: expected a row for every frame, got {told(values)}") from None


def _numbers(key: str, values: Values, feature: Column, length: int) -> np.ndarray:
    dtype = "uint8" if feature.is_image else feature.dtype
    expected = f"{dtype} {(length, *feature.frame_shape)}"
    if isinstance(values, np.ma.MaskedArray):
        raise DatasetError(f"{key}: expected {expected}, got a masked array: fill it first")
    try:
        array = np.asarray(values)
    except Exception as error:  # whatever numpy, or the library that the values are of, raises
        raise DatasetError(f"{key}: expected {expected}, got {type(values).__name__}: {error}") from error
    if array.shape != (length, *feature.frame_shape) or array.dtype != dtype:
        raise DatasetError(f"{key}: expected {expected}, got {array.dtype} {array.shape}")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise DatasetError(f"{key}: expected finite values, got NaN or infinity")
        if (largest := float(np.abs(array).max(initial=0))) > MAX_NUMBER:
            limit = f"numbers of at most {MAX_NUMBER:g}, of which there are statistics"
            raise DatasetError(f"{key}: expected {limit}, got {largest:g}")
    return array


def _texts(key: str, values: Values, length: int) -> np.ndarray:
    shape = values.shape if isinstance(values, np.ndarray) else (_length(key, values),)
    if not isinstance(values, Sequence | np.ndarray) or isinstance(values, str) or shape != (length,):
        raise DatasetError(f"{key}: expected {length} strings, got {type(values).__name__} of shape {shape}")
    array = np.empty(length, dtype=object)  # np.array would cut trailing characters that it takes for padding
    array[:] = [checked_text(f"{key}: frame {number}", value) for number, value in enumerate(values)]
    return array


def checked_text(name: str, value: Any) -> str:
    """The value as a plain string; DatasetError unless UTF-8 can hold it, without NUL."""
    if not isinstance(value, str):
        raise DatasetError(f"{name}: expected a string, got {type(value).__name__}")
    text = "".join(value)  # of a subclass, too: np.str_, an enumeration
    if "\0" in text:
        raise DatasetError(f"{name}: expected text without NUL, got {told(text)}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DatasetError(f"{name}: expected text that is valid UTF-8, got {told(text)}") from None
    return text


def checked_words(name: str, value: Any) -> str:
    """Text that is more than white space."""
    text = checked_text(name, value)
    if not text.strip():
        raise DatasetError(f"{name}: expected words, got {told(text)}")
    return text


def checked_seed(value: Any) -> int:
    """A seed, of numpy's integer types, too; DatasetError unless it is one that a column can hold."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or not 0 <= value <= MAX_SEED:
        raise DatasetError(f"seed: expected a whole number from 0 to {MAX_SEED}, got {told(value)}")
    return int(value)


def checked_flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise DatasetError(f"{name}: expected True or False, got {told(value)}")
    return bool(value)


def checked_json(name: str, value: Any) -> str:
    """The value as JSON; DatasetError for what JSON or UTF-8 does not have, such as NaN."""
    try:
        if (levels := _levels(value)) > MAX_LEVELS:
            raise DatasetError(
                f"{name}: expected at most {MAX_LEVELS} levels inside one another, got {levels}"
            )
        text = json.dumps(value, allow_nan=False)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise DatasetError(f"{name}: expected text that is valid UTF-8, got {text:.80}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise DatasetError(f"{name}: expected JSON values, got {error}") from None
    return text


def _levels(value: Any) -> int:
    """Lists and mappings inside one another. Raises TypeError for keys that JSON would turn into strings."""
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("a key that is no string")
        value = list(value.values())
    return 1 + max(map(_levels, value), default=0) if isinstance(value, list | tuple) else 0


def checked_extras(extras: Mapping[str, Any], names: Sequence[str]) -> str:
    """The extras of an episode as JSON.

    Raises:
        DatasetError: other names than `names`, or values that JSON does not have.
    """
    if not isinstance(extras, Mapping):
        raise DatasetError(f"extras: expected a mapping, got {type(extras).__name__}")
    if set(extras) != set(names):
        raise DatasetError(f"extras: expected {_listed(names)}, got {_listed(extras)}")
    return checked_json("extras", {name: extras[name] for name in names})
