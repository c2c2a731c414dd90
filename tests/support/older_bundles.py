"""Bundles as older manifests wrote them: what `keystep upgrade` reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from own_weights import give_own_weights

from keystep.features import features_of


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
