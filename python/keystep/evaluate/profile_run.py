"""Golden observations, tick by tick: what `keystep profile` runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, cycle
from pathlib import Path
from typing import Any

import keystep
from keystep.evaluate.golden_cases import GoldenCase, golden_cases
from keystep.latency import LatencyReport
from keystep.run_report import RunReport
from keystep.telemetry import Telemetry

WARM_UP_CHUNKS = 3
ROUNDS = 10
"""Parts of a run that are looked at one by one: how much they differ tells how sure a mean is."""


class Run:
    """A policy on its golden observations, `act` by `act`, in rounds between which others may run; warm.

    Attributes:
        from_chunk: seconds of each `act` that took its action from the chunk.
        rounds: of each round the mean of every stage, us.
        late: ticks that were due before the one before had ended.
    """

    def __init__(
        self, policy: keystep.Runtime, bundle: Path, ticks: int, rate_hz: float | None = None
    ) -> None:
        cases = golden_cases(bundle, policy.manifest)
        warm_up = WARM_UP_CHUNKS * policy.manifest["chunk"]["execute"]
        self._policy = policy
        self._period = 0.0 if rate_hz is None else 1 / rate_hz
        self._due: float | None = None
        self._clear()
        self._acts = _acts(policy, cases[:1], warm_up)
        self._tick(warm_up)
        policy.reset_latency()
        self._clear()
        self._acts = _acts(policy, cases, ticks)
        self._before = policy.latency()

    def advance(self, count: int) -> None:
        """The next round, of so many ticks."""
        self._tick(count)
        now = self._policy.latency()
        self.rounds.append(means_between(self._before, now))
        self._before = now

    def _clear(self) -> None:
        self.from_chunk: list[float] = []
        self.rounds: list[dict[str, float]] = []
        self.late = 0

    def _tick(self, count: int) -> None:
        for _ in range(count):
            self._wait()
            if (seconds := next(self._acts)) is not None:
                self.from_chunk.append(seconds)

    def restart_clock(self) -> None:
        """The next period begins with the next tick: somebody else ran meanwhile."""
        self._due = None

    def _wait(self) -> None:
        """Until the next period begins, in absolute time; periods that were missed are not made up for."""
        now = time.perf_counter()
        due = now if self._due is None else self._due
        if self._period and due > now:
            time.sleep(due - now)
        elif self._period and due < now:
            self.late += 1
            due += (now - due) // self._period * self._period
        self._due = due + self._period


def _acts(policy: keystep.Runtime, cases: list[GoldenCase], ticks: int) -> Iterator[float | None]:
    """Ticks every case for its share of `ticks`; the seconds of each `act` that took from the chunk.

    In async mode every tick does, or has no action, which `Telemetry.underruns` counts.
    """
    waits = telemetry_of(policy) is None
    for case, share in zip(cases, shares(ticks, len(cases)), strict=True):
        policy.reset(case.task, case.goal, seed=0, instruction=case.instruction)
        for tick in range(share):
            started = time.perf_counter()
            try:
                policy.act(case.observation)
            except keystep.PolicyError as error:
                if error.status != "underrun":
                    raise
            seconds = time.perf_counter() - started
            yield None if waits and renews_chunk(policy.manifest, tick) else seconds


def renews_chunk(manifest: dict[str, Any], tick: int) -> bool:
    """Whether tick number `tick` of an episode, from 0, computes a chunk: it begins one, or a subgoal."""
    planner = manifest["planner"]
    if planner:  # replanning included, as all plans last for whole subgoals
        tick %= planner["steps_per_subgoal"]
    return tick % manifest["chunk"]["execute"] == 0


def telemetry_of(policy: keystep.Runtime) -> Telemetry | None:
    """None in lockstep."""
    try:
        return policy.telemetry()
    except keystep.ArgumentError:
        return None


@dataclass(frozen=True)
class ClockedRun:
    """What was measured by the policy's own clock.

    Attributes:
        rounds: of each part of the run the mean of every stage, us.
        report: counts are of the measured part, times of all of the run.
    """

    rounds: list[dict[str, float]]
    report: RunReport


def run_clocked(
    policy: keystep.Runtime, bundle: Path, ticks: int, rate_hz: float, **thread: Any
) -> ClockedRun:
    """Ticks in one run of `Runtime.run`, of one episode, on the golden observations in turn.

    Warm-up is the beginning of that run, and does not count.

    Args:
        thread: what the clock's thread is to be given, see `Runtime.run`.

    Raises:
        Error: a tick was neither ok nor an underrun.
    """
    cases = golden_cases(bundle, policy.manifest)
    seen = cycle(case.observation for case in cases)
    warm_up = WARM_UP_CHUNKS * policy.manifest["chunk"]["execute"]
    ends = {warm_up + ticks * part // ROUNDS for part in range(1, ROUNDS + 1)} - {warm_up}
    numbers, rounds = count(), list[dict[str, float]]()
    before: list[LatencyReport] = []
    reports: list[RunReport] = []

    def source() -> dict[str, Any]:
        number = next(numbers)
        if number == warm_up:
            policy.reset_latency()
            before.append(policy.latency())
            reports.append(_report(policy))
        elif number in ends:
            now = policy.latency()
            rounds.append(means_between(before[0], now))
            before[0] = now
        if number == warm_up + ticks:
            policy.stop()
        return next(seen)

    policy.reset(cases[0].task, cases[0].goal, seed=0, instruction=cases[0].instruction)
    whole = policy.run(rate_hz, source, lambda action, status: None, **thread)
    if not reports:
        raise keystep.PolicyError(
            f"run: expected {ticks} ticks behind {warm_up} of warm-up, got {whole.periods}"
        )
    report = whole.since(reports[0])
    failed = {name: n for name, n in report.statuses.items() if n and name not in ("ok", "underrun")}
    if failed:
        got = ", ".join(f"{n} {name}" for name, n in failed.items())
        raise keystep.Error(f"{bundle}: expected {ticks} ticks that are ok, got {got}")
    return ClockedRun(rounds, report)


def _report(policy: keystep.Runtime) -> RunReport:
    report = policy.run_report()
    assert report is not None  # within a run
    return report


def means_between(before: LatencyReport, now: LatencyReport) -> dict[str, float]:
    """The mean of every stage that ran since, us."""
    means = {}
    for name, stage in now.stages.items():
        then = before.stages[name]
        if stage.count > then.count:
            total = stage.mean_us * stage.count - then.mean_us * then.count
            means[name] = max(total / (stage.count - then.count), 0.0)
    return means


def shares(total: int, parts: int) -> Iterator[int]:
    """`total` in `parts` shares that differ by one at most."""
    return (total * (part + 1) // parts - total * part // parts for part in range(parts))
