"""Crash-safe writing for every room: beside its place, flushed to disk, then renamed over it. No torch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
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


def sync_folder(folder: Path) -> None:
    """Flush a folder and the files in it."""
    for path in sorted(folder.iterdir()):
        sync(path)
    sync(folder)


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


@contextmanager
def replacing(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Give a temporary path to write for each of `paths`; on success they replace them, in order.

    On any error, Ctrl-C included, the temporary files are removed. The last path is the commit point. Errors
    of the operating system name the paths, not the temporary ones.
    """
    staged = tuple(temporary(path) for path in paths)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield staged
        publish(paths)
    except OSError as error:
        names = {str(one): str(path) for one, path in zip(staged, paths, strict=True)}
        if str(error.filename) in names:
            error.filename = names[str(error.filename)]
            del error.filename2  # of a rename: the path again
        raise
    finally:
        for path in staged:
            with suppress(OSError):  # a name that no file can have
                path.unlink(missing_ok=True)


def check_outputs(**paths: Path | None) -> None:
    """Tries, before there is anything to write, whether files can be written; nothing stays behind.

    Args:
        paths: by the name of the option; None: nothing is to be written.

    Raises:
        ValueError: one cannot.
    """
    for name, path in paths.items():
        if path is not None:
            try:
                _try_to_write(path)
            except OSError as error:
                why = error.strerror or str(error)
                raise ValueError(f"{name}: expected a file that can be written, got {path}: {why}") from None


def _try_to_write(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise OSError("it is a folder" if path.is_dir() else "it is no plain file")
    made: list[Path] = []
    try:
        for folder in reversed([folder for folder in path.parents if not folder.exists()]):
            folder.mkdir()
            made.append(folder)
        with suppress(FileExistsError):  # somebody else writes there now
            os.close(os.open(temporary(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            temporary(path).unlink()
    finally:
        for folder in reversed(made):
            folder.rmdir()


def write_each(*writes: Callable[[], object]) -> None:
    """Calls all of them, whatever becomes of the others; then raises the first error."""
    errors: list[Exception] = []
    for write in writes:
        try:
            write()
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]


@contextmanager
def replacing_folder(target: Path, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary folder beside `target`; on success it is flushed and renamed to `target`.

    Whatever goes wrong, Ctrl-C included, the temporary folder is removed and an existing `target` stays.

    Raises:
        FileExistsError: `target` exists and `overwrite` is false.
    """
    if target.exists() and not overwrite:
        raise FileExistsError(f"output: expected a new folder (or overwrite), got {target}, which exists")
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    staged.mkdir()
    try:
        yield staged
        sync_folder(staged)
        _swap(staged, target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)  # gone already after success


def recover_folder(target: Path) -> None:
    """Mends what a process that was killed within `replacing_folder` has left beside `target`.

    Nobody may be writing there. A folder that had stepped aside comes back if nothing took its place.
    """
    for aside in target.parent.glob(f".{target.name}.old-*"):
        if target.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(target)
    for staged in target.parent.glob(f".{target.name}.tmp-*"):
        shutil.rmtree(staged, ignore_errors=True)


def _swap(staged: Path, target: Path) -> None:
    """A folder cannot be renamed over another: the old one steps aside, and comes back if that fails."""
    aside = target.with_name(f".{target.name}.old-{os.getpid()}")
    replaced = target.exists()
    if replaced:
        target.rename(aside)
    try:
        staged.rename(target)
    except BaseException:
        if replaced:
            aside.rename(target)
        raise
    with suppress(OSError):  # it is in place; a file system without directory sync is no failure
        sync(target.parent)
    if replaced:
        shutil.rmtree(aside, ignore_errors=True)


def to_json(value: Any) -> str:
    """Strict JSON (no NaN), indented."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def parse_json(text: str | bytes) -> Any:
    """Any JSON text.

    Raises:
        ValueError: no JSON, no UTF-8, a byte order mark, or more levels than Python's reader takes.
    """
    try:
        return json.loads(text if isinstance(text, str) else text.decode())
    except RecursionError:
        raise ValueError("more levels than any file of ours has") from None


def write_text(path: Path, text: str) -> None:
    """Replace a small text file atomically."""
    with replacing(path) as (staged,):
        staged.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file atomically. Raises ValueError for NaN or Inf, before anything is written."""
    write_text(path, to_json(value))


def sha256(path: Path) -> str:
    """Digest of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
