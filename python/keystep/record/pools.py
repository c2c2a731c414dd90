"""Who plays the contexts: this process, several ones, or a cluster. What is played is the same."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import Any

from keystep.data.errors import DatasetError
from keystep.processes import Job, Workers
from keystep.record.work import MAX_RESTARTS, POLL_SECONDS, OpenWork, WorkerPool


class ProcessPool:
    """Processes of this machine; see `WorkerPool` and `keystep.processes.Workers`."""

    def __init__(self, open_work: OpenWork, folder: Path, processes: int) -> None:
        self._open = functools.partial(open_work, folder)
        self._processes = processes
        self._workers: Workers[Any] | None = None
        self.restarts = 0

    def __enter__(self) -> ProcessPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._workers is not None:
            self._workers.__exit__(kind, error, trace)

    def run(self, jobs: Iterable[Job]) -> Generator[tuple[Job, Any] | None, None, None]:
        """See `WorkerPool.run`."""
        remaining, failures = iter(jobs), 0
        begun: list[Job] = []  # not yet given back, in order

        def noted() -> Generator[Job, None, None]:
            yield from list(begun)
            for job in remaining:
                begun.append(job)
                yield job

        while True:
            self._workers = self._workers or Workers(self._open, self._processes)
            try:
                for found in self._workers.polled(noted(), POLL_SECONDS):
                    if found is not None:
                        begun.pop(0)
                        failures = 0
                    yield found
                return
            except BrokenProcessPool as error:
                self._workers.__exit__(None, None, None)
                self._workers, failures = None, failures + 1
                self.restarts += 1
                if failures > MAX_RESTARTS:
                    raise DatasetError(
                        f"processes: expected simulators to keep running, but one died {failures} times in a "
                        f"row: {error}"
                    ) from error


def open_pool(open_work: OpenWork, folder: Path, processes: int, cluster: str | None) -> WorkerPool:
    """The pool that was asked for.

    Args:
        folder: of the bundle, which travels to other machines.
        processes: of this machine, or workers of the cluster; 0 of a cluster: one for each of its cores.
        cluster: None; "local" for a Ray of its own on this machine; else the address of a running one.

    Raises:
        DatasetError: fewer than one process; no such cluster, or no Ray.
    """
    least, name = (1, "processes") if cluster is None else (0, "workers")
    if processes < least:
        raise DatasetError(f"{name}: expected at least {least}, got {processes}")
    if cluster is None:
        return ProcessPool(open_work, folder, processes)
    from keystep.record.cluster import RayPool

    return RayPool(open_work, folder, processes, cluster)
