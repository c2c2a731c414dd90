"""A worker on a machine of a cluster. Importing this needs no Ray."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keystep.processes import Job
from keystep.record.bundles import has_bundle, unpack_bundle

AWAY = "the bundle is not on this machine"


class ClusterWorker:
    """Makes its work once, from the bundle at `path` if it is there, else from the object store.

    Args:
        open_work: see `keystep.record.work.OpenWork`.
        digest: of the bundle; another one at `path` is refused.
        content: empty or None, or a reference to `packed_bundle`.
    """

    def __init__(self, open_work: Any, path: str, digest: str, content: Sequence[Any] | None) -> None:
        self._open_work = open_work
        self._path, self._digest, self._content = Path(path), digest, content
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._work: Any = None

    def ready(self) -> str:
        """Open the work; `AWAY` when there is no bundle to make it from."""
        folder = self._path
        if not has_bundle(folder, self._digest):
            if not self._content:
                return AWAY
            import ray

            self._copy = tempfile.TemporaryDirectory(prefix="keystep-bundle-")
            folder = unpack_bundle(ray.get(self._content[0]), Path(self._copy.name))
            has_bundle(folder, self._digest)  # refuses another one
        self._work = self._open_work(folder)
        return ""

    def run(self, job: Job) -> Any:
        """The result of one job."""
        return self._work(*job)
