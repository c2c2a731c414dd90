"""Results as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import Any

import numpy as np

from keystep.evaluate.chains import ChainReport
from keystep.evaluate.cross import CrossReport
from keystep.evaluate.planner_speed import SpeedReport
from keystep.evaluate.protocols import Report
from keystep.evaluate.report import EvaluationReport, TaskResult
from keystep.evaluate.tables import headline, notes
from keystep.notebook import new_figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
"""Told apart by colour-blind readers, too (Okabe and Ito 2008)."""
MARKERS = "osD^vPX*"


def report_figure(reports: Mapping[str, Report]) -> Any:
    """Success per task, or how far chains get, of each policy; below, how to read it."""
    chains = {name: report for name, report in reports.items() if isinstance(report, ChainReport)}
    tasks = {name: report for name, report in reports.items() if isinstance(report, EvaluationReport)}
    figure = chain_figure(chains) if chains else task_figure(tasks)
    text = "; ".join(notes(next(iter(reports.values()))))
    figure.supxlabel(fill(text, int(14 * figure.get_figwidth())), fontsize="x-small")
    return figure


def task_figure(reports: Mapping[str, EvaluationReport]) -> Any:
    """Bars with Wilson 95 % intervals, or standard errors where those do not serve."""
    labels = [
        result.name for result in (*next(iter(reports.values())).tasks, next(iter(reports.values())).total)
    ]
    figure = new_figure(max(5.0, 0.8 * len(labels) * max(1, len(reports) / 2)), 3.6)
    axes = figure.subplots()
    width = 0.8 / len(reports)
    for index, (name, report) in enumerate(reports.items()):
        results = (*report.tasks, report.total)
        x = np.arange(len(labels)) + (index - (len(reports) - 1) / 2) * width
        skipped = f" ({report.total.skipped} skipped)" if report.total.skipped else ""
        heights = [100 * _height(result) for result in results]
        axes.bar(x, heights, width, color=COLOURS[index % 8], label=f"{name}{skipped}")
        errors = 100 * np.abs(np.array([error_bar(result) for result in results]).T)
        axes.errorbar(x, heights, errors, fmt="none", ecolor="black", elinewidth=1, capsize=2)
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
    axes.set_ylabel("success, %")
    axes.set_ylim(0, 105)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=3, fontsize="small")
    return figure


def error_bar(result: TaskResult) -> tuple[float, float]:
    """Below and above the success rate."""
    if result.interval is None:
        return result.error or 0.0, result.error or 0.0
    low, high = result.interval
    return _height(result) - low, high - _height(result)


def _height(result: TaskResult) -> float:
    return np.nan if result.success_rate is None else result.success_rate


def chain_figure(reports: Mapping[str, ChainReport]) -> Any:
    """The share of chains that reached 1, 2, .. tasks."""
    figure = new_figure(5, 3.6)
    axes = figure.subplots()
    for index, (name, report) in enumerate(reports.items()):
        counts = range(1, report.length + 1)
        label = f"{name}: {headline(report)}"
        shares = [100 * share for share in report.reached]
        axes.plot(counts, shares, color=COLOURS[index % 8], marker=MARKERS[index % 8], label=label)
        axes.set_xticks(counts)
    axes.set_xlabel("tasks in a row")
    axes.set_ylabel("chains, %")
    axes.set_ylim(0, 105)
    axes.grid(alpha=0.3)
    axes.legend(title="average length", fontsize="small")
    return figure


def cross_figure(cross: CrossReport) -> Any:
    """Planners down, controllers across; pairs without a result stay white."""
    figure = new_figure(2.5 + 1.6 * len(cross.controllers), 1.5 + 0.9 * len(cross.planners))
    axes = figure.subplots()
    values = np.full((len(cross.planners), len(cross.controllers)), np.nan)
    for row, planner in enumerate(cross.planners):
        for column, controller in enumerate(cross.controllers):
            report = cross.report(planner, controller)
            if report is None:
                continue
            values[row, column] = _share(report)
            colour = "white" if values[row, column] < 0.6 else "black"
            axes.text(column, row, headline(report), ha="center", va="center", color=colour, fontsize="small")
    axes.imshow(values, vmin=0, vmax=1, cmap="cividis", aspect="auto")
    axes.set_xticks(range(len(cross.controllers)), cross.controllers, rotation=20, ha="right")
    axes.set_yticks(range(len(cross.planners)), cross.planners)
    axes.set_xlabel("controller")
    axes.set_ylabel("planner")
    return figure


def _share(report: Report) -> float:
    """The headline between 0 and 1."""
    if isinstance(report, ChainReport):
        return report.average_length / report.length
    return _height(report.total)


def speed_figure(report: SpeedReport) -> Any:
    """HD-ExpIt's Figure 10: success above, time per action below, by the planner's sampler."""
    names = list(report.episodes)
    figure = new_figure(1.2 * len(names) + 1.5, 5)
    above, below = figure.subplots(2, 1, sharex=True)
    rates = 100 * np.array([report.success(name) for name in names])
    above.errorbar(
        range(len(names)), rates[:, 0], np.abs(rates[:, 1:] - rates[:, :1]).T, fmt="o", capsize=3, color="k"
    )
    above.set_ylabel("success, %")
    above.set_ylim(0, 105)
    common = len(report.common)
    side = report.common_ms if common else report.runtime_ms  # both sides on the same observations
    sides = {"keystep": [side(name) or np.nan for name in names]}
    if common:
        sides["PyTorch reference"] = [report.reference_ms(name) or np.nan for name in names]
    width = 0.8 / len(sides)
    for index, (label, values) in enumerate(sides.items()):
        x = np.arange(len(names)) + (index - (len(sides) - 1) / 2) * width
        bars = below.bar(x, values, width, color=COLOURS[index], label=label, hatch="/" * (2 * index))
        below.bar_label(bars, fmt="%.3g", fontsize="small")
    below.set_yscale("log")
    below.margins(y=0.15)
    below.set_ylabel(f"ms per action, {common or report.count} episodes")
    below.set_xticks(range(len(names)), names)
    controller = report.settings.get("controller", "")
    below.set_xlabel("sampler of the planner" + (controller and f"; controller {controller}"))
    below.legend(fontsize="small")
    for axes in (above, below):
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
    return figure
