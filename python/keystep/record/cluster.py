"""The workers of a Ray cluster: the same jobs, over many machines (extra `cluster`).

Jobs and results travel; nothing is written but by the process that calls `run`. A worker whose process or
machine dies is replaced and its job done again. A bundle that a machine does not have travels through the
object store.
"""

from __future__ import annotations

import functools
import os
import socket
import time
from collections import deque
from collections.abc import Generator, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from keystep.data.errors import DatasetError
from keystep.processes import Job
from keystep.record.bundles import bundle_digest, packed_bundle
from keystep.record.cluster_worker import AWAY, ClusterWorker
from keystep.record.work import MAX_RESTARTS, POLL_SECONDS, OpenWork

LOCAL = "local"
STORE_BYTES = 80 << 20  # least that Ray takes, about; results are small
START_SECONDS = 300.0
GONE_POLLS = 3
AHEAD = 2  # jobs per worker


class RayPool:
    """See `keystep.record.work.WorkerPool`.

    Args:
        open_work: makes the work from the bundle's folder.
        bundle: on this machine; each worker uses the same one on its own, or gets a copy.
        workers: at most so many, one core each; fewer where the cluster has fewer cores. 0: all cores.
        address: "local", or that of a running cluster.

    Raises:
        DatasetError: no Ray, or no such cluster.
    """

    def __init__(self, open_work: OpenWork, bundle: Path, workers: int, address: str) -> None:
        self._open_work = open_work
        self._bundle = bundle
        self._digest = bundle_digest(bundle)
        self._wanted = workers
        self._address = address
        self._workers: list[_Remote] = []
        self._content: Any = None  # in the object store
        self._failures = 0  # in a row
        self.restarts = 0

    def __enter__(self) -> RayPool:
        self._ray = _imported()
        self._owner = not self._ray.is_initialized()
        if self._owner:
            self._connect()
        self._gcs = self._ray.get_runtime_context().gcs_address
        self._wanted = self._wanted or max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        self._actor = self._ray.remote(num_cpus=1, max_restarts=0)(ClusterWorker)
        return self

    def _connect(self) -> None:
        options: dict[str, Any] = {"address": self._address}
        if self._address == LOCAL:
            store = STORE_BYTES + 2 * sum(path.stat().st_size for path in self._bundle.iterdir())
            options |= {
                "num_cpus": self._wanted or os.cpu_count(),
                "object_store_memory": store,
                "include_dashboard": False,
            }
        else:
            _require_reachable(self._address)
        try:
            self._ray.init(log_to_driver=False, configure_logging=False, **options)
        except Exception as error:
            raise _gone(self._address, error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            with suppress(Exception):
                self._ray.kill(worker.handle)
        if self._owner and self._alive():
            self._ray.shutdown()

    # ---- jobs

    def run(self, jobs: Iterable[Job]) -> Generator[tuple[Job, Any] | None, None, None]:
        """See `WorkerPool.run`."""
        waiting: deque[_Pending] = deque()  # in order, done or not
        remaining = iter(jobs)
        polled = time.monotonic()
        while True:
            self._hire()
            self._hand_out(waiting, remaining)
            if not waiting:
                return  # no jobs any more
            while waiting and waiting[0].done:
                first = waiting.popleft()
                yield first.job, first.result
                self._hand_out(waiting, remaining)
            self._take(waiting)
            if time.monotonic() - polled > POLL_SECONDS:
                yield None
                self._require_alive()
                polled = time.monotonic()

    def _hire(self) -> None:
        """As many workers as were wanted; those that find no core wait for one."""
        while len(self._workers) < self._wanted:
            handle = self._guarded(
                lambda: self._actor.remote(self._open_work, str(self._bundle), self._digest, self._content)
            )
            self._workers.append(_Remote(handle, handle.ready.remote(), time.monotonic()))

    def _hand_out(self, waiting: deque[_Pending], remaining: Any) -> None:
        """A job for each idle worker, the first that nobody has."""
        while len(waiting) < AHEAD * self._wanted and (job := next(remaining, None)) is not None:
            waiting.append(_Pending(job))
        idle = (worker for worker in self._workers if worker.ready and worker.pending is None)
        for item in [item for item in waiting if not item.done and item.worker is None]:
            if (worker := next(idle, None)) is None:
                return
            worker.pending, item.worker = item, worker
            worker.reference = self._guarded(functools.partial(worker.handle.run.remote, item.job))

    def _take(self, waiting: deque[_Pending]) -> None:
        """Wait a little for a worker that has something to say."""
        said = {worker.reference: worker for worker in self._workers if worker.reference is not None}
        ready, _ = self._guarded(lambda: self._ray.wait(list(said), timeout=POLL_SECONDS))
        for reference in ready:
            worker = said[reference]
            try:
                value = self._ray.get(reference, timeout=60)
            except self._ray.exceptions.RayError as error:
                self._failed(worker, error)
                continue
            worker.reference = None
            if value == AWAY:
                self._send_bundle()
                self._drop(worker)
            elif worker.ready:
                assert worker.pending is not None
                worker.pending.result, worker.pending.done = value, True
                worker.pending, self._failures = None, 0
            else:
                worker.ready = True

    # ---- what goes wrong

    def _failed(self, worker: _Remote, error: Exception) -> None:
        """Replace a worker that died; raise what its work itself has raised."""
        exceptions = self._ray.exceptions
        if isinstance(error, exceptions.RayTaskError) and not isinstance(error, exceptions.ObjectLostError):
            cause = getattr(error, "cause", None)
            raise cause if isinstance(cause, Exception) else DatasetError(_one_line(error))
        if isinstance(error, exceptions.OutOfDiskError | exceptions.ObjectStoreFullError):
            raise _full(error) from error
        self.restarts += 1
        self._failures += 1
        if self._failures > MAX_RESTARTS + self._wanted:
            raise DatasetError(
                f"cluster: expected workers to keep running, but they died {self._failures} times in a row: "
                f"{_one_line(error)}"
            ) from error
        self._content = None if self._content is None else self._put()  # it may be what was lost
        self._drop(worker)

    def _drop(self, worker: _Remote) -> None:
        if worker.pending is not None:
            worker.pending.worker = None
        self._workers.remove(worker)
        with suppress(Exception):
            self._ray.kill(worker.handle)

    def _send_bundle(self) -> None:
        if self._content is None:
            self._content = self._put()

    def _put(self) -> Any:
        if bundle_digest(self._bundle) != self._digest:
            raise DatasetError(f"{self._bundle}: expected it to stay as it was, but it has changed")
        return self._guarded(lambda: [self._ray.put(packed_bundle(self._bundle))])

    def _guarded(self, call: Any) -> Any:
        """What Ray raises when it cannot go on, as one line."""
        try:
            return call()
        except (self._ray.exceptions.OutOfDiskError, self._ray.exceptions.ObjectStoreFullError) as error:
            raise _full(error) from error
        except (self._ray.exceptions.RayError, ConnectionError, RuntimeError) as error:
            raise _gone(self._address, error) from error

    def _alive(self) -> bool:
        return self._ray.is_initialized() and _reachable(self._gcs)

    def _require_alive(self) -> None:
        """Ray itself waits a minute for a head that is gone, and then ends this process without a word."""
        for _ in range(GONE_POLLS):
            if self._alive():
                break
            time.sleep(POLL_SECONDS / GONE_POLLS)
        else:
            raise _gone(self._address, ConnectionError(f"nobody answers at {self._gcs}"))
        now = time.monotonic()
        starting = [worker for worker in self._workers if not worker.ready]
        if len(starting) == len(self._workers) and all(now - w.born > START_SECONDS for w in starting):
            raise DatasetError(
                f"cluster: expected a free core within {START_SECONDS:g} s, got none of "
                f"{self._ray.cluster_resources().get('CPU', 0):g}"
            )


class _Pending:
    def __init__(self, job: Job) -> None:
        self.job = job
        self.worker: _Remote | None = None
        self.done = False
        self.result: Any = None


class _Remote:
    def __init__(self, handle: Any, reference: Any, born: float) -> None:
        self.handle = handle
        self.reference = reference
        self.born = born
        self.ready = False
        self.pending: _Pending | None = None


def require_cluster(address: str) -> None:
    """Raises DatasetError: no Ray, or nobody answers at this address."""
    _imported()
    if address != LOCAL:
        _require_reachable(address)


def _imported() -> Any:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is sent anywhere
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise DatasetError(
            "cluster: expected the package ray, found none; install it with: pip install 'keystep[cluster]'"
        ) from error
    return ray


def _reachable(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=POLL_SECONDS):
            return True
    except (OSError, ValueError):
        return False


def _require_reachable(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise DatasetError(f"cluster: expected local or HOST:PORT of a Ray cluster, got {address!r}")
    if not _reachable(address):
        raise _gone(address, ConnectionError("nobody answers"))


def _gone(address: str, error: Exception) -> DatasetError:
    return DatasetError(f"cluster: expected a Ray cluster at {address}, found none: {_one_line(error)}")


def _full(error: Exception) -> DatasetError:
    wanted = "room in the object store and its spill folder"
    return DatasetError(f"cluster: expected {wanted}, found none: {_one_line(error)}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
