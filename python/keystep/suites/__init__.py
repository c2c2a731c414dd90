"""Simulated worlds, one folder each. What the rest of keystep sees of them is `keystep.suites.base.Suite`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keystep.suites.base import Suite

SUITES = {
    "calvin": "keystep.suites.calvin.suite",
    "franka3blocks": "keystep.suites.franka3blocks.suite",
    "tabletop": "keystep.suites.tabletop.suite",
}
"""The module of each, which has `SUITE`. Importing it loads no simulator."""


def suite_named(name: str) -> Suite:
    """The suite of this name, or of the module `name`, for one that is not keystep's.

    Raises:
        ValueError: there is none.
    """
    module = SUITES.get(name, name)
    if name not in SUITES and "." not in name:
        raise ValueError(f"suite: expected {' or '.join(SUITES)}, or a module with SUITE, got {name!r}")
    try:
        return import_module(module).SUITE
    except (ModuleNotFoundError, AttributeError) as error:
        if name in SUITES:
            raise
        raise ValueError(f"suite: expected a module with SUITE, got {name!r} ({error})") from error
