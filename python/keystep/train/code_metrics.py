"""How good the replies of a planner that writes code are, on held-out demonstrations. No torch.

Two questions are asked. With the demonstration's memory at every step: is the text that of the demonstration?
And with a memory that ends before a key-step, from some steps before it on: when does it come first? The
second tells early from late, which the first cannot: after the border, the memory already has the call.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

NEAR_STEPS = 2
"""A key-step this near counts as found."""
_CELL = re.compile(r"((?:actor_pos|near)=)\((-?\d+), ?(-?\d+)\)")


@dataclass(frozen=True)
class StepReply:
    """What was written at one control step, with the demonstration's memory, and what was wanted.

    Attributes:
        keystep: a call begins here.
    """

    task: str
    written: str
    wanted: str
    keystep: bool


@dataclass(frozen=True)
class FirstKeystep:
    """When a key-step was first written, with a memory of those before it.

    Attributes:
        step: where the demonstration has it.
        found: the first step at which one was written; None: at none of those that were looked at.
        written, wanted: the texts.
    """

    task: str
    step: int
    found: int | None
    written: str
    wanted: str

    @property
    def offset(self) -> int | None:
        """Steps late; below 0 early."""
        return None if self.found is None else self.found - self.step


def code_metrics(replies: Iterable[StepReply], firsts: Iterable[FirstKeystep] = ()) -> dict[str, Any]:
    """Figures of all tasks together, "all", and of each: JSON values; shares in 0..1, None of nothing.

    steps, exact: replies, and the share with the wanted text; exact_keysteps, exact_going_on: of these alone.
    keysteps: how many were looked for. keystep_recall: share that came first within `NEAR_STEPS`;
        keystep_precision: share of those that came at all. offset_median, offset_mean: steps late, of those
        that came; offset_abs: of their sizes.
    cells: places in wanted replies whose code was written but for its cells; cell_exact: share of right
        cells; cell_near: at most one beside; cell_error: mean distance, in cells, larger of both directions.
    """
    by_task: dict[str, tuple[list[StepReply], list[FirstKeystep]]] = defaultdict(lambda: ([], []))
    for reply in replies:
        for name in ("all", reply.task):
            by_task[name][0].append(reply)
    for first in firsts:
        for name in ("all", first.task):
            by_task[name][1].append(first)
    return {name: _figures(*found) for name, found in sorted(by_task.items())}


def cell_distances(written: str, wanted: str) -> list[int]:
    """Of each cell in `wanted`, how far the written one is; [] where the rest of the code differs.

    >>> cell_distances("move3d(get_actor('a', actor_pos=(3, 4)))", "move3d(get_actor('a', actor_pos=(3, 6)))")
    [2]
    """
    if _CELL.sub(r"\1", written) != _CELL.sub(r"\1", wanted):
        return []
    pairs = zip(_CELL.findall(written), _CELL.findall(wanted), strict=True)
    return [
        max(abs(int(a) - int(b)) for a, b in zip(ours[1:], theirs[1:], strict=True)) for ours, theirs in pairs
    ]


def _figures(replies: Sequence[StepReply], firsts: Sequence[FirstKeystep]) -> dict[str, Any]:
    right = [reply.written == reply.wanted for reply in replies]
    calls = [same for same, reply in zip(right, replies, strict=True) if reply.keystep]
    going_on = [same for same, reply in zip(right, replies, strict=True) if not reply.keystep]
    offsets = [first.offset for first in firsts if first.offset is not None]
    near = sum(abs(offset) <= NEAR_STEPS for offset in offsets)
    cells = [
        cell for reply in replies if reply.keystep for cell in cell_distances(reply.written, reply.wanted)
    ]
    return {
        "steps": len(replies),
        "exact": _share(right),
        "exact_keysteps": _share(calls),
        "exact_going_on": _share(going_on),
        "keysteps": len(firsts),
        "keystep_recall": near / len(firsts) if firsts else None,
        "keystep_precision": near / len(offsets) if offsets else None,
        "offset_median": float(median(offsets)) if offsets else None,
        "offset_mean": fmean(offsets) if offsets else None,
        "offset_abs": fmean(map(abs, offsets)) if offsets else None,
        "cells": len(cells),
        "cell_exact": _share([cell == 0 for cell in cells]),
        "cell_near": _share([cell <= 1 for cell in cells]),
        "cell_error": fmean(cells) if cells else None,
    }


def _share(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None
