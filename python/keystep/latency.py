"""What the runtime measured about itself, as a structured report."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from keystep.notebook import html_lines, html_table, new_figure

COLUMNS = ("p50_us", "p90_us", "p99_us", "p999_us", "max_us")
"""Shown of each stage."""


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
        """The report that `to_dict` was called on."""
        stages = {name: StageLatency(**stage) for name, stage in fields["stages"].items()}
        return cls(**{**fields, "stages": stages})

    def to_dict(self) -> dict[str, Any]:
        """All figures, for a JSON file."""
        return asdict(self)

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=2)

    def plot(self) -> Any:
        """A matplotlib figure: median, p99 and maximum of each stage, logarithmic. Needs matplotlib."""
        stages = self._measured()
        figure = new_figure(6, 1.2 + 0.5 * len(stages))
        axes = figure.subplots()
        for column, marker in (("p50_us", "o"), ("p99_us", "|"), ("max_us", "x")):
            values = [getattr(stage, column) for stage in stages.values()]
            axes.plot(values, range(len(stages)), marker, color="black", label=_label(column))
        axes.set_yticks(range(len(stages)), list(stages))
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.set_xlabel(f"us; time per action {self.time_per_action_us:,.2f} us")
        axes.grid(axis="x", alpha=0.3)
        axes.legend(fontsize="small")
        return figure

    def _repr_html_(self) -> str:
        header = ["stage", "count", *map(_label, COLUMNS)]
        rows = [
            [name, str(stage.count), *(f"{getattr(stage, column):,.2f}" for column in COLUMNS)]
            for name, stage in self._measured().items()
        ]
        return html_table(header, rows) + html_lines("\n".join(self._notes()))

    def __str__(self) -> str:
        lines = [f"{'stage':<8}{'count':>9}" + "".join(f"{_label(name):>12}" for name in COLUMNS)]
        for name, stage in self._measured().items():
            cells = "".join(f"{getattr(stage, column):>12,.2f}" for column in COLUMNS)
            lines.append(f"{name:<8}{stage.count:>9}{cells}")
        return "\n".join([*lines, *self._notes()])

    def _measured(self) -> dict[str, StageLatency]:
        return {name: stage for name, stage in self.stages.items() if stage.count}

    def _notes(self) -> list[str]:
        return [
            f"time per action {self.time_per_action_us:,.2f} us, {self.actions} actions, "
            f"{self._made()}; {self.deadline_misses} ticks over {self.deadline_us:,.0f} us",
            f"safety gate: {self._rejected()} rejected, {self.bounded_values} values bounded, "
            f"{self.rate_limited_values} rate-limited, {self.stale_observations} stale observations",
            f"engine: {self.engine}",
        ]

    def _made(self) -> str:
        return f"{self.plans} plans, {self.chunks} chunks" if self.plans else f"{self.chunks} chunks"

    def _rejected(self) -> str:
        chunks = f"{self.rejected_chunks} chunks"
        return f"{self.rejected_plans} plans, {chunks}" if self.rejected_plans else chunks


def _label(column: str) -> str:
    """ "p999_us" -> "p99.9 us"."""
    return column.replace("p999", "p99.9").replace("_", " ")
