"""Plans that were tried, with what became of them: what a scorer of plans is trained on.

A folder `plans.json` + `plans-NNNNNN.parquet`. Each file appears whole or not at all, and belongs to the set
once `plans.json` names it with its checksum. Columns of a row: `task`, `text`, `context` (which start of an
episode: any name), `trial`, `number` (of the plan in its trial), `success`, `bundle` (SHA-256 of the manifest
that imagined it), `observation` (S values) and `plan` (M x S values), in physical units.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from keystep.data.errors import DatasetError
from keystep.files import replacing, sha256
from keystep.record.plan_files import (
    DESCRIPTION,
    TEXTS,
    PlanSpec,
    bundle_hash,
    describe,
    described,
    read_table,
)

_KEY = ("bundle", "task", "context", "trial", "number")
"""What makes a row: each combination is there once. Another policy has other plans in the same context."""
ROWS = 1000
"""Of a file that is full."""
Key = tuple[str, str, str, int, int]


@dataclass(frozen=True)
class TriedPlans:
    """N plans.

    Attributes:
        tasks, texts, contexts, bundles: of each.
        trials: int64 (N,).
        observations: float32 (N, S), what was seen when the plan was made; plans: float32 (N, M, S).
        success: bool (N,), of the trial.
    """

    spec: PlanSpec
    tasks: tuple[str, ...]
    texts: tuple[str, ...]
    contexts: tuple[str, ...]
    bundles: tuple[str, ...]
    trials: np.ndarray
    observations: np.ndarray
    plans: np.ndarray
    success: np.ndarray

    def __len__(self) -> int:
        return len(self.success)


class PlansWriter:
    """Adds plans to a folder, new or begun before; one process at a time. Use as a context manager.

    What is added is on disk after `flush`, which `close` (and every `every` rows) calls. A kill loses what
    added since, and leaves a set that can be read and continued. The last file is written anew, under the
    next number, until it has `every` rows; so many flushes make few files.

    Args:
        manifest: of the policy whose plans they are; a set may hold those of several with one kind of plan.
        every: rows of a full file.

    Raises:
        DatasetError: the folder holds something else, plans of another shape, or somebody writes to it.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], *, every: int = ROWS) -> None:
        self.folder, self.spec = folder, PlanSpec.of(manifest)
        self._bundle = bundle_hash(manifest)
        self._every, self._rows = every, list[dict[str, Any]]()
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(folder)
        try:
            self._files, self._keys, self._last = self._begin()
        except BaseException:
            os.close(self._lock)
            raise

    def add(
        self,
        plan: dict[str, np.ndarray] | None,
        observation: dict[str, Any],
        *,
        task: str,
        success: bool,
        context: str,
        trial: int,
        text: str = "",
        number: int = 0,
    ) -> bool:
        """One plan, as `Runtime.plan` gives it, and what was seen when it was made.

        Args:
            text: what the planner was told; the task's name where it is empty.
            context: which start it was tried from. Contexts are what training and validation are split by.
            number: of the plan within the trial.

        Returns:
            Whether it is new: one of this policy, task, context, trial and number stays as it is.

        Raises:
            DatasetError: no plan; another shape; values that are not finite.
        """
        key = (self._bundle, task, context, int(trial), int(number))
        if key in self._keys:
            return False
        spec = self.spec
        if plan is None:
            raise DatasetError("plan: expected one (policy.plan() after a tick), got None")
        row = dict(zip(_KEY, key, strict=True)) | {
            "text": text or task,
            "success": bool(success),
            "observation": _values("observation", observation[spec.subgoal], (spec.width,)),
            "plan": _values("plan", plan[spec.subgoal], (spec.subgoals, spec.width)),
        }
        self._rows.append(row)
        self._keys.add(key)
        if len(self._rows) >= self._every:
            self.flush()
        return True

    def flush(self) -> None:
        """What was added is on disk afterwards. Raises OSError (disk full), which loses nothing added."""
        if not self._rows:
            return
        added = pa.Table.from_pylist(self._rows, self.spec.schema())
        table = added if self._last is None else pa.concat_tables([self._last, added])
        full = self._files if self._last is None else self._files[:-1]
        name = f"plans-{_number(self._files) + 1:06d}.parquet"
        with replacing(self.folder / name, self.folder / DESCRIPTION) as (staged, told):
            pq.write_table(table, staged)
            files = [*full, {"file": name, "rows": len(table), "sha256": sha256(staged)}]
            told.write_text(described(self.spec, files), encoding="utf-8")
        for entry in self._files[len(full) :]:  # its rows are in the new one
            (self.folder / entry["file"]).unlink(missing_ok=True)
        self._files, self._rows = files, []
        self._last = None if len(table) >= self._every else table

    def close(self) -> None:
        """Flush, and let others write."""
        try:
            self.flush()
        finally:
            os.close(self._lock)

    def __len__(self) -> int:
        return len(self._keys)

    def __enter__(self) -> PlansWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> tuple[list[dict[str, Any]], set[Key], pa.Table | None]:
        """Files, keys, and the rows of a last file that is not full."""
        if not (self.folder / DESCRIPTION).exists():
            return [], set(), None
        spec, files = describe(self.folder)
        if spec != self.spec:
            raise DatasetError(f"{self.folder}: expected plans of {self.spec}, got {spec}")
        tables = [read_table(self.folder, entry, spec) for entry in files]
        named = {entry["file"] for entry in files}
        for path in self.folder.glob("plans-*.parquet"):
            if path.name not in named:  # a kill has left it between two renames
                path.unlink(missing_ok=True)
        rows = [row for table in tables for row in zip(*_columns(table), strict=True)]
        last = tables[-1] if tables and len(tables[-1]) < self._every else None
        return files, set(rows), last


def read_plans(folders: Path | Sequence[Path]) -> TriedPlans:
    """All plans of one folder or several, checked.

    Raises:
        DatasetError: missing, damaged, of a newer version, empty, or of different kinds of plans.
    """
    folders = [folders] if isinstance(folders, Path) else list(folders)
    specs, tables = [], []
    for folder in folders:
        spec, files = describe(folder)
        specs.append(spec)
        tables += [read_table(folder, entry, spec) for entry in files]
        if spec != specs[0]:
            raise DatasetError(f"{folder}: expected plans of {specs[0]} as in {folders[0]}, got {spec}")
    if not tables:
        raise DatasetError("plans: expected at least one, got none")
    table, spec = pa.concat_tables(tables), specs[0]
    plans = _matrix(table, "plan").reshape(-1, spec.subgoals, spec.width)
    texts = {name: tuple(table[name].to_pylist()) for name in TEXTS}
    return TriedPlans(
        spec,
        tasks=texts["task"],
        texts=texts["text"],
        contexts=texts["context"],
        bundles=texts["bundle"],
        trials=table["trial"].to_numpy(),
        observations=_matrix(table, "observation"),
        plans=plans,
        success=np.array(table["success"].to_pylist(), bool),
    )


def plans_sha256(folders: Iterable[Path]) -> str:
    """Of the sets' descriptions, which hold the hashes of their files."""
    return hashlib.sha256(b"".join((folder / DESCRIPTION).read_bytes() for folder in folders)).hexdigest()


def _number(files: Sequence[dict[str, Any]]) -> int:
    """Of the last file, -1 of none."""
    return int(files[-1]["file"].removeprefix("plans-").removesuffix(".parquet")) if files else -1


def _columns(table: pa.Table) -> list[list[Any]]:
    return [table[name].to_pylist() for name in _KEY]


def _values(field: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(values, np.float32)
    if array.shape != shape:
        raise DatasetError(f"{field}: expected {shape}, got {array.shape}")
    if not np.isfinite(array).all():
        raise DatasetError(f"{field}: expected finite numbers, got NaN or Inf")
    return array.ravel()


def _matrix(table: pa.Table, name: str) -> np.ndarray:
    values = table[name].combine_chunks()
    return np.asarray(values.values, np.float32).reshape(len(table), -1)


def _lock(folder: Path) -> int:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise DatasetError(f"{folder}: expected no other writer, but a process is writing it") from None
    return descriptor
