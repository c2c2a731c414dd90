"""Manifests of bundles, as C++ has checked them."""

from __future__ import annotations

import json
import os
from typing import Any

from keystep import _core
from keystep.features import features_of


def read_manifest(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The manifest, after checking the bundle and its files as the runtime does.

    Raises BundleError, and ArgumentError for what is no path.
    """
    return parsed(_core.read_manifest(path))


def parsed(manifest: str) -> dict[str, Any]:
    """What C++ has read as JSON already."""
    try:
        return json.loads(manifest)
    except (ValueError, RecursionError) as error:
        raise _core.BundleError(f"manifest.json: expected valid JSON, got {error}") from None


def family_of(path: str | os.PathLike[str]) -> str | None:
    """What a bundle says it is; None where it does not say. Nothing else is checked."""
    try:
        found = json.loads(_core.manifest_text(path))
    except (_core.BundleError, _core.ArgumentError, ValueError, RecursionError):
        return None
    family = found.get("family") if isinstance(found, dict) else None
    return family if isinstance(family, str) else None


def inputs(manifest: dict[str, Any]) -> list[str]:
    """What `act` wants, such as "observation.state float32 (26,)", and what `reset` wants beside it."""
    wanted = [
        f"{feature.key} {feature.dtype} {feature.shape}" for feature in features_of(manifest["observation"])
    ]
    names = [task["name"] for task in manifest["tasks"]]
    if manifest["goal"] == "text":
        wanted.append("task or instruction")
    elif names:
        wanted.append(f"task, one of {', '.join(names)}")
    return wanted + (["goal, an observation"] if manifest["goal"] == "observation" else [])
