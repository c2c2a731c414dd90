"""Bundles whose graphs have weights of their own, as before they shared those of the native engine."""

from __future__ import annotations

import json
from pathlib import Path

import onnx

from keystep.export.bundle import graph_entry


def give_own_weights(folder: Path) -> None:
    """Every graph of the bundle has its weights inside its file."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, entry in manifest["graphs"].items():
        if "external" in entry:
            path = folder / entry["file"]
            onnx.save(onnx.load(path), path)
            manifest["graphs"][name] = graph_entry(path)
    (folder / "manifest.json").write_text(json.dumps(manifest))
