"""Bundles on their way to other machines: named by their content, never by their path alone."""

from __future__ import annotations

from pathlib import Path

from keystep import files
from keystep.data.errors import DatasetError

MANIFEST = "manifest.json"


def bundle_digest(bundle: Path) -> str:
    """SHA-256 of the manifest, which has those of all files that are loaded.

    Raises:
        DatasetError: there is no bundle.
    """
    try:
        return files.sha256(bundle / MANIFEST)
    except OSError as error:
        raise DatasetError(f"{bundle}: expected a bundle, found none ({error})") from error


def has_bundle(bundle: Path, digest: str) -> bool:
    """Whether this bundle is here. Damaged files in it are found when it is loaded.

    Raises:
        DatasetError: another one is here.
    """
    if not (bundle / MANIFEST).is_file():
        return False
    if (found := bundle_digest(bundle)) != digest:
        raise DatasetError(f"{bundle}: expected the bundle of sha256 {digest[:12]}, found {found[:12]}")
    return True


def packed_bundle(bundle: Path) -> dict[str, bytes]:
    """The content of its files by name."""
    names = sorted(path for path in bundle.iterdir() if path.is_file() and not path.name.startswith("."))
    return {path.name: path.read_bytes() for path in names}


def unpack_bundle(content: dict[str, bytes], folder: Path) -> Path:
    """Write it to an existing folder. Returns the folder."""
    for name, data in content.items():
        if Path(name).name != name:
            raise DatasetError(f"bundle: expected plain names of files, got {name!r}")
        (folder / name).write_bytes(data)
    return folder
