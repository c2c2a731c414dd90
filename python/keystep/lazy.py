"""Packages whose names are loaded when first used, so that `keystep COMMAND --help` loads no torch."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` (PEP 562) of a package whose public names live in modules of its own.

    Args:
        package: its `__name__`.
        modules: the module of each name, such as {"DatasetReader": "reader"}; of another package in full.
    """

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = modules[name] if modules[name].startswith("keystep.") else f"{package}.{modules[name]}"
        return getattr(importlib.import_module(module), name)

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules})

    return load, names
