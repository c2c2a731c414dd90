"""Results as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keystep.evaluate.chains import ChainReport
from keystep.evaluate.cross import CrossReport
from keystep.evaluate.planner_speed import SpeedReport
from keystep.evaluate.protocols import Report
from keystep.evaluate.report import EvaluationReport, TaskResult, with_error
from keystep.table_writer import markdown_table


def report_markdown(reports: Mapping[str, Report]) -> str:
    """One table of policies by name, all of one protocol, and what was measured where."""
    chains = {name: report for name, report in reports.items() if isinstance(report, ChainReport)}
    tasks = {name: report for name, report in reports.items() if isinstance(report, EvaluationReport)}
    table = chain_table(chains) if chains else task_table(tasks)
    return f"{table}\n{caption(next(iter(reports.values())))}\n"


def task_table(reports: Mapping[str, EvaluationReport]) -> str:
    """A row per task, family and all; a column per policy."""
    lines = [[result for section in report.sections for result in section] for report in reports.values()]
    rows = []
    for results in zip(*lines, strict=True):
        name = f"**{results[0].name}**" if results[0].name == "all" else results[0].name
        rows.append([name, *map(rate, results)])
    return markdown_table(["task", *reports], rows)


def rate(result: TaskResult) -> str:
    """The success rate with its 95 % interval, or its standard error over resets and deviation over seeds."""
    skipped = f" [{result.skipped} skipped]" if result.skipped else ""
    if result.measured_mean is not None:
        skipped = f"; {with_error(result)}{skipped}"
    if result.success_rate is None:
        return f"-{skipped}"
    text = f"{100 * result.success_rate:.1f}"
    if result.interval is not None:
        low, high = result.interval
        return f"{text} % ({100 * low:.1f}..{100 * high:.1f}){skipped}"
    error = f" ± {100 * result.error:.1f}" if result.error is not None else ""
    seeds = f" (σ {100 * result.seed_deviation:.1f})" if result.seed_deviation is not None else ""
    return f"{text}{error} %{seeds}{skipped}"


def average_length(report: ChainReport) -> str:
    error = f" ± {report.error:.2f}" if report.error is not None else ""
    seeds = f" (σ {report.seed_deviation:.2f})" if report.seed_deviation is not None else ""
    return f"{report.average_length:.2f}{error}{seeds}"


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
    captions = [caption(pair.report) for pair in cross.pairs if pair.report is not None]
    failed = [f"- {pair.planner} with {pair.controller}: {pair.error}" for pair in cross.pairs if pair.error]
    return "\n".join([table, *captions[:1], *(["", "Not evaluated:", "", *failed] if failed else [])]) + "\n"


def speed_markdown(report: SpeedReport) -> str:
    """A row per sampler of the planner."""
    first, count = next(iter(report.episodes)), len(report.common)
    header = ["planner", "success (95 %)", "ms per action", f"times {first}"]
    if count:
        header += [
            f"ms ({count} common)",
            f"PyTorch ms ({count} common)",
            "PyTorch : runtime",
            "max difference",
        ]
    rows = []
    for name in report.episodes:
        share, low, high = report.success(name)
        faults = f", {report.faults(name)} faults" if report.faults(name) else ""
        row = [name, f"{100 * share:.1f} % ({100 * low:.1f}..{100 * high:.1f}){faults}"]
        row += [_cell(report.runtime_ms(name), ".3f"), _cell(report.times_first(name), ".2f")]
        if count:
            row += [_cell(report.common_ms(name), ".3f"), _cell(report.reference_ms(name), ".3f")]
            row += [_cell(report.times_reference(name), ".2f"), _cell(report.difference(name), ".1e")]
        rows.append(row)
    machine = "; ".join(
        f"{name} {report.machine[name]}" for name in ("cpu", "commit") if report.machine[name]
    )
    common = f"; the reference on {count} of them, the common ones" if count else ""
    caption = f"All planning and control, text encoding included, over all actions of {report.count} episodes"
    controller = f"; controller {report.settings['controller']}" if "controller" in report.settings else ""
    return f"{markdown_table(header, rows)}\n{caption}{common}{controller}; {machine}.\n"


def _cell(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)


def headline(report: Report) -> str:
    """The one figure of a report."""
    return average_length(report) if isinstance(report, ChainReport) else rate(report.total)


def caption(report: Report) -> str:
    """How the figures came about, in one sentence."""
    settings = report.settings
    count = len(report.chains) if isinstance(report, ChainReport) else report.total.episodes
    parts = [
        settings["protocol"],
        f"{count} {'chains' if isinstance(report, ChainReport) else 'episodes'} from seed {report.seed}",
        *notes(report),
        *(
            f"{name} {settings[name]}"
            for name in ("subgoals", "replan", "planner_candidates", "planner_score", "phrasing", "guidance")
            if _set(settings, name)
        ),
        *(f"{name} {report.machine[name]}" for name in ("cpu", "commit") if report.machine.get(name)),
    ]
    return "; ".join(parts) + "."


def notes(report: Report) -> list[str]:
    """How to read the figures: what follows ± and σ, what was left out."""
    seeds = len(report.settings["noise_seeds"])
    if seeds > 1:
        found = [f"± standard error over resets, σ standard deviation over {seeds} noise seeds"]
    elif isinstance(report, ChainReport):
        found = ["± standard error over chains"]
    elif report.total.interval is None:
        found = ["95 % Wilson intervals; means over tasks ± standard error over resets"]
    else:
        found = ["95 % Wilson intervals"]
    if isinstance(report, EvaluationReport) and report.total.skipped:
        found.append(f"{report.total.skipped} episodes without a demonstration skipped")
    if (measure := report.settings.get("measure")) is not None:
        found.append(f"after the semicolon the mean of each episode's greatest {measure} ± standard error")
    if report.settings.get("other_world"):
        found.append(report.settings["other_world"])
    if report.settings.get("unfinished"):
        found.append(f"unfinished: {report.settings['unfinished']}")
    return found


def _set(settings: Mapping[str, Any], name: str) -> bool:
    return settings.get(name) not in (None, "", "policy", "bundle", "canonical")
