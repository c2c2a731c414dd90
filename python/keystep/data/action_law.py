"""The law of a dataset's actions: what a command is when nothing is to move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RELATIVE, ABSOLUTE = "relative", "absolute"
LAWS = (RELATIVE, ABSOLUTE)
"""Of a dimension. relative: 0 is no motion (a change, a velocity); absolute: the last command is repeated."""


def with_law(collection: Mapping[str, Any]) -> Mapping[str, Any]:
    """meta/keystep.json with `action.law`, which older datasets do not tell, if their world is known."""
    action = collection.get("action")
    if not isinstance(action, Mapping) or "law" in action:
        return collection
    law, names = _law_of_world(collection), action.get("names")
    if law is None or not isinstance(names, list) or len(names) != len(law):
        return collection
    return {**collection, "action": {**action, "law": list(law)}}


def _law_of_world(collection: Mapping[str, Any]) -> tuple[str, ...] | None:
    from keystep.suites.franka3blocks import layout as franka3blocks
    from keystep.suites.tabletop import layout as tabletop

    if collection.get("suite") == "tabletop":
        return tabletop.ACTION_LAW
    known = str(collection.get("env_id", "")).startswith("keystep/Franka3Blocks")
    return franka3blocks.ACTION_LAW if known else None
