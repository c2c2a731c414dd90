"""How much disk the cache of decoded columns may take, and what goes when another dataset needs the room."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from keystep.data.layout import DatasetError

LIMIT = "KEYSTEP_CACHE_GB"
_DATASET = re.compile(r"[0-9a-f]{32}-\d+")  # a folder of the cache
_RESERVE = 1 << 30  # most bytes of the disk that are left to others: as many as are taken


@contextmanager
def held(folder: Path, alone: bool = False) -> Iterator[None]:
    """A dataset's folder, made where there is none, which no process of this machine removes meanwhile.

    Args:
        alone: and no other process of it holds the folder; waits for those that do.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(_Removed), _locked(folder, fcntl.LOCK_EX if alone else fcntl.LOCK_SH) as descriptor:
            if _is_still(folder, descriptor):
                yield
                return


class _Removed(Exception):
    """Between two calls, by somebody who needed room."""


@contextmanager
def _locked(folder: Path, kind: int) -> Iterator[int]:
    """Its descriptor. Raises BlockingIOError. A file system that has no locks is used without."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        raise _Removed from None
    try:
        try:
            fcntl.flock(descriptor, kind)
        except BlockingIOError:
            raise
        except OSError:
            pass
        yield descriptor
    finally:
        with suppress(OSError):  # processes forked meanwhile have the descriptor, too
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _is_still(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(folder.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def make_room(folder: Path, needed: int) -> None:
    """Remove the datasets that were not used for longest until `needed` bytes more fit.

    Those that a process converts or opens now stay. One that has mapped what is removed keeps it until it
    ends.

    Args:
        folder: of the dataset that needs it, in the cache's folder; it stays.

    Raises:
        DatasetError: they do not fit into the limit ($KEYSTEP_CACHE_GB) or on the disk.
    """
    limit, root = _limit(), folder.parent
    others = {path: _size(path) for path in root.iterdir() if _DATASET.fullmatch(path.name)}
    own = others.pop(folder, 0)

    def room(removable: int = 0) -> float:
        free = shutil.disk_usage(root).free - min(_RESERVE, needed)
        return removable + min(free, limit - own - sum(others.values()))

    _require(root, needed, room(sum(others.values())))  # for what can never fit nothing is removed
    for path in sorted(others, key=_last_use):
        if needed <= room():
            break
        if _remove(path):
            del others[path]
    _require(root, needed, room())


def _require(root: Path, needed: int, found: float) -> None:
    if needed > found:
        raise DatasetError(
            f"{root}: expected room for {needed / 1e9:.2f} GB of decoded frames, got "
            f"{max(0, found) / 1e9:.2f} GB; KEYSTEP_CACHE names another folder, {LIMIT} the limit, and "
            "--cameras or a smaller size of the images need less"
        )


def _limit() -> float:
    """Bytes; infinity: the disk's."""
    text = os.environ.get(LIMIT)
    if not text:
        return float("inf")
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not limit > 0:
        raise DatasetError(f"{LIMIT}: expected a number above 0, got {text!r}")
    return limit * 1e9


def _remove(folder: Path) -> bool:
    """Whether it is gone now: it stays where somebody holds it."""
    try:
        with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(folder, ignore_errors=True)
    except (_Removed, OSError):  # somebody holds it, or it is another user's
        pass
    return not folder.exists()


def _last_use(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # somebody else removed it
        return 0.0


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):  # unlike pathlib's, it bears that others remove something
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(place, name).stat().st_size
    return total
