"""Time per action and success by the planner's sampler (HD-ExpIt, Figure 10).

Every episode is driven by the runtime under each sampler in turn, in shuffled order; the PyTorch reference
answers the same observations right after, so both did the same work at nearly the same time.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import keystep
from keystep.evaluate.machine import describe_machine
from keystep.evaluate.rollout import Policy, Worker
from keystep.evaluate.settings import Evaluation, Job
from keystep.evaluate.uncertainty import wilson_interval


@dataclass(frozen=True)
class Episode:
    """One episode under one sampler.

    Attributes:
        runtime_ms, reference_ms: planning and control per action, the text at reset included; None where the
            reference did not take part.
        difference: largest difference of an action value between the two.
    """

    task: str
    episode: int
    success: bool
    actions: int
    runtime_ms: float
    reference_ms: float | None = None
    difference: float | None = None


@dataclass(frozen=True)
class SpeedReport:
    """Episodes by sampler, the same ones for each; the first sampler is what the others are compared with."""

    episodes: Mapping[str, tuple[Episode, ...]]
    settings: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=describe_machine)

    @property
    def count(self) -> int:
        """Episodes of each sampler."""
        return len(next(iter(self.episodes.values())))

    def runtime_ms(self, sampler: str) -> float:
        """Median over the episodes."""
        return statistics.median(episode.runtime_ms for episode in self.episodes[sampler])

    def reference_ms(self, sampler: str) -> float | None:
        """Median over the episodes that the reference took part in; None if there are none."""
        measured = [e.reference_ms for e in self.episodes[sampler] if e.reference_ms is not None]
        return statistics.median(measured) if measured else None

    def times_reference(self, sampler: str) -> float | None:
        """Median of the ratios reference : runtime of the same episodes."""
        ratios = [e.reference_ms / e.runtime_ms for e in self.episodes[sampler] if e.reference_ms is not None]
        return statistics.median(ratios) if ratios else None

    def times_first(self, sampler: str) -> float:
        """Median of the ratios first sampler : this one of the same episodes."""
        first = next(iter(self.episodes.values()))
        pairs = zip(first, self.episodes[sampler], strict=True)
        return statistics.median(slow.runtime_ms / fast.runtime_ms for slow, fast in pairs)

    def success(self, sampler: str) -> tuple[float, float, float]:
        """(rate, low, high), Wilson 95 %."""
        solved = [episode.success for episode in self.episodes[sampler]]
        return (sum(solved) / len(solved), *wilson_interval(sum(solved), len(solved)))

    def difference(self, sampler: str) -> float | None:
        return max((e.difference for e in self.episodes[sampler] if e.difference is not None), default=None)

    def to_dict(self) -> dict[str, Any]:
        return {
            "settings": self.settings,
            "machine": self.machine,
            "samplers": [
                {
                    "sampler": name,
                    "runtime_ms": self.runtime_ms(name),
                    "reference_ms": self.reference_ms(name),
                    "times_reference": self.times_reference(name),
                    "times_first": self.times_first(name),
                    "success": self.success(name)[0],
                    "wilson_95": list(self.success(name)[1:]),
                    "max_difference": self.difference(name),
                    "episodes": [vars(episode) for episode in episodes],
                }
                for name, episodes in self.episodes.items()
            ],
        }


def compare_samplers(
    runtimes: Mapping[str, Policy],
    references: Mapping[str, Policy],
    evaluation: Evaluation,
    reference_episodes: int,
) -> Iterator[SpeedReport]:
    """Measure, and yield the report so far after each episode of all samplers.

    Args:
        runtimes: open policies by the name of the planner's sampler, of one bundle.
        references: the same in PyTorch, or none.
        reference_episodes: of each task that the references take part in, the first ones.
    """
    worker = Worker(next(iter(runtimes.values())), evaluation)
    order, rng = list(runtimes), random.Random(evaluation.seed)
    episodes: dict[str, tuple[Episode, ...]] = dict.fromkeys(runtimes, ())
    try:
        for policy in (*runtimes.values(), *references.values()):
            warm_up(worker, policy)
        for job in evaluation.jobs:
            rng.shuffle(order)
            for name in order:
                reference = references.get(name) if job.episode < reference_episodes else None
                episodes[name] = (*episodes[name], measure(worker, job, runtimes[name], reference))
            yield SpeedReport(dict(episodes), evaluation.describe())
    finally:
        worker.close()


def warm_up(worker: Worker, policy: Policy) -> None:
    """A plan and a chunk that are not counted."""
    worker.policy = policy
    worker.probe(1)


def measure(worker: Worker, job: Job, runtime: Policy, reference: Policy | None) -> Episode:
    """One episode driven by the runtime, then answered again by the reference."""
    timed = Timed(runtime)
    worker.policy = timed
    result = worker.run(job)
    if result.fault:
        raise keystep.Error(f"{result.task}, episode {result.episode}: expected actions, got {result.fault}")
    runtime_ms = timed.seconds * 1e3 / len(timed.actions)
    common = (result.task, result.episode, result.success, len(timed.actions), runtime_ms)
    if reference is None:
        return Episode(*common)
    repeated = Timed(reference)
    repeated.reset(*timed.reset_with[0], **timed.reset_with[1])
    for observation in timed.observations:
        repeated.act(observation)
    difference = float(np.abs(np.array(repeated.actions) - np.array(timed.actions)).max())
    return Episode(*common, repeated.seconds * 1e3 / len(repeated.actions), difference)


class Timed:
    """A policy that counts its seconds and keeps what it saw and did in one episode."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.manifest = policy.manifest
        self.seconds = 0.0
        self.reset_with: tuple[tuple, dict[str, Any]] = ((), {})
        self.observations: list[dict[str, Any]] = []
        self.actions: list[np.ndarray] = []

    def reset(self, *arguments: Any, **options: Any) -> None:
        self.reset_with = (arguments, options)
        started = time.perf_counter()
        self._policy.reset(*arguments, **options)
        self.seconds += time.perf_counter() - started

    def act(self, observation: dict[str, Any]) -> np.ndarray:
        started = time.perf_counter()
        action = self._policy.act(observation)
        self.seconds += time.perf_counter() - started
        self.observations.append(observation)
        self.actions.append(action)
        return action
