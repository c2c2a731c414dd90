"""What a server counts, in Prometheus' text format."""

from __future__ import annotations

import threading
from collections.abc import Sequence

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


COUNTERS = {
    "connections_total": "websocket sessions that began",
    "refused_total": "connections refused: no key, too many clients, no websocket",
    "dropped_total": "sessions that ended without a close: gone, too slow, stopped reading",
    "requests_total": "messages of clients",
    "chunks_total": "chunks sent",
    "plans_total": "plans made",
    "errors_total": "requests answered with an error",
    "throttled_total": "requests that waited for the rate limit",
    "received_bytes_total": "of messages",
    "sent_bytes_total": "of messages",
}


class Histogram:
    """Of seconds."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS_S) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        self._counts[sum(seconds > bound for bound in BUCKETS_S)] += 1
        self._sum += seconds

    def lines(self, name: str) -> list[str]:
        lines, total = [], 0
        for bound, count in zip([*map(str, BUCKETS_S), "+Inf"], self._counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{name}_sum {self._sum:.6f}", f"{name}_count {total}"]


class Metrics:
    """Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(COUNTERS, 0)
        self._infer, self._queue = Histogram(), Histogram()

    def add(self, **counts: int) -> None:
        """By the names of `COUNTERS`."""
        with self._lock:
            for name, count in counts.items():
                self._counts[name] += count

    def timed(self, infer_s: float, queue_s: float) -> None:
        with self._lock:
            self._infer.add(infer_s)
            self._queue.add(queue_s)

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def text(self, gauges: Sequence[tuple[str, str, int]]) -> str:
        """Args:
        gauges: name, help, value.
        """
        lines = []
        with self._lock:
            for name, about in COUNTERS.items():
                lines += [*head(name, about, "counter"), f"keystep_{name} {self._counts[name]}"]
            for name, about, histogram in (
                ("infer_seconds", "of a chunk, with its plan", self._infer),
                ("queue_seconds", "until a worker was free", self._queue),
            ):
                lines += [*head(name, about, "histogram"), *histogram.lines(f"keystep_{name}")]
        for name, about, value in gauges:
            lines += [*head(name, about, "gauge"), f"keystep_{name} {value}"]
        return "\n".join(lines) + "\n"


def head(name: str, about: str, kind: str) -> list[str]:
    return [f"# HELP keystep_{name} {about}", f"# TYPE keystep_{name} {kind}"]
