"""Rates by row and column, over the seeds of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keystep.evaluate.plots import COLOURS
from keystep.notebook import html_markdown, new_figure
from keystep.table_writer import markdown_table
from keystep.uncertainty import mean, standard_error

Cells = dict[tuple[str, str], tuple[float, ...]]
"""By row and column the value of every seed."""


@dataclass(frozen=True)
class CellTable:
    """Rates by row and column, a value for every seed; printable, and drawn as bars.

    Attributes:
        cells: by (row, column); a pair that is not done yet is not there.
        unit: "%" of success rates, "" of lengths.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Cells
    caption: str
    unit: str = "%"
    remarks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All figures, for a JSON file."""
        cells = [
            {
                "row": row,
                "column": column,
                "values": list(values),
                "mean": mean(values),
                "standard_error": standard_error(values),
            }
            for (row, column), values in self.cells.items()
        ]
        told = {"title": self.title, "unit": self.unit, "caption": self.caption}
        return told | {"remarks": list(self.remarks), "cells": cells}

    def markdown(self) -> str:
        """As the paper's tables; mean ± standard error over the seeds of training."""
        rows = [[row, *(self._told(row, column) for column in self.columns)] for row in self.rows]
        table = markdown_table([self.title, *self.columns], rows)
        lines = "".join(f"{remark}\n" for remark in self.remarks)
        return f"{table}\n{lines}Mean ± standard error over the seeds of training. {self.caption}\n"

    def plot(self) -> Any:
        """A matplotlib figure: a group of bars per row."""
        figure = new_figure(2 + 1.2 * len(self.rows), 3.6)
        axes = figure.subplots()
        width, scale = 0.8 / len(self.columns), self._scale
        for index, column in enumerate(self.columns):
            found = [self.cells.get((row, column), ()) for row in self.rows]
            x = [n + (index - (len(self.columns) - 1) / 2) * width for n in range(len(self.rows))]
            heights = [scale * (mean(values) or 0.0) for values in found]
            errors = [scale * (standard_error(values) or 0.0) for values in found]
            axes.bar(x, heights, width, yerr=errors, capsize=2, color=COLOURS[index % 8], label=column)
        axes.set_xticks(range(len(self.rows)), self.rows)
        axes.set_ylabel(f"{self.title}{', %' if self.unit else ''}")
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        axes.legend(fontsize="small")
        return figure

    @property
    def _scale(self) -> float:
        return 100.0 if self.unit else 1.0

    def _told(self, row: str, column: str) -> str:
        values = self.cells.get((row, column))
        if values is None:
            return "-"
        error, places = standard_error(values), 1 if self.unit else 2
        more = "" if error is None else f" ± {self._scale * error:.{places}f}"
        return f"{self._scale * (mean(values) or 0.0):.{places}f}{more} {self.unit}".rstrip()

    def _repr_html_(self) -> str:
        return html_markdown(self.markdown())
