"""A demonstrator on many seeds of many tasks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from keystep.bars import tracked
from keystep.processes import Workers
from keystep.suites.base import check_seed

Outcome = TypeVar("Outcome")


def check_trials(episodes: int, seed: int, processes: int) -> None:
    """ValueError for fewer than one episode or process, and for seeds that no environment takes."""
    check_seed(seed)
    for name, value in (("episodes", episodes), ("processes", processes)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")


def play_all(
    play: Callable[[str, int], Outcome],
    tasks: Sequence[str],
    episodes: int,
    seed: int,
    processes: int,
    what: str,
) -> Iterator[Outcome]:
    """`play(task, seed)` for the seeds seed .. seed + episodes - 1 of every task, in order of completion.

    Every process meets the tasks in the given order, so that it can keep what it made for one.

    Args:
        play: picklable, when there are several processes.
        processes: see `keystep.processes.Workers`.
        what: stands before the progress bar on stderr.

    Raises:
        ValueError: see `check_trials`.
    """
    check_trials(episodes, seed, processes)
    workers = Workers(functools.partial(_itself, play), processes)
    return _outcomes(workers, [(task, seed + n) for task in tasks for n in range(episodes)], what)


def _outcomes(workers: Workers[Outcome], jobs: Sequence[tuple[str, int]], what: str) -> Iterator[Outcome]:
    with workers:
        yield from tracked(workers.as_completed(jobs), what, len(jobs))


def _itself(play: Callable[[str, int], Outcome]) -> Callable[[str, int], Outcome]:
    return play
