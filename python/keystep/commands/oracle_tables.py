"""Tables of the oracle: what it reached beside the paper's figures, and the tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keystep.suites.tabletop import TASKS, layout, task_named
from keystep.suites.tabletop.oracle import paper
from keystep.suites.tabletop.oracle.results import Mean, OracleReport, OracleResult
from keystep.suites.tabletop.scenario import Task
from keystep.table_writer import markdown_table, print_table

HEADER = ("task", "level", "solved", "95 %", "calls", "steps", "ms", "paper", "paper calls")
NOTE = (
    "Calls and steps: means over solved episodes, calls without done(); ms: median wall-clock time of an "
    "episode. The paper's figures are of its planner with ClevrSkills' oracle, ours of our oracle alone; its "
    "means are those of its rows of table 2 (it prints 88.3 % for level 0, and 72.6 % and 5.3 calls for all)."
)


def rows(report: OracleReport) -> list[list[str]]:
    """A row of HEADER's columns for each task, then for each level, then for all that were finished."""
    means = [*report.levels.values(), *([report.total] if report.total is not None else [])]
    return [*map(_task_row, (*report.tasks, *report.begun)), *map(_mean_row, means)]


def _task_row(result: OracleResult) -> list[str]:
    beside = paper.PAPER[result.task]
    return [
        result.task,
        str(result.level),
        f"{result.successes}/{result.episodes}",
        _interval(result),
        _number(result.calls, ".1f"),
        _number(result.steps, ".0f"),
        _number(result.median_ms, ".0f"),
        _number(beside.success, "g"),
        _number(beside.calls, "g"),
    ]


def _mean_row(mean: Mean) -> list[str]:
    success, calls = paper.means(mean.tasks) or (None, None)
    ours = [mean.name, "", f"{100 * mean.rate:.1f}", _interval(mean), _number(mean.calls, ".1f"), "", ""]
    return [*ours, _number(success, ".1f"), _number(calls, ".1f")]


def _interval(found: OracleResult | Mean) -> str:
    return f"{100 * found.low:.1f}-{100 * found.high:.1f}"


def _number(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)


def notes(report: OracleReport) -> list[str]:
    """What the bars say, why episodes failed, and what was not played."""
    found = [str(bar) for bar in report.bars]
    for result in (*report.tasks, *report.begun):
        for failures in result.failures:
            where = f"{failures.count} x, first seed {failures.first_seed}"
            found.append(f"{result.task}: {failures.reason} ({where})")
    if report.interrupted:
        count = f"{report.played} of {report.planned} episodes"
        found.append(f"interrupted after {count}; means are of tasks that were finished")
    return found


def print_report(report: OracleReport) -> None:
    """The table, its last rows the means, and the notes below it."""
    if report.played:
        header = [column.replace("paper ", "paper\n") for column in HEADER]
        title = f"Oracle on the tabletop suite, from seed {report.seed}"
        print_table(header, rows(report), title=title, section=len(report.tasks + report.begun))
    print(*notes(report), sep="\n")


def report_markdown(results: Mapping[str, Any]) -> str:
    """The same as Markdown, from what the JSON file holds."""
    report = OracleReport.from_dict(results)
    lines = "".join(f"- {note}\n" for note in notes(report))
    machine = results["machine"]
    what = f"{report.episodes} episodes of each task from seed {report.seed}, {report.processes} at once"
    origin = "; ".join(f"{name} {machine[name]}" for name in ("cpu", "commit") if machine.get(name))
    return f"{markdown_table(HEADER, rows(report))}\n{lines}\n{what}; {origin}. {NOTE}\n"


def print_tasks(tasks: Sequence[str]) -> None:
    """Each task with a prompt, that of seed 0; all when none is named."""
    header = ("task", "level", "limit", "a prompt, and how the task differs from ClevrSkills'")
    print_table(header, map(_described, map(task_named, tasks or TASKS)), prose=True)


def _described(task: Task) -> list[str]:
    prompt = task.build(np.random.default_rng(0)).prompt
    text = f"{prompt}\n[dim]{task.differs}[/dim]" if task.differs else prompt
    return [task.name, str(task.level), f"{task.max_steps / layout.CONTROL_RATE_HZ:g} s", text]
