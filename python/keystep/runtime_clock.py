"""The part of `keystep.Runtime` that ticks by our own clock."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keystep import _core
from keystep._core import FixedRate, Runtime
from keystep.observations import Observation
from keystep.run_report import RunReport
from keystep.shared_arrays import SharedArrays


class RuntimeClock:
    """See `keystep.Runtime`."""

    _core: Runtime
    _clock: FixedRate | None = None  # of the last run
    _stopping = False

    @abstractmethod
    def _check_task(self, observation: Observation) -> None: ...

    def run(
        self,
        rate_hz: float | None,
        source: Callable[[], Observation] | SharedArrays,
        sink: Callable[[np.ndarray, str], object] | SharedArrays,
        *,
        periods: int = 0,
        fifo_priority: int = 0,
        cores: Sequence[int] = (),
        lock_memory: bool = False,
        prefault_stack: int = 0,
        wait_s: float = 10.0,
    ) -> RunReport:
        """Tick by our own clock, on a thread of its own, until `stop`; `reset` comes first.

        Periods begin at start + k / rate_hz, by absolute times: nothing drifts. A period that takes longer
        is counted, and the next one begins at the next grid point. A tick that is not ok gives the sink a
        hold, and the run goes on, also while another thread resets; what is not finite is not given to it.
        At the end, whatever ends it, the sink is given the hold once more (status "interrupted") where the
        bundle's has values; what is left of the chunk is not executed by the next run.

        With arrays at both ends no Python runs in a period. What the system refuses is in the report.

        Args:
            rate_hz: 0.001..100000; None: the bundle's control rate.
            source: gives the observation of now, as `act` takes it; or arrays with `observation_fields`.
                While it waits, so do `stop` and Ctrl-C: give what it waits for a limit of time.
            sink: is given the action, float32 (A,), and the tick's status, "ok" or a `PolicyError.status`; or
                arrays with `action_fields`.
            periods: after so many it ends; 0: never.
            fifo_priority: SCHED_FIFO with this priority, 1..99; 0: not asked for.
            cores: that the thread is to run on; (): not asked for.
            lock_memory: mlockall: of the process, also after the run.
            prefault_stack: bytes of the thread's stack to touch first.
            wait_s: so long for the first record of arrays, of a writer that lives.

        Returns:
            How time was kept, and what the system gave. `run_report` has it also where an error ends the run.

        Raises:
            ArgumentError: an argument, or an observation.
            PolicyError: not_reset, closed, forked; busy: another run, or another thread inside for a second.
            Error: no first record; the writer of the source is gone; the sink has another writer.
            Whatever source, sink or a signal's handler (Ctrl-C) raise.
        """
        self._core.check_usable()
        options = (periods, fifo_priority, cores, lock_memory, prefault_stack)
        clock = _core.FixedRate(self._core, 0.0 if rate_hz is None else rate_hz, *options)
        before, self._clock = self._clock, clock
        self._stopping = False
        if isinstance(source, SharedArrays):
            self._await_first(source, wait_s)
        try:
            clock.run(self._seen_by(source), sink._core if isinstance(sink, SharedArrays) else sink)
        except _core.PolicyError as error:
            if error.status == "busy" and clock.report()["periods"] == 0:
                self._clock = before  # the run that is in progress
            raise
        return RunReport.from_dict(clock.report())

    def stop(self) -> None:
        """End the `run` in progress before its next period; without one do nothing. Any thread."""
        self._stopping = True
        if self._clock is not None:
            self._clock.stop()

    def run_report(self) -> RunReport | None:
        """Of the run in progress, or of the last one, however it ended; None before the first. Any thread."""
        return None if self._clock is None else RunReport.from_dict(self._clock.report())

    def _seen_by(self, source: Callable[[], Observation] | SharedArrays) -> Any:
        if isinstance(source, SharedArrays):
            return source._core

        def seen() -> Observation:
            observation = source()
            self._check_task(observation)
            return observation

        return seen

    def _await_first(self, source: SharedArrays, wait_s: float) -> None:
        end = time.monotonic() + wait_s
        while not (source.count and source.has_writer) and not source.ended and not self._stopping:
            if time.monotonic() >= end:
                got = "one of a process that is gone" if source.count else "none"
                raise _core.Error(f"source: expected a record within {wait_s:g} s, got {got}")
            time.sleep(0.001)
