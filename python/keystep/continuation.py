"""What a new chunk continues: the actions that the old one still has (docs/merging.md)."""

from __future__ import annotations

from typing import Any

import numpy as np

from keystep import _core
from keystep.arguments import integer

RULES = ("none", "x0blend", "trained")
DECAYS = ("exponential", "linear")


def merge_weights(
    horizon: int,
    delay: int,
    overlap: int | None = None,
    *,
    rows: int | None = None,
    decay: str = "exponential",
) -> np.ndarray:
    """W, float32 (horizon,): how much of the old chunk each row of a new one keeps.

    1 below `delay`; then c (exponential: c (e^c - 1) / (e - 1)) with c falling from 1 to 0 up to `overlap`;
    then 0 (RTC, arXiv:2506.07339, eq. 5).

    Args:
        delay: actions consumed before the new chunk begins to act, 0..horizon.
        overlap: the first row that is wholly new, delay..horizon; None: horizon - delay, but at least delay.
        rows: those that the old chunk still has; None: all. Beyond them the weight is 0.
        decay: exponential or linear.
    """
    horizon, delay = integer("horizon", horizon), integer("delay", delay)
    count = horizon if rows is None else integer("rows", rows)
    last = default_overlap(horizon, delay, count) if overlap is None else overlap
    return _core.merge_weights(horizon, delay, last, count, decay)


def default_overlap(horizon: int, delay: int, rows: int) -> int:
    """As much as leaves `delay` rows that are wholly new, for the chunk after it (d <= s <= H - d)."""
    return max(delay, min(rows, horizon - delay))


def continuation_arguments(
    manifest: dict[str, Any],
    previous: np.ndarray | None,
    delay: int,
    overlap: int | None,
    rule: str | None,
    decay: str,
) -> tuple[np.ndarray | None, int, int, str, str]:
    """What the core takes. `rule` None: trained where the bundle is, else x0blend."""
    delay = integer("delay", delay)
    if previous is None:
        return None, 0, 0, "none", decay
    if not isinstance(previous, np.ndarray):
        raise _core.ArgumentError(f"previous: expected a numpy array, got {type(previous).__name__}")
    if previous.ndim != 2:
        raise _core.ArgumentError(f"previous: expected 2 dimensions (rows, actions), got {previous.ndim}")
    chunk = manifest["chunk"]
    if rule is None:
        rule = "trained" if chunk.get("max_delay", 0) else "x0blend"
    if overlap is None:
        overlap = default_overlap(chunk["horizon"] - chunk["start"], delay, len(previous))
    return previous, delay, integer("overlap", overlap), rule, decay
