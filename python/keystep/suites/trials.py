"""The same episode function on many seeds of many tasks, and how sure a share of successes is."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

from rich.console import Console
from rich.progress import track
from scipy.stats import binomtest

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
        processes: 1 plays in this process; more are spawned, as forked simulators would share locks.
        what: stands before the progress bar on stderr.

    Raises:
        ValueError: fewer than one episode or process.
    """
    if episodes < 1:
        raise ValueError(f"episodes: expected at least 1, got {episodes}")
    if processes < 1:
        raise ValueError(f"processes: expected at least 1, got {processes}")
    jobs = [(task, seed + episode) for task in tasks for episode in range(episodes)]
    outcomes = _outcomes(play, jobs, processes)
    return iter(track(outcomes, what, total=len(jobs), console=Console(stderr=True)))


def _outcomes(
    play: Callable[[str, int], Outcome], jobs: Sequence[tuple[str, int]], processes: int
) -> Iterator[Outcome]:
    if processes == 1:
        yield from (play(*job) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _leave_ctrl_c_to_the_parent) as pool:
        futures = [pool.submit(play, *job) for job in jobs]
        try:
            yield from (future.result() for future in as_completed(futures))
        finally:
            pool.shutdown(cancel_futures=True)


def _leave_ctrl_c_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def wilson(successes: int, episodes: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share."""
    interval = binomtest(successes, episodes).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)
