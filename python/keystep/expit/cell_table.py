"""Figures by row and column, over the seeds of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keystep.evaluate.plots import COLOURS, MARKERS
from keystep.notebook import html_markdown, new_figure
from keystep.table_writer import markdown_table
from keystep.uncertainty import mean, standard_error

Cells = dict[tuple[str, str], tuple[float, ...]]
"""By row and column the value of every seed."""
SEEDS = "the seeds of training"


@dataclass(frozen=True)
class CellTable:
    """Figures by row and column, a value for every seed; printable, and drawn as bars or lines.

    Attributes:
        cells: by (row, column); a pair without a value is empty, or not there.
        lengths: columns that are not shares: tasks in a row.
        over: what the standard errors are over.
        errors: standard errors by (row, column) that are not those over the values.
        bases: rows that are also told as a multiple of another one.
        curves: draw a line per row, over the columns but the last, instead of bars.
        signed: columns that are differences.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Cells
    caption: str
    lengths: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    over: str = SEEDS
    errors: Mapping[tuple[str, str], float | None] = field(default_factory=dict)
    bases: Mapping[str, str] = field(default_factory=dict)
    curves: bool = False
    signed: tuple[str, ...] = ()

    def mean(self, row: str, column: str) -> float | None:
        """None of an empty cell."""
        return mean(self.cells.get((row, column), ()))

    def error(self, row: str, column: str) -> float | None:
        """Standard error of the mean; None where there is none."""
        return self.errors.get((row, column), standard_error(self.cells.get((row, column), ())))

    def factor(self, row: str, column: str) -> float | None:
        """The mean as a multiple of that of the row's base; None without one."""
        value = self.mean(row, column)
        base = self.mean(self.bases[row], column) if row in self.bases else None
        return value / base if value is not None and base else None

    def to_dict(self) -> dict[str, Any]:
        """All figures, for a JSON file."""
        cells = [
            {
                "row": row,
                "column": column,
                "values": list(values),
                "mean": self.mean(row, column),
                "standard_error": self.error(row, column),
                **({"factor": self.factor(row, column)} if row in self.bases else {}),
            }
            for (row, column), values in self.cells.items()
        ]
        told = {"title": self.title, "lengths": list(self.lengths), "standard_error_over": self.over}
        return told | {"caption": self.caption, "remarks": list(self.remarks), "cells": cells}

    def markdown(self) -> str:
        """As the paper's tables: mean ± standard error."""
        rows = [[row, *(self._told(row, column) for column in self.columns)] for row in self.rows]
        table = markdown_table([self.title, *self.columns], rows)
        lines = "".join(f"{remark}\n" for remark in self.remarks)
        return f"{table}\n{lines}Mean ± standard error over {self.over}. {self.caption}\n"

    def plot(self) -> Any:
        """A matplotlib figure."""
        figure = new_figure(6.4 if self.curves else 2 + 1.2 * len(self.rows), 3.6)
        axes = figure.subplots()
        (self._draw_curves if self.curves else self._draw_bars)(axes)
        axes.grid(axis="both" if self.curves else "y", alpha=0.3)
        axes.set_axisbelow(True)
        axes.legend(fontsize="x-small")
        figure.supxlabel(f"± standard error over {self.over}", fontsize="x-small")
        return figure

    def _draw_bars(self, axes: Any) -> None:
        """A group per row."""
        width = 0.8 / len(self.columns)
        for index, column in enumerate(self.columns):
            x = [n + (index - (len(self.columns) - 1) / 2) * width for n in range(len(self.rows))]
            scale = self._scale(column)
            heights = [scale * (self.mean(row, column) or 0.0) for row in self.rows]
            errors = [scale * (self.error(row, column) or 0.0) for row in self.rows]
            axes.bar(x, heights, width, yerr=errors, capsize=2, color=COLOURS[index % 8], label=column)
        axes.set_xticks(range(len(self.rows)), self.rows, rotation=20, ha="right", fontsize="small")
        axes.set_ylabel(self.title if self.lengths else f"{self.title}, %")

    def _draw_curves(self, axes: Any) -> None:
        """A line per row over the shares."""
        shares = [column for column in self.columns if column not in self.lengths]
        for index, row in enumerate(self.rows):
            values = [100 * (self.mean(row, column) or 0.0) for column in shares]
            errors = [100 * (self.error(row, column) or 0.0) for column in shares]
            style = {"color": COLOURS[index % 8], "marker": MARKERS[index // 8 % 8], "capsize": 2}
            axes.errorbar(range(len(shares)), values, errors, label=row, **style)
        axes.set_xticks(range(len(shares)), shares)
        axes.set_ylim(0, 105)
        axes.set_xlabel(self.title)
        axes.set_ylabel("chains, %")

    def _scale(self, column: str) -> float:
        return 1.0 if column in self.lengths else 100.0

    def _told(self, row: str, column: str) -> str:
        value, error = self.mean(row, column), self.error(row, column)
        if value is None:
            return "-"
        scale, unit, places = (1.0, "", 2) if column in self.lengths else (100.0, " %", 1)
        sign = "+" if column in self.signed else ""
        spread = "" if error is None else f" ± {scale * error:.{places}f}"
        factor = self.factor(row, column)
        multiple = "" if factor is None else f" (x {factor:.2f})"
        return f"{scale * value:{sign}.{places}f}{spread}{unit}{multiple}"

    def _repr_html_(self) -> str:
        return html_markdown(self.markdown())
