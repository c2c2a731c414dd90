"""Success per task (MTLC), with confidence intervals and the spread over the policy's noise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from keystep.evaluate.parallel import Played
from keystep.evaluate.settings import EpisodeResult, Evaluation
from keystep.evaluate.uncertainty import mean, standard_error, wilson_interval


@dataclass(frozen=True)
class TaskResult:
    """Episodes of one task, or of a family of tasks.

    Attributes:
        name: the task's or the family's name.
        faults: episodes that ended because the policy failed (a PolicyError); they count as not solved.
        mean_steps: actions until success, over the solved episodes; None if there are none.
        solved: for every episode, by noise seed and then by reset, whether it was solved.
        by_seed: success rate of each noise seed.
        skipped: episodes without a demonstration to take ground-truth subgoals from; they do not count.
    """

    name: str
    episodes: int
    successes: int
    faults: int = 0
    mean_steps: float | None = None
    solved: tuple[bool, ...] = ()
    by_seed: tuple[float, ...] = ()
    skipped: int = 0

    @property
    def success_rate(self) -> float:
        return self.successes / self.episodes if self.episodes else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.successes, self.episodes)

    @property
    def error(self) -> float | None:
        """Standard error of the success rate over the noise seeds; None of a single one."""
        return standard_error(self.by_seed)

    def to_dict(self) -> dict[str, Any]:
        low, high = self.interval
        return {
            "name": self.name,
            "episodes": self.episodes,
            "successes": self.successes,
            "success_rate": self.success_rate,
            "wilson_95": [low, high],
            "by_noise_seed": list(self.by_seed),
            "standard_error": self.error,
            "faults": self.faults,
            "skipped": self.skipped,
            "mean_steps": self.mean_steps,
            "solved": list(self.solved),
        }


def merge(name: str, results: Iterable[TaskResult]) -> TaskResult:
    """Several tasks as one line."""
    results = list(results)
    solved_steps = sum((result.mean_steps or 0.0) * result.successes for result in results)
    successes = sum(result.successes for result in results)
    return TaskResult(
        name,
        episodes=sum(result.episodes for result in results),
        successes=successes,
        faults=sum(result.faults for result in results),
        mean_steps=solved_steps / successes if successes else None,
        solved=tuple(solved for result in results for solved in result.solved),
        by_seed=tuple(sum(rates) / len(rates) for rates in zip(*(r.by_seed for r in results), strict=True)),
        skipped=sum(result.skipped for result in results),
    )


@dataclass(frozen=True)
class EvaluationReport:
    """Success per task; printable.

    Attributes:
        latency: one report per process, see `keystep.LatencyReport.to_dict`; empty if the policy keeps none.
        settings: what was evaluated, see `Evaluation.describe`, and how the policy was opened.
    """

    env: str
    seed: int
    tasks: tuple[TaskResult, ...]
    seconds: float
    description: str = ""
    latency: tuple[dict[str, Any], ...] = ()
    machine: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def families(self) -> tuple[TaskResult, ...]:
        """Tasks merged by the first word of their names (lift, push, stack)."""
        names = dict.fromkeys(_family(task.name) for task in self.tasks)
        return tuple(
            merge(name, [task for task in self.tasks if _family(task.name) == name]) for name in names
        )

    @property
    def total(self) -> TaskResult:
        return merge("all", self.tasks)

    def to_dict(self) -> dict[str, Any]:
        return {
            "env": self.env,
            "seed": self.seed,
            "settings": self.settings,
            "description": self.description,
            "seconds": self.seconds,
            "tasks": [task.to_dict() for task in self.tasks],
            "families": [family.to_dict() for family in self.families],
            "total": self.total.to_dict(),
            "latency": list(self.latency),
            "machine": self.machine,
        }

    def __str__(self) -> str:
        several = any(task.error is not None for task in self.tasks)
        seeds = f"{'std. error':>12}" if several else ""
        lines = [f"{'task':<18}{'success':>12}{'rate':>8}{'95 % interval':>19}{seeds}{'mean steps':>12}"]
        families = self.families if len(self.families) < len(self.tasks) else ()
        for section in (self.tasks, families, (self.total,)):
            if section:
                lines += ["-" * len(lines[0]), *(_line(result, several) for result in section)]
        return "\n".join(lines)


def task_report(evaluation: Evaluation, played: Played) -> EvaluationReport:
    """What was played, task by task."""
    tasks = []
    for name in dict.fromkeys(evaluation.tasks):
        mine = [result for result in played.results if result.task == name]
        tasks.append(_task_result(name, mine, evaluation.seeds))
    return EvaluationReport(
        evaluation.env,
        evaluation.seed,
        tuple(tasks),
        played.seconds,
        played.description,
        played.latency,
        played.machine,
        evaluation.describe(),
    )


def _task_result(name: str, results: Sequence[EpisodeResult], seeds: Sequence[int]) -> TaskResult:
    counted = [result for result in results if not result.skipped]
    steps = [result.steps for result in counted if result.success]
    rates = [mean([result.success for result in counted if result.job.noise_seed == seed]) for seed in seeds]
    return TaskResult(
        name,
        episodes=len(counted),
        successes=len(steps),
        faults=sum(bool(result.fault) for result in counted),
        mean_steps=mean(steps),
        solved=tuple(result.success for result in counted),
        by_seed=tuple(rate or 0.0 for rate in rates),
        skipped=len(results) - len(counted),
    )


def _family(task: str) -> str:
    return task.partition("_")[0]


def _line(result: TaskResult, several: bool) -> str:
    low, high = result.interval
    counts = f"{result.successes}/{result.episodes}"
    interval = f"{low:.1%} .. {high:.1%}"
    error = "" if not several else f"{result.error:>12.1%}" if result.error is not None else f"{'-':>12}"
    steps = f"{result.mean_steps:.1f}" if result.mean_steps is not None else "-"
    faults = f"  ({result.faults} policy faults)" if result.faults else ""
    skipped = f"  ({result.skipped} without demonstration)" if result.skipped else ""
    cells = f"{counts:>12}{result.success_rate:>8.1%}{interval:>19}{error}{steps:>12}"
    return f"{result.name:<18}{cells}{faults}{skipped}"
