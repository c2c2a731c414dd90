"""One policy on the same episodes in two environments, such as two simulators of one world."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from keystep.evaluate.report import EvaluationReport, TaskResult
from keystep.table_writer import markdown_table
from keystep.uncertainty import Z_95, clustered_error


@dataclass(frozen=True)
class RateDifference:
    """Of a task, a family or all; shares of solved episodes.

    Attributes:
        first, second: success rate in either environment.
        difference: second - first.
        interval: 95 % of the difference; None where there is none to give.
    """

    name: str
    first: float
    second: float
    difference: float
    interval: tuple[float, float] | None


def differences(first: EvaluationReport, second: EvaluationReport) -> list[RateDifference]:
    """A row for every one of the reports that has episodes in both."""
    pairs = zip(_rows(first), _rows(second), strict=True)
    return [_difference(one, other) for one, other in pairs if one.episodes and other.episodes]


def _rows(report: EvaluationReport) -> list[TaskResult]:
    return [result for section in report.sections for result in section]


def _difference(first: TaskResult, second: TaskResult) -> RateDifference:
    one, other = first.success_rate, second.success_rate
    assert one is not None and other is not None
    return RateDifference(first.name, one, other, other - one, _interval(first, second))


def _interval(first: TaskResult, second: TaskResult) -> tuple[float, float] | None:
    """Newcombe's of two proportions, from their Wilson intervals (1998, Statistics in Medicine 17:873).

    It also serves 0 and 100 %, and is on the safe side, as equal seeds make both more alike. Where resets are
    repeated with several noise seeds it is of the standard error of the pairs' differences.
    """
    assert first.success_rate is not None and second.success_rate is not None
    change = second.success_rate - first.success_rate
    if first.interval is not None and second.interval is not None:
        (low_1, high_1), (low_2, high_2) = first.interval, second.interval
        down = math.hypot(second.success_rate - low_2, high_1 - first.success_rate)
        up = math.hypot(high_2 - second.success_rate, first.success_rate - low_1)
        return change - down, change + up
    parts = zip(first.parts or (first,), second.parts or (second,), strict=True)
    error = clustered_error([_paired(one, other) for one, other in parts])
    return None if error is None else (change - Z_95 * error, change + Z_95 * error)


def _paired(first: TaskResult, second: TaskResult) -> dict[int, float]:
    """By reset."""
    both = first.by_reset.keys() & second.by_reset.keys()
    return {reset: second.by_reset[reset] - first.by_reset[reset] for reset in sorted(both)}


def difference_table(rows: Sequence[RateDifference]) -> str:
    """Markdown; differences in points."""
    cells = []
    for row in rows:
        name = f"**{row.name}**" if row.name == "all" else row.name
        low, high = (100 * bound for bound in row.interval or (0.0, 0.0))
        interval = "" if row.interval is None else f" ({low:+.1f}..{high:+.1f})"
        rates = (f"{100 * rate:.1f} %" for rate in (row.first, row.second))
        cells.append([name, *rates, f"{100 * row.difference:+.1f}{interval}"])
    return markdown_table(["task", "first", "second", "difference in points (95 %)"], cells)
