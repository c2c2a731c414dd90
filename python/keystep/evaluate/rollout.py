"""One policy in one Gymnasium environment, closed-loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np

import keystep
from keystep.evaluate.environments import (
    ObservationReader,
    check_action_space,
    make_env,
    measured,
    require_success,
    solved,
    step_limit,
)
from keystep.evaluate.settings import UNNAMED, EpisodeResult, Evaluation, Job
from keystep.evaluate.simulation import close_env, reset_env, sendable, set_env_task, step_env
from keystep.evaluate.worlds import other_world, warn
from keystep.suites import suite_named
from keystep.suites.base import TASK, Demonstrator, Suite

PROBE_STEPS = 32


class Policy(Protocol):
    """What an evaluation needs: `keystep.Runtime`, or `commands.reference` around PyTorch.

    `reset` of a subgoal policy also takes `guidance` and `subgoals`, see `keystep.Runtime.reset`.
    """

    @property
    def manifest(self) -> dict[str, Any]:
        """Of its bundle."""
        ...

    def reset(self, *args: Any, **options: Any) -> None:
        """Start an episode: task or instruction, seed, episode."""
        ...

    def act(self, observation: dict[str, Any]) -> np.ndarray:
        """The next action, float32 (A,)."""
        ...


OpenPolicy = Callable[[], Policy]


def _check_tasks(evaluation: Evaluation, suite: Suite) -> None:
    """Each task has an environment of its own: ArgumentError where there is none."""
    for task in evaluation.tasks:
        if task not in suite.tasks:
            known = ", ".join(suite.tasks)
            raise keystep.ArgumentError(f"tasks: expected some of {suite.name}'s ({known}), got {task!r}")


class Worker:
    """A policy and its environment, for many episodes. Raises ArgumentError for a policy it cannot serve.

    Attributes:
        other_world: what tells that they do not belong together, see `keystep.evaluate.worlds`; or "".
    """

    def __init__(self, policy: Policy, evaluation: Evaluation) -> None:
        self.policy = policy
        self.evaluation = evaluation
        check(policy.manifest, evaluation)
        self._takes_task = bool(policy.manifest["tasks"]) or reads_text(policy.manifest)
        self._read = ObservationReader(policy.manifest)
        suite = self._suite = suite_named(evaluation.suite)
        suite.register()
        if TASK in evaluation.env:
            _check_tasks(evaluation, suite)
        self._task = evaluation.tasks[0]
        self.env = self._make_env()
        check_action_space(self.env, policy.manifest)
        self.other_world = other_world(policy.manifest, evaluation.env)
        warn(self.other_world)
        if evaluation.chain_length > 1 and not self.env.has_wrapper_attr("set_task"):
            raise keystep.ArgumentError(
                f"env: expected set_task(name) for tasks in a row, which {evaluation.env} lacks"
            )
        self._demonstrator: Demonstrator | None = None
        if evaluation.ground_truth:
            self._demonstrator = suite.demonstrator(self._make_env(), policy.manifest["planner"])

    def _make_env(self) -> Any:
        evaluation = self.evaluation
        limit = evaluation.max_episode_steps
        options = evaluation.env_kwargs
        env = evaluation.env.replace(TASK, self._task)
        return make_env(env, self.policy.manifest, options, max_episode_steps=limit)

    def _reset_env(self, job: Job) -> tuple[Any, Mapping[str, Any]]:
        """The first observation and info; what the episode is about goes to environments that know tasks."""
        task, seed = job.tasks[0], self.evaluation.reset_seed(job)
        if TASK in self.evaluation.env:  # which has one task
            if task != self._task:
                close_env(self.env)
                self._task = task
                self.env = self._make_env()
            return reset_env(self.env, seed, None)
        told = {} if task == UNNAMED else {"task": task}
        return reset_env(self.env, seed, told | self.evaluation.reset_options(job) or None)

    def run(self, job: Job) -> EpisodeResult:
        """One episode: the tasks in a row, until one is not solved."""
        observation, info = self._reset_env(job)
        subgoals = None
        if self._demonstrator is not None:
            subgoals = self._demonstrator.subgoals(job.tasks[0], self.evaluation.start_number(job))
            if subgoals is None:
                return EpisodeResult(job, 0, 0, skipped=True)
        total, best = 0, None
        for position, task in enumerate(job.tasks):
            if position:
                observation, info = set_env_task(self.env, task)
            self._reset_policy(job, position, info, subgoals)
            solved, steps, fault, best = self._play(observation)
            total += steps
            if not solved:
                return EpisodeResult(job, position, total, fault, measured=best)
        return EpisodeResult(job, len(job.tasks), total, measured=best)

    def _reset_policy(
        self,
        job: Job,
        position: int,
        info: Mapping[str, Any],
        subgoals: dict[str, np.ndarray] | None = None,
    ) -> None:
        options: dict[str, Any] = self.evaluation.told(job, position) if self._takes_task else {}
        if "task" in options and reads_text(self.policy.manifest):
            options = self._prompted(job.tasks[position], info)
        if self.evaluation.guidance is not None:
            options["guidance"] = self.evaluation.guidance
        if subgoals is not None:
            options["subgoals"] = subgoals
        episode = job.episode * len(job.tasks) + position
        self.policy.reset(seed=job.noise_seed, episode=episode, **options)

    def _prompted(self, task: str, info: Mapping[str, Any]) -> dict[str, str]:
        """For `reset`: the episode's own prompt where the suite says that each has one, else the task."""
        if task not in self._suite.tasks or self._suite.instruction(task) is not None:
            return {"task": task}
        prompt = info.get("instruction")
        if not isinstance(prompt, str):
            expected = f"the prompt of an episode of {self._suite.name}"
            raise keystep.ArgumentError(f"info['instruction']: expected {expected}, got {prompt!r}")
        return {"instruction": prompt}

    def _play(self, observation: dict[str, Any]) -> tuple[bool, int, str, float | None]:
        """One task, up to its first success: whether it was solved, the actions taken, the policy's fault,
        and the greatest of what is measured."""
        taken, key, measure = 0, self.evaluation.success_key, self.evaluation.measure
        best: float | None = None
        try:
            for step in steps(self.policy.act, self.env, self._read, observation):
                taken += 1
                if measure is not None:
                    best = max(measured(step.info, measure), -math.inf if best is None else best)
                if success := step.success(key):
                    return True, taken, "", best
        except keystep.PolicyError as error:
            return False, taken, str(error), best
        if success is None:
            require_success(step.info, key)
        return False, taken, "", best

    def seconds_per_step(self) -> float:
        """Measured over the first steps of one episode, over a whole plan if there is one."""
        started = time.perf_counter()
        taken = self.probe(max(PROBE_STEPS, plan_actions(self.policy.manifest)))
        return (time.perf_counter() - started) / max(taken, 1)

    def probe(self, count: int) -> int:
        """Take so many steps of an episode that is not counted, fewer if the policy fails; their number."""
        job = self.evaluation.jobs[0]
        observation, info = self._reset_env(job)
        self._reset_policy(job, 0, info)
        taken = 0
        with suppress(keystep.PolicyError):
            for _ in islice(steps(self.policy.act, self.env, self._read, observation), count):
                taken += 1
        return taken

    def seconds_per_demonstration(self) -> float:
        """Of ground-truth subgoals; 0 if they come from the policy."""
        if self._demonstrator is None:
            return 0.0
        started = time.perf_counter()
        job = self.evaluation.jobs[0]
        self._demonstrator.subgoals(job.tasks[0], self.evaluation.start_number(job))
        return time.perf_counter() - started

    @property
    def max_episode_steps(self) -> int | None:
        """Steps after which an episode ends; None when the environment says none."""
        return step_limit(self.env)

    def latency(self) -> list[dict[str, Any]]:
        return [self.policy.latency().to_dict()] if hasattr(self.policy, "latency") else []

    def description(self) -> str:
        return getattr(self.policy, "description", type(self.policy).__name__)

    def close(self) -> None:
        close_env(self.env)
        if self._demonstrator is not None:
            self._demonstrator.close()


@dataclass(frozen=True)
class Step:
    """What came of an action.

    Attributes:
        observation: as the environment gives it.
        terminated, truncated: how the environment has ended the episode, if it has.
    """

    observation: Any
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]

    @property
    def over(self) -> bool:
        """The environment has ended the episode."""
        return self.terminated or self.truncated

    def success(self, key: str | None = None) -> bool | None:
        """See `solved`: only who asks is told that a key's value is neither true nor false."""
        return solved(self.info, self.terminated, key)


def steps(
    act: Callable[[dict[str, Any]], np.ndarray],
    env: Any,
    read: ObservationReader,
    observation: Any,
) -> Iterator[Step]:
    """The closed loop: acts until the environment ends the episode.

    Args:
        act: gives the action for what the policy sees.
        observation: the first one, as the environment gives it.

    Raises:
        PolicyError: the policy failed.
        ArgumentError: the environment did.
    """
    over = False
    while not over:
        step = Step(*step_env(env, sendable(act(read(observation)))))
        observation, over = step.observation, step.over
        yield step


def check(manifest: dict[str, Any], evaluation: Evaluation) -> None:
    """ArgumentError when a policy with this manifest cannot be evaluated so."""
    known = [task["name"] for task in manifest["tasks"]]
    for task in evaluation.tasks if known else ():
        if task not in known:
            raise keystep.ArgumentError(f"task: expected one of {', '.join(known)}, got {task!r}")
    if manifest["goal"] == "observation":
        raise keystep.ArgumentError(
            "goal: expected a policy without one, got 'observation', which needs a planner"
        )
    if reads_text(manifest):
        return
    asked = {
        "guidance": evaluation.guidance is not None,
        "ground_truth": evaluation.ground_truth,
        "instructions": bool(evaluation.instructions),
    }
    for name in (name for name, wanted in asked.items() if wanted):
        raise keystep.ArgumentError(f"{name}: expected a policy with a planner, got {manifest['family']!r}")


def reads_text(manifest: dict[str, Any]) -> bool:
    """Whether the policy has a planner that is told what to do in words."""
    return manifest["goal"] == "text"


def plan_actions(manifest: dict[str, Any]) -> int:
    """Actions that one plan lasts; 0 without a planner."""
    planner = manifest["planner"]
    return planner["subgoals"] * planner["steps_per_subgoal"] if planner else 0
