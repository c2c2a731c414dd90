"""What is evaluated: the episodes of a protocol, determined by seeds alone.

Two protocols (HD-ExpIt, section 5): MTLC, every task from the same unseen resets; LH-MTLC, chains of tasks in
a row from one reset, stopped at the first failure. MTLC is a chain of one. Episode i starts from
`env.reset(seed=seed + i)` and draws its noise from (noise seed, episode), so contexts and noise depend
neither on the number of processes nor on the policy (runtime or reference).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import keystep
from keystep.suites import suite_named
from keystep.suites.base import FixedStarts, first_seed

CHAIN_LENGTH = 5  # tasks in a row of LH-MTLC
UNNAMED = "unnamed"
"""The task of a policy and an environment that know none."""


@dataclass(frozen=True)
class Job:
    """One episode: a reset and the tasks to solve from it, one after the other.

    Attributes:
        noise_seed: of the policy.
        episode: number of the reset.
    """

    noise_seed: int
    episode: int
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class EpisodeResult:
    """How a job went.

    Attributes:
        reached: tasks solved before the first failure.
        steps: actions taken, over all tasks.
        fault: why the policy failed (a PolicyError), "" if it did not.
        skipped: no demonstration to take ground-truth subgoals from; the episode was not played.
        failure: how it failed, where somebody watched (`keystep.evaluate.failures`).
        measured: the greatest `Evaluation.measure` of its steps; None without one, or without a step.
    """

    job: Job
    reached: int
    steps: int
    fault: str = ""
    skipped: bool = False
    failure: str = ""
    measured: float | None = None

    @property
    def task(self) -> str:
        """The last task tried."""
        return self.job.tasks[min(self.reached, len(self.job.tasks) - 1)]

    @property
    def episode(self) -> int:
        """Number of the reset."""
        return self.job.episode

    @property
    def success(self) -> bool:
        """Whether all tasks of the job were solved."""
        return self.reached == len(self.job.tasks)


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate on.

    Attributes:
        env: Gymnasium environment; <Task> in it stands for the task's name.
        tasks: names.
        episodes: of each task, or chains if `chain_length` is above 1.
        seed: of the first reset, and of the chains.
        noise_seeds: all is repeated with each of these seeds of the policy's noise; empty: `seed` alone.
        chain_length: 1: MTLC; above: LH-MTLC with so many tasks in a row.
        ground_truth: the subgoals come from a demonstration of the expert from the same reset, not from the
            planner.
        guidance: of the planner; None: as the bundle says.
        instructions: texts by task; episode i is told text i modulo their number. Empty: the task's name, or
            the episode's own prompt (`info["instruction"]`) where the suite says that each has one.
        kinds: of the instructions, if there are several: text i is of kind i modulo their number.
        suite: whose demonstrations are the ground truth.
        env_kwargs: for the environment's constructor.
        max_episode_steps: steps until an episode is given up; None: the environment's own limit.
        success_key: of `info`; see `keystep.evaluate.environments.solved`.
        measure: of `info`, a number whose greatest value in each episode is reported, too.
        starts: of a benchmark that fixes its episodes: episode i is start i, and there are no more.
        fresh_resets: every task has resets of its own, as in HD-ExpIt; else all tasks have the same. Without
            effect with `starts`.
    """

    env: str
    tasks: tuple[str, ...]
    episodes: int = 100
    seed: int = 0
    noise_seeds: tuple[int, ...] = ()
    chain_length: int = 1
    ground_truth: bool = False
    guidance: float | None = None
    instructions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()
    suite: str = "franka3blocks"
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    max_episode_steps: int | None = None
    success_key: str | None = None
    measure: str | None = None
    starts: FixedStarts | None = None
    fresh_resets: bool = False

    def __post_init__(self) -> None:
        self._require(self.episodes >= 1, "episodes", "at least 1", self.episodes)
        self._require(bool(self.tasks), "tasks", "at least one", "none")
        for name, seed in (("seed", self.seed), *(("noise_seeds", one) for one in self.noise_seeds)):
            self._require(0 <= seed < 2**63, name, "0 to 2^63 - 1", seed)
        self._require(self.chain_length >= 1, "chain_length", "at least 1", self.chain_length)
        enough = self.chain_length == 1 or len(self.tasks) >= self.chain_length
        self._require(enough, "tasks", f"{self.chain_length} for a chain of as many", len(self.tasks))
        mapping = isinstance(self.env_kwargs, Mapping)
        self._require(mapping, "env_kwargs", "a dict of options", repr(self.env_kwargs))
        for name in self.env_kwargs:
            self._require(isinstance(name, str), "env_kwargs", "names that are text", repr(name))
        chains = self.measure is not None and self.chain_length > 1
        self._require(not chains, "measure", "single tasks", "chains")
        limit = self.max_episode_steps
        self._require(limit is None or limit >= 1, "max_episode_steps", "at least 1", limit)
        for name, values in (("tasks", self.tasks), ("noise_seeds", self.noise_seeds)):
            self._require(len(set(values)) == len(values), name, "each once", values)
        both = self.ground_truth and self.chain_length > 1
        self._require(not both, "ground_truth", "single tasks (demonstrations start from a reset)", "chains")
        if self.starts is not None:
            self._check_starts(self.starts)
        missing = [task for task in self.tasks if self.instructions and not self.instructions.get(task)]
        self._require(not missing, "instructions", "at least one for every task", f"none for {missing}")

    def _check_starts(self, starts: FixedStarts) -> None:
        if self.chain_length == 1:
            for task in self.tasks:
                self._require(starts.counts.get(task, 0) > 0, "tasks", "those with fixed starts", repr(task))
            return
        lengths = {len(chain) for chain in starts.chains}
        told = " or ".join(map(str, sorted(lengths))) or "no chains"
        self._require(lengths == {self.chain_length}, "chain_length", told, self.chain_length)
        count = len(starts.chains)
        self._require(self.episodes <= count, "episodes", f"at most {count} fixed chains", self.episodes)
        used = {task for chain in starts.chains[: self.episodes] for task in chain}
        unnamed = sorted(used - set(self.tasks))
        self._require(not unnamed, "tasks", "all of the fixed chains", f"none of {', '.join(unnamed)}")

    @staticmethod
    def _require(condition: bool, name: str, expected: str, got: object) -> None:
        if not condition:
            raise keystep.ArgumentError(f"{name}: expected {expected}, got {got}")

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the policy's noise."""
        return self.noise_seeds or (self.seed,)

    @property
    def protocol(self) -> str:
        """MTLC or LH-MTLC."""
        return "LH-MTLC" if self.chain_length > 1 else "MTLC"

    @property
    def jobs(self) -> list[Job]:
        """Every episode, for each noise seed in turn."""
        if self.chain_length > 1:
            chains = self._chains()
            return [Job(seed, index, chain) for seed in self.seeds for index, chain in enumerate(chains)]
        return [
            Job(seed, episode, (task,))
            for seed in self.seeds
            for task in self.tasks
            for episode in range(self._episodes_of(task))
        ]

    def _chains(self) -> list[tuple[str, ...]]:
        if self.starts is not None:
            return list(self.starts.chains[: self.episodes])
        return [draw_chain(self.tasks, self.chain_length, self.seed, index) for index in range(self.episodes)]

    def _episodes_of(self, task: str) -> int:
        return self.episodes if self.starts is None else min(self.episodes, self.starts.counts[task])

    def reset_seed(self, job: Job) -> int:
        """Of the environment: `seed` + the episode; fresh ones are spread as the attempts of a collection.

        The fixed starts of MTLC are not shared by tasks: their seeds are fresh.
        """
        fixed = self.starts is not None and self.chain_length == 1
        if not self.fresh_resets and not fixed:
            return self.seed + job.episode
        suite, task = suite_named(self.suite), job.tasks[0]
        if task not in suite.tasks:
            return self.seed + job.episode * len(self.tasks) + self.tasks.index(task)
        return self.seed + first_seed(suite.tasks[task], suite.seed_stride) + job.episode * suite.seed_stride

    def start_number(self, job: Job) -> int:
        """What tells its demonstration: the seed of the reset, or the number of a fixed start."""
        return self.reset_seed(job) if self.starts is None else job.episode

    def reset_options(self, job: Job) -> dict[str, Any]:
        """For the environment's reset, besides the task."""
        return {} if self.starts is None else {self.starts.option: job.episode}

    def told(self, job: Job, position: int) -> dict[str, str]:
        """What `reset` is told at `position` of the chain: the task's name, or one of its instructions.

        In place of the name a policy that reads text may be told the episode's own prompt, see `Worker`.
        """
        task = job.tasks[position]
        texts = self.instructions.get(task, ())
        return {"instruction": texts[job.episode % len(texts)]} if texts else {"task": task}

    def kind(self, job: Job) -> str:
        """Of what a single task is told."""
        return self.kinds[job.episode % len(self.instructions[job.tasks[0]]) % len(self.kinds)]

    def describe(self) -> dict[str, Any]:
        """For a result file."""
        return {
            "protocol": self.protocol,
            "chain_length": self.chain_length,
            "noise_seeds": list(self.seeds),
            "subgoals": "ground_truth" if self.ground_truth else "policy",
            "guidance": self.guidance,
            "env_kwargs": dict(self.env_kwargs),
            "max_episode_steps": self.max_episode_steps,
            "success_key": self.success_key,
            **({"measure": self.measure} if self.measure is not None else {}),
            "resets": "fixed" if self.starts is not None else "fresh" if self.fresh_resets else "shared",
            "instructions": {task: list(texts) for task, texts in self.instructions.items()},
            **({"fixed_starts": dict(self.starts.origin)} if self.starts is not None else {}),
        }


def draw_chain(tasks: tuple[str, ...], length: int, seed: int, index: int) -> tuple[str, ...]:
    """Chain `index`: `length` different tasks in random order, the same for the same seed.

    Different, because the end of a task may be the solution of the same task (a stack that stands).
    """
    order = np.random.default_rng((seed, index)).permutation(len(tasks))
    return tuple(tasks[number] for number in order[:length])
