"""Success against latency: the same episodes under several latencies and ways to go on meanwhile."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keystep
from keystep.evaluate.differences import RateDifference
from keystep.evaluate.latencies import DeclaredLatency, LoopRule
from keystep.evaluate.report import EvaluationReport, TaskResult
from keystep.evaluate.tables import caption, rate
from keystep.notebook import html_markdown
from keystep.table_writer import markdown_table
from keystep.uncertainty import Z_95, clustered_error, paired_interval


@dataclass(frozen=True)
class LatencyCell:
    """What was played under one latency.

    Attributes:
        rate_hz: of control, by which ms become periods; None where nothing is in ms.
        report: None before it was played.
    """

    rule: LoopRule
    latency: DeclaredLatency
    rate_hz: float | None
    report: EvaluationReport | None = None

    def load_options(self) -> dict[str, Any]:
        """For `keystep.load`."""
        return self.rule.load_options(self.latency, self.rate_hz)

    @property
    def periods(self) -> dict[str, float]:
        """Mean control periods of a chunk and a plan."""
        time = self.latency.virtual_time(self.rate_hz)
        return {name: _mean(values) for name, values in (("chunk", time.chunk), ("plan", time.plan))}

    @property
    def without_action(self) -> float | None:
        """Share of the ticks that had no action of the policy; None where nothing was counted."""
        reports = self.report.latency if self.report is not None else ()
        ticks = sum(report["stages"]["tick"]["count"] for report in reports)
        return 1 - sum(report["actions"] for report in reports) / ticks if ticks else None


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def plan_cells(
    rules: Sequence[LoopRule], latencies: Sequence[DeclaredLatency], rates_hz: Sequence[float]
) -> list[LatencyCell]:
    """Every rule first without latency, then under each; those in ms at every rate, for others have none.

    Raises:
        ArgumentError: a rate that is not positive.
    """
    for rate_hz in rates_hz:
        if not rate_hz > 0 or not math.isfinite(rate_hz):
            raise keystep.ArgumentError(f"control_rate: expected more than 0, got {rate_hz}")
    wanted = [DeclaredLatency("0"), *(latency for latency in latencies if not latency.is_zero)]
    return [
        LatencyCell(rule, latency, rate_hz)
        for rule in dict.fromkeys(rules)
        for latency in dict.fromkeys(wanted)
        for rate_hz in (dict.fromkeys(rates_hz) if latency.in_ms else (None,))
    ]


@dataclass(frozen=True)
class LatencySweep:
    """Cells that were played, all on the same episodes; printable.

    The first cell of each rule is without latency, and what the others are compared with.
    """

    cells: tuple[LatencyCell, ...]

    def rows(self) -> Iterator[tuple[LatencyCell, EvaluationReport, RateDifference, RateDifference]]:
        """Every cell, its report, and its differences to its rule's and to the very first one."""
        first = next((cell.report for cell in self.cells if cell.report is not None), None)
        still: dict[LoopRule, EvaluationReport] = {}
        for cell in self.cells:
            if cell.report is None or first is None:
                continue
            own = still.setdefault(cell.rule, cell.report)
            yield cell, cell.report, paired(own, cell.report), paired(first, cell.report)

    def to_dict(self) -> dict[str, Any]:
        """All figures, for a JSON file."""
        return {
            "cells": [
                {
                    "mode": cell.rule.mode,
                    "merge": cell.rule.merge,
                    "merge_decay": cell.rule.merge_decay,
                    "merge_overlap": cell.rule.merge_overlap,
                    "underrun": cell.rule.underrun,
                    "latency": cell.latency.text,
                    "control_rate_hz": cell.rate_hz,
                    "mean_periods": cell.periods,
                    "ticks_without_action": cell.without_action,
                    "against_no_latency": _to_dict(own),
                    "against_first": _to_dict(first),
                    "report": report.to_dict(),
                }
                for cell, report, own, first in self.rows()
            ]
        }

    def markdown(self) -> str:
        """A row for every cell."""
        rows = list(self.rows())
        if not rows:
            return ""
        reference = rows[0][0].rule.name
        header = ["loop", "latency", "rate, Hz", "in actions", "success", "against 0, points (95 %)"]
        header += [f"against {reference} at 0", "ticks without action"]
        cells = []
        for cell, report, own, first in rows:
            still = "-" if cell.without_action is None else f"{100 * cell.without_action:.1f} %"
            differences = [_points(own) if not cell.latency.is_zero else "", _points(first)]
            hz = "-" if cell.rate_hz is None else f"{cell.rate_hz:g}"
            delay = ", ".join(f"{name} {value:.3g}" for name, value in cell.periods.items() if value) or "0"
            told = [cell.rule.name, cell.latency.text, hz, delay, rate(report.total)]
            cells.append([*told, *differences, still])
        return f"{markdown_table(header, cells)}\n{caption(rows[0][1])}\n"

    def __str__(self) -> str:
        return self.markdown()

    def _repr_html_(self) -> str:
        return html_markdown(self.markdown())


def paired(first: EvaluationReport, second: EvaluationReport) -> RateDifference:
    """Of all tasks, from the same episodes; the interval is of the pairs."""
    one, other = first.total, second.total
    if one.success_rate is None or other.success_rate is None:
        raise keystep.ArgumentError("episodes: expected at least one that was played, got none")
    change = other.success_rate - one.success_rate
    return RateDifference("all", one.success_rate, other.success_rate, change, _interval(one, other, change))


def _interval(first: TaskResult, second: TaskResult, change: float) -> tuple[float, float] | None:
    if len(first.solved) != len(second.solved):
        return None  # an evaluation that was ended
    if first.interval is not None:
        return paired_interval(first.solved, second.solved)
    parts = zip(first.parts or (first,), second.parts or (second,), strict=True)
    differences = [
        {reset: other.by_reset[reset] - value for reset, value in one.by_reset.items()}
        for one, other in parts
    ]
    error = clustered_error(differences)
    return None if error is None else (change - Z_95 * error, change + Z_95 * error)


def _to_dict(row: RateDifference) -> dict[str, Any]:
    return {"difference": row.difference, "interval_95": list(row.interval) if row.interval else None}


def _points(row: RateDifference) -> str:
    if row.interval is None:
        return f"{100 * row.difference:+.1f}"
    low, high = (100 * bound for bound in row.interval)
    return f"{100 * row.difference:+.1f} ({low:+.1f}..{high:+.1f})"
