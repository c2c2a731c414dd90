"""Reads a bundle of the family `code`: manifest and files, checked."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import keystep
from keystep.export.errors import ExportError
from keystep.files import parse_json

MANIFEST = "manifest.json"


def family_of(path: Path) -> str | None:
    """What a bundle says it is; None where it does not say. Nothing else is checked."""
    try:
        found = parse_json((path / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found.get("family") if isinstance(found, dict) else None


def read_code_bundle(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The manifest, and the graphs' files by name.

    Raises:
        BundleError: "field: expected X, got Y".
    """
    try:
        manifest = parse_json((path / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise keystep.BundleError(f"{MANIFEST}: expected JSON, got {error}") from None
    if not isinstance(manifest, dict):
        raise keystep.BundleError(f"{MANIFEST}: expected an object, got {manifest!r:.80}")
    from keystep.export.manifest import validate  # needs jsonschema, which the runtime alone does not

    try:
        validate(manifest)
    except ExportError as error:
        raise keystep.BundleError(str(error)) from None
    files: dict[str, bytes] = {}
    for name, graph in manifest["graphs"].items():
        for entry in (graph, *graph.get("external", ())):
            files[entry["file"]] = _file(path, entry, f"graphs.{name}")
    return manifest, files


def _file(path: Path, entry: dict[str, str], field: str) -> bytes:
    place = path / entry["file"]
    if not place.resolve().is_relative_to(path.resolve()):
        raise keystep.BundleError(f"{field}.file: expected a file inside the bundle, got {entry['file']}")
    try:
        content = place.read_bytes()
    except OSError as error:
        raise keystep.BundleError(f"{field}.file: expected a file that can be read, got {error}") from None
    if (found := hashlib.sha256(content).hexdigest()) != entry["sha256"]:
        raise keystep.BundleError(f"{field}.sha256: expected {entry['sha256']}, got {found}")
    return content
