"""What the loops of `benchmarks.periods` are told, and what they tell: slices of a run."""

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

ASYNC, LOCKSTEP, TORCH = "keystep async", "keystep lockstep", "torch loop"
LOOPS = (ASYNC, LOCKSTEP, TORCH)
PERCENTILES = ("p50_us", "p99_us", "max_us")


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
    """When the robot was given actions of the policy, in microseconds since the first grid point."""

    def __init__(self, rate_hz: float, periods: int) -> None:
        self._last_ns = (periods - 1.25) * 1e9 / rate_hz  # the last grid point; the first begin may be late
        self._first_ns = 0
        self.at_us: list[int] = []

    def begin(self) -> bool:
        """A period begins; whether it is the last one, or beyond."""
        if not self._first_ns:
            self._first_ns = time.monotonic_ns()
        return self._is_last(time.monotonic_ns())

    def end(self, delivered: bool) -> bool:
        """A period ends, with or without an action of the policy; whether it was the last."""
        now = time.monotonic_ns()
        if delivered:
            self.at_us.append((now - self._first_ns) // 1000)
        return self._is_last(now)

    def _is_last(self, now_ns: int) -> bool:
        return now_ns - self._first_ns >= self._last_ns


class Loop(Protocol):
    """One way to run a policy."""

    def slice(self, periods: int) -> dict[str, Any]:
        """So many grid points: `at_us` of Deliveries, `report` of RunReport, `stages` with the percentiles of
        `chunk` and `plan`, and `telemetry` of the asynchronous loop or None."""
