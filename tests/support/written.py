"""What an export has written."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def objects(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all objects in a manifest, but not of those inside the free-form provenance."""
    found = [path] if isinstance(value, dict) else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in items:
        if key != "provenance":
            found += objects(entry, (*path, key))
    return found
