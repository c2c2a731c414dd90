"""The server's first message: what its policy takes and gives."""

from __future__ import annotations

import hashlib
from typing import Any

import keystep
from keystep.features import features_of

PROTOCOL = 1


def metadata(runtime: keystep.Runtime) -> dict[str, Any]:
    """Of a policy as it is loaded, whatever becomes of its files; docs/serving.md has the fields."""
    manifest = runtime.manifest
    chunk, action = manifest["chunk"], manifest["action"]
    return {
        "protocol": PROTOCOL,
        "keystep": keystep.__version__,
        "name": manifest["name"],
        "bundle": fingerprint(manifest),
        "family": manifest["family"],
        "control_rate_hz": float(manifest["control_rate_hz"]),
        "observation": [feature.to_dict() for feature in features_of(manifest["observation"])],
        "action": {name: action[name] for name in ("names", "units", "min", "max", "rate_limit", "hold")},
        "chunk": {
            "rows": chunk["horizon"] - chunk["start"],
            "execute": chunk["execute"],
            "max_delay": chunk.get("max_delay", 0),
            "continues": manifest["sampler"] is not None,
            "merge": chunk["merge"],
            "ensemble_decay": chunk.get("ensemble_decay", 0.01),
        },
        "goal": manifest["goal"],
        "tasks": [task["name"] for task in manifest["tasks"]],
    }


def fingerprint(manifest: dict[str, Any]) -> str:
    """Of the manifest, which has the hashes of all files: two servers with the same one serve the same."""
    return hashlib.sha256(repr(sorted(manifest.items())).encode()).hexdigest()
