"""What must hold at every tick of the asynchronous loop, whatever happens to it (docs/soak.md)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np

from keystep.telemetry import Telemetry

Told = Literal["ok", "stale", "bad"]
"""What kind of observation a tick was given."""

FAILURES = {"engine_failure", "rejected_chunk", "rejected_plan"}
STATUSES = {
    "stale": {"stale_observation"},
    "refused": {"bad_observation"},
    "failed": FAILURES,
    "hung": {"engine_hung"},
}
"""Of a tick without an action of the policy, by cause; where it is another, what can be given is ok."""
_CHUNKS = ("chunks", "chunks_outdated", "chunks_continued", "chunks_beyond_max_delay", "chunks_failed")
_GROWING = ("ticks", "actions", *_CHUNKS, "plans", "plans_failed", "late_goals", "hangs", "interrupts")


@dataclass(frozen=True)
class Law:
    """What a schedule promises.

    Attributes:
        low, high, rate: the gate's bounds and rate limits, (A,); rate None: none.
        hold: (A,); None: the last action stands.
        underrun: hold, decelerate, repeat or fault.
        rows, execute: of a chunk.
        marked: whether actions say where they come from (`soak_bundles`).
        plans: whether there is a planner, which interrupts on its own.
        alone: whether nobody else interrupts: then every tick is foreseen.
        soonest: after an interrupt no action comes before so many ticks.
        patience: ticks after which an action must come, once nothing disturbs any more.
    """

    low: np.ndarray
    high: np.ndarray
    rate: np.ndarray | None
    hold: np.ndarray | None
    underrun: str
    rows: int
    execute: int
    marked: bool
    plans: bool
    alone: bool
    soonest: int
    patience: int


@dataclass(frozen=True)
class SoakTick:
    """Attributes:
    told: what it was given.
    status: "ok", or that of the PolicyError.
    action: (A,); None where the status is not ok.
    seen: the telemetry after it.
    goals: of the plan being followed after it, as marked actions tell them.
    """

    told: Told
    status: str
    action: np.ndarray | None
    seen: Telemetry
    goals: tuple[float, ...] = ()


class ViolationError(Exception):
    """An invariant does not hold. `invariant` is its name."""

    def __init__(self, invariant: str, said: str) -> None:
        super().__init__(f"{invariant}: {said}")
        self.invariant = invariant


class Checker:
    """Follows one policy tick by tick; every method raises ViolationError at the first that does not hold."""

    def __init__(self, law: Law, first: Telemetry) -> None:
        self._law = law
        self._seen = first  # of the tick before
        self._number = 0  # of the tick to come
        self._newest = -1  # tick of the newest good observation
        self.reset()

    @property
    def number(self) -> int:
        """Of the tick to come, from 0."""
        return self._number

    @property
    def index(self) -> int:
        """Actions of the policy in this episode."""
        return self._index

    @property
    def seen(self) -> Telemetry:
        """The telemetry of the last tick."""
        return self._seen

    @property
    def newest(self) -> int:
        """The tick of the newest good observation; -1: none."""
        return self._newest

    # ---- what is done to the policy

    def reset(self) -> None:
        """An episode began."""
        self._index = 0
        self._floor = self._number  # no action is made of an observation before this tick
        self._last: list[np.ndarray] = []  # what the robot does: the candidates
        self._own: np.ndarray | None = None  # the last action of the policy
        self._repeats = 0
        self._fresh = False  # an action of the policy came since the last interrupt
        self._begun = self._number  # of waiting
        self._quiet = self._number
        self._goal: float | None = None
        self._past: deque[float] = deque(maxlen=12)  # goals that were left
        self._plans: deque[tuple[float, ...]] = deque(maxlen=2)  # the last ones, none that was given up
        self._given_up: tuple[float, ...] = ()
        self._owed = -1  # plans there had been when a new one was asked for

    def interrupt(self, newest: int | None = None, goals: tuple[float, ...] | None = None) -> None:
        """Somebody interrupted before the next tick.

        Args:
            newest: the tick of the newest good observation before it, where that is not the one of now.
            goals: of the plan that was given up: a new one was asked for.
        """
        self._floor = max(self._floor, self._newest if newest is None else newest)
        self._begun = self._quiet = self._number
        self._fresh = False
        if goals is None:
            return
        self._past.extend([*goals, *([] if self._goal is None else [self._goal])])
        self._goal, self._given_up, self._owed = None, goals, self._seen.plans
        self._plans.clear()

    # ---- a tick

    def tick(self, now: SoakTick) -> None:
        cause = self._counts(now.seen)
        self._status(now, cause)
        if cause is None:
            assert now.action is not None
            self._gate(now.action)
            if self._law.marked:
                self._marks(now)
            self._own, self._last, self._repeats, self._fresh = now.action, [now.action], 0, True
            self._quiet = self._number
        else:
            self._cause(cause, now)
            self._given(cause, now.action)
        if now.told != "ok":
            self._quiet = self._number
        else:
            self._newest = self._number
        waited = self._number - self._quiet
        _require(waited <= self._law.patience, "recovery", f"no action in {waited} undisturbed ticks")
        self._seen = now.seen
        self._number += 1

    def _counts(self, seen: Telemetry) -> str | None:
        """The counters; the cause of there being no action, or None."""
        before = self._seen
        for name in _GROWING:
            was, is_ = getattr(before, name), getattr(seen, name)
            _require(is_ >= was, "counters", f"{name} fell from {was} to {is_}")
        _require(seen.ticks == before.ticks + 1, "counters", f"{seen.ticks - before.ticks} ticks in one")
        _require(seen.ticks == seen.actions + seen.missed, "sum", f"{seen}: ticks are no sum")
        causes = [name for name, count in seen.underruns.items() if count != before.underruns[name]]
        acted = seen.actions - before.actions
        _require(acted + len(causes) == 1, "sum", f"{acted} actions and causes {causes} in one tick")
        self._index += acted
        _require(seen.consumed == self._index, "consumed", f"{seen.consumed} after {self._index} actions")
        _require(0 <= seen.left <= self._law.rows, "left", f"{seen.left} of {self._law.rows} rows")
        _require(seen.chunks_continued <= seen.chunks, "counters", "more chunks continued than came")
        _require(seen.delay <= seen.max_delay, "counters", f"delay {seen.delay} above {seen.max_delay}")
        if self._is_foreseen() and seen.chunks == before.chunks:
            wanted = before.left - acted
            _require(seen.left == wanted, "left", f"{seen.left} after {before.left}, {acted} taken")
        return causes[0] if causes else None

    def _is_foreseen(self) -> bool:
        """Nobody drops a chunk in this tick."""
        law = self._law
        return law.alone and not law.plans and self._begun != self._number

    def _status(self, now: SoakTick, cause: str | None) -> None:
        if cause is None:
            _require(now.status == "ok", "status", f"{now.status} of an action")
            _require(now.told != "bad", "status", "an action for a bad observation")
            waited = self._number - self._begun
            if self._law.alone and not self._fresh:
                said = f"an action {waited} ticks after an interrupt, expected {self._law.soonest} or more"
                _require(waited >= self._law.soonest, "before_interrupt", said)
            return
        if cause in STATUSES:
            wanted = STATUSES[cause]
        else:
            given = self._law.hold is not None or self._own is not None
            wanted = {"ok" if given and self._law.underrun != "fault" else "underrun"}
        _require(now.status in wanted, "status", f"{now.status} where the cause is {cause}")

    def _cause(self, cause: str, now: SoakTick) -> None:
        seen, before = now.seen, self._seen
        _require((cause == "refused") == (now.told == "bad"), "cause", f"{cause}, given {now.told}")
        _require((cause == "stale") == (now.told == "stale"), "cause", f"{cause}, given {now.told}")
        if cause == "starting":
            _require(self._index == 0, "cause", f"starting after {self._index} actions")
        if cause == "interrupted" and self._law.alone and not self._law.plans:
            _require(not self._fresh, "cause", "interrupted, and nobody had interrupted")
        if cause == "late":
            _require(self._fresh or not self._law.alone, "cause", "late with no action since an interrupt")
        if cause == "failed":
            _require(seen.chunks_failed + seen.plans_failed > 0, "cause", "failed, and nothing had")
        if cause == "hung":
            _require(seen.hangs > 0 and (seen.hung or before.hung), "cause", "hung, and nothing was")

    # ---- what the robot is given

    def _gate(self, action: np.ndarray) -> None:
        law = self._law
        within = bool(np.all((action >= law.low) & (action <= law.high)))  # false of NaN
        _require(within, "bounds", f"{action}")
        if law.rate is None or not self._last:
            return
        fits = any(np.all(np.abs(action - before) <= law.rate + 1e-5) for before in self._last)
        _require(fits, "rate", f"{action} after {self._last[0]}")

    def _marks(self, now: SoakTick) -> None:
        assert now.action is not None
        index, made, goal = (float(value) for value in now.action)
        wanted = self._index - 1
        name = "skipped" if index > wanted else "twice"
        _require(abs(index - wanted) < 0.01, name, f"the action of index {index:g} at index {wanted}")
        _require(made > self._floor - 0.01, "before_interrupt", f"made of tick {made:g}, not {self._floor}")
        _require(made < self._number + 0.01, "marks", f"made of tick {made:g}, which is to come")
        if self._law.plans:
            self._follow(goal, now)

    def _follow(self, goal: float, now: SoakTick) -> None:
        """No goal that was left comes back, but for a new plan that happens to have it."""
        _require(now.seen.plans > self._owed, "old_goal", "an action, though the new plan is still owed")
        if now.goals not in (self._given_up, *self._plans):
            self._plans.append(now.goals)
        if self._goal is not None and not _same(goal, self._goal):
            self._past.append(self._goal)
        known = any(_same(goal, new) for plan in self._plans for new in plan)
        was_left = any(_same(goal, past) for past in self._past)
        _require(known or not was_left, "old_goal", f"{goal:.9g} was left")
        self._goal = goal

    def _given(self, cause: str, action: np.ndarray | None) -> None:
        """In place of an action of the policy: what was declared."""
        allowed = self._declared(cause)
        if action is None:  # the tick was not ok: whatever of it
            self._last = allowed or self._last
            return
        said = f"{action} where {' or '.join(map(str, allowed))} is declared"
        _require(any(np.allclose(action, each, rtol=1e-6, atol=1e-6) for each in allowed), "underrun", said)
        if self._law.underrun == "repeat" and self._law.hold is not None and _is(action, self._own):
            self._repeats += not _is(action, self._law.hold)
        _require(self._repeats <= self._law.execute, "underrun", f"repeated {self._repeats} times")
        self._last = [action]

    def _declared(self, cause: str) -> list[np.ndarray]:
        law = self._law
        stands = law.hold if law.hold is not None else self._own
        rest = [] if stands is None else [stands]
        if law.underrun == "decelerate" and self._last:
            assert law.hold is not None
            step = law.rate if law.rate is not None else (law.high / 10 - law.low / 10)
            return [np.clip(law.hold, last - step, last + step) for last in self._last]
        stands_still = cause in ("interrupted", "refused") or (law.alone and not self._fresh)
        if law.underrun == "repeat" and self._own is not None and not stands_still:
            return [self._own, *rest]
        return rest


def _is(action: np.ndarray, other: np.ndarray | None) -> bool:
    return other is not None and np.array_equal(action, other)


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= 2e-7 * abs(one)


def _require(holds: bool, invariant: str, said: str) -> None:
    if not holds:
        raise ViolationError(invariant, said)
