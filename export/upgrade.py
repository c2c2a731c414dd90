"""A bundle of an older manifest in the newest form, from its own files: no checkpoint, the same actions."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import keystep
from keystep.export.manifest import FORMAT, VERSION, ExportError, check_values, validate
from keystep.export.verify import differences
from keystep.export.weights import share_weights
from keystep.features import Feature
from keystep.files import replacing_folder, sha256, write_json

READS = (3, 4, VERSION)
MAX_BYTES = 16 << 20  # of a manifest
IMAGE = ("camera", "height", "width", "order", "resize")  # keys of a camera, up to version 4
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def upgrade_bundle(bundle: Path, output: Path | None = None) -> Path:
    """Writes the bundle with the newest manifest, each weight once, and proves it on its golden data.

    Args:
        bundle: its folder, or a link to it; nothing is changed there, unless it is to be replaced.
        output: the new folder; by default `bundle` is replaced, and files beside those of its manifest stay.
            It appears whole or not at all.

    Returns:
        The new folder.

    Raises:
        BundleError: the bundle is damaged, or its manifest is of version 1 or 2, or of a newer keystep; it is
            to be replaced and holds folders or links beside the files of its manifest.
        ExportError: the manifest has a field that is wrong, or answers on golden data are not those that the
            bundle promises.
        FileExistsError: `output` is another folder, which exists.
        OSError: the disk is full, for example; everything is as it was.
    """
    manifest = read_manifest(bundle)
    bundle = bundle.resolve()  # a link stays one, and leads to the new folder
    target = bundle if output is None else output
    with replacing_folder(target, overwrite=output is None) as folder:
        named = _write(manifest, bundle, folder)
        for difference in differences(folder):
            raise ExportError(difference)
        if output is None:
            copy_others({"manifest.json", *named}, bundle, folder)
    return target


def _write(manifest: dict[str, Any], bundle: Path, folder: Path) -> list[str]:
    """The new bundle. Returns the names of the files of the old one."""
    try:
        copy_files(manifest, bundle, folder)
        named = named_files(manifest)
        new = upgraded(manifest)
    except (KeyError, TypeError, AttributeError) as error:
        got = f"{type(error).__name__} {error}"
        raise keystep.BundleError(f"manifest.json: expected its version's fields, got {got:.120}") from None
    try:
        share_weights(new["graphs"], folder)
    except ValueError as error:
        raise keystep.BundleError(str(error)) from None
    validate(new)
    for name in set(named).difference(named_files(new)):
        (folder / name).unlink(missing_ok=True)
    write_json(folder / "manifest.json", new)
    return named


def read_manifest(bundle: Path) -> dict[str, Any]:
    """The manifest as it is; the runtime's loader reads no older ones. Raises BundleError."""
    try:
        with (bundle / "manifest.json").open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        manifest = json.loads(content, object_pairs_hook=_object) if len(content) <= MAX_BYTES else None
    except OSError as error:
        raise keystep.BundleError(f"manifest.json: expected a file that can be read, got {error}") from None
    except (ValueError, RecursionError) as error:
        raise keystep.BundleError(f"manifest.json: expected valid JSON, got {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise keystep.BundleError(f'format: expected "{FORMAT}", got none of it')
    if type(version := manifest.get("version")) is not int or version not in READS:
        wanted = f"3, 4 or {VERSION} (export older ones again from their checkpoints)"
        raise keystep.BundleError(f"version: expected {wanted}, got {version!r:.40}")
    try:
        check_values(manifest)
    except ExportError as error:
        raise keystep.BundleError(str(error)) from None
    return manifest


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two values with one key, one would be lost."""
    entries = dict(pairs)
    if len(entries) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in entries if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r:.80} twice")
    return entries


def copy_files(manifest: dict[str, Any], bundle: Path, folder: Path) -> None:
    """All files that the manifest names. Those copied are those that are hashed. Raises BundleError."""
    for field, entry in named_entries(manifest):
        name, wanted = entry["file"], entry["sha256"]
        if not isinstance(name, str) or not _NAME.fullmatch(name) or not _is_inside(bundle, name):
            raise keystep.BundleError(f"{field}.file: expected a file inside the bundle, got {name!r:.80}")
        if not (folder / name).exists():
            _copy(bundle / name, folder / name, f"{field}.file")
        if (got := sha256(folder / name)) != wanted:
            hint = f"({name} is damaged or was changed)"
            raise keystep.BundleError(f"{field}.sha256: expected {wanted!r:.80}, got {got} {hint}")


def copy_others(known: set[str], bundle: Path, folder: Path) -> None:
    """What else lies in a bundle that is replaced is not ours to lose. Raises BundleError."""
    for path in sorted(bundle.iterdir()):
        if path.name in known:
            continue
        if path.is_symlink() or not path.is_file() or (folder / path.name).exists():
            wanted = "only files of the manifest"
            raise keystep.BundleError(f"{bundle}: expected {wanted}, got {path.name!r:.80}; give --output")
        _copy(path, folder / path.name, path.name)
        shutil.copystat(path, folder / path.name)


def _is_inside(bundle: Path, name: str) -> bool:
    try:
        return (bundle / name).is_file() and (bundle / name).resolve().parent == bundle
    except OSError:  # a name that no file can have
        return False


def _copy(source: Path, target: Path, field: str) -> None:
    try:
        file = source.open("rb")
    except OSError as error:
        got = f"{source.name!r:.80}: {error.strerror}"
        raise keystep.BundleError(f"{field}: expected a file that can be read, got {got}") from None
    with file, target.open("xb") as copy:
        shutil.copyfileobj(file, copy)


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
    cameras, statistics stood apart, every chunk began at the present observation, and the whole sampler could
    be one more graph, `sample`. Raises BundleError.
    """
    if manifest["version"] == VERSION:
        return manifest
    new = {key: value for key, value in manifest.items() if key != "normalization"}
    statistics, action, chunk = manifest["normalization"], manifest["action"], manifest["chunk"]
    for field, entry, key in (("action", action, "normalization"), ("chunk", chunk, "start")):
        if key in entry:
            raise keystep.BundleError(f"{field}.{key}: expected none in an older manifest, got one")
    if manifest["version"] < 4:
        action = action | {"hold": {"mode": "values", "values": action["hold"]}}
    return new | {
        "version": VERSION,
        "observation": [
            feature.to_dict() | {"normalization": statistics[feature.key]}
            for feature in _features(manifest["observation"])
        ],
        "action": action | {"normalization": statistics["action"]},
        "chunk": chunk | {"start": 0},
        "graphs": _graphs(manifest["graphs"]),
    }


def _graphs(graphs: dict[str, Any]) -> dict[str, Any]:
    """Without `sample`, of which the steps are the same network."""
    if "sample" in graphs and "denoise" not in graphs:
        got = "sample alone (export it again from its checkpoint)"
        raise keystep.BundleError(f"graphs: expected denoise, one graph per step, got {got}")
    return {name: graph for name, graph in graphs.items() if name != "sample"}


def _features(observation: Any) -> list[Feature]:
    """Of an observation up to version 4, which had these keys and no other."""
    features = []
    _check_keys(observation, ("state", "images"), "observation")
    try:
        if (state := observation["state"]) is not None:
            _check_keys(state, ("names",), "observation.state")
            _check_that(
                _are_texts(state["names"]), "observation.state.names", "a list of texts", state["names"]
            )
            names = tuple(state["names"])
            features.append(Feature("observation.state", "vector", (len(names),), names=names))
        _check_that(
            isinstance(observation["images"], list), "observation.images", "a list", observation["images"]
        )
        for index, image in enumerate(observation["images"]):
            field = f"observation.images[{index}]"
            _check_keys(image, IMAGE, field)
            _check_that(isinstance(image["camera"], str), f"{field}.camera", "a text", image["camera"])
            _check_that(image["order"] == "rgb", f"{field}.order", '"rgb"', image["order"])
            key, shape = f"observation.images.{image['camera']}", (image["height"], image["width"], 3)
            features.append(Feature(key, "rgb", shape, resize=image["resize"]))
        return features
    except ValueError as error:
        raise keystep.BundleError(str(error)) from None


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _check_keys(entry: Any, keys: tuple[str, ...], field: str) -> None:
    got = list(entry) if isinstance(entry, dict) else entry
    good = isinstance(entry, dict) and set(entry) == set(keys)
    _check_that(good, field, f"exactly the keys {', '.join(keys)}", got)


def _check_that(good: bool, field: str, wanted: str, got: Any) -> None:
    if not good:
        raise keystep.BundleError(f"{field}: expected {wanted}, got {got!r:.80}")
