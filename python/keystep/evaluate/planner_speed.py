"""Time per action and success by the planner's sampler (HD-ExpIt, Figure 10).

Every episode is driven by the runtime under each sampler in turn, in shuffled order; the PyTorch reference
answers the same observations right after, so both did the same work at nearly the same time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from keystep.evaluate.rollout import Policy, Worker
from keystep.evaluate.settings import Evaluation, Job
from keystep.machine import describe_machine
from keystep.notebook import html_markdown
from keystep.uncertainty import wilson_interval


@dataclass(frozen=True)
class TimedEpisode:
    """One episode under one sampler.

    Attributes:
        seconds, reference_seconds: planning and control of the whole episode, the text at reset included;
            None where the reference did not take part.
        difference: largest difference of an action value between the two.
        fault: why the runtime failed (a PolicyError), which ended the episode; "" if it did not.
    """

    task: str
    episode: int
    success: bool
    actions: int
    seconds: float
    reference_seconds: float | None = None
    difference: float | None = None
    fault: str = ""


@dataclass(frozen=True)
class SpeedReport:
    """Episodes by sampler, the same ones for each; the first sampler is what the others are compared with.

    Time per action is all planning and control over all actions, as `LatencyReport.time_per_action_us`. The
    reference is compared on `common` episodes, on which the runtime has a time per action, too.
    """

    episodes: Mapping[str, tuple[TimedEpisode, ...]]
    settings: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=describe_machine)

    @property
    def count(self) -> int:
        """Episodes of each sampler."""
        return len(next(iter(self.episodes.values())))

    @property
    def common(self) -> tuple[int, ...]:
        """Numbers of the episodes that the reference answered under every sampler."""
        rows = zip(*self.episodes.values(), strict=True)
        return tuple(n for n, row in enumerate(rows) if all(e.reference_seconds is not None for e in row))

    def runtime_ms(self, sampler: str) -> float | None:
        """Per action, over all episodes; None without a single action."""
        return _per_action_ms(self.episodes[sampler])

    def common_ms(self, sampler: str) -> float | None:
        """The runtime's time per action over the common episodes; None if there are none."""
        return _per_action_ms([self.episodes[sampler][number] for number in self.common])

    def reference_ms(self, sampler: str) -> float | None:
        """The reference's time per action over the common episodes; None if there are none."""
        common = [self.episodes[sampler][number] for number in self.common]
        return _per_action_ms([replace(e, seconds=e.reference_seconds or 0.0) for e in common])

    def times_reference(self, sampler: str) -> float | None:
        """reference : runtime, over the common episodes."""
        return _ratio(self.reference_ms(sampler), self.common_ms(sampler))

    def times_first(self, sampler: str) -> float | None:
        """first sampler : this one, over all episodes."""
        return _ratio(self.runtime_ms(next(iter(self.episodes))), self.runtime_ms(sampler))

    def success(self, sampler: str) -> tuple[float, float, float]:
        """(rate, low, high), Wilson 95 %; an episode with a fault is not solved."""
        solved = [episode.success for episode in self.episodes[sampler]]
        return (sum(solved) / len(solved), *wilson_interval(sum(solved), len(solved)))

    def faults(self, sampler: str) -> int:
        return sum(bool(episode.fault) for episode in self.episodes[sampler])

    def difference(self, sampler: str) -> float | None:
        return max((e.difference for e in self.episodes[sampler] if e.difference is not None), default=None)

    def plot(self) -> Any:
        """A matplotlib figure: success and time per action by sampler. Needs matplotlib."""
        from keystep.evaluate.plots import speed_figure

        return speed_figure(self)

    def _repr_html_(self) -> str:
        from keystep.evaluate.tables import speed_markdown

        return html_markdown(speed_markdown(self))

    def to_dict(self) -> dict[str, Any]:
        """All figures and episodes, for a JSON file."""
        return {
            "settings": self.settings,
            "machine": self.machine,
            "common_episodes": len(self.common),
            "samplers": [
                {
                    "sampler": name,
                    "runtime_ms": self.runtime_ms(name),
                    "times_first": self.times_first(name),
                    "common_runtime_ms": self.common_ms(name),
                    "common_reference_ms": self.reference_ms(name),
                    "times_reference": self.times_reference(name),
                    "success": self.success(name)[0],
                    "wilson_95": list(self.success(name)[1:]),
                    "faults": self.faults(name),
                    "max_difference": self.difference(name),
                    "episodes": [vars(episode) for episode in episodes],
                }
                for name, episodes in self.episodes.items()
            ],
        }


def _per_action_ms(episodes: Sequence[TimedEpisode]) -> float | None:
    actions = sum(episode.actions for episode in episodes)
    return 1e3 * sum(episode.seconds for episode in episodes) / actions if actions else None


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or below is None else above / below


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
    episodes: dict[str, tuple[TimedEpisode, ...]] = dict.fromkeys(runtimes, ())
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


def measure(worker: Worker, job: Job, runtime: Policy, reference: Policy | None) -> TimedEpisode:
    """One episode driven by the runtime, then answered again by the reference."""
    timed = Timed(runtime)
    worker.policy = timed
    result = worker.run(job)
    episode = TimedEpisode(
        result.task,
        result.episode,
        result.success,
        len(timed.actions),
        timed.seconds,
        fault=result.fault,
    )
    # What the runtime failed at is not among its answers: the two would not have done the same work.
    if reference is None or result.fault:
        return episode
    repeated = Timed(reference)
    repeated.reset(*timed.reset_with[0], **timed.reset_with[1])
    for observation in timed.observations:
        repeated.act(observation)
    difference = float(np.abs(np.array(repeated.actions) - np.array(timed.actions)).max())
    return replace(episode, reference_seconds=repeated.seconds, difference=difference)


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
        try:
            action = self._policy.act(observation)
        finally:
            self.seconds += time.perf_counter() - started
        self.observations.append(observation)
        self.actions.append(action)
        return action
