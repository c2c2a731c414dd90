"""The episodes of an evaluation, in this process or in several."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

import keystep
from keystep.evaluate.machine import describe_machine
from keystep.evaluate.rollout import OpenPolicy, Policy, Worker
from keystep.evaluate.settings import EpisodeResult, Evaluation, Job

OnEpisode = Callable[[EpisodeResult], None]


@dataclass(frozen=True)
class Played:
    """What playing all episodes gave.

    Attributes:
        results: in the order of `Evaluation.jobs`.
        latency: one report per process, see `keystep.LatencyReport.to_dict`; empty if the policy keeps none.
        description: of the policy, e.g. its engine.
    """

    results: list[EpisodeResult]
    seconds: float
    description: str = ""
    latency: tuple[dict[str, Any], ...] = ()
    machine: dict[str, Any] = field(default_factory=describe_machine)


def play(
    policy: Policy | OpenPolicy,
    evaluation: Evaluation,
    processes: int = 1,
    on_episode: OnEpisode | None = None,
) -> Played:
    """Play every episode.

    Args:
        policy: an open policy, or a picklable function that opens one (needed for more than one process).
        on_episode: called after each episode, in order of completion.

    Raises:
        ArgumentError: the policy cannot be evaluated so, or an open policy with several processes.
    """
    started = time.perf_counter()
    if callable(policy) and processes > 1:
        results, latency, description = _in_processes(policy, evaluation, processes, on_episode)
    elif processes > 1:
        raise keystep.ArgumentError(
            "policy: expected a function that opens one for several processes, got an open one"
        )
    else:
        worker = Worker(policy() if callable(policy) else policy, evaluation)
        try:
            results = list(_notify(map(worker.run, evaluation.jobs), on_episode))
            latency, description = worker.latency(), worker.description()
        finally:
            worker.close()
    return Played(in_order(results, evaluation), time.perf_counter() - started, description, tuple(latency))


def in_order(results: Iterable[EpisodeResult], evaluation: Evaluation) -> list[EpisodeResult]:
    """As `Evaluation.jobs`, whatever order they were played in."""
    order = {job: number for number, job in enumerate(evaluation.jobs)}
    return sorted(results, key=lambda result: order[result.job])


def _notify(results: Iterator[EpisodeResult], on_episode: OnEpisode | None) -> Iterator[EpisodeResult]:
    for result in results:
        if on_episode is not None:
            on_episode(result)
        yield result


_worker: Worker  # of a process of the pool, from _start


def _start(open_policy: OpenPolicy, evaluation: Evaluation) -> None:
    global _worker
    # Ctrl-C goes to all processes of a terminal; the one that started these ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker = Worker(open_policy(), evaluation)


def _run(job: Job) -> tuple[EpisodeResult, int, list[dict[str, Any]], str]:
    """The episode, and what this process has measured so far."""
    return _worker.run(job), os.getpid(), _worker.latency(), _worker.description()


def _in_processes(
    open_policy: OpenPolicy, evaluation: Evaluation, processes: int, on_episode: OnEpisode | None
) -> tuple[list[EpisodeResult], list[dict[str, Any]], str]:
    # Spawned: a forked simulator or engine would share threads and locks.
    context = multiprocessing.get_context("spawn")
    latency: dict[int, list[dict[str, Any]]] = {}
    description = ""

    def finished(futures: list[Future]) -> Iterator[EpisodeResult]:
        nonlocal description
        for future in as_completed(futures):
            result, process, latency[process], description = future.result()
            yield result

    with ProcessPoolExecutor(
        processes, context, initializer=_start, initargs=(open_policy, evaluation)
    ) as pool:
        try:
            jobs = [pool.submit(_run, job) for job in evaluation.jobs]
            results = list(_notify(finished(jobs), on_episode))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    reports = [report for reports in latency.values() for report in reports]
    return results, reports, f"{description}, {processes} processes"
