"""Crash-safe files: written beside their place, flushed to disk, then renamed over it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

TEMPORARY_SUFFIX = ".tmp"


def temporary(path: Path) -> Path:
    """Where the new content of `path` is written: hidden from readers that look for `*.parquet`."""
    return path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")


def sync(path: Path) -> None:
    """Flush a file or a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(paths: Iterable[Path]) -> None:
    """Rename the temporary file of every path over the path, in order, each flushed before the first rename.

    The last path is the commit point: a crash before its rename leaves it, and what it describes, as it was.
    """
    paths = list(paths)
    for path in paths:
        sync(temporary(path))
    for path in paths:
        temporary(path).replace(path)
        sync(path.parent)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write; on success it replaces `path`, on any error it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = temporary(path)
    try:
        yield staged
        publish([path])
    finally:
        staged.unlink(missing_ok=True)


def to_json(value: Any) -> str:
    """Strict JSON (no NaN), indented."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Replace a small text file atomically."""
    with replacing(path) as staged:
        staged.write_text(text, encoding="utf-8")


def sha256(paths: Iterable[Path], root: Path) -> str:
    """Digest of the relative names and contents of `paths`, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
