"""Arrays that one process writes and others read whole: a robot's process and a policy's."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from keystep import _core
from keystep.features import features_of

Field = tuple[str, str, tuple[int, ...]]
"""Name, dtype (float32, int64, uint8), shape of 1 to 3 axes."""


@dataclass(frozen=True)
class Record:
    """The newest record: arrays by name, when it was taken, and of an action the tick's status."""

    arrays: dict[str, np.ndarray]
    timestamp_us: int
    now_us: int
    status: str
    count: int
    written_us: int
    """When it was written, by `keystep.now_us` of the writer, on this machine."""

    @property
    def age_us(self) -> int:
        """Since it was written. The last action of a policy that is gone is no action: compare."""
        return _core.now_us() - self.written_us


class SharedArrays:
    """Arrays in /dev/shm under a name, for `Runtime.run` and whoever is at the other end.

    One writer at a time, any number of readers, none of which waits for another. Whoever comes first creates
    them, who comes later opens them; the creator's `close` removes the name. One thread at a time per object.
    The layout is in docs/real_time.md; `multiprocessing.shared_memory` opens the same memory.
    """

    def __init__(self, core: _core.SharedArrays, *, owner: bool) -> None:
        self._core = core
        self._owner = owner

    @classmethod
    def create(cls, name: str, fields: Sequence[Field]) -> SharedArrays:
        """New arrays, without a record.

        Raises:
            ArgumentError: a name with a slash, fields without a size.
            Error: the name is in use (a process that was killed leaves it: `remove`), or no memory.
        """
        return cls(_core.SharedArrays.create(name, list(fields)), owner=True)

    @classmethod
    def open(cls, name: str, wait_s: float = 0.0) -> SharedArrays:
        """Those that another process creates.

        Args:
            wait_s: so long for it to do so.

        Raises:
            Error: there are none of this name, or of another version, or their sizes do not agree.
        """
        end = time.monotonic() + wait_s
        while True:
            try:
                return cls(_core.SharedArrays.open(name), owner=False)
            except _core.ArgumentError:
                raise
            except _core.Error:
                if time.monotonic() >= end:
                    raise
                time.sleep(0.01)

    @staticmethod
    def remove(name: str) -> None:
        """Take the name away; who has the arrays open keeps them."""
        _core.SharedArrays.remove(name)

    @property
    def name(self) -> str:
        """As given."""
        return self._core.name

    @property
    def fields(self) -> list[Field]:
        """Of every record."""
        return self._core.fields

    @property
    def count(self) -> int:
        """Records written so far."""
        return self._core.count

    @property
    def ended(self) -> bool:
        """The writer will write no more."""
        return self._core.ended

    @property
    def has_writer(self) -> bool:
        """Someone who has written is still there: False before the first record, and once its process ended,
        however it did."""
        return self._core.has_writer

    def write(self, arrays: Mapping[str, Any], timestamp_us: int | None = None, now_us: int = -1) -> None:
        """One record. Nothing is converted.

        Args:
            arrays: one per field, of exactly its dtype and shape.
            timestamp_us: when they were taken; None: now. -1: not stamped.
            now_us: with a stamp of an external clock, what it shows now.

        Raises:
            ArgumentError: a field is missing or unknown; an array has the wrong dtype, shape or layout.
            Error: another writer is at work; `end` was called.
        """
        names = [name for name, _, _ in self.fields]
        if set(arrays) != set(names):
            got = ", ".join(sorted(map(str, arrays))) or "none"
            raise _core.ArgumentError(f"arrays: expected {', '.join(names)}, got {got}")
        stamp = _core.now_us() if timestamp_us is None else timestamp_us
        self._core.write([arrays[name] for name in names], stamp, now_us)

    def newest(self) -> Record | None:
        """A copy of the newest record; None before the first."""
        found = self._core.newest()
        if found is None:
            return None
        arrays, timestamp_us, now_us, status, written_us = found
        names = [name for name, _, _ in self.fields]
        named = dict(zip(names, arrays, strict=True))
        return Record(named, timestamp_us, now_us, status, self._core.read_count, written_us)

    def end(self) -> None:
        """Tell the readers that no record follows: a run whose source this is ends."""
        self._core.end()

    def close(self) -> None:
        """The creator removes the name, if it still is that of these arrays; once more does nothing."""
        if self._owner:
            self._owner = False
            self._core.remove_own()

    def __enter__(self) -> SharedArrays:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def observation_fields(manifest: dict[str, Any]) -> list[Field]:
    """What `Runtime.run` reads: an array per feature, one frame of it."""
    return [(entry.key, entry.dtype, tuple(entry.shape)) for entry in features_of(manifest["observation"])]


def action_fields(manifest: dict[str, Any]) -> list[Field]:
    """What `Runtime.run` writes: "action", in the units of the manifest."""
    return [("action", "float32", (len(manifest["action"]["names"]),))]
