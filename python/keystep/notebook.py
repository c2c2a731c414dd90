"""Reports in a notebook: tables as HTML, figures by matplotlib."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from typing import Any


def html_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is left-aligned and the others right; `**text**` is bold."""

    def line(cells: Sequence[str], tag: str) -> str:
        aligned = ["left", *["right"] * (len(cells) - 1)]
        parts = (
            f'<{tag} style="text-align: {side}">{_inline(cell)}</{tag}>'
            for cell, side in zip(cells, aligned, strict=True)
        )
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{line(header, 'th')}</thead><tbody>{body}</tbody></table>"


def html_lines(text: str) -> str:
    """Text as it stands, spaces and all."""
    return f"<pre>{escape(text)}</pre>"


def html_markdown(markdown: str) -> str:
    """The tables and lines that keystep.evaluate.tables writes."""
    parts = []
    for is_table, lines in groupby(filter(None, markdown.splitlines()), lambda line: line.startswith("|")):
        if is_table:
            header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
            parts.append(html_table(header, rows))
        else:
            parts.append(f"<p>{'<br>'.join(map(_inline, lines))}</p>")
    return "\n".join(parts)


def _inline(text: str) -> str:
    return re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", escape(text))


def new_figure(width: float, height: float) -> Any:
    """A matplotlib figure of so many inches; without pyplot, so there is no global state and no display.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        message = "a plot needs matplotlib, which is not installed: pip install matplotlib"
        raise ModuleNotFoundError(message, name=error.name) from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
