"""What the runtime measured about itself, as a structured report."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class StageLatency:
    """One stage of the tick. Quantiles come from a histogram and are at most 3.2 % too high."""

    count: int
    mean_us: float
    p50_us: float
    p90_us: float
    p99_us: float
    p999_us: float
    max_us: float


@dataclass(frozen=True)
class LatencyReport:
    """Latency per stage and what the loop did since loading or `Runtime.reset_latency`.

    `time_per_action_us` is planning and control over the actions executed (HD-ExpIt, App. F.6). `allocations`
    counts heap allocations of keystep's own code inside `tick`; those of ONNX Runtime are not included.
    `engine` and `engine_choices` are the runtime's `description` and `engine_choices`.
    """

    engine: str
    engine_choices: list[dict[str, str]]
    stages: dict[str, StageLatency]
    actions: int
    plans: int
    chunks: int
    interrupts: int
    deadline_misses: int
    deadline_us: float
    time_per_action_us: float
    allocations: int
    rejected_plans: int
    rejected_chunks: int
    bounded_values: int
    rate_limited_values: int
    stale_observations: int

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> LatencyReport:
        stages = {name: StageLatency(**stage) for name, stage in fields["stages"].items()}
        return cls(**{**fields, "stages": stages})

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    def __str__(self) -> str:
        columns = ("p50_us", "p90_us", "p99_us", "p999_us", "max_us")
        lines = [f"{'stage':<8}{'count':>9}" + "".join(f"{_label(name):>12}" for name in columns)]
        for name, stage in self.stages.items():
            if stage.count:
                cells = "".join(f"{getattr(stage, column):>12,.2f}" for column in columns)
                lines.append(f"{name:<8}{stage.count:>9}{cells}")
        lines.append(
            f"time per action {self.time_per_action_us:,.2f} us, {self.actions} actions, "
            f"{self._made()}; {self.deadline_misses} ticks over {self.deadline_us:,.0f} us"
        )
        lines.append(
            f"safety gate: {self._rejected()} rejected, {self.bounded_values} values bounded, "
            f"{self.rate_limited_values} rate-limited, {self.stale_observations} stale observations"
        )
        lines.append(f"engine: {self.engine}")
        return "\n".join(lines)

    def _made(self) -> str:
        return f"{self.plans} plans, {self.chunks} chunks" if self.plans else f"{self.chunks} chunks"

    def _rejected(self) -> str:
        chunks = f"{self.rejected_chunks} chunks"
        return f"{self.rejected_plans} plans, {chunks}" if self.rejected_plans else chunks


def _label(column: str) -> str:
    """ "p999_us" -> "p99.9 us"."""
    return column.replace("p999", "p99.9").replace("_", " ")
