"""keystep eval --act oracle: a planner writes key-steps, the oracle runs them (VLM + Oracle)."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np

import keystep
from keystep.commands.code_planners import code_planner_at
from keystep.commands.options import OutputOptions
from keystep.machine import describe_machine
from keystep.suites.tabletop import TASKS, layout
from keystep.suites.tabletop.oracle import paper
from keystep.suites.tabletop.oracle.blind import Blind, mean_picture
from keystep.suites.tabletop.oracle.replies import OpenPlanner
from keystep.suites.tabletop.oracle.report import evaluate_oracle, task_names
from keystep.suites.tabletop.oracle.results import Mean, OracleReport, OracleResult
from keystep.suites.trials import check_trials
from keystep.table_writer import markdown_table, print_table

MEAN_SCENES, MEAN_SEED = 8, 9_000_000
"""Of each task of the suite, whose first pictures the mean picture is of: scenes that no evaluation has."""
SIGHTED = (
    "Neighbour",
    "NovelAdjective",
    "NovelNounAdjective",
    "RotateSymmetry",
    "SortByTexture",
    "BalanceScale",
    "StackSorted",
    "ThrowSort",
)
"""Tasks whose prompts do not name all that is to be moved, or leave open which of two."""
TAKEN = {"suite", "tasks", "episodes", "seed", "processes", "json", "markdown"}
"""Options of `keystep eval` that mean something here."""
HEADER = ("task", "solved", "95 %", "calls", "blind", "95 %", "paper", "paper calls")
NOTE = (
    "Calls: mean over solved episodes, without done(). blind: the same planner, whose picture is the mean of "
    "first pictures, whatever is there; one of objects sees none. The paper's figures are of its planner "
    "with ClevrSkills' oracle in ClevrSkills' tasks; its means are those of its rows of table 2, "
    "that of table 1 of its table 1."
)


def check_options(*groups: Any, **others: object) -> None:
    """ArgumentError for the first option that is not its default and does not go with the oracle."""
    given = dict(others)
    for group in groups:
        for field in fields(group):
            value = getattr(group, field.name)
            default = field.default if field.default_factory is MISSING else field.default_factory()
            if field.name not in TAKEN and value != default:
                given[field.name] = value
    for name, value in given.items():
        if value is not None and value != ():
            raise keystep.ArgumentError(f"{name}: expected none with act oracle, got {value}")


def evaluate(
    planners: Sequence[Path],
    suite: str,
    tasks: tuple[str, ...],
    episodes: int,
    seed: int,
    processes: int,
    blind: bool,
    output: OutputOptions,
) -> OracleReport:
    """Plays, prints and writes, after the planner with sight and again after the blind one, or an error.

    Returns:
        The report of what was played last.

    Raises:
        ArgumentError: not one planner, or another suite.
        ValueError: an unknown task, or fewer than one episode or process; before anything is opened.
        BundleError, CheckpointError: it cannot be read, or is no planner that writes code.
    """
    if len(planners) != 1:
        raise keystep.ArgumentError(f"bundles: expected one with act oracle, got {len(planners)}")
    if suite != "tabletop":
        raise keystep.ArgumentError(f"suite: expected tabletop with act oracle, got {suite}")
    task_names(tasks or tuple(TASKS))
    check_trials(episodes, seed, processes)
    source = code_planner_at(planners[0])
    planner = source.open()  # is refused before anything is played
    players: dict[str, OpenPlanner] = {"sighted": source.open}
    if blind:
        players["blind"] = Blind(source.open, _mean_picture(planner.image_size))
    about = {
        **source.about,
        "machine": describe_machine(),
        "world_version": layout.VERSION,
        "grid": planner.grid,
        "mean_picture": {"seed": MEAN_SEED, "scenes": MEAN_SCENES} if blind else None,
    }
    reports = dict[str, OracleReport]()

    def keep(name: str, report: OracleReport) -> None:
        reports[name] = report
        unfinished = report.interrupted or len(reports) < len(players)
        _tell(reports, str(source), {**about, "unfinished": unfinished}, output)

    what = (tasks or tuple(TASKS), episodes, seed, processes, planner.grid)
    for name, player in players.items():
        kept = functools.partial(keep, name)
        report = evaluate_oracle(*what, player, keep=kept)
        kept(report)
        if report.interrupted:
            break
    return report


def _mean_picture(size: int | None) -> np.ndarray | None:
    return None if size is None else mean_picture(tuple(TASKS), MEAN_SEED, MEAN_SCENES, size)


def _tell(
    reports: Mapping[str, OracleReport], planner: str, about: dict[str, Any], output: OutputOptions
) -> None:
    """Of what was played.

    Args:
        about: for the JSON file.
    """
    if not reports["sighted"].played:
        print("interrupted before an episode was played to its end")
        return
    lines, worth = rows(reports), sight(reports)
    notes = [f"sight, {name}: {_points(one)}" for name, one in worth.items()] + failures(reports)
    if about["mean_picture"] is not None and "blind" not in reports:
        notes.append("blind: not played yet")
    header = [column.replace("paper ", "paper\n") for column in HEADER]
    print_table(
        header,
        lines,
        title=f"{planner}, from seed {reports['sighted'].seed}",
        section=len(_results(reports, "sighted")),
    )
    print(*notes, sep="\n")
    found = {name: report.to_dict() for name, report in reports.items()}
    for report in found.values():
        report.pop("bars")  # the oracle's own
    told = {**about, **found, "sight": worth}
    text = "".join(f"- {note}\n" for note in notes)
    output.write(told, f"{planner}\n\n{markdown_table(HEADER, lines)}\n{text}\n{NOTE}\n")


def rows(reports: Mapping[str, OracleReport]) -> list[list[str]]:
    """HEADER's columns for each task, and means of each level, table 1, SIGHTED, and all that were played."""
    seen, blind = (_results(reports, name) for name in ("sighted", "blind"))
    found = [_task_row(result, blind.get(name)) for name, result in seen.items()]
    finished = {result.task for result in reports["blind"].tasks} if "blind" in reports else set()
    for name, tasks in _groups(reports["sighted"]).items():
        beside = [blind[task] for task in tasks if task in finished]
        found.append(_mean_row(name, [seen[task] for task in tasks], beside))
    return found


def _results(reports: Mapping[str, OracleReport], name: str) -> dict[str, OracleResult]:
    """By task, those of which only some episodes were played the last."""
    report = reports.get(name)
    return {} if report is None else {result.task: result for result in report.tasks + report.begun}


def _groups(report: OracleReport) -> dict[str, tuple[str, ...]]:
    """Tasks of each mean, of those groups that were played as a whole."""
    seen = tuple(result.task for result in report.tasks)
    groups = {
        f"level {level}": tuple(name for name, task in TASKS.items() if task.level == level)
        for level in report.levels
    }
    groups |= {"table 1": tuple(paper.TABLE_1), "sight matters": SIGHTED}
    groups["all" if len(seen) == len(TASKS) else "played"] = seen
    return {name: tasks for name, tasks in groups.items() if tasks and set(tasks) <= set(seen)}


def sight(reports: Mapping[str, OracleReport]) -> dict[str, dict[str, float]]:
    """By the name of each mean how many points sight is worth, and their 95 % interval.

    By MOVER, as if the episodes of both were others (see `oracle.results`): wider than of pairs.
    """
    if "blind" not in reports:
        return {}
    both = [{result.task: result for result in reports[name].tasks} for name in ("sighted", "blind")]
    found = {}
    for name, tasks in _groups(reports["sighted"]).items():
        if set(tasks) <= set(both[1]):
            seen, blind = (Mean.of(name, [results[task] for task in tasks]) for results in both)
            points = seen.rate - blind.rate
            below = math.hypot(seen.rate - seen.low, blind.high - blind.rate)
            above = math.hypot(seen.high - seen.rate, blind.rate - blind.low)
            values = {"points": points, "low": points - below, "high": points + above}
            found[name] = {key: 100 * value for key, value in values.items()}
    return found


def _task_row(result: OracleResult, blind: OracleResult | None) -> list[str]:
    beside = paper.PAPER[result.task]
    without = ["-", "-"] if blind is None else [f"{blind.successes}/{blind.episodes}", _interval(blind)]
    solved = f"{result.successes}/{result.episodes}"
    ours = [result.task, solved, _interval(result), _number(result.calls, ".1f")]
    return [*ours, *without, _number(beside.success, "g"), _number(beside.calls, "g")]


def _mean_row(name: str, seen: Sequence[OracleResult], blind: Sequence[OracleResult]) -> list[str]:
    mean = Mean.of(name, seen)
    success, calls = paper.means(mean.tasks) or (None, None)
    if name == "table 1":
        success, calls = sum(paper.TABLE_1.values()) / len(paper.TABLE_1), None
    without = ["-", "-"]
    if len(blind) == len(seen):
        other = Mean.of(name, blind)
        without = [f"{100 * other.rate:.1f}", _interval(other)]
    ours = [f"mean of {name}", f"{100 * mean.rate:.1f}", _interval(mean), _number(mean.calls, ".1f")]
    return [*ours, *without, _number(success, ".1f"), _number(calls, ".1f")]


def failures(reports: Mapping[str, OracleReport]) -> list[str]:
    """Why episodes failed, the most frequent reasons of each task, and what was not played."""
    found = [
        f"{result.task}: {one.reason} ({one.count} x, first seed {one.first_seed})"
        for result in _results(reports, "sighted").values()
        for one in result.failures
    ]
    for name, report in reports.items():
        if report.interrupted:
            count = f"{report.played} of {report.planned} episodes"
            found.append(f"{name}: interrupted after {count}; means are of tasks that were finished")
    return found


def _points(worth: Mapping[str, float]) -> str:
    return f"{worth['points']:+.1f} points ({worth['low']:+.1f} .. {worth['high']:+.1f})"


def _interval(found: OracleResult | Mean) -> str:
    return f"{100 * found.low:.1f}-{100 * found.high:.1f}"


def _number(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)
