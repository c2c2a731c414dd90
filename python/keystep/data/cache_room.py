"""How much disk the cache of decoded columns may take, and what goes when another dataset needs the room."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from keystep.data.layout import DatasetError

LIMIT = "KEYSTEP_CACHE_GB"
_DATASET = re.compile(r"[0-9a-f]{32}-\d+")  # a folder of the cache
_RESERVE = 1 << 30  # bytes of the disk that are left to others


def make_room(folder: Path, needed: int) -> None:
    """Remove the datasets that were not used for longest until `needed` bytes more fit.

    A process that has mapped what is removed keeps it until it ends.

    Args:
        folder: of the dataset that needs it, in the cache's folder; it stays.

    Raises:
        DatasetError: they do not fit into the limit ($KEYSTEP_CACHE_GB) or on the disk.
    """
    limit = _limit()
    sizes = {path: _size(path) for path in folder.parent.iterdir() if _DATASET.fullmatch(path.name)}
    oldest = sorted((path for path in sizes if path != folder), key=lambda path: path.stat().st_mtime)
    while True:
        free = shutil.disk_usage(folder.parent).free - _RESERVE
        room = min(free, limit - sum(sizes.values()))
        if needed <= room:
            return
        if not oldest:
            raise DatasetError(
                f"{folder.parent}: expected room for {needed / 1e9:.2f} GB of decoded frames, got "
                f"{max(0, room) / 1e9:.2f} GB; KEYSTEP_CACHE names another folder, {LIMIT} the limit, and "
                "--cameras or a smaller size of the images need less"
            )
        shutil.rmtree(oldest[0], ignore_errors=True)
        del sizes[oldest.pop(0)]


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


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
