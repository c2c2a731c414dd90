"""What `keystep verify` reports, and the one rule by which two ways to compute a policy are the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from keystep.notebook import html_lines, new_figure

TOLERANCE = 1e-4
TWICE = 2  # of what was recorded: other CPUs add up in another order
AMPLIFIED = 4  # of what rounding alone does to this policy on the golden cases: it is a sample of few


@dataclass(frozen=True)
class Comparison:
    """Absolute differences between two ways to compute one thing, over all golden cases.

    Network units are those in which all policies have a range of about 2, whatever their actions are.

    Attributes:
        max_error, rms_error: in network units.
        recorded: the greatest one when the bundle was exported, of weights that are rounded; else 0.
        rounding: what single precision alone does to it, in network units; see `keystep.export.rounding`.
        physical: the greatest one in physical units (images: 0..1); None of what has none.
    """

    ours: str
    reference: str
    quantity: str
    max_error: float
    rms_error: float
    recorded: float = 0.0
    rounding: float = 0.0
    physical: float | None = None

    def allowed(self, tolerance: float = TOLERANCE) -> float:
        """The greatest difference at which both are the same policy: for `keystep verify` and for export."""
        return max(tolerance, TWICE * self.recorded, AMPLIFIED * self.rounding)

    def within(self, tolerance: float = TOLERANCE) -> bool:
        return self.max_error <= self.allowed(tolerance)  # false for NaN

    def described(self, tolerance: float) -> str:
        """One line of the report."""
        pair = f"{self.ours:<16} = {self.reference:<18} {self.quantity:<12}"
        errors = f"max {self.max_error:8.2e}  rms {self.rms_error:8.2e}"
        physical = f"{self.physical:8.2e}" if self.physical is not None else 8 * " "
        verdict = "ok" if self.within(tolerance) else "DIFFERS"
        if TWICE * self.recorded > tolerance:
            verdict += f" (recorded {self.recorded:.2e})"
        if AMPLIFIED * self.rounding > tolerance:
            verdict += f" (rounding {self.rounding:.2e})"
        return f"  {pair} {errors}  physical {physical}  {verdict}"


@dataclass(frozen=True)
class VerifyReport:
    """All comparisons of a bundle, in network units, physical ones beside."""

    bundle: str
    cases: int
    tolerance: float
    comparisons: tuple[Comparison, ...]

    @property
    def different(self) -> list[Comparison]:
        """The rows that are further apart than they may be."""
        return [row for row in self.comparisons if not row.within(self.tolerance)]

    @property
    def ok(self) -> bool:
        """Whether every difference is as small as it may be."""
        return not self.different

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
        lines = [f"{self.bundle}: {self.cases} golden cases, tolerance {self.tolerance:g} in network units"]
        return "\n".join([*lines, *(row.described(self.tolerance) for row in self.comparisons)])


def compare(ours: str, reference: str, quantity: str, left: np.ndarray, right: np.ndarray) -> Comparison:
    """Of two arrays in network units."""
    difference = np.abs(left.astype(np.float64) - right)
    rms = float(np.sqrt(np.mean(difference**2)))
    return Comparison(ours, reference, quantity, float(np.max(difference)), rms)
