"""How good the replies of a planner that writes code are, on held-out demonstrations. No torch.

Two questions are asked. With the demonstration's memory at every step: is the text that of the demonstration?
And with a memory that ends before a key-step, from some steps before it on: when does one come first, and is
it the right one? The second tells early from late, which the first cannot: after the border, the memory
already has the call. The first tells of key-steps that are invented where none is near.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from keystep.code.trace import is_keystep

NEAR_STEPS = 2
"""A key-step this near, of the right code but for its cells, counts as found."""
_CELL = re.compile(r"((?:actor_pos|near)=)\((-?\d+), ?(-?\d+)\)")


@dataclass(frozen=True)
class StepReply:
    """What was written at one control step, with the demonstration's memory, and what was wanted.

    Attributes:
        keystep: a call begins here.
        steps: how many of the demonstration this one stands for.
        looked_at: it is one of the steps before a border of which `FirstKeystep` tells.
    """

    task: str
    written: str
    wanted: str
    keystep: bool
    steps: float = 1.0
    looked_at: bool = False

    @property
    def invented(self) -> bool:
        """A key-step where none is, or will be soon."""
        return not self.keystep and not self.looked_at and is_keystep(self.written)


@dataclass(frozen=True)
class FirstKeystep:
    """When a key-step was first written, with a memory of those before it.

    Attributes:
        step: where the demonstration has it.
        found: the first step at which one was written, any; None: at none of those that were looked at.
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

    @property
    def right(self) -> bool:
        """The wanted one, near where it is wanted; cells are judged apart."""
        near = self.offset is not None and abs(self.offset) <= NEAR_STEPS
        return near and without_cells(self.written) == without_cells(self.wanted)


def code_metrics(replies: Iterable[StepReply], firsts: Iterable[FirstKeystep] = ()) -> dict[str, Any]:
    """Figures of all tasks together, "all", and of each: JSON values; shares in 0..1, None of nothing.

    replies: that were asked for. exact: share of the demonstrations' steps with the wanted text, each reply
        counted as often as the steps it stands for; exact_keysteps, exact_going_on: of these steps alone.
    keysteps: how many were looked for. keystep_recall: share whose code, but for its cells, came first
        within `NEAR_STEPS`. keystep_precision: share that these are of all key-steps that came, with the
        invented ones. invented: key-steps written at steps before which, and soon after which, none is, as
        many as the steps they stand for. offset_median, offset_mean: steps late, of whatever key-step came
        first; offset_abs: of their sizes.
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
    if without_cells(written) != without_cells(wanted):
        return []
    pairs = zip(_CELL.findall(written), _CELL.findall(wanted), strict=True)
    return [
        max(abs(int(a) - int(b)) for a, b in zip(ours[1:], theirs[1:], strict=True)) for ours, theirs in pairs
    ]


def without_cells(code: str) -> str:
    """The code, whatever cells it names."""
    return _CELL.sub(r"\1", code)


def _figures(replies: Sequence[StepReply], firsts: Sequence[FirstKeystep]) -> dict[str, Any]:
    calls = [reply for reply in replies if reply.keystep]
    offsets = [first.offset for first in firsts if first.offset is not None]
    right = sum(first.right for first in firsts)
    invented = sum(reply.steps for reply in replies if reply.invented)
    came = len(offsets) + invented
    cells = [cell for reply in calls for cell in cell_distances(reply.written, reply.wanted)]
    return {
        "replies": len(replies),
        "exact": _exact(replies),
        "exact_keysteps": _exact(calls),
        "exact_going_on": _exact([reply for reply in replies if not reply.keystep]),
        "keysteps": len(firsts),
        "keystep_recall": right / len(firsts) if firsts else None,
        "keystep_precision": right / came if came else None,
        "invented": invented,
        "offset_median": float(median(offsets)) if offsets else None,
        "offset_mean": fmean(offsets) if offsets else None,
        "offset_abs": fmean(map(abs, offsets)) if offsets else None,
        "cells": len(cells),
        "cell_exact": _share([cell == 0 for cell in cells]),
        "cell_near": _share([cell <= 1 for cell in cells]),
        "cell_error": fmean(cells) if cells else None,
    }


def _exact(replies: Sequence[StepReply]) -> float | None:
    steps = sum(reply.steps for reply in replies)
    same = sum(reply.steps for reply in replies if reply.written == reply.wanted)
    return same / steps if steps else None


def _share(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None
