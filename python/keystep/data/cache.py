"""A dataset's columns as memory-mapped arrays, for random access.

Parquet and video have to be decoded to be read; training reads the same frames thousands of times in random
order. The columns are therefore converted once, as a stream, into one .npy file each in a cache folder named
after the dataset's digest. Memory stays constant, and the pages in use are shared with the operating system's
file cache. Decoded images take height * width * 3 bytes a frame on disk, whichever way they were stored;
`keystep.data.cache_room` bounds it.

Beside every file is its checksum, written last. It is compared once in a process: what does not fit, a file
that was cut or a disk that forgets, is converted again. Of several processes one converts, the others wait.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import tempfile
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from math import prod
from pathlib import Path

import numpy as np

from keystep import files
from keystep.data.cache_room import held, make_room
from keystep.data.joined import Dataset
from keystep.data.layout import Column, DatasetError

_VERSION = 4  # of what the columns hold
_BLOCK = 16 << 20
_STAGING = ".converting-"
_OLD_S = 24 * 3600.0  # nobody converts so long without writing
_compared: set[Path] = set()


def cache_folder() -> Path:
    """$KEYSTEP_CACHE, or keystep/ in $XDG_CACHE_HOME, or ~/.cache/keystep."""
    if chosen := os.environ.get("KEYSTEP_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keystep"


def mapped_columns(
    reader: Dataset, columns: Sequence[str], folder: Path | None = None
) -> dict[str, np.ndarray]:
    """Read-only memory maps (frames, *shape) of the columns, converting those not yet in the cache.

    What policies see and do (`action`, `observation.*`) is float32, however precisely it was recorded, or
    uint8 images; other columns have the declared type.

    Args:
        folder: cache root; `cache_folder()` when None.

    Raises:
        DatasetError: an unknown column or texts, frames that cannot be read, or no place for the cache.
    """
    if not columns:
        return {}
    for name in columns:
        feature = reader.features.get(name)
        if feature is None:
            raise DatasetError(f"columns: expected one of {', '.join(reader.features)}, got {name!r}")
        if not (feature.is_number or feature.is_image):
            raise DatasetError(f"columns: expected numbers or images, got {name!r}, which holds strings")
    root = (folder or cache_folder()) / f"{reader.sha256()[:32]}-{_VERSION}"
    try:
        with held(root):
            if all(_is_sound(root / f"{name}.npy") for name in columns):
                return _opened(root, columns)
        with held(root, alone=True):
            # Another process may have converted some of them while this one waited.
            missing = [name for name in columns if not _is_sound(root / f"{name}.npy")]
            if missing:
                _remove_leftovers(root)
                make_room(root, sum(_size(name, reader.features[name]) for name in missing) * reader.frames)
                _convert(reader, missing, root)
            return _opened(root, columns)
    except OSError as error:
        raise DatasetError(
            f"{root}: could not write the cache: {error}; KEYSTEP_CACHE names another folder"
        ) from error


def _opened(root: Path, columns: Sequence[str]) -> dict[str, np.ndarray]:
    with suppress(OSError):  # of a cache that others have filled
        os.utime(root)  # used last, see `make_room`
    return {name: np.load(root / f"{name}.npy", mmap_mode="r") for name in columns}


def _staging_prefix() -> str:
    """Locks of folders do not reach beyond a machine: what others convert on a shared disk is theirs."""
    return f"{_STAGING}{socket.gethostname()}-"


def _remove_leftovers(root: Path) -> None:
    """Of processes that were killed while they converted: those of this machine, and any that are old."""
    for path in root.glob(f"{_STAGING}*"):
        with suppress(OSError):
            newest = max(each.stat().st_mtime for each in (path, *path.iterdir()))
            if path.name.startswith(_staging_prefix()) or time.time() - newest > _OLD_S:
                shutil.rmtree(path, ignore_errors=True)


def _is_sound(path: Path) -> bool:
    """Whether the column is there and as it was written."""
    if path in _compared and path.exists():
        return True
    try:
        told = json.loads(_note(path).read_text(encoding="utf-8"))
        found = _checksum(np.load(path, mmap_mode="r"))
    except (OSError, ValueError, EOFError):
        return False
    if told != {"crc32": found}:
        return False
    _compared.add(path)
    return True


def _note(path: Path) -> Path:
    return path.with_suffix(".json")


def _checksum(values: np.ndarray, before: int = 0) -> int:
    """CRC-32 of the values' bytes, after those of which it was `before`."""
    flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    for start in range(0, len(flat), _BLOCK):
        before = zlib.crc32(flat[start : start + _BLOCK].data, before)
    return before


def _convert(reader: Dataset, columns: Sequence[str], root: Path) -> None:
    staging = Path(tempfile.mkdtemp(dir=root, prefix=_staging_prefix()))
    try:
        arrays: dict[str, np.memmap] = {}
        checksums = dict.fromkeys(columns, 0)
        start = 0
        for batch in reader.iter_batches(columns):
            stop = start + len(batch[columns[0]])
            for name, values in batch.items():
                if name not in arrays:  # only now, as it is known that frames have the declared shape
                    dtype, shape = _dtype(name, reader.features[name]), (reader.frames, *values.shape[1:])
                    arrays[name] = np.lib.format.open_memmap(staging / f"{name}.npy", "w+", dtype, shape)
                    _allocate(staging / f"{name}.npy")
                arrays[name][start:stop] = values
                checksums[name] = _checksum(arrays[name][start:stop], checksums[name])
            start = stop
        if not arrays:
            raise DatasetError(f"{reader.path}: expected at least one episode, found none")
        for name in columns:
            arrays.pop(name).flush()
            path = root / f"{name}.npy"
            files.sync(staging / path.name)
            _note(path).unlink(missing_ok=True)  # of what was there
            (staging / path.name).replace(path)
            files.write_json(_note(path), {"crc32": checksums[name]})
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _allocate(path: Path) -> None:
    """Takes the disk for a file: a page of a map that finds none ends the process, without a word."""
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # file systems that have no such call
                raise


def _size(name: str, feature: Column) -> int:
    """Bytes of a frame."""
    return _dtype(name, feature).itemsize * prod(feature.shape)


def _dtype(name: str, feature: Column) -> np.dtype:
    if feature.is_image:
        return np.dtype(np.uint8)
    seen = name == "action" or name.startswith("observation.")
    return np.dtype(np.float32 if seen else feature.dtype)
