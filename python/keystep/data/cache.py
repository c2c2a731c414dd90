"""A dataset's columns as memory-mapped arrays, for random access.

Parquet has to be decoded to be read; training reads the same frames thousands of times in random order. The
columns are therefore converted once, as a stream, into one .npy file each in a cache folder named after the
dataset's digest. Memory stays constant, and the pages in use are shared with the operating system's file
cache. Decoded images take height * width * 3 bytes a frame on disk.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keystep import files
from keystep.data.layout import INDEX_FEATURES, DatasetError
from keystep.data.reader import DatasetReader


def cache_folder() -> Path:
    """$KEYSTEP_CACHE, or keystep/ in $XDG_CACHE_HOME, or ~/.cache/keystep."""
    if chosen := os.environ.get("KEYSTEP_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keystep"


def mapped_columns(
    reader: DatasetReader, columns: Sequence[str], folder: Path | None = None
) -> dict[str, np.ndarray]:
    """Read-only memory maps (frames, *shape) of the columns, converting those not yet in the cache.

    Args:
        folder: cache root; `cache_folder()` when None.
    """
    for name in columns:
        if name in reader.features and reader.features[name].is_string:
            raise DatasetError(f"columns: expected numbers or images, got {name!r}, which holds strings")
    root = (folder or cache_folder()) / reader.sha256()[:32]
    missing = [name for name in columns if not (root / f"{name}.npy").exists()]
    if missing:
        root.mkdir(parents=True, exist_ok=True)
        try:
            _convert(reader, missing, root)
        except OSError as error:
            raise DatasetError(
                f"{root}: could not write the cache: {error}; KEYSTEP_CACHE names another folder"
            ) from error
    return {name: np.load(root / f"{name}.npy", mmap_mode="r") for name in columns}


def _convert(reader: DatasetReader, columns: Sequence[str], root: Path) -> None:
    staging = Path(tempfile.mkdtemp(dir=root, prefix=".converting-"))
    try:
        arrays = {}
        for name in columns:
            feature = reader.features[name]
            shape = () if name in INDEX_FEATURES else feature.frame_shape
            dtype = np.dtype("uint8" if feature.is_image else feature.dtype)
            arrays[name] = np.lib.format.open_memmap(
                staging / f"{name}.npy", mode="w+", dtype=dtype, shape=(reader.frames, *shape)
            )
        start = 0
        for batch in reader.iter_batches(columns):
            stop = start + len(batch[columns[0]])
            for name in columns:
                arrays[name][start:stop] = batch[name]
            start = stop
        if start != reader.frames:
            raise DatasetError(
                f"{reader.path}: total_frames: expected {start} as in the data files, got {reader.frames}"
            )
        for name in columns:
            arrays.pop(name).flush()
            files.sync(staging / f"{name}.npy")
            (staging / f"{name}.npy").replace(root / f"{name}.npy")
    finally:
        shutil.rmtree(staging, ignore_errors=True)
