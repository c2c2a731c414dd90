"""The same work on many jobs, in this process or in several: the one process pool of keystep."""

from __future__ import annotations

import functools
import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed, wait
from types import TracebackType
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")
Job = tuple[Any, ...]
"""Arguments of the work."""

AHEAD = 4
"""Jobs per process that are run ahead of the first one: where they last differently, nobody waits for it."""

_work: Callable[..., Any] | None = None  # of this worker process
_fault: Exception | None = None  # why it has none


def _start_worker(open_work: Callable[[], Callable[..., Any]]) -> None:
    global _work, _fault
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    threading.Thread(target=_follow_parent, daemon=True).start()
    os.environ.setdefault("LP_NUM_THREADS", "0")  # several software renderers share the cores
    try:
        _work = open_work()
    except Exception as error:  # told with the first job: the pool itself would only say that it is broken
        _fault = _portable(error)


def _portable(error: Exception) -> Exception:
    """As it is, if it comes through a pickle; else what it says."""
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    except Exception:
        pass
    return RuntimeError(f"{type(error).__name__}: {error}")


def _follow_parent() -> None:
    """End with a parent that was killed, which nobody else would notice."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _do(job: Job) -> Any:
    if _fault is not None:
        raise _fault
    assert _work is not None
    return _work(*job)


class Workers(Generic[Result]):
    """Context manager. Works in this process when `processes` is 1, else in a pool of fresh ones.

    Spawned ones: a forked simulator or engine would share threads and locks. Leaving waits for the jobs that
    have begun and drops the others.

    Args:
        open_work: makes the work, once in every process; picklable when there are several.
        processes: at least 1.

    Raises:
        ValueError: fewer.
    """

    def __init__(self, open_work: Callable[[], Callable[..., Result]], processes: int) -> None:
        if processes < 1:
            raise ValueError(f"processes: expected at least 1, got {processes}")
        self._open_work = open_work
        self._processes = processes
        self._started: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers[Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._started is None:
            return
        processes = list((self._started._processes or {}).values())
        try:
            self._started.shutdown(cancel_futures=True)
        except KeyboardInterrupt:  # of somebody who does not wait for a simulator that hangs
            for process in processes:
                process.kill()
            raise

    def run(self, jobs: Iterable[Job]) -> Generator[tuple[Job, Result], None, None]:
        """(job, result) in the order of `jobs`, which may be endless: few are run ahead.

        Raises:
            BrokenProcessPool: a process died.
            Exception: what opening the work, or a job, has raised.
        """
        for found in self.polled(jobs, None):
            assert found is not None
            yield found

    def polled(
        self, jobs: Iterable[Job], seconds: float | None
    ) -> Generator[tuple[Job, Result] | None, None, None]:
        """As `run`, and None whenever nothing came for so long; in this process it waits for the job."""
        if self._processes == 1:
            yield from ((job, self._work(*job)) for job in jobs)
            return
        pending: deque[tuple[Job, Future[Result]]] = deque()
        remaining = iter(jobs)
        try:
            while True:
                while len(pending) < AHEAD * self._processes and (job := next(remaining, None)) is not None:
                    pending.append((job, self._pool.submit(_do, job)))
                if not pending:
                    return
                job, future = pending[0]
                wait([future], seconds)
                if not future.done():
                    yield None
                    continue
                pending.popleft()
                yield job, future.result()
        finally:
            for _, future in pending:
                future.cancel()

    def as_completed(self, jobs: Sequence[Job]) -> Iterator[Result]:
        """The results, as they come; every process meets the jobs in their order. Raises as `run`."""
        if self._processes == 1:
            yield from (self._work(*job) for job in jobs)
            return
        futures = [self._pool.submit(_do, job) for job in jobs]
        try:
            yield from (future.result() for future in as_completed(futures))
        finally:
            for future in futures:
                future.cancel()

    @functools.cached_property
    def _work(self) -> Callable[..., Result]:
        """Of this process."""
        return self._open_work()

    @property
    def _pool(self) -> ProcessPoolExecutor:
        if self._started is None:
            context = multiprocessing.get_context("spawn")
            self._started = ProcessPoolExecutor(self._processes, context, _start_worker, (self._open_work,))
        return self._started
