"""Evaluations that also tell how failed episodes failed, by the suite's kinds (HD-ExpIt, appendix F.7)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium

import keystep
from keystep.evaluate.rollout import Policy, Worker
from keystep.evaluate.settings import EpisodeResult, Evaluation, Job
from keystep.suites import suite_named
from keystep.suites.base import Suite

FAULT = "policy fault"
"""The policy itself gave up (a PolicyError)."""
SOLVED = "solved this time"
"""An episode that failed before, on another machine for example."""


def failure_kinds(suite: Suite) -> tuple[str, ...]:
    """All there are. Raises ArgumentError for a suite that does not tell them."""
    kinds = getattr(suite, "failure_kinds", None)
    if kinds is None:
        raise keystep.ArgumentError(
            f"suite: expected one that tells kinds of failure (failure_kinds), got {suite.name}"
        )
    return (*kinds, FAULT, SOLVED)


class FailureWorker(Worker):
    """A worker whose results say how an episode failed. Raises ArgumentError as `failure_kinds`."""

    def __init__(self, policy: Policy, evaluation: Evaluation) -> None:
        failure_kinds(suite_named(evaluation.suite))
        super().__init__(policy, evaluation)

    def _make_env(self) -> Any:
        self._watched = Watched(super()._make_env())
        return self._watched

    def run(self, job: Job) -> EpisodeResult:
        """One episode."""
        result = super().run(job)
        if result.skipped:
            return result
        if result.success or result.fault:
            return replace(result, failure=SOLVED if result.success else FAULT)
        told: Any = suite_named(self.evaluation.suite)
        return replace(result, failure=told.failure(result.task, self._watched.observations))


class Watched(gymnasium.Wrapper):
    """Keeps what an episode has shown.

    Attributes:
        observations: from the last reset on.
    """

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.observations: list[Any] = []

    def reset(self, **options: Any) -> Any:
        """See `gymnasium.Env`."""
        seen, info = self.env.reset(**options)
        self.observations = [seen]
        return seen, info

    def step(self, action: Any) -> Any:
        """See `gymnasium.Env`."""
        returned = self.env.step(action)
        self.observations.append(returned[0])
        return returned
