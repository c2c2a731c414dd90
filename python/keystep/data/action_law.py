"""The law of a dataset's actions: what a command is when nothing is to move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RELATIVE, ABSOLUTE = "relative", "absolute"
LAWS = (RELATIVE, ABSOLUTE)
"""Of a dimension. relative: 0 is no motion (a change, a velocity); absolute: the last command is repeated."""
BEFORE_LAWS = (RELATIVE,) * 6 + (ABSOLUTE,)
"""Of the two worlds whose datasets did not tell it until 0.5.0: the hand's motion, and the gripper."""


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
    if collection.get("suite") == "tabletop":
        return BEFORE_LAWS
    known = str(collection.get("env_id", "")).startswith("keystep/Franka3Blocks")
    return BEFORE_LAWS if known else None
