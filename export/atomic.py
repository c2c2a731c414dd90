"""A folder appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_folder(target: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yields a temporary folder beside `target`; on success it is synced to disk and renamed to `target`.

    Whatever goes wrong (also Ctrl-C), the temporary folder is removed and an existing `target` stays.

    Raises:
        FileExistsError: `target` exists and `overwrite` is false.
    """
    if target.exists() and not overwrite:
        raise FileExistsError(f"output: expected a new folder (or overwrite), got {target}, which exists")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.tmp-{os.getpid()}"
    temporary.mkdir()
    try:
        yield temporary
        for file in sorted(temporary.iterdir()):
            sync(file)
        sync(temporary)
        _swap(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # gone already after success


def _swap(temporary: Path, target: Path) -> None:
    """A folder cannot be renamed over another: the old one steps aside, and comes back if that fails."""
    aside = target.parent / f".{target.name}.old-{os.getpid()}"
    replaced = target.exists()
    if replaced:
        target.rename(aside)
    try:
        temporary.rename(target)
    except BaseException:
        if replaced:
            aside.rename(target)
        raise
    with suppress(OSError):  # the bundle is in place; a file system without directory sync is no failure
        sync(target.parent)
    if replaced:
        shutil.rmtree(aside, ignore_errors=True)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
