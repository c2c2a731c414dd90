"""A bundle of an older manifest in the newest form, from its own files: no checkpoint, the same actions."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import keystep
from keystep.export.manifest import FORMAT, VERSION, ExportError, validate
from keystep.export.verify import differences
from keystep.export.weights import share_weights
from keystep.features import Feature
from keystep.files import replacing_folder, sha256, write_json

READS = (3, 4, VERSION)
MAX_BYTES = 16 << 20  # of a manifest
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def upgrade_bundle(bundle: Path, output: Path | None = None) -> Path:
    """Writes the bundle with the newest manifest, each weight once, and proves it on its golden data.

    Args:
        bundle: its folder; nothing is changed there, unless it is `output`.
        output: the new folder; by default `bundle` is replaced. It appears whole or not at all.

    Returns:
        `output`.

    Raises:
        BundleError: the bundle is damaged, or its manifest is of version 1 or 2, or of a newer keystep.
        ExportError: its answers on golden data are not those that it promises.
        FileExistsError: `output` is another folder, which exists.
    """
    manifest = read_manifest(bundle)
    target = bundle if output is None else output
    with replacing_folder(target, overwrite=output is None) as folder:
        try:
            copy_files(manifest, bundle, folder)
            manifest = upgraded(manifest)
        except (KeyError, TypeError, AttributeError) as error:
            got = f"{type(error).__name__} {error}"
            raise keystep.BundleError(f"manifest.json: expected its version's fields, got {got}") from None
        share_weights(manifest["graphs"], folder)
        validate(manifest)
        write_json(folder / "manifest.json", manifest)
        for difference in differences(folder):
            raise ExportError(difference)
    return target


def read_manifest(bundle: Path) -> dict[str, Any]:
    """The manifest as it is; the runtime's loader reads no older ones. Raises BundleError."""
    try:
        with (bundle / "manifest.json").open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        manifest = json.loads(content) if len(content) <= MAX_BYTES else None
    except OSError as error:
        raise keystep.BundleError(f"manifest.json: expected a file that can be read, got {error}") from None
    except (ValueError, RecursionError) as error:
        raise keystep.BundleError(f"manifest.json: expected valid JSON, got {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise keystep.BundleError(f'format: expected "{FORMAT}", got none of it')
    if manifest.get("version") not in READS:
        wanted = f"3, 4 or {VERSION} (export older ones again from their checkpoints)"
        raise keystep.BundleError(f"version: expected {wanted}, got {manifest.get('version')!r:.40}")
    return manifest


def copy_files(manifest: dict[str, Any], bundle: Path, folder: Path) -> None:
    """All files that the manifest names. Those copied are those that are hashed. Raises BundleError."""
    inside = bundle.resolve()
    for field, entry in named_entries(manifest):
        name, wanted = entry["file"], entry["sha256"]
        source = bundle / name if isinstance(name, str) and _NAME.fullmatch(name) else None
        if source is None or not source.is_file() or source.resolve().parent != inside:
            raise keystep.BundleError(f"{field}.file: expected a file inside the bundle, got {name!r:.80}")
        if not (folder / name).exists():
            shutil.copyfile(source, folder / name)
        if (got := sha256(folder / name)) != wanted:
            hint = f"({name} is damaged or was changed)"
            raise keystep.BundleError(f"{field}.sha256: expected {wanted!r:.80}, got {got} {hint}")


def named_entries(manifest: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every entry with a file and its hash, by its field."""
    entries = [("golden", manifest["golden"]), ("unet", manifest["unet"])]
    entries.append(("planner.unet", (manifest["planner"] or {}).get("unet")))
    for key, graph in manifest["graphs"].items():
        entries.append((f"graphs.{key}", graph))
        entries += [(f"graphs.{key}.external", data) for data in graph.get("external", [])]
    return [(field, entry) for field, entry in entries if entry is not None]


def named_files(manifest: dict[str, Any]) -> list[str]:
    """All files that a manifest names, each once."""
    return sorted({entry["file"] for _, entry in named_entries(manifest)})


def upgraded(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest in the newest form.

    Up to version 3 a hold was always the list of its values; up to 4 an observation was one state and
    cameras, statistics stood apart, and every chunk began at the present observation.
    """
    if manifest["version"] == VERSION:
        return manifest
    new = {key: value for key, value in manifest.items() if key != "normalization"}
    statistics, action = manifest["normalization"], manifest["action"]
    if manifest["version"] < 4:
        action = action | {"hold": {"mode": "values", "values": action["hold"]}}
    return new | {
        "version": VERSION,
        "observation": [
            feature.to_dict() | {"normalization": statistics[feature.key]}
            for feature in _features(manifest["observation"])
        ],
        "action": action | {"normalization": statistics["action"]},
        "chunk": manifest["chunk"] | {"start": 0},
    }


def _features(observation: dict[str, Any]) -> list[Feature]:
    """Of an observation up to version 4."""
    features = []
    try:
        if (state := observation["state"]) is not None:
            names = tuple(state["names"])
            features.append(Feature("observation.state", "vector", (len(names),), names=names))
        for image in observation["images"]:
            key, shape = f"observation.images.{image['camera']}", (image["height"], image["width"], 3)
            features.append(Feature(key, "rgb", shape, resize=image["resize"]))
        return features
    except ValueError as error:
        raise keystep.BundleError(str(error)) from None
