"""Closed-loop evaluation in a Gymnasium environment.

Episode i of every task starts from `env.reset(seed=seed + i)` and draws its noise from (seed, episode=i), so
contexts and noise depend neither on the number of processes nor on the policy (runtime or reference).
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

import keystep
from keystep.evaluate.machine import describe_machine
from keystep.evaluate.report import EvaluationReport, TaskResult

PROBE_STEPS = 32


class Policy(Protocol):
    """What an evaluation needs: `keystep.Runtime`, or `commands.eval.Reference` around PyTorch."""

    @property
    def manifest(self) -> dict[str, Any]: ...
    def reset(self, task: str | None = None, *, seed: int = 0, episode: int = 0) -> None: ...
    def act(self, observation: dict[str, Any]) -> np.ndarray: ...


OpenPolicy = Callable[[], Policy]
OnEpisode = Callable[["EpisodeResult"], None]


@dataclass(frozen=True)
class EpisodeResult:
    task: str
    episode: int
    success: bool
    steps: int
    fault: str = ""


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate on: `episodes` episodes of each task, env seeds seed .. seed + episodes - 1."""

    env: str
    tasks: tuple[str, ...]
    episodes: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise keystep.ArgumentError(f"episodes: expected at least 1, got {self.episodes}")
        if not self.tasks:
            raise keystep.ArgumentError("tasks: expected at least one, got none")


def evaluate(
    policy: Policy | OpenPolicy,
    env_id: str,
    tasks: Sequence[str],
    episodes: int = 100,
    seed: int = 0,
    processes: int = 1,
    on_episode: OnEpisode | None = None,
) -> EvaluationReport:
    """Run `episodes` episodes of each task and count the solved ones.

    Args:
        policy: an open policy, or a picklable function that opens one (needed for more than one process).
        on_episode: called after each episode, in order of completion.

    Raises:
        ArgumentError: unknown task, no episodes, or an open policy with several processes.
    """
    evaluation = Evaluation(env_id, tuple(tasks), episodes, seed)
    started = time.perf_counter()
    if callable(policy) and processes > 1:
        results, latency, description = _run_processes(policy, evaluation, processes, on_episode)
    elif processes > 1:
        raise keystep.ArgumentError(
            "policy: expected a function that opens one for several processes, got an open one"
        )
    else:
        worker = Worker(policy() if callable(policy) else policy, evaluation)
        try:
            results = list(_notify((worker.run(job) for job in _jobs(evaluation)), on_episode))
        finally:
            worker.close()
        latency, description = worker.latency(), worker.description()
    seconds = time.perf_counter() - started
    return EvaluationReport(
        env_id, seed, _by_task(evaluation, results), seconds, description, tuple(latency), describe_machine()
    )


class Worker:
    """A policy and its environment, for many episodes."""

    def __init__(self, policy: Policy, evaluation: Evaluation) -> None:
        self.policy = policy
        self.evaluation = evaluation
        manifest = policy.manifest
        known = [task["name"] for task in manifest["tasks"]]
        for task in evaluation.tasks if known else ():
            if task not in known:
                raise keystep.ArgumentError(f"task: expected one of {', '.join(known)}, got {task!r}")
        if manifest["goal"] != "none":
            raise keystep.ArgumentError(
                f"goal: expected a policy without one, got {manifest['goal']!r}, which needs a planner"
            )
        self._takes_task = bool(known)
        self._keys = observation_keys(manifest)
        self.env = make_env(evaluation.env, manifest)

    def run(self, job: tuple[str, int]) -> EpisodeResult:
        """One episode; the first success ends it."""
        task, episode = job
        seed = self.evaluation.seed
        observation, _ = self.env.reset(seed=seed + episode, options={"task": task})
        self.policy.reset(task=task if self._takes_task else None, seed=seed, episode=episode)
        steps = 0
        while True:
            try:
                action = self.policy.act({key: observation[key] for key in self._keys})
            except keystep.PolicyError as error:
                return EpisodeResult(task, episode, False, steps, str(error))
            observation, _, terminated, truncated, info = self.env.step(action)
            steps += 1
            if terminated or truncated:
                return EpisodeResult(task, episode, bool(info["success"]), steps)

    def seconds_per_step(self) -> float:
        """Measured over the first steps of one episode that is not counted."""
        self.env.reset(seed=self.evaluation.seed, options={"task": self.evaluation.tasks[0]})
        self.policy.reset(
            task=self.evaluation.tasks[0] if self._takes_task else None, seed=self.evaluation.seed
        )
        action = np.zeros(len(self.policy.manifest["action"]["names"]), np.float32)
        started = time.perf_counter()
        for _ in range(PROBE_STEPS):
            observation, *_ = self.env.step(action)
            action = self.policy.act({key: observation[key] for key in self._keys})
        return (time.perf_counter() - started) / PROBE_STEPS

    @property
    def max_episode_steps(self) -> int:
        return self.env.get_wrapper_attr("max_episode_steps")

    def latency(self) -> list[dict[str, Any]]:
        return [self.policy.latency().to_dict()] if hasattr(self.policy, "latency") else []

    def description(self) -> str:
        return getattr(self.policy, "description", type(self.policy).__name__)

    def close(self) -> None:
        self.env.close()


def observation_keys(manifest: dict[str, Any]) -> list[str]:
    """The keys of an observation the policy wants."""
    spec = manifest["observation"]
    state = ["observation.state"] if spec["state"] else []
    return state + [f"observation.images.{image['camera']}" for image in spec["images"]]


def make_env(env_id: str, manifest: dict[str, Any], **options: Any) -> Any:
    """The environment with what the policy wants to see: state only, or images of the bundle's size."""
    import gymnasium

    import keystep.envs

    images = manifest["observation"]["images"]
    if images:
        options |= {"obs_mode": "rgb", "image_size": images[0]["height"]}
    else:
        options |= {"obs_mode": "state"}
    try:
        return gymnasium.make(env_id, disable_env_checker=True, **options)
    except gymnasium.error.UnregisteredEnv as error:
        raise keystep.ArgumentError(f"env: {error}") from error


def _jobs(evaluation: Evaluation) -> list[tuple[str, int]]:
    return [(task, episode) for task in evaluation.tasks for episode in range(evaluation.episodes)]


def _notify(results: Iterator[EpisodeResult], on_episode: OnEpisode | None) -> Iterator[EpisodeResult]:
    for result in results:
        if on_episode is not None:
            on_episode(result)
        yield result


_worker: Worker  # of a process of the pool, from _start


def _start(open_policy: OpenPolicy, evaluation: Evaluation) -> None:
    global _worker
    _worker = Worker(open_policy(), evaluation)


def _run(job: tuple[str, int]) -> tuple[EpisodeResult, int, list[dict[str, Any]], str]:
    """The episode, and what this process has measured so far."""
    return _worker.run(job), os.getpid(), _worker.latency(), _worker.description()


def _run_processes(
    open_policy: OpenPolicy, evaluation: Evaluation, processes: int, on_episode: OnEpisode | None
) -> tuple[list[EpisodeResult], list[dict[str, Any]], str]:
    context = multiprocessing.get_context(
        "spawn"
    )  # a forked simulator or engine would share threads and locks
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
            results = list(
                _notify(finished([pool.submit(_run, job) for job in _jobs(evaluation)]), on_episode)
            )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return (
        results,
        [report for reports in latency.values() for report in reports],
        f"{description}, {processes} processes",
    )


def _by_task(evaluation: Evaluation, results: list[EpisodeResult]) -> tuple[TaskResult, ...]:
    tasks = []
    for task in evaluation.tasks:
        mine = sorted(
            (result for result in results if result.task == task), key=lambda result: result.episode
        )
        steps = [result.steps for result in mine if result.success]
        tasks.append(
            TaskResult(
                task,
                episodes=len(mine),
                successes=len(steps),
                faults=sum(bool(result.fault) for result in mine),
                mean_steps=sum(steps) / len(steps) if steps else None,
                solved=tuple(result.success for result in mine),
            )
        )
    return tuple(tasks)
