"""What a soak has found."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

RATE_HZ = 60.0
"""Of virtual time: so many ticks are a second."""


@dataclass(frozen=True)
class Violation:
    """An invariant that did not hold, in the tick `tick` (from 0) of the schedule of `seed`."""

    invariant: str
    said: str
    seed: int
    tick: int

    def __str__(self) -> str:
        return f"{self.said} (seed {self.seed}, tick {self.tick})"


@dataclass
class ScheduleResult:
    """Attributes:
    schedule: what was drawn.
    ticks: that were played.
    events: what was done to the policy.
    statuses: of the ticks.
    telemetry: at the end.
    digest: SHA-256 of all actions and statuses: equal for equal schedules in virtual time.
    grown_mb: of resident memory, from the first quarter on.
    close_ms: that `close` took.
    """

    schedule: dict[str, Any]
    ticks: int = 0
    events: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    telemetry: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    grown_mb: float = 0.0
    close_ms: float = 0.0
    violation: Violation | None = None

    def to_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        counts = {"events": dict(self.events), "statuses": dict(self.statuses)}
        violation = asdict(self.violation) if self.violation else None
        return vars(self) | counts | {"violation": violation}


@dataclass
class SoakReport:
    """Attributes:
    bundle: None: stand-ins.
    threads: real threads instead of virtual time.
    interrupted: by Ctrl-C, in the last of `schedules`.
    """

    bundle: str | None
    threads: bool
    schedules: list[ScheduleResult] = field(default_factory=list)
    interrupted: bool = False
    machine: dict[str, Any] = field(default_factory=dict)

    @property
    def violation(self) -> Violation | None:
        """The one that ended it."""
        return next((result.violation for result in self.schedules if result.violation), None)

    @property
    def ticks(self) -> int:
        return sum(result.ticks for result in self.schedules)

    def total(self, of: str) -> Counter[str]:
        """`events` or `statuses` of all schedules."""
        return sum((getattr(result, of) for result in self.schedules), Counter())

    def counted(self, name: str) -> int:
        """A counter of the telemetry, over all schedules."""
        return sum(result.telemetry.get(name, 0) for result in self.schedules)

    def underruns(self) -> Counter[str]:
        """By cause."""
        return sum((Counter(result.telemetry.get("underruns", {})) for result in self.schedules), Counter())

    def to_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        return {
            "format": "keystep-soak",
            "version": 1,
            "bundle": self.bundle,
            "threads": self.threads,
            "interrupted": self.interrupted,
            "machine": self.machine,
            "schedules": [result.to_dict() for result in self.schedules],
            "ticks": self.ticks,
            "violation": asdict(self.violation) if self.violation else None,
        }

    def __str__(self) -> str:
        def listed(counts: Counter[str]) -> str:
            return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "none"

        time = "real threads" if self.threads else f"{self.ticks / RATE_HZ / 3600:.2f} h of virtual time"
        grown = max((result.grown_mb for result in self.schedules), default=0.0)
        lines = [
            f"{len(self.schedules)} schedules, {self.ticks} ticks, {time}"
            + (", interrupted" if self.interrupted else ""),
            f"done to the policy: {listed(self.total('events'))}",
            f"ticks: {listed(self.total('statuses'))}",
            f"{self.counted('actions')} actions; without one, by cause: {listed(self.underruns())}",
            f"{self.counted('chunks')} chunks, {self.counted('chunks_failed')} failed, "
            f"{self.counted('chunks_outdated')} outdated; {self.counted('plans')} plans, "
            f"{self.counted('plans_failed')} failed; {self.counted('hangs')} hangs; memory grew {grown} MB",
        ]
        if self.threads:
            slowest = max((result.close_ms for result in self.schedules), default=0.0)
            lines.append(f"close took {slowest:.1f} ms at most")
        lines.append("every invariant held" if self.violation is None else f"violated: {self.violation}")
        return "\n".join(lines)
