"""What policy.json must hold, so that nothing that reads it later meets another type. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from keystep.models.checks import ConfigError

STATISTICS = {
    "min_max": ("min", "max"),
    "mean_std": ("mean", "std"),
    "quantile": ("min", "max", "q01", "q99"),
}
"""What a mode of normalisation is made of."""
_OBJECTS = ("policy", "stats", "action", "provenance", "normalization")


def check_fields(document: Mapping[str, Any]) -> None:
    """The types of all but what the configuration checks, `policy` and `observation`.

    Raises:
        ConfigError: naming the field.
    """
    for field in _OBJECTS:
        _object(field, document.get(field))
    rate = document.get("control_rate_hz")
    if not _is_number(rate):
        raise _refusal("control_rate_hz", "a number", rate)
    for number, task in enumerate(_array("tasks", document.get("tasks"))):
        _object(f"tasks[{number}]", task)
        for key in ("name", "instruction"):
            _text(f"tasks[{number}].{key}", task.get(key))
    _check_action(document["action"])


def check_statistics(stats: Mapping[str, Any], modes: Mapping[str, str], widths: Mapping[str, int]) -> None:
    """That there is what normalisation needs, of the right length. Raises ConfigError naming the field.

    Args:
        modes: by key; widths: values of each key that a network knows.
    """
    for key, mode in modes.items():
        if key not in widths:
            raise _refusal(f"normalization.{key}", f"one of {', '.join(widths)}", mode)
        entry = _object(f"stats.{key}", stats.get(key)) if mode != "identity" else {}
        for name in STATISTICS.get(mode, ()) if isinstance(mode, str) else ():
            _numbers(f"stats.{key}.{name}", entry.get(name), widths[key])


def _check_action(action: dict[str, Any]) -> None:
    names = _texts("action.names", action.get("names"))
    width = len(names)
    _texts("action.units", action.get("units"), width)
    for key in ("min", "max"):
        _numbers(f"action.{key}", action.get(key), width)
    if action.get("rate_limit", ...) is not None:
        _numbers("action.rate_limit", action.get("rate_limit"), width)
    if "law" in action:
        _texts("action.law", action["law"], width)
    known = _object("action.hold", action.get("hold"))
    mode = known.get("mode")
    if mode not in ("values", "last"):
        raise _refusal("action.hold.mode", "values or last", mode)
    if mode == "values":
        _numbers("action.hold.values", known.get("values"), width)


def _object(field: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _refusal(field, "an object", value)
    return value


def _array(field: str, value: Any, length: int | None = None, of: str = "objects") -> list[Any]:
    if not isinstance(value, list) or (length is not None and len(value) != length):
        wanted = f"an array of {of}" if length is None else f"{length} {of}"
        raise _refusal(field, wanted, value)
    return value


def _text(field: str, value: Any) -> None:
    if not isinstance(value, str):
        raise _refusal(field, "text", value)


def _texts(field: str, value: Any, length: int | None = None) -> list[str]:
    for number, text in enumerate(_array(field, value, length, "texts")):
        _text(f"{field}[{number}]", text)
    return list(value)


def _numbers(field: str, value: Any, length: int) -> None:
    for number, entry in enumerate(_array(field, value, length, "numbers")):
        if not _is_number(entry):
            raise _refusal(f"{field}[{number}]", "a finite number", entry)


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def _refusal(field: str, wanted: str, got: Any) -> ConfigError:
    return ConfigError(f"{field}: expected {wanted}, got {'nothing' if got is None else f'{got!r:.80}'}")
