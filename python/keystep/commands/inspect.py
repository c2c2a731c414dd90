"""keystep inspect"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import tyro

import keystep


def main(bundle: Annotated[Path, tyro.conf.Positional], manifest: bool = False) -> None:
    """Check a bundle and every file it names as the runtime does, and show what it holds.

    Args:
        bundle: the bundle's folder.
        manifest: print the whole manifest as JSON instead.
    """
    content = keystep.read_manifest(bundle)
    print(json.dumps(content, indent=2) if manifest else summary(bundle, content))


def summary(bundle: Path, manifest: dict[str, Any]) -> str:
    """A manifest in a dozen lines."""
    state = (manifest["observation"]["state"] or {"names": []})["names"]
    images = [
        f"{image['camera']} {image['height']}x{image['width']}" for image in manifest["observation"]["images"]
    ]
    action, chunk, sampler = manifest["action"], manifest["chunk"], manifest["sampler"]
    rows = {
        "bundle": f"{manifest['name']}, family {manifest['family']}, {manifest['control_rate_hz']:g} Hz",
        "tasks": ", ".join(task["name"] for task in manifest["tasks"]) or "none",
        "goal": manifest["goal"],
        "state": f"{len(state)} values: {', '.join(state)}" if state else "none",
        "images": ", ".join(images) or "none",
        "action": ", ".join(
            f"{name} [{low:g}, {high:g}] {unit}".strip()
            for name, unit, low, high in zip(
                action["names"], action["units"], action["min"], action["max"], strict=True
            )
        ),
        "chunk": f"horizon {chunk['horizon']}, executes {chunk['execute']}, merged by {chunk['merge']}",
        "sampler": f"{sampler['kind']}, {sampler['inference_steps']} of {sampler['train_steps']} steps, "
        f"predicts {sampler['prediction']}, guidance {sampler['guidance']:g}",
    }
    for name, graph in manifest["graphs"].items():
        size = (bundle / graph["file"]).stat().st_size / 1e6
        rows[f"graph {name}"] = f"{graph['file']}, {size:.2f} MB, {_tensors(graph)}"
    rows["made by"] = ", ".join(
        f"{key} {value}"
        for key, value in manifest["provenance"].items()
        if isinstance(value, str | int | float)
    )
    width = max(map(len, rows))
    return "\n".join(f"{label:<{width}}  {text}" for label, text in rows.items())


def _tensors(graph: dict[str, Any]) -> str:
    def names(tensors: list[dict[str, Any]]) -> str:
        return ", ".join(f"{tensor['name']}{tensor['shape']}" for tensor in tensors)

    return f"{names(graph['inputs'])} -> {names(graph['outputs'])}"
