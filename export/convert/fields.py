"""Values of a foreign JSON file, each checked when it is read: "field: expected X, got Y"."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

from keystep.export.errors import ExportError
from keystep.files import parse_json

NOTHING: Any = object()
MOST = 65536
"""Of an integer that says how many, unless its reader knows better: memory is taken for as many."""


def refuse(field: str, wanted: str, got: Any) -> ExportError:
    """To be raised."""
    shown = "nothing" if got is NOTHING else f"{got!r:.80}"
    return ExportError(f"{field}: expected {wanted}, got {shown}")


def read_object(path: Path) -> dict[str, Any]:
    """Raises ExportError: no such file, or no JSON object in it."""
    try:
        found = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ExportError(f"{path}: expected a JSON file, got {error}") from None
    if not isinstance(found, dict):
        raise refuse(str(path), "a JSON object", found)
    return found


class Fields:
    """An object of a JSON file. Fields without a default are required; null counts as left out.

    Args:
        where: what is put before a field's name in messages.
    """

    def __init__(self, values: Any, where: str = "") -> None:
        if not isinstance(values, dict):
            raise refuse(where.removesuffix("."), "an object", values)
        self.values: dict[str, Any] = values
        self.where = where

    def raw(self, name: str, default: Any = NOTHING) -> Any:
        """As it is. Raises ExportError where there is none and no default."""
        value = self.values.get(name)
        return default if value is None else value

    def whole(self, name: str, least: int = 1, most: int = MOST, default: Any = NOTHING) -> int:
        """An integer."""
        value = self.raw(name, default)
        if type(value) is not int or not least <= value <= most:
            raise refuse(self.where + name, f"an integer of {least}..{most}", value)
        return value

    def texts(self, name: str, default: Any = NOTHING) -> Any:
        """A tuple of texts, or `default`."""
        value = self.raw(name, default)
        if value is default and default is not NOTHING:
            return value
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise refuse(self.where + name, "a list of texts", value)
        return tuple(value)

    def number(self, name: str, default: Any = NOTHING) -> float:
        """A finite number."""
        value = self.raw(name, default)
        try:
            known = not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
        except OverflowError:  # an integer beyond all floats
            known = False
        if not known:
            raise refuse(self.where + name, "a finite number", value)
        return float(value)

    def flag(self, name: str, default: Any = NOTHING) -> bool:
        """A bool; LeRobot has some that are 0 or 1."""
        value = self.raw(name, default)
        if not isinstance(value, bool) and not (type(value) is int and value in (0, 1)):
            raise refuse(self.where + name, "true or false", value)
        return bool(value)

    def choice(self, name: str, choices: Collection[str], default: Any = NOTHING) -> str:
        """One of a few words."""
        value = self.raw(name, default)
        if not isinstance(value, str) or value not in choices:
            raise refuse(self.where + name, " | ".join(choices), value)
        return value

    def wholes(self, name: str, length: int | None = None, default: Any = NOTHING, most: int = MOST) -> Any:
        """A tuple of positive integers, or `default`."""
        value = self.raw(name, default)
        if value is default and default is not NOTHING:
            return value
        count = f"{'' if length is None else f'{length} '}integers of 1..{most}"
        if not isinstance(value, list) or not value or (length is not None and len(value) != length):
            raise refuse(self.where + name, count, value)
        if not all(type(entry) is int and 1 <= entry <= most for entry in value):
            raise refuse(self.where + name, count, value)
        return tuple(value)

    def part(self, name: str, default: Any = NOTHING) -> Fields:
        """An object inside."""
        value = self.raw(name, default)
        if not isinstance(value, dict):
            raise refuse(self.where + name, "an object", value)
        return Fields(value, f"{self.where}{name}.")

    def only(self, known: Collection[str], of: str) -> None:
        """Refuses fields that are not known, but null: they may change what is computed."""
        for name, value in self.values.items():
            if name not in known and value is not None:
                raise ExportError(f"{self.where}{name}: expected a field of {of}, got an unknown one")
