"""keystep run"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

import keystep
from keystep.commands.code_planners import CodePlannerSource, code_planner_at
from keystep.commands.eval import FIRST_SEED
from keystep.commands.run_record import EpisodeRecord, reply_times
from keystep.commands.run_view import view_of
from keystep.files import write_json

if TYPE_CHECKING:
    from keystep.suites.tabletop.environment import TabletopEnv

VERSION = 1
"""Of the file of --json."""


@dataclass(frozen=True)
class PlannerRun:
    """Episodes that were played, the last of them perhaps not to its end."""

    episodes: tuple[EpisodeRecord, ...]
    interrupted: bool


def main(
    planner: Annotated[Path, tyro.conf.Positional],
    task: str,
    episodes: int = 1,
    seed: int = FIRST_SEED,
    every_step: bool = False,
    show: bool = True,
    video: Path | None = None,
    json: Path | None = None,
) -> PlannerRun:
    """Watch a planner write code for a task of the suite tabletop, and the oracle run it (VLM + Oracle).

    In a terminal the code is shown live: key-steps as they come, what the executor says, what the planner
    remembers, how long its replies take. Elsewhere the lines are a file that `keystep oracle --code` runs.
    Success of many episodes: keystep eval PLANNER --suite tabletop --act oracle.

    Args:
        planner: a bundle of family code, or a checkpoint folder of `keystep train code-planner`.
        task: its name; `keystep oracle --list` shows them.
        episodes: one after the other.
        seed: of the first one's scene; the next have seed + 1, ...
        every_step: ask the planner at every control step, as beside a controller, and let a key-step that
            comes interrupt the call that runs; else it is asked for one when a call has ended.
        show: while it runs; else only how it ends.
        video: also write what the base camera sees, and below it the code (needs a Vulkan driver).
        json: also write what happened to this file.
    """
    source, name = _checked(planner, task, episodes, video)
    opened = source.open()
    found = _play(opened, name, episodes, seed, every_step, show)
    if json is not None:
        write_json(json, _told(source, opened.grid, every_step, found))
    if video is not None and not found.interrupted:
        _film(video, found.episodes)
    return found


def _checked(planner: Path, task: str, episodes: int, video: Path | None) -> tuple[CodePlannerSource, str]:
    """What can be known before anything is opened."""
    from keystep.suites.headless import require_driver
    from keystep.suites.tabletop import task_named

    name = task_named(task).name
    if episodes < 1:
        raise keystep.ArgumentError(f"episodes: expected at least 1, got {episodes}")
    source = code_planner_at(planner)
    if video is not None:
        import av  # noqa: F401  is missing before anything is played, not afterwards

        require_driver()
    return source, name


def _play(planner: Any, task: str, episodes: int, seed: int, every_step: bool, show: bool) -> PlannerRun:
    from rich.console import Console

    from keystep.suites.tabletop.oracle.replies import open_for, play_replies

    console, records = Console(highlight=False), list[EpisodeRecord]()
    with closing(open_for(task, planner)) as env:
        for number in range(seed, seed + episodes):
            records.append(EpisodeRecord(task, number))
            try:
                with view_of(records[-1], show, console) as view:
                    watchers = (records[-1], view)
                    episode, reason = play_replies(env, number, planner, planner.grid, watchers, every_step)
                    records[-1].end(episode, reason)
            except KeyboardInterrupt:
                return PlannerRun(tuple(records), True)
    return PlannerRun(tuple(records), False)


def _told(source: CodePlannerSource, grid: int, every_step: bool, found: PlannerRun) -> dict[str, Any]:
    from keystep.machine import describe_machine
    from keystep.suites.tabletop import layout

    ms = [one for record in found.episodes for one in record.reply_ms]
    passes = [one for record in found.episodes for one in record.reply_passes]
    return {
        "version": VERSION,
        **source.about,
        "machine": describe_machine(),
        "world_version": layout.VERSION,
        "grid": grid,
        "asked": "every step" if every_step else "after calls",
        "interrupted": found.interrupted,
        "replies": reply_times(ms, passes),
        "episodes": [record.to_dict() for record in found.episodes],
    }


def _film(path: Path, records: Sequence[EpisodeRecord]) -> None:
    from keystep.commands.oracle_episode import open_env
    from keystep.commands.video import write_video

    shown = [record for record in records if record.actions]
    if not shown:
        raise keystep.Error("video: expected at least one control step to show, got none")
    with closing(open_env(shown[0].task, visible=True)) as env:
        write_video(path, chain.from_iterable(_frames(env, record) for record in shown))


def _frames(env: TabletopEnv, record: EpisodeRecord) -> Iterator[np.ndarray]:
    """Those of an episode, from the same actions again: pictures would fill the memory."""
    from keystep.commands.oracle_episode import film

    assert record.episode is not None
    return film(env, record.seed, record.episode, record.actions)
