"""What `keystep verify` reports: differences between ways to compute one policy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keystep.notebook import html_lines, new_figure


@dataclass(frozen=True)
class Comparison:
    """Absolute differences between two ways to compute one thing, over all golden cases.

    Attributes:
        recorded: the greatest one when the bundle was exported, of weights that are rounded; else 0.
    """

    ours: str
    reference: str
    quantity: str
    max_error: float
    rms_error: float
    recorded: float = 0.0

    def within(self, tolerance: float) -> bool:
        """Of rounded weights, twice what was recorded is allowed: other CPUs add up in another order."""
        return self.max_error <= max(tolerance, 2 * self.recorded)  # false for NaN


@dataclass(frozen=True)
class VerifyReport:
    """Actions and plans in physical units; model outputs, and what is "norm.", in network units."""

    bundle: str
    cases: int
    tolerance: float
    comparisons: tuple[Comparison, ...]

    @property
    def ok(self) -> bool:
        """Whether every difference is within the tolerance."""
        return all(comparison.within(self.tolerance) for comparison in self.comparisons)

    def to_dict(self) -> dict[str, Any]:
        """All differences, for a JSON file."""
        return asdict(self) | {"ok": self.ok}

    def plot(self) -> Any:
        """A matplotlib figure: the greatest difference of each comparison beside the tolerance."""
        figure = new_figure(7, 1.2 + 0.3 * len(self.comparisons))
        axes = figure.subplots()
        names = [f"{row.ours} = {row.reference}: {row.quantity}" for row in self.comparisons]
        axes.barh(names, [row.max_error for row in self.comparisons], color="#0072B2")
        axes.axvline(self.tolerance, color="black", linestyle="--", label=f"tolerance {self.tolerance:g}")
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.set_xlabel(f"greatest difference over {self.cases} golden cases")
        axes.legend(fontsize="small")
        return figure

    def _repr_html_(self) -> str:
        return html_lines(str(self))

    def __str__(self) -> str:
        lines = [f"{self.bundle}: {self.cases} golden cases, tolerance {self.tolerance:g}"]
        for row in self.comparisons:
            verdict = "ok" if row.within(self.tolerance) else "DIFFERS"
            verdict += f" (recorded {row.recorded:.2e})" if 2 * row.recorded > self.tolerance else ""
            pair = f"{row.ours:<16} = {row.reference:<18} {row.quantity:<13}"
            lines.append(f"  {pair} max {row.max_error:8.2e}  rms {row.rms_error:8.2e}  {verdict}")
        return "\n".join(lines)


def compare(ours: str, reference: str, quantity: str, left: np.ndarray, right: np.ndarray) -> Comparison:
    difference = np.abs(left.astype(np.float64) - right)
    rms = float(np.sqrt(np.mean(difference**2)))
    return Comparison(ours, reference, quantity, float(np.max(difference)), rms)
