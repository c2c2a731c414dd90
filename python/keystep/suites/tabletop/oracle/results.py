"""What came of playing the tabletop suite: a row per task, means of levels, bars to reach. No simulator.

Rates of tasks have Wilson intervals; means of tasks' rates have the MOVER interval, which puts the tasks'
Wilson intervals together (Zou, Huang and Zhang 2009, Computational Statistics & Data Analysis 53:1080) and
so stays between 0 and 1 and has a width where all episodes succeed. All are 95 % intervals.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from keystep.suites.tabletop import TASKS
from keystep.suites.tabletop.layout import CONTROL_RATE_HZ
from keystep.uncertainty import wilson_interval

MEAN_BARS = {0: 0.95, 1: 0.85, 2: 0.70}
"""What the mean rate of each level is to reach."""
TASK_BAR = 0.5
"""What the rate of every task is to exceed."""
TOP_REASONS = 3


@dataclass(frozen=True)
class Trial:
    """One episode: `ms` of wall-clock time with its reset; `reason` is "" on success."""

    task: str
    seed: int
    success: bool
    calls: int
    steps: int
    ms: float
    reason: str = ""


@dataclass(frozen=True)
class Failures:
    """Episodes that failed for the same reason."""

    reason: str
    count: int
    first_seed: int


@dataclass(frozen=True)
class OracleResult:
    """All episodes of a task.

    Attributes:
        rate: share of successes, and the interval low .. high.
        calls: of the API, mean over successful episodes; None without any.
        steps: control steps, likewise.
        median_ms: wall-clock time of an episode, all of them.
        failures: the most frequent reasons.
    """

    task: str
    level: int
    episodes: int
    successes: int
    rate: float
    low: float
    high: float
    calls: float | None
    steps: float | None
    median_ms: float
    failures: tuple[Failures, ...] = ()

    @property
    def seconds(self) -> float | None:
        """Simulated, mean over successful episodes."""
        return None if self.steps is None else self.steps / CONTROL_RATE_HZ

    @classmethod
    def of(cls, task: str, played: Sequence[Trial]) -> OracleResult:
        """From its episodes, in any order."""
        good = [one for one in played if one.success]
        low, high = wilson_interval(len(good), len(played))
        return cls(
            task,
            TASKS[task].level,
            len(played),
            len(good),
            len(good) / len(played),
            low,
            high,
            fmean(one.calls for one in good) if good else None,
            fmean(one.steps for one in good) if good else None,
            median(one.ms for one in played),
            most_frequent(one for one in played if not one.success),
        )


@dataclass(frozen=True)
class Mean:
    """Over tasks, each counting alike: of their rates, with the interval low .. high, and of their calls."""

    name: str
    tasks: tuple[str, ...]
    rate: float
    low: float
    high: float
    calls: float | None

    @classmethod
    def of(cls, name: str, results: Sequence[OracleResult]) -> Mean:
        rate = fmean(result.rate for result in results)
        below = sum((result.rate - result.low) ** 2 for result in results) ** 0.5 / len(results)
        above = sum((result.high - result.rate) ** 2 for result in results) ** 0.5 / len(results)
        calls = [result.calls for result in results if result.calls is not None]
        tasks = tuple(result.task for result in results)
        return cls(name, tasks, rate, rate - below, rate + above, fmean(calls) if calls else None)


@dataclass(frozen=True)
class Bar:
    """What is to be reached; `reached` is None when too few of its tasks were played to tell."""

    text: str
    value: str
    reached: bool | None

    def __str__(self) -> str:
        verdict = {True: "reached", False: "not reached", None: "not all tasks played"}[self.reached]
        return f"{self.text}: {verdict} ({self.value})"


@dataclass(frozen=True)
class OracleReport:
    """An evaluation of the oracle.

    Attributes:
        tasks: those of which all episodes were played; means are of these.
        seed: of the first episode of each.
        episodes: per task.
        processes: at once.
        seconds: that the evaluation took.
        played, planned: episodes of all tasks; fewer were played than planned when it was interrupted.
        begun: tasks of which some episodes were played.
    """

    tasks: tuple[OracleResult, ...]
    seed: int
    episodes: int
    processes: int
    seconds: float
    played: int
    planned: int
    begun: tuple[OracleResult, ...] = ()

    @property
    def interrupted(self) -> bool:
        return self.played < self.planned

    @property
    def levels(self) -> dict[int, Mean]:
        """The mean of each level that was played."""
        found: dict[int, list[OracleResult]] = defaultdict(list)
        for result in self.tasks:
            found[result.level].append(result)
        return {level: Mean.of(f"mean of level {level}", found[level]) for level in sorted(found)}

    @property
    def total(self) -> Mean | None:
        return Mean.of("mean of all", self.tasks) if self.tasks else None

    @property
    def bars(self) -> list[Bar]:
        return [*(self._mean_bar(level) for level in MEAN_BARS), self._task_bar()]

    def _mean_bar(self, level: int) -> Bar:
        text = f"mean of level {level} at least {MEAN_BARS[level]:.0%}"
        mean = self.levels.get(level)
        if mean is None:
            return Bar(text, "no task", None)
        whole = set(mean.tasks) == {name for name, task in TASKS.items() if task.level == level}
        # Rounded: a sum of shares may miss the bar it is equal to by a bit.
        return Bar(text, f"{mean.rate:.1%}", round(mean.rate, 9) >= MEAN_BARS[level] if whole else None)

    def _task_bar(self) -> Bar:
        text = f"every task above {TASK_BAR:.0%}"
        if not self.tasks:
            return Bar(text, "no task", None)
        worst = min(self.tasks, key=lambda result: result.rate)
        sure = worst.rate <= TASK_BAR or len(self.tasks) == len(TASKS)
        return Bar(text, f"lowest: {worst.task} {worst.rate:.1%}", worst.rate > TASK_BAR if sure else None)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the fields, and for its readers what follows from them."""
        return {
            **asdict(self),
            "tasks": [{**asdict(result), "seconds": result.seconds} for result in self.tasks],
            "begun": [{**asdict(result), "seconds": result.seconds} for result in self.begun],
            "means": [asdict(mean) for mean in (*self.levels.values(), self.total) if mean is not None],
            "bars": [asdict(bar) for bar in self.bars],
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> OracleReport:
        """The inverse of `to_dict`; more entries do not matter."""
        fields = {name: found[name] for name in cls.__dataclass_fields__}
        rows = {name: tuple(_task_result(row) for row in found[name]) for name in ("tasks", "begun")}
        return cls(**{**fields, **rows})


def _task_result(row: Mapping[str, Any]) -> OracleResult:
    fields = {name: row[name] for name in OracleResult.__dataclass_fields__}
    return OracleResult(**{**fields, "failures": tuple(Failures(**entry) for entry in row["failures"])})


def most_frequent(failed: Iterable[Trial]) -> tuple[Failures, ...]:
    """The top reasons of failed episodes."""
    seeds: dict[str, list[int]] = defaultdict(list)
    for one in failed:
        seeds[one.reason].append(one.seed)
    counts = Counter({reason: len(found) for reason, found in sorted(seeds.items())})
    top = counts.most_common(TOP_REASONS)
    return tuple(Failures(reason, count, min(seeds[reason])) for reason, count in top)
