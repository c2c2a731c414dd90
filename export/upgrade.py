"""A bundle of an older manifest in the newest form, from its own files: no checkpoint, the same actions."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import keystep
from keystep.export.manifest import VERSION, ExportError, validate
from keystep.export.verify import differences
from keystep.export.weights import share_weights
from keystep.files import replacing_folder, write_json

READS = (3, 4)


def upgrade_bundle(bundle: Path, output: Path | None = None) -> Path:
    """Writes the bundle with the newest manifest, each weight once, and proves it on its golden data.

    Args:
        bundle: its folder; nothing is changed there, unless it is `output`.
        output: the new folder; by default `bundle` is replaced. It appears whole or not at all.

    Returns:
        `output`.

    Raises:
        BundleError: the bundle is damaged, or its manifest is neither of version 3 nor 4.
        ExportError: its answers on golden data are not those that it promises.
        FileExistsError: `output` is another folder, which exists.
    """
    manifest = keystep.read_manifest(bundle)
    if manifest["version"] not in READS:
        wanted = " or ".join(map(str, READS)) + " (export older ones again from their checkpoints)"
        raise keystep.BundleError(f"version: expected {wanted}, got {manifest['version']}")
    target = bundle if output is None else output
    with replacing_folder(target, overwrite=output is None) as folder:
        for name in named_files(manifest):
            shutil.copyfile(bundle / name, folder / name)
        manifest = upgraded(manifest)
        share_weights(manifest["graphs"], folder)
        validate(manifest)
        write_json(folder / "manifest.json", manifest)
        for difference in differences(folder):
            raise ExportError(difference)
    return target


def named_files(manifest: dict[str, Any]) -> list[str]:
    """All files that a manifest names, each once."""
    planner = manifest["planner"] or {}
    entries = [*manifest["graphs"].values(), manifest["golden"], manifest["unet"], planner.get("unet")]
    entries += [data for graph in manifest["graphs"].values() for data in graph.get("external", [])]
    return sorted({entry["file"] for entry in entries if entry is not None})


def upgraded(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest in the newest form. Up to version 3 a hold was always the list of its values."""
    action = manifest["action"]
    if manifest["version"] < 4:
        action = action | {"hold": {"mode": "values", "values": action["hold"]}}
    return manifest | {"version": VERSION, "action": action}
