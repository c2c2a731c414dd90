"""What a planner that writes code sees, as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from keystep.table_writer import print_table

FIGURES = {
    "exact": "",
    "cell_exact": "  cell exact",
    "cell_near": "  cell, or one beside",
    "cell_error": "  cells off",
    "colour": "  colour",
    "shape": "  shape",
    "name": "  other names",
    "log_likelihood": "  log-likelihood",
}
"""In the order of the table; the first is called as the kind of question."""


def print_sight(found: Mapping[str, Any]) -> None:
    """Of `keystep.train.sight_metrics.sight_metrics`, with `missing`: why some questions are not asked."""
    rows = [row for kind, figures in found["kinds"].items() for row in _rows(kind, figures)]
    print_table(["right about", "answers", "seen", "blind", "difference", "interval"], rows)
    if found["missing"] is not None:
        print(f"No auxiliary questions: {found['missing']}")
    print(*found["told"], sep="\n")


def _rows(kind: str, figures: Mapping[str, Mapping[str, Any]]) -> Iterator[list[str]]:
    for name, called in FIGURES.items():
        if (figure := figures.get(name)) is None:
            continue
        counts = dict.fromkeys(str(figure[side]) for side in ("seen_of", "blind_of"))
        ends = figure["interval"]
        interval = "-" if ends is None else " .. ".join(f"{end:+.2f}" for end in ends)
        numbers = (_told(figure["seen"]), _told(figure["blind"]), _told(figure["difference"], "+"))
        yield [called or kind, ", ".join(counts), *numbers, interval]


def _told(figure: float | None, sign: str = "") -> str:
    return "-" if figure is None else f"{figure:{sign}.2f}"
