"""Success per task with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the standard normal."""


def wilson_interval(successes: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927, JASA 22:209): (low, high); (0, 1) when n is 0."""
    if not 0 <= successes <= n:
        raise ValueError(f"successes: expected 0..{n}, got {successes}")
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends the exact bound is 0 or 1; rounding must not move it.
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


@dataclass(frozen=True)
class TaskResult:
    """Episodes of one task, or of a family of tasks.

    Attributes:
        name: the task's or the family's name.
        faults: episodes that ended because the policy failed (a PolicyError); they count as not solved.
        mean_steps: actions until success, over the solved episodes; None if there are none.
        solved: for every episode, in the order of the seeds, whether it was solved.
    """

    name: str
    episodes: int
    successes: int
    faults: int = 0
    mean_steps: float | None = None
    solved: tuple[bool, ...] = ()

    @property
    def success_rate(self) -> float:
        return self.successes / self.episodes

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.successes, self.episodes)

    def to_dict(self) -> dict[str, Any]:
        low, high = self.interval
        return {
            "name": self.name,
            "episodes": self.episodes,
            "successes": self.successes,
            "success_rate": self.success_rate,
            "wilson_95": [low, high],
            "faults": self.faults,
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
    )


@dataclass(frozen=True)
class EvaluationReport:
    """Success per task; printable.

    Attributes:
        latency: one report per process, see `keystep.LatencyReport.to_dict`; empty if the policy keeps none.
    """

    env: str
    seed: int
    tasks: tuple[TaskResult, ...]
    seconds: float
    description: str = ""
    latency: tuple[dict[str, Any], ...] = ()
    machine: dict[str, Any] = field(default_factory=dict)

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
            "description": self.description,
            "seconds": self.seconds,
            "tasks": [task.to_dict() for task in self.tasks],
            "families": [family.to_dict() for family in self.families],
            "total": self.total.to_dict(),
            "latency": list(self.latency),
            "machine": self.machine,
        }

    def __str__(self) -> str:
        lines = [f"{'task':<18}{'success':>12}{'rate':>8}{'95 % interval':>19}{'mean steps':>12}"]
        families = self.families if len(self.families) < len(self.tasks) else ()
        for section in (self.tasks, families, (self.total,)):
            if section:
                lines += ["-" * len(lines[0]), *map(_line, section)]
        return "\n".join(lines)


def _family(task: str) -> str:
    return task.partition("_")[0]


def _line(result: TaskResult) -> str:
    low, high = result.interval
    counts = f"{result.successes}/{result.episodes}"
    interval = f"{low:.1%} .. {high:.1%}"
    steps = f"{result.mean_steps:.1f}" if result.mean_steps is not None else "-"
    faults = f"  ({result.faults} policy faults)" if result.faults else ""
    return f"{result.name:<18}{counts:>12}{result.success_rate:>8.1%}{interval:>19}{steps:>12}{faults}"
