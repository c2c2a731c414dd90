"""Where the modules of keystep stand."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def modules() -> dict[str, Path]:
    """By name; those of `export` are `keystep.export`."""
    found = {}
    for package in ("keystep", "keystep.export"):
        spec = importlib.util.find_spec(package)
        assert spec is not None and spec.origin is not None
        root = Path(spec.origin).parent
        for path in root.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join([package, *parts]).removesuffix(".__init__")] = path
    return found
