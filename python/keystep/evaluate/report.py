"""Success per task (MTLC), with confidence intervals and the spread over the policy's noise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keystep.evaluate.measured import Measured, origin
from keystep.evaluate.parallel import Played
from keystep.evaluate.settings import EpisodeResult, Evaluation
from keystep.suites import suite_named
from keystep.suites.base import families
from keystep.uncertainty import clustered_error, deviation, mean, means_by, wilson_interval


@dataclass(frozen=True)
class TaskResult:
    """Episodes of one task, or of several tasks.

    Attributes:
        name: the task's or the family's name.
        faults: episodes that ended because the policy failed (a PolicyError); they count as not solved.
        mean_steps: actions until success, over the solved episodes; None if there are none.
        solved: for every episode, by noise seed and then by reset, whether it was solved.
        by_seed: success rate of each noise seed; None of one without episodes.
        skipped: episodes without a demonstration to take ground-truth subgoals from; they do not count.
        by_reset: success rate of each reset over the noise seeds.
        measured: what `Evaluation.measure` names, for every episode as `solved`; None of one without a step;
            empty without a measure.
        measured_by_reset: its mean at each reset over the noise seeds.
        parts: the tasks, of several.
    """

    name: str
    episodes: int
    successes: int
    faults: int = 0
    mean_steps: float | None = None
    solved: tuple[bool, ...] = ()
    by_seed: tuple[float | None, ...] = ()
    skipped: int = 0
    by_reset: Mapping[int, float] = field(default_factory=dict)
    measured: tuple[float | None, ...] = ()
    measured_by_reset: Mapping[int, float] = field(default_factory=dict)
    parts: tuple[TaskResult, ...] = ()

    @property
    def success_rate(self) -> float | None:
        """Of several tasks the mean of theirs, also where episodes were skipped; None of no episodes."""
        if self.parts:
            return _mean_of_known([part.success_rate for part in self.parts])
        return self.successes / self.episodes if self.episodes else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson 95 %, where the episodes are draws of one proportion: not of several noise seeds, which
        repeat resets, nor of tasks with unequal numbers of episodes."""
        if not self.episodes or len(self.by_seed) > 1 or len({part.episodes for part in self.parts}) > 1:
            return None
        return wilson_interval(self.successes, self.episodes)

    @property
    def error(self) -> float | None:
        """Standard error of the success rate over the resets, which tasks and noise seeds share."""
        return clustered_error([part.by_reset for part in self.parts or (self,)])

    @property
    def measured_mean(self) -> float | None:
        """Of several tasks the mean of theirs; None where nothing was measured."""
        if self.parts:
            return _mean_of_known([part.measured_mean for part in self.parts])
        return _mean_of_known(self.measured)

    @property
    def measured_error(self) -> float | None:
        """Standard error of `measured_mean` over the resets."""
        return clustered_error([part.measured_by_reset for part in self.parts or (self,)])

    @property
    def seed_deviation(self) -> float | None:
        """Standard deviation of the success rate over the noise seeds; None of a single one."""
        return deviation([rate for rate in self.by_seed if rate is not None])

    def to_dict(self) -> dict[str, Any]:
        """All figures, for a JSON file."""
        return {
            "name": self.name,
            "episodes": self.episodes,
            "successes": self.successes,
            "success_rate": self.success_rate,
            "wilson_95": list(self.interval) if self.interval is not None else None,
            "standard_error": self.error,
            "by_noise_seed": list(self.by_seed),
            "noise_seed_deviation": self.seed_deviation,
            "faults": self.faults,
            "skipped": self.skipped,
            "mean_steps": self.mean_steps,
            "solved": list(self.solved),
            **(self._measured() if self.measured_mean is not None else {}),
        }

    def _measured(self) -> dict[str, Any]:
        return {
            "measured": list(self.measured),
            "measured_mean": self.measured_mean,
            "measured_standard_error": self.measured_error,
        }


def merge(name: str, results: Iterable[TaskResult]) -> TaskResult:
    """Several tasks as one line."""
    parts = tuple(results)
    solved_steps = sum((part.mean_steps or 0.0) * part.successes for part in parts)
    successes = sum(part.successes for part in parts)
    return TaskResult(
        name,
        episodes=sum(part.episodes for part in parts),
        successes=successes,
        faults=sum(part.faults for part in parts),
        mean_steps=solved_steps / successes if successes else None,
        solved=tuple(solved for part in parts for solved in part.solved),
        by_seed=tuple(map(_mean_of_known, zip(*(part.by_seed for part in parts), strict=True))),
        skipped=sum(part.skipped for part in parts),
        measured=tuple(value for part in parts for value in part.measured),
        parts=parts,
    )


def _mean_of_known(values: Iterable[float | None]) -> float | None:
    return mean([value for value in values if value is not None])


@dataclass(frozen=True, kw_only=True)
class EvaluationReport(Measured):
    """Success per task; printable.

    Attributes:
        kinds: the same episodes by the kind of what the policy was told, if there are several.
        family_of: of tasks by name, where it is not the first word of the name.
    """

    tasks: tuple[TaskResult, ...]
    kinds: tuple[TaskResult, ...] = ()
    family_of: Mapping[str, str] = field(default_factory=dict)

    @property
    def families(self) -> tuple[TaskResult, ...]:
        """Tasks merged by family: the first word of their names (lift, push, stack), or as the suite says."""
        grouped: dict[str, list[TaskResult]] = {}
        for task in self.tasks:
            name = self.family_of.get(task.name, task.name.partition("_")[0])
            grouped.setdefault(name, []).append(task)
        return tuple(merge(name, results) for name, results in grouped.items())

    @property
    def total(self) -> TaskResult:
        """All tasks as one."""
        return merge("all", self.tasks)

    @property
    def sections(self) -> tuple[tuple[TaskResult, ...], ...]:
        """Of a table: tasks, families, kinds, all; none of them empty."""
        families = self.families if len(self.families) < len(self.tasks) else ()
        return tuple(filter(None, (self.tasks, families, self.kinds, (self.total,))))

    def to_dict(self) -> dict[str, Any]:
        """All figures, for a JSON file."""
        return self.origin() | {
            "tasks": [task.to_dict() for task in self.tasks],
            "families": [family.to_dict() for family in self.families],
            "kinds": [kind.to_dict() for kind in self.kinds],
            "total": self.total.to_dict(),
        }

    def __str__(self) -> str:
        several = any(result.interval is None for section in self.sections for result in section)
        lines = ["".join(name.rjust(width) for name, width in _columns(several))]
        lines[0] = "task" + lines[0][4:]
        if (measure := self.settings.get("measure")) is not None:
            lines[0] += f"  greatest {measure} (mean ± std. error)"
        for section in self.sections:
            lines += ["-" * len(lines[0]), *(_line(result, several) for result in section)]
        return "\n".join(lines)


def task_report(evaluation: Evaluation, played: Played) -> EvaluationReport:
    """What was played, task by task."""

    def results(name: str, kind: str | None = None) -> TaskResult:
        mine = [
            result
            for result in played.results
            if result.task == name and (kind is None or evaluation.kind(result.job) == kind)
        ]
        return _task_result(name, mine, evaluation)

    return EvaluationReport(
        tasks=tuple(map(results, evaluation.tasks)),
        kinds=tuple(merge(kind, [results(n, kind) for n in evaluation.tasks]) for kind in evaluation.kinds),
        family_of=families(suite_named(evaluation.suite)),
        **origin(evaluation, played),
    )


def _task_result(name: str, results: Sequence[EpisodeResult], evaluation: Evaluation) -> TaskResult:
    counted = [result for result in results if not result.skipped]
    steps = [result.steps for result in counted if result.success]
    known = [(evaluation.reset_seed(one.job), one.measured) for one in counted if one.measured is not None]
    by_seed = means_by((result.job.noise_seed, result.success) for result in counted)
    return TaskResult(
        name,
        episodes=len(counted),
        successes=len(steps),
        faults=sum(bool(result.fault) for result in counted),
        mean_steps=mean(steps),
        solved=tuple(result.success for result in counted),
        by_seed=tuple(map(by_seed.get, evaluation.seeds)),
        skipped=len(results) - len(counted),
        by_reset=means_by((evaluation.reset_seed(result.job), result.success) for result in counted),
        measured=tuple(result.measured for result in counted) if evaluation.measure is not None else (),
        measured_by_reset=means_by(known),
    )


def _columns(several: bool) -> list[tuple[str, int]]:
    """(title, width); with errors and deviations where Wilson intervals do not serve all lines."""
    errors = [("std. error", 12), ("over seeds", 12)] if several else []
    return [
        ("", 18),
        ("success", 12),
        ("rate", 8),
        ("95 % interval", 19),
        *errors,
        ("mean steps", 12),
    ]


def _line(result: TaskResult, several: bool) -> str:
    interval = " .. ".join(f"{bound:.1%}" for bound in result.interval or ()) or "-"
    errors = [_percent(result.error), _percent(result.seed_deviation)] if several else []
    steps = f"{result.mean_steps:.1f}" if result.mean_steps is not None else "-"
    counts = f"{result.successes}/{result.episodes}"
    cells = [counts, _percent(result.success_rate), interval, *errors, steps]
    padded = (cell.rjust(width) for cell, (_, width) in zip(cells, _columns(several)[1:], strict=True))
    faults = f"  ({result.faults} policy faults)" if result.faults else ""
    skipped = f"  ({result.skipped} without demonstration)" if result.skipped else ""
    measured = f"  {with_error(result)}" if result.measured_mean is not None else ""
    return f"{result.name:<18}{''.join(padded)}{measured}{faults}{skipped}"


def with_error(result: TaskResult) -> str:
    """The mean of what was measured, and its standard error."""
    error = f" ± {result.measured_error:.4f}" if result.measured_error is not None else ""
    return f"{result.measured_mean:.4f}{error}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
