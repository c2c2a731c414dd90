"""Hours of virtual time on the asynchronous loop, disturbed by seeded schedules, checked at every tick."""

from __future__ import annotations

import hashlib
import random
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import keystep
from keystep.evaluate.golden_cases import GoldenCase, golden_cases
from keystep.evaluate.soak_bundles import STATE, write_stand_in
from keystep.evaluate.soak_checker import Checker, SoakTick, Told, ViolationError
from keystep.evaluate.soak_report import ScheduleResult, SoakReport, Violation
from keystep.evaluate.soak_schedule import MAX_AGE_US, Schedule, draw_schedule
from keystep.machine import describe_machine, resident_memory_mb

STATE_KEY = "observation.state"
MOST_GROWTH_MB = 16.0
"""Of a schedule's resident memory, from its first quarter on; a megabyte or two are Python's own."""
_PERIOD_US = 16_667


@dataclass(frozen=True)
class Soak:
    """What to do.

    Attributes:
        bundle: None: stand-ins for the stub engine.
        engine: of a bundle that is given.
        seed: of the first schedule; the next one has the next.
        schedules: how many.
        ticks: of each.
        threads: real threads, in real time.
        close_ms: how long `close` may take with threads, besides one call of the engine.
    """

    bundle: Path | None
    engine: str
    seed: int
    schedules: int
    ticks: int
    threads: bool = False
    close_ms: float = 100.0


def soak(what: Soak, ticked: Callable[[int], object] = lambda ticks: None) -> SoakReport:
    """Play the schedules, until one breaks an invariant. Ctrl-C ends it; the report tells of what was done.

    Args:
        ticked: called with numbers of ticks that were played.
    """
    report = SoakReport(bundle=None if what.bundle is None else str(what.bundle), threads=what.threads)
    report.machine = describe_machine()
    manifest = None if what.bundle is None else keystep.read_manifest(what.bundle)
    engine = what.engine if what.bundle is not None else "stub"
    try:
        for seed in range(what.seed, what.seed + what.schedules):
            schedule = draw_schedule(seed, manifest, engine, what.threads)
            player = Player(schedule, what)
            report.schedules.append(player.result)
            if not player.play(ticked):
                break
    except KeyboardInterrupt:
        report.interrupted = True
    return report


@dataclass
class Player:
    """Plays one schedule."""

    schedule: Schedule
    what: Soak
    result: ScheduleResult = field(init=False)

    def __post_init__(self) -> None:
        self.result = ScheduleResult(self.schedule.to_dict())
        self._rng = random.Random(f"events of {self.schedule.seed}")
        self._digest = hashlib.sha256()
        self._wrong_left = 0
        self._wrong: Told = "ok"
        self._episodes = 0

    def play(self, ticked: Callable[[int], object]) -> bool:
        """False: an invariant was broken, which the result tells."""
        with _opened(self.schedule, self.what.bundle) as (policy, cases):
            self._policy, self._cases = policy, cases
            self._checker = Checker(self.schedule.law(policy.manifest), policy.telemetry())
            self._reset()
            try:
                with self._interrupter() as news:
                    self._ticks(news, ticked)
                self._end()
            except (ViolationError, keystep.Error) as error:  # of ours none is foreseen here
                invariant = error.invariant if isinstance(error, ViolationError) else type(error).__name__
                at = self._checker.number
                self.result.violation = Violation(invariant, str(error), self.schedule.seed, at)
                return False
            finally:
                self.result.ticks = self._checker.number
                self.result.telemetry = self._checker.seen.to_dict()
                self.result.digest = self._digest.hexdigest()
        return True

    def _ticks(self, news: deque[int], ticked: Callable[[int], object]) -> None:
        begun_mb = 0.0
        for number in range(self.what.ticks):
            if number == self.what.ticks // 4:
                begun_mb = resident_memory_mb()
            while news:
                self._checker.interrupt(news.popleft())
            self._disturb()
            self._tick()
            if self.schedule.time is None:
                time.sleep(self._rng.uniform(0, 400e-6))
            if number % 256 == 255:
                ticked(256)
        ticked(self.what.ticks % 256)
        self.result.grown_mb = round(resident_memory_mb() - begun_mb, 2)
        if self.result.grown_mb > MOST_GROWTH_MB:
            raise ViolationError("memory", f"grew by {self.result.grown_mb} MB")

    # ---- what is done to it

    def _disturb(self) -> None:
        chances, rng = self.schedule.disturbances, self._rng
        if rng.random() < chances.interrupt:
            self._policy.interrupt()
            self._checker.interrupt()
            self.result.events["interrupt"] += 1
        if rng.random() < chances.replan and self._policy.manifest["planner"] is not None:
            self._replan()
        if rng.random() < chances.reset:
            self._reset()
        if self._wrong_left > 0:
            self._wrong_left -= 1
        else:
            drawn = rng.random()
            stale, bad = chances.stale, chances.stale + chances.bad
            self._wrong = "stale" if drawn < stale else "bad" if drawn < bad else "ok"
            self._wrong_left = 0 if self._wrong == "ok" else rng.randrange(chances.longest)
        if rng.random() < chances.refused_call:
            self._refused_call()

    def _replan(self) -> None:
        goals = self._goals()
        self._policy.replan()
        self._checker.interrupt(goals=goals)
        self.result.events["replan"] += 1

    def _reset(self) -> None:
        """A new task, and where the bundle takes one a new goal."""
        case = self._rng.choice(self._cases)
        self._episodes += 1
        self._policy.reset(
            case.task,
            case.goal,
            instruction=case.instruction,
            seed=self._rng.getrandbits(32),
            episode=self._episodes,
        )
        self._checker.reset()
        self.result.events["reset"] += 1

    def _refused_call(self) -> None:
        """One that never becomes a tick."""
        before = self._policy.telemetry()
        try:
            self._policy.act({"observation.nothing": np.zeros(1, np.float32)})
        except keystep.ArgumentError:
            self.result.events["refused_call"] += 1
            if self._policy.telemetry().ticks == before.ticks:
                return
        raise ViolationError("refused_call", "an observation of other features was a tick")

    # ---- a tick

    def _tick(self) -> None:
        status, action = "ok", None
        try:
            action = self._policy.act(self._observation())
            self._digest.update(action.tobytes())
        except keystep.PolicyError as error:
            status = error.status
            self._digest.update(status.encode())
        self.result.statuses[status] += 1
        self._checker.tick(SoakTick(self._wrong, status, action, self._policy.telemetry(), self._goals()))

    def _goals(self) -> tuple[float, ...]:
        """Of the plan being followed, as a marked action tells its own."""
        stand_in = self.schedule.stand_in
        plan = self._policy.plan() if stand_in is not None and stand_in.kind == "marked-plans" else None
        return () if plan is None else tuple(float(mean) for mean in plan[STATE_KEY].mean(1, np.float64))

    def _observation(self) -> dict[str, Any]:
        now = self._checker.number * _PERIOD_US + 100 * MAX_AGE_US
        stamp = now - 2 * MAX_AGE_US if self._wrong == "stale" else now
        if self.schedule.stand_in is None:
            seen: dict[str, Any] = dict(self._rng.choice(self._cases).observation)
            if self._wrong == "bad":
                stamp = now + MAX_AGE_US  # in the future
        else:
            values = np.array([self._checker.index, self._checker.number, 0], np.float32)
            if self._wrong == "bad":
                values[self._rng.randrange(STATE)] = self._rng.choice((np.nan, np.inf))
            seen = {STATE_KEY: values}
        return seen | {"timestamp_us": stamp, "now_us": now}

    # ---- threads

    @contextmanager
    def _interrupter(self) -> Iterator[deque[int]]:
        """Somebody else interrupts. Gives, for each interrupt, the tick that was seen last before it."""
        news: deque[int] = deque()
        if not self.schedule.interrupter:
            yield news
            return
        done, rng = threading.Event(), random.Random(self.schedule.seed)

        def interrupt() -> None:
            while not done.wait(rng.uniform(0, 0.02)):
                newest = self._checker.newest
                self._policy.interrupt()
                news.append(newest)

        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            yield news
        finally:
            done.set()
            thread.join()

    def _end(self) -> None:
        """A sink that fails ends a run with its own error; then the policy is closed in time."""
        if self.schedule.time is None:
            self._failing_sink()
        begun = time.perf_counter()
        self._policy.close()
        took_ms = 1e3 * (time.perf_counter() - begun)
        self.result.close_ms = round(took_ms, 2)
        most = self.what.close_ms + self.schedule.faults.get("hang_us", 0) / 1e3
        if self.schedule.time is None and took_ms > most:
            raise ViolationError("close", f"took {took_ms:.0f} ms, expected {most:.0f} at most")

    def _failing_sink(self) -> None:
        left = self._rng.randrange(1, 8)

        def sink(action: np.ndarray, status: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise _SinkError

        self._wrong = "ok"
        try:
            self._policy.run(500, self._observation, sink, periods=50)
        except _SinkError:
            return
        raise ViolationError("sink", "a run went on though its sink had failed")


class _SinkError(Exception):
    pass


@contextmanager
def _opened(schedule: Schedule, bundle: Path | None) -> Iterator[tuple[keystep.Runtime, list[GoldenCase]]]:
    """The policy, and what its episodes are about."""
    with tempfile.TemporaryDirectory(prefix="keystep-soak-") as folder:
        stand_in = schedule.stand_in
        if stand_in is not None:
            bundle = write_stand_in(Path(folder) / "bundle", stand_in.kind, **stand_in.settings)
        assert bundle is not None
        with keystep.load(bundle, **schedule.options()) as policy:
            if stand_in is None:
                yield policy, golden_cases(bundle, policy.manifest)
            else:
                yield policy, [GoldenCase(task, None, {}, None) for task in policy.task_names]
