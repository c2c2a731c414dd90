"""Results as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keystep.evaluate.chains import ChainReport
from keystep.evaluate.cross import CrossReport
from keystep.evaluate.planner_speed import SpeedReport
from keystep.evaluate.protocols import Report
from keystep.evaluate.report import EvaluationReport, TaskResult


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column is left-aligned, the others right."""
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def report_markdown(reports: Mapping[str, Report]) -> str:
    """One table of policies by name, all of one protocol, and what was measured where."""
    chains = {name: report for name, report in reports.items() if isinstance(report, ChainReport)}
    tasks = {name: report for name, report in reports.items() if isinstance(report, EvaluationReport)}
    table = chain_table(chains) if chains else task_table(tasks)
    return f"{table}\n{caption(next(iter(reports.values())))}\n"


def task_table(reports: Mapping[str, EvaluationReport]) -> str:
    """A row per task, family and all; a column per policy."""
    lines = [_sections(report) for report in reports.values()]
    rows = []
    for results in zip(*lines, strict=True):
        name = f"**{results[0].name}**" if results[0].name == "all" else results[0].name
        rows.append([name, *map(rate, results)])
    return markdown_table(["task", *reports], rows)


def _sections(report: EvaluationReport) -> tuple[TaskResult, ...]:
    families = report.families if len(report.families) < len(report.tasks) else ()
    return (*report.tasks, *families, report.total)


def rate(result: TaskResult) -> str:
    """The success rate with its standard error over noise seeds, or its 95 % interval for a single one."""
    if result.error is not None:
        return f"{100 * result.success_rate:.1f} ± {100 * result.error:.1f} %"
    low, high = result.interval
    return f"{100 * result.success_rate:.1f} % ({100 * low:.1f}..{100 * high:.1f})"


def average_length(report: ChainReport) -> str:
    error = f" ± {report.error:.2f}" if report.error is not None else ""
    return f"{report.average_length:.2f}{error}"


def chain_table(reports: Mapping[str, ChainReport]) -> str:
    """A row per policy; the share of chains that reached 1, 2, .. tasks and the average length."""
    length = max(report.length for report in reports.values())
    rows = [
        [name, *(f"{100 * share:.1f} %" for share in report.reached), average_length(report)]
        for name, report in reports.items()
    ]
    return markdown_table(["tasks in a row", *map(str, range(1, length + 1)), "average length"], rows)


def cross_markdown(cross: CrossReport) -> str:
    """Planners down, controllers across."""
    rows = [[planner] for planner in cross.planners]
    for row in rows:
        for controller in cross.controllers:
            report = cross.report(row[0], controller)
            row.append("" if report is None else headline(report))
    table = markdown_table(["planner \\ controller", *cross.controllers], rows)
    return f"{table}\n{caption(cross.pairs[0].report)}\n"


def speed_markdown(report: SpeedReport) -> str:
    """A row per sampler of the planner."""
    first = next(iter(report.episodes))
    compared = any(report.reference_ms(name) is not None for name in report.episodes)
    header = ["planner", "success (95 %)", "ms per action", f"times {first}"]
    header += ["PyTorch ms per action", "PyTorch : runtime", "max difference"] if compared else []
    rows = []
    for name in report.episodes:
        share, low, high = report.success(name)
        rows.append(
            [
                name,
                f"{100 * share:.1f} % ({100 * low:.1f}..{100 * high:.1f})",
                f"{report.runtime_ms(name):.3f}",
                f"{report.times_first(name):.2f}",
                *(_reference_cells(report, name) if compared else ()),
            ]
        )
    machine = "; ".join(
        f"{name} {report.machine[name]}" for name in ("cpu", "commit") if report.machine[name]
    )
    caption = f"Medians over {report.count} episodes, text encoding included; {machine}."
    return f"{markdown_table(header, rows)}\n{caption}\n"


def _reference_cells(report: SpeedReport, name: str) -> tuple[str, ...]:
    values = (report.reference_ms(name), report.times_reference(name), report.difference(name))
    return tuple(
        "" if value is None else format(value, spec)
        for value, spec in zip(values, (".3f", ".2f", ".1e"), strict=True)
    )


def headline(report: Report) -> str:
    """The one figure of a report."""
    return average_length(report) if isinstance(report, ChainReport) else rate(report.total)


def caption(report: Report) -> str:
    """How the figures came about, in one sentence."""
    settings = report.settings
    count = len(report.chains) if isinstance(report, ChainReport) else report.total.episodes
    seeds = len(settings["noise_seeds"])
    spread = f"± standard error over {seeds} noise seeds" if seeds > 1 else _single_spread(report)
    parts = [
        settings["protocol"],
        f"{count} {'chains' if isinstance(report, ChainReport) else 'episodes'} from seed {report.seed}",
        spread,
        *(
            f"{name} {settings[name]}"
            for name in ("subgoals", "replan", "phrasing", "guidance")
            if _set(settings, name)
        ),
        *(f"{name} {report.machine[name]}" for name in ("cpu", "commit") if report.machine.get(name)),
    ]
    return "; ".join(parts) + "."


def _single_spread(report: Report) -> str:
    return "± standard error over chains" if isinstance(report, ChainReport) else "95 % Wilson intervals"


def _set(settings: Mapping[str, Any], name: str) -> bool:
    return settings.get(name) not in (None, "", "policy", "bundle", "canonical")
