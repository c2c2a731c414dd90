"""Bundles as older manifests wrote them: what `keystep upgrade` reads."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from own_weights import give_own_weights

import keystep
from keystep.export.manifest import ExportError
from keystep.export.upgrade import upgrade_bundle
from keystep.features import features_of

Edit = Callable[[dict[str, Any]], Any]


def older_manifest(manifest: dict[str, Any], version: int) -> dict[str, Any]:
    """Of one state and RGB images of one frame, in version 4 or 3."""
    old = json.loads(json.dumps(manifest)) | {"version": version}
    old["normalization"] = {entry["key"]: entry["normalization"] for entry in old["observation"]}
    old["normalization"]["action"] = old["action"].pop("normalization")
    features = features_of(old["observation"])
    states = [feature for feature in features if feature.key == "observation.state"]
    old["observation"] = {
        "state": {"names": list(states[0].names)} if states else None,
        "images": [
            {
                "camera": feature.name.removeprefix("images."),
                "height": feature.shape[0],
                "width": feature.shape[1],
                "order": "rgb",
                "resize": feature.resize,
            }
            for feature in features
            if feature not in states
        ],
    }
    assert old["chunk"].pop("start") == 0
    if version == 3:
        old["action"]["hold"] = old["action"]["hold"]["values"]
    return old


def make_older(bundle: Path, version: int) -> None:
    """Turns a bundle into an older one, in place. In version 3 every graph had weights of its own."""
    if version == 3:
        give_own_weights(bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(older_manifest(manifest, version)))


def add_sample_graph(bundle: Path, alone: bool = False) -> None:
    """As `keystep export --form both` (or `sample`) did, but for the graph's content."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    graphs = manifest["graphs"]
    shutil.copyfile(bundle / graphs["denoise"]["file"], bundle / "sample.onnx")
    noise = {"name": "noise", "dtype": "float32", "shape": [1, 8, 7], "role": "noise"}
    actions = noise | {"name": "actions", "role": "actions"}
    film = [tensor for tensor in graphs["denoise"]["inputs"] if tensor["role"] == "condition"]
    graphs["sample"] = graphs["denoise"] | {
        "file": "sample.onnx",
        "inputs": [noise, *film],
        "outputs": [actions],
    }
    if alone:
        del graphs["denoise"]
        manifest["unet"] = None
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def edit(bundle: Path, change: Edit) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def refusal(bundle: Path, *kinds: type[Exception]) -> str:
    """Of an upgrade, which leaves the bundle as it was: one of the documented errors, or of `kinds`."""
    before = contents(bundle)
    with pytest.raises(kinds or (keystep.BundleError, ExportError)) as caught:
        upgrade_bundle(bundle)
    assert contents(bundle) == before
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]
    return str(caught.value)


def with_hashes(bundle: Path) -> None:
    """Every file that the manifest names gets the hash that it has."""

    def rehash(value: Any) -> None:
        entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if isinstance(value, dict) and {"file", "sha256"} <= value.keys():
            value["sha256"] = hashlib.sha256((bundle / value["file"]).read_bytes()).hexdigest()
        for entry in entries:
            rehash(entry)

    edit(bundle, rehash)
