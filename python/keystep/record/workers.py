"""Rollouts in one or several processes, with results in the order of the seeds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType

from keystep.data.layout import DatasetError
from keystep.suites.base import Frames, Rollout

_rollout: Rollout | None = None  # of this worker process


def _start_worker(open_rollout: Callable[[], Rollout]) -> None:
    global _rollout
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    threading.Thread(target=_follow_parent, daemon=True).start()
    os.environ.setdefault("LP_NUM_THREADS", "0")  # several software renderers share the cores
    _rollout = open_rollout()


def _follow_parent() -> None:
    """End with a parent that was killed, which nobody else would notice."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(task: str, seed: int) -> Frames | None:
    assert _rollout is not None
    return _rollout(task, seed)


class Workers:
    """Runs rollouts; in this process when `processes` is 1, else in a pool of fresh ones."""

    def __init__(self, open_rollout: Callable[[], Rollout], processes: int) -> None:
        self._open_rollout = open_rollout
        self._processes = processes
        self._rollout: Rollout | None = None
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(self, task: str, seeds: Iterable[int]) -> Generator[tuple[int, Frames | None], None, None]:
        """(seed, frames or None) in the order of `seeds`, which may be endless: few are run ahead."""
        if self._processes == 1:
            if self._rollout is None:
                self._rollout = self._open_rollout()
            yield from ((seed, self._rollout(task, seed)) for seed in seeds)
            return
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._processes, context, _start_worker, (self._open_rollout,))
        yield from self._run_pool(self._pool, task, seeds)

    def _run_pool(
        self, pool: ProcessPoolExecutor, task: str, seeds: Iterable[int]
    ) -> Generator[tuple[int, Frames | None], None, None]:
        pending: deque[tuple[int, Future]] = deque()
        remaining = iter(seeds)
        try:
            while True:
                while len(pending) <= self._processes and (seed := next(remaining, None)) is not None:
                    pending.append((seed, pool.submit(_work, task, seed)))
                if not pending:
                    return
                seed, future = pending.popleft()
                yield seed, future.result()
        except BrokenProcessPool as error:
            raise DatasetError(
                f"{task}: expected simulators to keep running, but one died: {error}"
            ) from error
        finally:
            for _, future in pending:
                future.cancel()
