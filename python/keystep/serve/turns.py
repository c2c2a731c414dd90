"""Whose turn it is: workers, and the rate of each client."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

BURST = 4  # requests that may come at once within a rate


class Turns:
    """So many at a time, the others in the order they came."""

    def __init__(self, workers: int) -> None:
        self._free = workers
        self._workers = workers
        self._lock = threading.Lock()
        self._queue: deque[threading.Lock] = deque()  # of those who wait, each held until its turn

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def running(self) -> int:
        return self._workers - self._free

    @contextmanager
    def next(self) -> Iterator[float]:
        """A turn; the seconds that were waited for it."""
        waited_s = 0.0
        with self._lock:
            turn = None if self._free else threading.Lock()
            if turn is None:
                self._free -= 1
            else:
                turn.acquire()
                self._queue.append(turn)
        if turn is not None:
            began = time.perf_counter()
            turn.acquire()  # whoever is done lets it go
            waited_s = time.perf_counter() - began
        try:
            yield waited_s
        finally:
            with self._lock:
                if self._queue:
                    self._queue.popleft().release()
                else:
                    self._free += 1


class Rate:
    """A bucket of `BURST` requests that fills at `rate_hz`; 0: no limit."""

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._left, self._at = float(BURST), time.monotonic()

    def wait(self, stopping: threading.Event) -> bool:
        """Until the next one may be; whether that took time."""
        if self._rate_hz <= 0:
            return False
        now = time.monotonic()
        self._left = min(self._left + (now - self._at) * self._rate_hz, BURST) - 1
        self._at = now
        if self._left >= 0:
            return False
        stopping.wait(-self._left / self._rate_hz)
        return True
