"""Best of N plans, as settings of what a policy does: rollouts, evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import keystep

PlannerScore = Literal["bundle", "learned", "density"]
MAX_CANDIDATES = 256


def check_candidates(count: int, score: str) -> None:
    """Raises ArgumentError for what no bundle takes: which setting."""
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_CANDIDATES:
        raise keystep.ArgumentError(f"planner_candidates: expected 1..{MAX_CANDIDATES}, got {count!r}")
    if score not in ("bundle", "learned", "density"):
        raise keystep.ArgumentError(f"planner_score: expected bundle, learned or density, got {score!r}")
    if count == 1 and score != "bundle":
        raise keystep.ArgumentError(f"planner_score: expected none (planner_candidates is 1), got {score!r}")


def candidate_options(count: int, score: str) -> dict[str, Any]:
    """For `keystep.load`; nothing of a single plan."""
    if count == 1:
        return {}
    return {"planner_candidates": count} | ({} if score == "bundle" else {"planner_score": score})


def has_scorer(manifest: Mapping[str, Any]) -> bool:
    """Whether a bundle can choose between plans by what it learned."""
    planner = manifest["planner"]
    return bool(planner) and planner.get("scorer") is not None
