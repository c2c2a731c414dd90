"""keystep oracle"""

from __future__ import annotations

import functools
import json as json_format
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

import keystep
from keystep.files import check_outputs, to_json, write_each, write_text

if TYPE_CHECKING:
    from keystep.suites.tabletop.oracle.results import OracleReport


def main(
    tasks: tuple[str, ...] = (),
    episodes: int = 100,
    seed: int = 0,
    processes: int = 1,
    json: Path | None = None,
    markdown: Path | None = None,
    show: bool = False,
    code: Path | None = None,
    video: Path | None = None,
    questions: bool = False,
    grid: int = 32,
    list_tasks: Annotated[bool, tyro.conf.arg(name="list")] = False,
) -> Any:
    """Success of the oracle on the tabletop suite, with 95 % intervals, beside the paper's figures.

    With --show, --code, --video, --questions and exactly one task: one episode of it instead. Ctrl-C and
    errors leave the results of the episodes that were played.

    Args:
        tasks: names; all when empty.
        episodes: per task, on the seeds `seed` .. `seed` + episodes - 1.
        seed: first seed, or that of the one episode.
        processes: simulators run in parallel.
        json: also write the results to this file.
        markdown: also write a Markdown table to this file.
        show: play one episode and print its code while it runs, in the form that --code reads.
        code: run the code in this file instead of the oracle's program; blank lines part the key-steps.
        video: also write what the base camera sees, and below it the code (needs a Vulkan driver).
        questions: print the auxiliary questions about the first picture, with answers, and play nothing.
        grid: in whose cells over the picture code and questions say places; 10 in the paper, and in datasets
            that do not say.
        list_tasks: print the tasks: level, time limit, a prompt, how they differ from ClevrSkills'.
    """
    episode = show or code is not None or video is not None
    if episode + questions + list_tasks > 1:
        raise keystep.ArgumentError("options: expected one of an episode, --questions and --list, got more")
    if (episode or questions or list_tasks) and (json is not None or markdown is not None):
        raise keystep.ArgumentError("json, markdown: expected an evaluation of tasks to write, got none")
    check_outputs(json=json, markdown=markdown, video=video)
    if list_tasks:
        return _list(tasks)
    if questions:
        from keystep.commands.oracle_episode import print_questions

        return print_questions(_only(tasks), seed, grid)
    if episode:
        from keystep.commands.oracle_episode import play_one

        return play_one(_only(tasks), seed, code, video, grid)
    return _evaluate(tasks, episodes, seed, processes, grid, json, markdown)


def _only(tasks: tuple[str, ...]) -> str:
    if len(tasks) != 1:
        raise keystep.ArgumentError(f"tasks: expected exactly one for one episode, got {len(tasks)}")
    return tasks[0]


def _list(tasks: tuple[str, ...]) -> None:
    from keystep.commands.oracle_tables import print_tasks

    print_tasks(tasks)


def _evaluate(
    tasks: tuple[str, ...],
    episodes: int,
    seed: int,
    processes: int,
    grid: int,
    json: Path | None,
    markdown: Path | None,
) -> Any:
    from keystep.suites.tabletop import TASKS
    from keystep.suites.tabletop.oracle.report import evaluate_oracle

    keep = functools.partial(_tell, grid, json, markdown)
    report = evaluate_oracle(tasks or tuple(TASKS), episodes, seed, processes, grid, keep=keep)
    keep(report)
    return report


def _tell(grid: int, json: Path | None, markdown: Path | None, report: OracleReport) -> None:
    """Prints and writes what was played."""
    from keystep.commands.oracle_tables import print_report, report_markdown
    from keystep.machine import describe_machine
    from keystep.suites.tabletop import layout
    from keystep.suites.tabletop.source import package_versions

    print_report(report)
    if not report.played:  # interrupted at once: leave the files of an earlier run
        return
    results = {
        "machine": describe_machine(),
        "versions": package_versions(),
        "world_version": layout.VERSION,
        "grid": grid,
        **report.to_dict(),
    }
    text = to_json(results)
    writes: list[Callable[[], None]] = []
    if json is not None:
        writes.append(functools.partial(write_text, json, text))
    if markdown is not None:
        writes.append(functools.partial(write_text, markdown, report_markdown(json_format.loads(text))))
    write_each(*writes)
