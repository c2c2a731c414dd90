"""What a writer is given is refused before anything is written, or becomes arrays as the features say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keystep.data.layout import DatasetError, Feature

Column = np.ndarray | Sequence[str]


def checked_columns(
    frames: Mapping[str, Column], features: Mapping[str, Feature]
) -> tuple[dict[str, np.ndarray], int]:
    """The columns of an episode as arrays (T, *frame_shape), strings with dtype object, and T.

    Raises:
        DatasetError: other columns, shapes or types than those of the features; NaN, infinity or bad text.
    """
    if set(frames) != set(features):
        raise DatasetError(f"frames: expected {sorted(features)}, got {sorted(frames)}")
    length = len(next(iter(frames.values())))
    columns = {
        key: _texts(key, frames[key], length)
        if feature.is_string
        else _numbers(key, frames[key], feature, length)
        for key, feature in features.items()
    }
    if length == 0:
        raise DatasetError("frames: expected at least one, got none")
    return columns, length


def _numbers(key: str, values: Column, feature: Feature, length: int) -> np.ndarray:
    array, dtype = np.asarray(values), "uint8" if feature.is_image else feature.dtype
    if array.shape != (length, *feature.frame_shape) or array.dtype != dtype:
        expected = f"{dtype} {(length, *feature.frame_shape)}"
        raise DatasetError(f"{key}: expected {expected}, got {array.dtype} {array.shape}")
    if not feature.is_image and not np.isfinite(array).all():
        raise DatasetError(f"{key}: expected finite values, got NaN or infinity")
    return array


def _texts(key: str, values: Column, length: int) -> np.ndarray:
    shape = values.shape if isinstance(values, np.ndarray) else (len(values),)
    if isinstance(values, str) or shape != (length,):
        raise DatasetError(f"{key}: expected {length} strings, got {type(values).__name__} of shape {shape}")
    for number, value in enumerate(values):
        check_text(f"{key}: frame {number}", value)
    array = np.empty(length, dtype=object)  # np.array would cut trailing characters that it takes for padding
    array[:] = [str(value) for value in values]
    return array


def check_text(name: str, value: Any) -> None:
    """Raises DatasetError unless `value` is a string that UTF-8 can hold, without NUL."""
    if not isinstance(value, str):
        raise DatasetError(f"{name}: expected a string, got {type(value).__name__}")
    if "\0" in value:
        raise DatasetError(f"{name}: expected text without NUL, got {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DatasetError(f"{name}: expected text that is valid UTF-8, got {value!r}") from None


def checked_extras(extras: Mapping[str, Any], names: Sequence[str]) -> str:
    """The extras of an episode as JSON.

    Raises:
        DatasetError: other names than `names`, or values that JSON does not have.
    """
    if set(extras) != set(names):
        raise DatasetError(f"extras: expected {sorted(names)}, got {sorted(extras)}")
    try:
        return json.dumps({name: extras[name] for name in names}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"extras: expected JSON values, got {error}") from None
