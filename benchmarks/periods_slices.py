"""What the loops of `benchmarks.periods` are told, and what they tell: slices of a run."""

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

ASYNC, LOCKSTEP, TORCH = "keystep async", "keystep lockstep", "torch loop"
LOOPS = (ASYNC, LOCKSTEP, TORCH)
PERCENTILES = ("p50_us", "p99_us", "max_us")
LEAD_IN_S = 2.0
"""Of every slice: warm-up, in the same run as what is measured."""
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Spec:
    """What one loop runs.

    Attributes:
        loop: one of LOOPS.
        torch: folders that torch loads: `checkpoint`, or `planner` and `controller`.
        options: for `keystep.load`; `threads` also for torch, 0: all cores.
        clock: for `Runtime.run`: what the asynchronous clock's thread is to be given.
    """

    loop: str
    bundle: str
    rate_hz: float
    torch: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    clock: dict[str, Any] = field(default_factory=dict)


class Deliveries:
    """When the robot was given actions of the policy, in microseconds since the first measured grid point.

    A run begins with a lead-in that does not count: warm-up, and the first plan and chunk, before which no
    policy has an action. It lasts `lead_in_s`, and until there was an action. Then, in the same run, so many
    periods are measured.
    """

    def __init__(self, rate_hz: float, periods: int, lead_in_s: float) -> None:
        self._period_ns, self._periods, self._lead_in_ns = 1e9 / rate_hz, periods, lead_in_s * 1e9
        self._began_ns = self._first_ns = self._point = self._begun = 0
        self._acted = False
        self.at_us: list[int] = []

    def begin(self) -> bool:
        """A period begins; whether the measured part does. Raises RuntimeError: no policy ever acts."""
        now = time.monotonic_ns()
        self._began_ns = self._began_ns or now
        if self._first_ns:
            self._begun += 1  # after a first one that began late, the clock is a point behind
            self._point = max(self._point_at(now), self._begun - 1)
            return False
        if now - self._began_ns < self._lead_in_ns:
            return False
        if self._acted:
            self._first_ns, self._begun = now, 1
        elif now - self._began_ns > self._lead_in_ns + PATIENCE_S * 1e9:
            raise RuntimeError(f"expected an action within {PATIENCE_S:g} s of the lead-in, got none")
        return self._acted

    def end(self, delivered: bool) -> bool:
        """A period ends, with or without an action of the policy; whether it was the last."""
        self._acted = self._acted or delivered
        if not self._first_ns:
            return False
        if delivered:
            self.at_us.append((time.monotonic_ns() - self._first_ns) // 1000)
        return self._point >= self._periods - 1

    @property
    def over(self) -> bool:
        """The last grid point is past: a period that begins now is one too many."""
        return bool(self._first_ns) and self._point_at(time.monotonic_ns()) >= self._periods

    def _point_at(self, now_ns: int) -> int:
        """The grid point that began last, counted from the first measured one, which may have begun late."""
        return int((now_ns - self._first_ns) / self._period_ns + 0.25)


class Loop(Protocol):
    """One way to run a policy."""

    def slice(self, periods: int) -> dict[str, Any]:
        """A lead-in, then so many grid points: `at_us` of Deliveries, `report` of RunReport, `stages` with
        the percentiles of `chunk` and `plan`, and `telemetry` of the asynchronous loop or None."""
