"""The progress bars of keystep: on standard error, and none where that is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

Item = TypeVar("Item")


def progress_bar(*more: Any, console: Console | None = None) -> Progress:
    """What is counted, a bar, how many of how many, time spent and to go.

    Args:
        more: further columns.
        console: another one than standard error.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True) if console is None else console
    times = (MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    columns = (TextColumn("{task.description:>18}", markup=False), BarColumn(), *times, *more)
    # Lines printed meanwhile go above the bar, unless they go to a file: then they stay what they are.
    above = sys.stdout.isatty()
    return Progress(*columns, console=console, redirect_stdout=above, disable=not console.is_terminal)


def tracked(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """`items` under a bar.

    Args:
        total: number of the items, where they have no length.
    """
    with progress_bar() as progress:
        yield from progress.track(items, total=total, description=what)
