"""Names of the tensors of a planner that writes code: the contract of its graphs with C++.

A name is the same memory in all graphs, and that of a layer's `past` is that of its `present`: the cache is
read and written in place.
"""

from __future__ import annotations

import re

GRAPHS = ("vision", "embed", "decode")
SEEN, FELT, TOKENS = "plan.seen", "plan.felt", "plan.tokens"
VECTORS, LENGTH, FIRST, LOGITS = "plan.vectors", "plan.length", "plan.first", "plan.logits"
ROW_AXIS, LOGIT_AXIS = "tokens", "rows"
"""Symbolic axes: tokens of a pass, and those of them whose logits are wanted."""


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
