"""The tables of keystep: as Markdown for files, aligned for terminals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column is left-aligned, the others right."""
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def table_of(rows: Sequence[Mapping[str, str]]) -> str:
    """The same with the keys of the first row as header. Raises ValueError without one."""
    if not rows:
        raise ValueError("rows: expected at least one, got none")
    header = list(rows[0])
    return markdown_table(header, ([row[key] for key in header] for row in rows))


def print_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str | None = None,
    section: int = 0,
    prose: bool = False,
) -> None:
    """Aligned as `markdown_table`.

    Args:
        section: rows above a line.
        prose: the last column is text, which is wrapped; "[dim]..[/dim]" is dimmed.
    """
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    names = list(map(escape, header))
    right = [Column(name, justify="right", no_wrap=True) for name in names[1:]]
    if prose:
        right[-1] = Column(names[-1], ratio=1)
    look = {"box": box.SIMPLE, "padding": (0, 1, 0, 0), "show_edge": False, "pad_edge": False}
    above = None if title is None else escape(title)
    table = Table(Column(names[0], no_wrap=True), *right, title=above, **look)  # type: ignore[arg-type]
    for number, row in enumerate(rows, start=1):
        plain = len(row) - prose  # cells that are no markup
        table.add_row(*map(escape, row[:plain]), *row[plain:], end_section=number == section)
    Console(highlight=False).print(table)
