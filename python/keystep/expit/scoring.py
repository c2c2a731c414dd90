"""Best of N plans within the loop: a scorer of what was tried, and who follows its choice."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keystep
from keystep.record.best_of_n import candidate_options, has_scorer

if TYPE_CHECKING:
    from keystep.train.scorer_config import ScorerTraining

IMAGES = "observation.images."
WEIGHTS = "model.safetensors"
_KEPT = (
    "plans",
    "contexts",
    "success",
    "auc",
    "auc_of_task",
    "auc_within_contexts",
    "pairs_within_contexts",
    "brier",
    "calibration_error",
)
"""Of the metrics, what an iteration's record shows."""


def check_scorer(scorer: ScorerTraining | None, planner: Any, rollouts: Any, evaluation: Any) -> None:
    """Raises ArgumentError for a scorer that cannot be, or its choice without one."""
    if scorer is None:
        for name, part in (("rollouts", rollouts), ("evaluation", evaluation)):
            if part.planner_score == "learned":
                wanted = "bundle or density, as there is no table [scorer]"
                raise keystep.ArgumentError(f"{name}.planner_score: expected {wanted}, got 'learned'")
    elif planner.subgoal.startswith(IMAGES):
        wanted = "none for plans of images, which have density alone"
        raise keystep.ArgumentError(f"scorer: expected {wanted}, got one for {planner.subgoal}")


def planning_options(settings: Mapping[str, Any], bundle: Path) -> dict[str, Any]:
    """For `keystep.load`: how many plans, and whose choice.

    Args:
        settings: of a run's `evaluation`, as `plain` writes them; those of an older run have no candidates.
        bundle: of an iteration; the first has no scorer yet.
    """
    count, score = followed(
        settings.get("planner_candidates", 1), settings.get("planner_score", "bundle"), bundle
    )
    return candidate_options(count, score)


def followed(count: int, score: str, bundle: Path) -> tuple[int, str]:
    """How many plans, and whose choice: one, where the scorer that is asked for is not there."""
    lacking = score == "learned" and not has_scorer(keystep.read_manifest(bundle))
    return (1, "bundle") if lacking else (count, score)


def scorer_of(
    settings: ScorerTraining, planner: Path, output: Path, stop: Callable[[], bool]
) -> dict[str, Any] | None:
    """Train one for a planner; None when stopped.

    Returns:
        What came of it, as JSON values: digests and metrics, or under `skipped` why there is none: a policy
        that never fails, or never succeeds, teaches nothing, and its iteration goes on without.

    Raises:
        DatasetError: plans are missing or damaged.
    """
    from keystep.files import sha256
    from keystep.record.plans_tried import plans_sha256
    from keystep.train.scorer import train_scorer
    from keystep.train.scorer_data import OneSidedError

    for left in output.parent.glob(f".{output.name}.*-*"):  # of a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    facts: dict[str, Any]
    try:
        result = train_scorer(replace(settings, planner=planner, output=output), stop)
    except OneSidedError as error:
        facts = {"skipped": str(error)}
    else:
        if result is None:
            return None
        metrics = {name: result.metrics[name] for name in _KEPT}
        facts = {"weights_sha256": sha256(output / WEIGHTS), "metrics": metrics}
    of = {"plans_sha256": plans_sha256(settings.dataset), "planner_sha256": sha256(planner / WEIGHTS)}
    return of | facts


def told(facts: Mapping[str, Any]) -> str:
    """What came of it, in a line."""
    if "skipped" in facts:
        return f"none: {facts['skipped']}"
    metrics = facts["metrics"]
    within = metrics["auc_within_contexts"]
    pairs = metrics["pairs_within_contexts"]
    same = "" if within is None else f", in a context {within:.3f} of {pairs} pairs"
    alone = f"by the task alone {metrics['auc_of_task']:.3f}"
    return f"AUC {metrics['auc']:.3f} ({alone}){same}, on {metrics['plans']} plans of other contexts"
