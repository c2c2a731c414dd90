"""Cross-evaluation: any planner with any controller (HD-ExpIt, Tables 2 and 3)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keystep
from keystep.evaluate.protocols import Report
from keystep.notebook import html_markdown

Export = Callable[[Path, Path, Path], Path]
"""(planner checkpoint, controller checkpoint, new folder) -> bundle"""
EvaluateBundle = Callable[[Path], Report]


@dataclass(frozen=True)
class Pair:
    """One cell of the matrix.

    Attributes:
        report: None of a pair that could not be exported or evaluated.
        error: why not.
    """

    planner: str
    controller: str
    report: Report | None
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """All pairs, for a JSON file."""
        report = None if self.report is None else self.report.to_dict()
        return {"planner": self.planner, "controller": self.controller, "report": report, "error": self.error}


@dataclass(frozen=True)
class CrossReport:
    """One report for each pair; the pairs that are done, row by row.

    Attributes:
        planners, controllers: names of the rows and columns.
    """

    planners: tuple[str, ...]
    controllers: tuple[str, ...]
    pairs: tuple[Pair, ...]

    def report(self, planner: str, controller: str) -> Report | None:
        """None when this pair is not done yet, or could not be."""
        for pair in self.pairs:
            if (pair.planner, pair.controller) == (planner, controller):
                return pair.report
        return None

    def plot(self) -> Any:
        """A matplotlib figure: success of each pair. Needs matplotlib."""
        from keystep.evaluate.plots import cross_figure

        return cross_figure(self)

    def _repr_html_(self) -> str:
        from keystep.evaluate.tables import cross_markdown

        return html_markdown(cross_markdown(self))

    def to_dict(self) -> dict[str, Any]:
        """All pairs, for a JSON file."""
        return {
            "planners": list(self.planners),
            "controllers": list(self.controllers),
            "pairs": [pair.to_dict() for pair in self.pairs],
        }


def cross(
    planners: Sequence[Path], controllers: Sequence[Path], export: Export, evaluate: EvaluateBundle
) -> Iterator[CrossReport]:
    """Pair checkpoints: export each pair into a temporary folder and evaluate it there.

    A pair that cannot be exported or evaluated has its reason in place of a report.

    Args:
        export: writes the bundle of a pair; `keystep.export` belongs to the caller.
        evaluate: of a bundle, on the same episodes for each.

    Yields:
        The report so far, after every pair.

    Raises:
        ArgumentError: no planner or no controller, or one of them twice.
    """
    rows, columns = names(planners), names(controllers)
    pairs: tuple[Pair, ...] = ()
    for planner, row in zip(planners, rows, strict=True):
        for controller, column in zip(controllers, columns, strict=True):
            report, error = None, ""
            try:
                with tempfile.TemporaryDirectory(prefix="keystep-cross-") as folder:
                    report = evaluate(export(planner, controller, Path(folder) / "pair.keystep"))
            except (RuntimeError, ValueError) as reason:  # parts that do not fit; keystep.Error is one, too
                error = " ".join(str(reason).split()) or type(reason).__name__
            pairs = (*pairs, Pair(row, column, report, error))
            yield CrossReport(rows, columns, pairs)


def names(paths: Sequence[Path]) -> tuple[str, ...]:
    """What to call folders in a table: their last names, or as much as tells them apart."""
    paths = [path.resolve() for path in paths]
    if len(set(paths)) < len(paths):
        raise keystep.ArgumentError("paths: expected each folder once, got one twice")
    for parts in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        found = tuple("/".join(path.parts[-parts:]) for path in paths)
        if len(set(found)) == len(found):
            return found
    raise keystep.ArgumentError("paths: expected at least one folder, got none")
