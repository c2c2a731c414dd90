"""How often the tasks of the tabletop suite are solved by the oracle, alone or told by a planner."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import gymnasium

from keystep.code.grid import GRID, check_grid
from keystep.suites.tabletop import TASKS, task_named
from keystep.suites.tabletop.oracle.episodes import OracleEpisode, play
from keystep.suites.tabletop.oracle.replies import (
    OpenPlanner,
    WritesCode,
    open_for,
    play_replies,
)
from keystep.suites.tabletop.oracle.results import OracleReport, OracleResult, Trial
from keystep.suites.trials import play_all

UNSOLVED = "the program ended, but the task is not solved"


def general_reason(reason: str, names: Iterable[str]) -> str:
    """A reason without what differs between episodes: its line, names of actors, numbers, what is quoted."""
    text = re.sub(r"^line \d+, column \d+: ", "", reason)
    text = re.sub(r"""(['"])[^'"]*\1 \(U\+[0-9A-F]+\)""", "<character>", text)
    for name in sorted(set(names), key=len, reverse=True):
        text = re.sub(rf"\b{re.escape(name)}", "<actor>", text)
    text = re.sub(r"""\bgot (?:'[^']*'|"[^"]*")""", "got <text>", text)
    return re.sub(r"-?\b\d+(\.\d+)?", "#", text)


class _Environment:
    """The environment of the task played last: one at a time, so that memory stays the same."""

    def __init__(self) -> None:
        self._open: dict[str, gymnasium.Env] = {}

    def of(self, task: str, planner: WritesCode | None = None) -> gymnasium.Env:
        if task not in self._open:
            self.close()
            self._open[task] = open_for(task, planner)
        return self._open[task]

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()


_environment = _Environment()  # of this process


def play_episode(task: str, seed: int, grid: int = GRID) -> Trial:
    """The oracle's program on one reset."""
    env = _environment.of(task)
    started = time.perf_counter()
    episode = play(env, seed, grid=grid)
    return _trial(task, seed, episode, episode.reason, started)


@dataclass
class ReplyPlayer:
    """The replies of a planner on one reset; every process opens a planner of its own."""

    open_planner: OpenPlanner
    grid: int = GRID

    @cached_property
    def _planner(self) -> WritesCode:
        return self.open_planner()

    def __call__(self, task: str, seed: int) -> Trial:
        env = _environment.of(task, self._planner)
        started = time.perf_counter()
        episode, reason = play_replies(env, seed, self._planner, self.grid)
        return _trial(task, seed, episode, reason, started)


def _trial(task: str, seed: int, episode: OracleEpisode, reason: str, started: float) -> Trial:
    ms = 1e3 * (time.perf_counter() - started)
    told = "" if episode.success else general_reason(reason, episode.names) or UNSOLVED
    return Trial(task, seed, episode.success, episode.api_calls, episode.steps, ms, told)


def task_names(tasks: Sequence[str]) -> list[str]:
    """Each once. ValueError for an unknown task, and for none."""
    names = list(dict.fromkeys(task_named(task).name for task in tasks))
    if not names:
        raise ValueError("tasks: expected at least one, got none")
    return names


def evaluate_oracle(
    tasks: Sequence[str] = tuple(TASKS),
    episodes: int = 100,
    seed: int = 0,
    processes: int = 1,
    grid: int = GRID,
    open_planner: OpenPlanner | None = None,
    *,
    keep: Callable[[OracleReport], None] | None = None,
) -> OracleReport:
    """The oracle on the seeds seed .. seed + episodes - 1 of every task.

    Ctrl-C ends it; the report then has what was played.

    Args:
        grid: in whose cells the code says places.
        open_planner: whose replies are run in place of the oracle's own programs.
        keep: given what was played before an error that ends the evaluation.

    Raises:
        ValueError: an unknown task, no task, fewer than one episode or process, a seed below 0.
        Exception: what a planner or a simulator has raised, after `keep`.
    """
    names = task_names(tasks)
    grid = check_grid(grid)
    own = functools.partial(play_episode, grid=grid)
    player = own if open_planner is None else ReplyPlayer(open_planner, grid)
    outcomes = play_all(player, names, episodes, seed, processes, "oracle")
    started = time.perf_counter()
    played: dict[str, list[Trial]] = {name: [] for name in names}

    def report() -> OracleReport:
        results = [OracleResult.of(name, trials) for name, trials in played.items() if trials]
        return OracleReport(
            tuple(result for result in results if result.episodes == episodes),
            seed,
            episodes,
            processes,
            time.perf_counter() - started,
            sum(map(len, played.values())),
            len(names) * episodes,
            tuple(result for result in results if result.episodes < episodes),
        )

    try:
        with suppress(KeyboardInterrupt):
            for one in outcomes:
                played[one.task].append(one)
    except Exception:
        if keep is not None:
            keep(report())
        raise
    finally:
        _environment.close()
    return report()
