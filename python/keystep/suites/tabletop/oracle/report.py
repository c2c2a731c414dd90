"""How often the oracle solves the tasks of the tabletop suite, and with how many calls."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

import gymnasium

from keystep.code.grid import GRID, check_grid
from keystep.suites.tabletop import TASKS, env_id, task_named
from keystep.suites.tabletop.oracle.episodes import play
from keystep.suites.tabletop.oracle.results import OracleReport, OracleResult, Trial
from keystep.suites.trials import play_all

UNSOLVED = "the program ended, but the task is not solved"


def general_reason(reason: str, names: Iterable[str]) -> str:
    """A reason without what differs between episodes: its line, names of actors, numbers."""
    text = re.sub(r"^line \d+, column \d+: ", "", reason)
    for name in sorted(set(names), key=len, reverse=True):
        text = re.sub(rf"\b{re.escape(name)}", "<actor>", text)
    return re.sub(r"-?\b\d+(\.\d+)?", "#", text)


class _Environment:
    """The environment of the task played last: one at a time, so that memory stays the same."""

    def __init__(self) -> None:
        self._open: dict[str, gymnasium.Env] = {}

    def of(self, task: str) -> gymnasium.Env:
        if task not in self._open:
            self.close()
            self._open[task] = gymnasium.make(env_id(task), terminate_on_success=False)
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
    ms = 1e3 * (time.perf_counter() - started)
    reason = "" if episode.success else general_reason(episode.reason, episode.names) or UNSOLVED
    return Trial(task, seed, episode.success, episode.api_calls, episode.steps, ms, reason)


def evaluate_oracle(
    tasks: Sequence[str] = tuple(TASKS),
    episodes: int = 100,
    seed: int = 0,
    processes: int = 1,
    grid: int = GRID,
) -> OracleReport:
    """The oracle on the seeds seed .. seed + episodes - 1 of every task.

    Ctrl-C ends it; the report then has the tasks that were played to their end.

    Raises:
        ValueError: an unknown task, no task, fewer than one episode or process.
    """
    names = list(dict.fromkeys(task_named(task).name for task in tasks))
    if not names:
        raise ValueError("tasks: expected at least one, got none")
    outcomes = play_all(
        functools.partial(play_episode, grid=check_grid(grid)), names, episodes, seed, processes, "oracle"
    )
    started = time.perf_counter()
    played: dict[str, list[Trial]] = {name: [] for name in names}
    try:
        with suppress(KeyboardInterrupt):
            for one in outcomes:
                played[one.task].append(one)
    finally:
        _environment.close()
    finished = [name for name in names if len(played[name]) == episodes]
    return OracleReport(
        tuple(OracleResult.of(name, played[name]) for name in finished),
        seed,
        episodes,
        processes,
        time.perf_counter() - started,
        sum(map(len, played.values())),
        len(names) * episodes,
    )
