"""Arguments from Python as the C++ core takes them."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from keystep import _core


def engine_options(**values: Any) -> _core.EngineOptions:
    """The fields of these names; None leaves the default."""
    options = _core.EngineOptions()
    for name, value in values.items():
        if value is not None:
            setattr(options, name, value)
    return options


def text(field: str, value: object) -> str:
    """`value`, if it is a text that bytes can hold: a Python string may hold halves of surrogate pairs."""
    if not isinstance(value, str):
        raise _core.ArgumentError(f"{field}: expected a str or None, got {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _core.ArgumentError(_core.expected(field, f"UTF-8 ({error.reason})", value)) from None
    return value


def integer(field: str, value: object) -> int:
    """An int, or an integer of numpy."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise _core.ArgumentError(f"{field}: expected an integer, got {type(value).__name__}") from None


def rows(field: str, value: object, count: int) -> np.ndarray:
    """An array of `count` rows."""
    if not isinstance(value, np.ndarray):
        raise _core.ArgumentError(f"{field}: expected a numpy array, got {type(value).__name__}")
    if value.ndim == 0 or len(value) != count:
        raise _core.ArgumentError(f"{field}: expected {count} rows, got shape {value.shape}")
    return value
