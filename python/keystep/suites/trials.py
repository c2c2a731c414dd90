"""A demonstrator on many seeds of many tasks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from keystep.bars import tracked
from keystep.processes import Workers

Outcome = TypeVar("Outcome")


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
        ValueError: fewer than one episode or process.
    """
    if episodes < 1:
        raise ValueError(f"episodes: expected at least 1, got {episodes}")
    workers = Workers(functools.partial(_itself, play), processes)
    return _outcomes(workers, [(task, seed + n) for task in tasks for n in range(episodes)], what)


def _outcomes(workers: Workers[Outcome], jobs: Sequence[tuple[str, int]], what: str) -> Iterator[Outcome]:
    with workers:
        yield from tracked(workers.as_completed(jobs), what, len(jobs))


def _itself(play: Callable[[str, int], Outcome]) -> Callable[[str, int], Outcome]:
    return play
