"""A thread that does something at a rate. Twin of loop.hpp."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np

import keystep

POLICIES = {os.SCHED_OTHER: "SCHED_OTHER", os.SCHED_FIFO: "SCHED_FIFO", os.SCHED_RR: "SCHED_RR"}
KEPT = 1_000_000
"""Of the intervals, for the report: the last ones."""


class Loop:
    """Calls `step` at start + k / rate, on a thread of its own, while it is entered, or until `step` raises.

    Points that are past when a call ends are left out: the grid never moves, and nothing is made up for.

    Args:
        fifo_priority: SCHED_FIFO with this priority, where that is permitted; 0: not asked for.

    Raises:
        keystep.ArgumentError: no such rate.
    """

    def __init__(self, name: str, rate_hz: float, step: Callable[[], None], fifo_priority: int = 0) -> None:
        if not 0 < rate_hz <= 100_000:
            raise keystep.ArgumentError(f"{name}_hz: expected above 0, up to 100000, got {rate_hz:g}")
        self.name, self.rate_hz = name, rate_hz
        self._step, self._fifo_priority = step, fifo_priority
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._scheduling = ""
        self._calls = self._overruns = 0
        self._intervals: deque[float] = deque(maxlen=KEPT)
        self._error: BaseException | None = None

    def __enter__(self) -> Loop:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def check(self) -> None:
        """Raise what `step` raised. Any thread."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._scheduling = scheduled(self._fifo_priority)
            start = last = time.monotonic()
            point = 0
            while not self._stopping.is_set():
                begin = time.monotonic()
                if self._calls:
                    self._intervals.append(begin - last)
                last = begin
                self._step()
                self._calls += 1
                passed = math.ceil((time.monotonic() - start) * self.rate_hz)
                self._overruns += passed > point + 1
                point = max(point + 1, passed)
                time.sleep(max(0.0, start + point / self.rate_hz - time.monotonic()))
        except Exception as error:
            self._error = error

    def __str__(self) -> str:
        us = 1e6 * np.array(self._intervals or [0.0])
        return (
            f"{self.name} at {self.rate_hz:g} Hz: {self._scheduling}; {self._calls} calls, "
            f"{self._overruns} overran\n"
            f"interval [us]  Min: {us.min():9.1f}  Avg: {us.mean():9.1f}  "
            f"P99: {np.percentile(us, 99):9.1f}  Max: {us.max():9.1f}"
        )


def scheduled(fifo_priority: int) -> str:
    """Ask for SCHED_FIFO of the calling thread, unless 0; what it has."""
    refusal = ""
    if fifo_priority:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(fifo_priority))
        except OSError as error:
            refusal = f", not obtained: SCHED_FIFO {fifo_priority}: {error.strerror}"
    policy = POLICIES.get(os.sched_getscheduler(0), "another policy")
    return f"{policy} priority {os.sched_getparam(0).sched_priority}{refusal}"
