"""What the driver of a collection asks of those who play its contexts."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from keystep.processes import Job

MAX_RESTARTS = 3
"""In a row without a result between them."""
POLL_SECONDS = 2.0
"""Longest time without a word from a pool."""

OpenWork = Callable[[Path], Callable[..., Any]]
"""Makes the work from the folder that travels, once in every process; picklable."""


class WorkerPool(Protocol):
    """A context manager. Leaving drops the jobs that have not begun.

    Attributes:
        restarts: of workers that died; their jobs were done again.
    """

    restarts: int

    def __enter__(self) -> WorkerPool: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None: ...

    def run(self, jobs: Iterable[Job]) -> Generator[tuple[Job, Any] | None, None, None]:
        """(job, result) in the order of `jobs`, which may be endless: few are run ahead.

        None now and then where nothing came for a while, for who wants to stop.

        Raises:
            DatasetError: workers keep dying, or the cluster is gone.
            Exception: what opening the work, or a job, has raised.
        """
        ...
