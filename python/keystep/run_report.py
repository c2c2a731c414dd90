"""What a fixed-rate run obtained from the system, and how it kept its time."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from keystep.notebook import html_lines

COUNTS = (
    "periods",
    "overruns",
    "skipped",
    "withheld",
    "minor_faults",
    "major_faults",
    "voluntary_switches",
    "involuntary_switches",
)


@dataclass(frozen=True)
class ThreadReport:
    """What the clock's thread was given.

    Attributes:
        policy: SCHED_OTHER, SCHED_FIFO, ..
        priority: of SCHED_FIFO and SCHED_RR.
        cores: that it may run on.
        memory_locked: by mlockall.
        prefaulted: bytes of its stack, touched before the first period.
        fifo_refusal, cores_refusal, memory_refusal, stack_refusal: why what was asked for is not there; "" it
            is, or was not asked for.
    """

    policy: str
    priority: int
    cores: tuple[int, ...]
    memory_locked: bool
    prefaulted: int
    fifo_refusal: str
    cores_refusal: str
    memory_refusal: str
    stack_refusal: str

    @property
    def refusals(self) -> list[str]:
        """All of them."""
        all_of_them = (self.fifo_refusal, self.cores_refusal, self.memory_refusal, self.stack_refusal)
        return [refusal for refusal in all_of_them if refusal]


@dataclass(frozen=True)
class Spread:
    """Least, mean, 99th percentile and greatest, in microseconds."""

    count: int
    min_us: float
    avg_us: float
    p99_us: float
    max_us: float


@dataclass(frozen=True)
class RunReport:
    """How `Runtime.run` kept its time.

    Attributes:
        rate_hz: grid points a second.
        periods: ticks.
        overruns: of them, those that ended after the next grid point.
        skipped: grid points without a tick, because of overruns.
        withheld: actions that were not finite; the sink was not called.
        statuses: of the ticks, by name.
        latency: from a grid point to the thread's being awake, as cyclictest measures it.
        interval: from one period's begin to the next one's.
        work: of source, tick and sink.
        minor_faults, major_faults: page faults of the thread during the run.
        voluntary_switches, involuntary_switches: likewise; each sleep is a voluntary one.
        load_before, load_after: of the machine, over 1, 5 and 15 minutes.
        thread: what the system gave.
    """

    rate_hz: float
    periods: int
    overruns: int
    skipped: int
    withheld: int
    statuses: dict[str, int]
    latency: Spread
    interval: Spread
    work: Spread
    minor_faults: int
    major_faults: int
    voluntary_switches: int
    involuntary_switches: int
    load_before: tuple[float, float, float]
    load_after: tuple[float, float, float]
    thread: ThreadReport

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunReport:
        """The report that `to_dict` was called on."""
        spreads = {name: Spread(**values[name]) for name in ("latency", "interval", "work")}
        thread = ThreadReport(**{**values["thread"], "cores": tuple(values["thread"]["cores"])})
        loads = {name: tuple(values[name]) for name in ("load_before", "load_after")}
        return cls(**{**values, **spreads, **loads, "thread": thread})

    def since(self, before: RunReport) -> RunReport:
        """Counts of what came after `before`, a report of the same run; times stay those of all of it."""
        counts = {name: getattr(self, name) - getattr(before, name) for name in COUNTS}
        statuses = {name: n - before.statuses[name] for name, n in self.statuses.items()}
        return replace(self, statuses=statuses, **counts)

    def to_dict(self) -> dict[str, Any]:
        """All figures, for a JSON file."""
        return asdict(self)

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=2)

    def _repr_html_(self) -> str:
        return html_lines(str(self))

    def __str__(self) -> str:
        thread = self.thread
        memory = "locked" if thread.memory_locked else "not locked"
        failed = ", ".join(f"{n} {name}" for name, n in self.statuses.items() if n and name != "ok")
        load = " ".join(f"{value:.2f}" for value in self.load_after)
        return "\n".join(
            [
                f"{thread.policy} priority {thread.priority}, cores {list(thread.cores)}, memory {memory}, "
                f"{thread.prefaulted} bytes of stack touched",
                *(f"not obtained: {refusal}" for refusal in thread.refusals),
                f"{self.periods} periods at {self.rate_hz:g} Hz, {self.overruns} overran, {self.skipped} "
                f"skipped; not ok: {failed or 'none'}; {self.withheld} withheld",
                *(_line(name, getattr(self, name)) for name in ("latency", "interval", "work")),
                f"page faults {self.minor_faults} minor, {self.major_faults} major; switches "
                f"{self.voluntary_switches} voluntary, {self.involuntary_switches} involuntary; load {load}",
            ]
        )


def _line(name: str, spread: Spread) -> str:
    return (
        f"{name:<8} [us]  Min: {spread.min_us:9.1f}  Avg: {spread.avg_us:9.1f}  "
        f"P99: {spread.p99_us:9.1f}  Max: {spread.max_us:9.1f}"
    )
