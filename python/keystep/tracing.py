"""What became of a trace: the argument `trace` of `keystep.load`."""

from __future__ import annotations

from dataclasses import dataclass


class TraceWarning(UserWarning):
    """A trace lacks some of what was recorded. The policy itself is not concerned."""


@dataclass(frozen=True)
class TraceReport:
    """A trace file. When it is long it goes on in NAME.2.pftrace, and so on.

    Attributes:
        events: in the file: begins and ends of spans, instants, values of counters.
        dropped: spans, instants and values that are not: the disk was slower than the policy, or full.
        bytes: of all its files.
        error: why the file ended early; empty: it did not.
    """

    file: str
    events: int
    dropped: int
    bytes: int
    error: str

    @property
    def incomplete(self) -> str:
        """What it lacks and why, for a warning; empty: nothing."""
        if self.error:
            return f"{self.error}; the trace ends there"
        if self.dropped:
            return f"{self.file}: {self.dropped} events were dropped, {self.events} are there"
        return ""
