"""Names and shapes of the tensors of a planner that writes code; the contract of its graphs with C++.

A name is the same memory in all graphs, and that of a layer's `past` is that of its `present`: the cache is
read and written in place.
"""

from __future__ import annotations

import re
from typing import Any

from keystep.features import feature_of

GRAPHS = ("vision", "embed", "decode")
SEEN, FELT, TOKENS = "plan.seen", "plan.felt", "plan.tokens"
VECTORS, LENGTH, FIRST, LOGITS = "plan.vectors", "plan.length", "plan.first", "plan.logits"
ROW_AXIS, LOGIT_AXIS = "tokens", "rows"
"""Symbolic axes: tokens of a pass, and those of them whose logits are wanted."""

Tensors = dict[str, tuple[str, tuple[int, ...]]]
"""By name the type and the greatest shape."""


def role_of(name: str) -> str:
    """A tensor's role: past and present of a layer are one memory, `cache.<layer>.<key or value>`."""
    return re.sub(r"^(past|present)\.", "cache.", name.removeprefix("plan."))


def past_names(layers: int) -> list[tuple[str, str]]:
    """Inputs and outputs of the cache that are one buffer each, in order."""
    kinds = ("key", "value")
    return [
        (f"plan.past.{layer}.{kind}", f"plan.present.{layer}.{kind}")
        for layer in range(layers)
        for kind in kinds
    ]


def expected_tensors(planner: dict[str, Any], manifest: dict[str, Any]) -> dict[str, dict[str, Tensors]]:
    """By graph and side the name, type and greatest shape of every tensor."""
    context, width = planner["context"], planner["width"]
    rows = ("float32", (1, context, width))
    cache = ("float32", (1, planner["key_heads"], context, planner["head_width"]))
    one = ("int64", (1,))
    seen: Tensors = {}
    made: Tensors = {SEEN: ("float32", (1, planner["image_tokens"], width))}
    for key in (planner["sees"], planner["feels"]):
        if key is not None:
            feature, _ = feature_of(manifest, key)
            seen[f"plan.{key}"] = ("float32", tuple(feature.network_shape(1)))
    if planner["feels"] is not None:
        made[FELT] = ("float32", (1, 1, width))
    pairs = past_names(planner["layers"])
    logits = ("float32", (1, planner["reply_tokens"], planner["vocabulary"]))
    found: dict[str, dict[str, Tensors]] = {
        "vision": {"inputs": seen, "outputs": made},
        "embed": {"inputs": {TOKENS: ("int64", (1, context))}, "outputs": {VECTORS: rows}},
        "decode": {
            "inputs": {VECTORS: rows, LENGTH: one, FIRST: one} | {past: cache for past, _ in pairs},
            "outputs": {LOGITS: logits} | {present: cache for _, present in pairs},
        },
    }
    assert tuple(found) == GRAPHS
    return found
