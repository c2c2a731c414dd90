"""Success against latency as a picture."""

from __future__ import annotations

from typing import Any

import numpy as np

from keystep.evaluate.latency_sweep import LatencyCell, LatencySweep
from keystep.evaluate.plots import COLOURS, MARKERS, error_bar
from keystep.notebook import new_figure


def latency_figure(sweep: LatencySweep) -> Any:
    """A line for every rule, a column for every latency (and rate), with 95 % intervals. Needs matplotlib."""
    played = [cell for cell in sweep.cells if cell.report is not None]
    columns = list(dict.fromkeys(map(_column, played)))
    figure = new_figure(max(5.0, 1.2 * len(columns) + 2), 3.8)
    axes = figure.subplots()
    rules = list(dict.fromkeys(cell.rule for cell in played))
    for index, rule in enumerate(rules):
        mine = [cell for cell in played if cell.rule == rule]
        shift = 0.06 * (index - (len(rules) - 1) / 2)  # so that bars stay apart
        x = [columns.index(_column(cell)) + shift for cell in mine]
        totals = [cell.report.total for cell in mine if cell.report is not None]
        heights = [np.nan if total.success_rate is None else 100 * total.success_rate for total in totals]
        errors = 100 * np.abs(np.array([error_bar(total) for total in totals]).T)
        look = {"color": COLOURS[index % 8], "marker": MARKERS[index % 8], "capsize": 2}
        axes.errorbar(x, heights, errors, label=rule.name, **look)
    axes.set_xticks(range(len(columns)), columns, rotation=20, ha="right")
    axes.set_xlabel("latency (a number: control periods)")
    axes.set_ylabel("success, %")
    axes.set_ylim(0, 105)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(fontsize="small")
    return figure


def _column(cell: LatencyCell) -> str:
    return f"{cell.latency.text} at {cell.rate_hz:g} Hz" if cell.latency.in_ms else cell.latency.text
