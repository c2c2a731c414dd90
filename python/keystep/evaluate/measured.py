"""What every report says about where it comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from keystep.evaluate.parallel import Played
from keystep.evaluate.settings import Evaluation
from keystep.notebook import html_markdown


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The common part of reports.

    Attributes:
        seed: of the first reset.
        seconds: that all episodes took.
        description: of the policy, e.g. its engine.
        latency: one report per process, see `keystep.LatencyReport.to_dict`; empty if the policy keeps none.
        machine: see `describe_machine`.
        settings: what was evaluated, see `Evaluation.describe`, and how the policy was opened.
    """

    env: str
    seed: int
    seconds: float
    description: str = ""
    latency: tuple[dict[str, Any], ...] = ()
    machine: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the policy: its bundle, or what runs it."""
        return str(self.settings.get("bundle") or self.description or "policy")

    def plot(self) -> Any:
        """A matplotlib figure of the success rates, or of how far chains get. Needs matplotlib."""
        from keystep.evaluate.plots import report_figure

        return report_figure({self.name: self})  # type: ignore[dict-item]

    def _repr_html_(self) -> str:
        from keystep.evaluate.tables import report_markdown

        return html_markdown(report_markdown({self.name: self}))  # type: ignore[dict-item]

    def origin(self) -> dict[str, Any]:
        """These fields, for a result file."""
        return {name: getattr(self, name) for name in Measured.__dataclass_fields__} | {
            "latency": list(self.latency)
        }


def origin(evaluation: Evaluation, played: Played) -> dict[str, Any]:
    """The fields of `Measured`."""
    return {
        "env": evaluation.env,
        "seed": evaluation.seed,
        "seconds": played.seconds,
        "description": played.description,
        "latency": played.latency,
        "machine": played.machine,
        "settings": evaluation.describe(),
    }
