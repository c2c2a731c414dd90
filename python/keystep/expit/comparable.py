"""Which settings two runs must share, so that one curve or one table may have both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import keystep
from keystep.expit.settled import FREE, FREE_OF_TRAINING

OWN = (*FREE, "seed")
"""Of every run: where it is, how far it went and what it was drawn from."""
ALL_KINDS = ("suite", "env", "env_kwargs", "evaluation", "planner.training")
"""Of runs of different kinds; of those with one kind of controller its training and the export, too."""


class Comparable(Protocol):
    """Of `keystep.expit.finished.FinishedRun` what is compared."""

    path: Path
    settings: dict[str, Any]
    dataset: str | None
    kind: str
    act: bool


def require_equal(first: Comparable, other: Comparable) -> None:
    """Of runs of one kind everything but the seed, of others what their comparison rests on.

    Raises:
        ArgumentError: which setting differs.
    """
    if first.dataset != other.dataset:
        got = f"{str(other.dataset)[:12]}.. in {other.path}"
        wanted = f"one D0 ({str(first.dataset)[:12]}..)"
        raise keystep.ArgumentError(f"demonstrations: expected {wanted} in all runs, got {got}")
    alike, where = first.kind == other.kind, "in all runs"
    parts = ALL_KINDS if first.act != other.act else (*ALL_KINDS, "controller.training", "export")
    mine, theirs = _flat(first.settings), _flat(other.settings)
    for key in dict.fromkeys([*mine, *theirs]):
        if not alike and not key.startswith(tuple(f"{part}." for part in parts)) and key not in parts:
            continue
        if _may_differ(key) or (key in mine) != (key in theirs):  # one of an older version
            continue
        if mine[key] != theirs[key]:
            name = key.replace(".training", "")
            told = where if key.startswith("evaluation.") else f"{where}{' of one kind' * alike}"
            got = f"{theirs[key]!r} in {other.path}"
            raise keystep.ArgumentError(f"{name}: expected {mine[key]!r} {told}, got {got}")


def _may_differ(key: str) -> bool:
    _, training, name = key.rpartition(".training.")
    return key in OWN or key.startswith("demonstrations.") or bool(training and name in FREE_OF_TRAINING)


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """Settings by their dotted names."""
    if not isinstance(value, Mapping) or key.endswith(("finetune", "env_kwargs")):  # all of it, or nothing
        return {key: value}
    found: dict[str, Any] = {}
    for name, part in value.items():
        found |= _flat(part, f"{key}.{name}" if key else name)
    return found
