"""What the asynchronous loop tells of itself."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from keystep.notebook import html_table


@dataclass(frozen=True)
class Telemetry:
    """What the asynchronous loop did since loading or `Runtime.reset_latency`, and how it stands now.

    All of one tick. `underruns` counts the ticks without an action of the policy, by cause: starting,
    interrupted, late, stale, refused, failed, hung. Delays and levels are counted in actions, never in time.
    docs/real_time.md explains each.
    """

    ticks: int
    actions: int
    """Of the policy."""
    underruns: dict[str, int]
    chunks: int
    """That came and could be executed."""
    chunks_outdated: int
    """That came for a goal, or from before an interrupt, that is past."""
    chunks_continued: int
    """Of `chunks`: merged with the one before in the sampler (docs/merging.md)."""
    chunks_beyond_max_delay: int
    """Of those: merged by x0blend, for the network was not trained for so long a delay."""
    chunks_failed: int
    plans: int
    plans_failed: int
    late_goals: int
    """Actions towards a subgoal whose time was over."""
    hangs: int
    """Times that the watchdog struck."""
    interrupts: int
    consumed: int
    """Actions taken since reset."""
    left: int
    """Actions that can still be taken."""
    delay: int
    """Actions consumed while the last chunk was made."""
    max_delay: int
    expected_delay: int
    """Of the next chunk, in ticks: the greatest of the last eight. So early it is asked for."""
    usual_delay: int
    """The greatest but one: what a chunk repeats of the one before."""
    hung: bool
    """Now."""

    @property
    def missed(self) -> int:
        """Ticks without an action of the policy."""
        return sum(self.underruns.values())

    def to_dict(self) -> dict[str, Any]:
        """All figures, for a JSON file."""
        return asdict(self)

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=2)

    def _repr_html_(self) -> str:
        shown = {field.name: getattr(self, field.name) for field in fields(self)}
        return html_table(["", ""], [[name, str(value)] for name, value in shown.items()])

    def __str__(self) -> str:
        causes = ", ".join(f"{count} {cause}" for cause, count in self.underruns.items() if count)
        return "\n".join(
            [
                f"{self.ticks} ticks, {self.actions} actions, {self.missed} without one ({causes or 'none'})",
                f"{self.chunks} chunks, {self.chunks_continued} continued the one before, "
                f"{self.chunks_outdated} outdated, {self.chunks_failed} failed; "
                f"{self.plans} plans, {self.plans_failed} failed; {self.late_goals} actions for a late goal",
                f"delay {self.delay} actions, at most {self.max_delay}; {self.left} left; "
                f"{self.interrupts} interrupts; {self.hangs} hangs{', hung now' if self.hung else ''}",
            ]
        )
