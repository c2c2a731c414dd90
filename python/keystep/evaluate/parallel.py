"""The episodes of an evaluation, in this process or in several."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keystep
from keystep.evaluate.rollout import OpenPolicy, Policy, Worker
from keystep.evaluate.settings import EpisodeResult, Evaluation, Job
from keystep.evaluate.worlds import warn
from keystep.machine import describe_machine
from keystep.processes import Workers

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
    *,
    done: Sequence[EpisodeResult] = (),
    worker: type[Worker] = Worker,
) -> Played:
    """Play every episode.

    Args:
        policy: an open policy, or a picklable function that opens one (needed for more than one process).
        on_episode: called after each episode, in order of completion.
        done: episodes that an earlier run has played, which are not played again.
        worker: what plays, in every process.

    Raises:
        ArgumentError: the policy cannot be evaluated so, or an open policy with several processes.
    """
    started = time.perf_counter()
    known = {result.job for result in done}
    jobs = [job for job in evaluation.jobs if job not in known]
    if not jobs:
        return Played(in_order(done, evaluation), 0.0)
    if callable(policy) and processes > 1:
        results, latency, description = _in_processes(
            functools.partial(_open_worker, policy, evaluation, worker), jobs, processes, on_episode
        )
    elif processes > 1:
        raise keystep.ArgumentError(
            "policy: expected a function that opens one for several processes, got an open one"
        )
    else:
        player = worker(policy() if callable(policy) else policy, evaluation)
        try:
            results = list(_notify(map(player.run, jobs), on_episode))
            latency, description = player.latency(), player.description()
        finally:
            player.close()
    results = in_order([*done, *results], evaluation)
    return Played(results, time.perf_counter() - started, description, tuple(latency))


def in_order(results: Iterable[EpisodeResult], evaluation: Evaluation) -> list[EpisodeResult]:
    """As `Evaluation.jobs`, whatever order they were played in."""
    order = {job: number for number, job in enumerate(evaluation.jobs)}
    return sorted(results, key=lambda result: order[result.job])


def _notify(results: Iterator[EpisodeResult], on_episode: OnEpisode | None) -> Iterator[EpisodeResult]:
    for result in results:
        if on_episode is not None:
            on_episode(result)
        yield result


_Answer = tuple[EpisodeResult, int, list[dict[str, Any]], str, str]
"""An episode, what its process, of this number, has measured so far, the policy, and a world not its own."""


def _open_worker(
    open_policy: OpenPolicy, evaluation: Evaluation, kind: type[Worker]
) -> Callable[[Job], _Answer]:
    worker = kind(open_policy(), evaluation)

    def run(job: Job) -> _Answer:
        return worker.run(job), os.getpid(), worker.latency(), worker.description(), worker.other_world

    return run


def _in_processes(
    open_worker: Callable[[], Callable[[Job], _Answer]],
    jobs: Sequence[Job],
    processes: int,
    on_episode: OnEpisode | None,
) -> tuple[list[EpisodeResult], list[dict[str, Any]], str]:
    latency: dict[int, list[dict[str, Any]]] = {}
    description = ""

    def finished(found: Iterable[_Answer]) -> Iterator[EpisodeResult]:
        nonlocal description
        for result, process, measured, described, other in found:
            warn(other)
            latency[process], description = measured, described
            yield result

    with Workers(open_worker, processes) as workers:
        played = workers.as_completed([(job,) for job in jobs])
        results = list(_notify(finished(played), on_episode))
    reports = [report for reports in latency.values() for report in reports]
    return results, reports, f"{description}, {processes} processes"
