"""Options that are a word, a few values, or a JSON file of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


def read_choice(field: str, choice: str, wanted: str) -> Any:
    """The values that `choice` lists with commas between them, or else those of the JSON file it names.

    Raises:
        ValueError: "field: expected `wanted`, got .."; the file cannot be read, or is no JSON.
    """
    if "," in choice and Path(choice).suffix != ".json":
        return [_value(part.strip()) for part in choice.split(",")]
    try:
        return json.loads(Path(choice).read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        value = _value(choice)
        if isinstance(value, float):
            return [value]
        raise ValueError(f"{field}: expected {wanted}, got {choice!r}, which is no file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{field}: {choice}: expected a JSON file, got {error}") from None


def numbers(field: str, values: Any, count: int) -> list[float]:
    """`values`, if they are so many finite numbers. Raises ValueError."""
    if not isinstance(values, list) or len(values) != count:
        got = len(values) if isinstance(values, list) else repr(values)[:80]
        raise ValueError(f"{field}: expected {count} numbers, got {got}")
    for number, value in enumerate(values):
        if not _is_finite(value):
            raise ValueError(f"{field}[{number}]: expected a finite number, got {value!r:.80}")
    return [float(value) for value in values]


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def _value(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text
