"""Best of N plans within the loop: a scorer of what was tried, and who follows its choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keystep
from keystep.expit.folder import WEIGHTS
from keystep.files import recover_folder, sha256
from keystep.record.best_of_n import candidate_options, has_scorer

if TYPE_CHECKING:
    from keystep.train.scorer_config import ScorerTraining

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


def plans_vectors(bundle: Path) -> bool:
    """Whether the bundle's plans can be kept for a scorer."""
    manifest = keystep.read_manifest(bundle)
    subgoal = manifest["planner"]["subgoal"]
    return all(
        feature["kind"] == "vector" for feature in manifest["observation"] if feature["key"] == subgoal
    )


def load_options(settings: Mapping[str, Any], scored: bool) -> dict[str, Any]:
    """For `keystep.load`, as in the evaluations of a run: replanning, how many plans, and whose choice.

    Args:
        settings: of a run's `evaluation`, as `plain` writes them; those of an older run have no candidates.
        scored: whether the bundle has a scorer (`Iteration.scored`).
    """
    count, score = settings.get("planner_candidates", 1), settings.get("planner_score", "bundle")
    return {"replan": settings["replan"], **candidate_options(*_followed(count, score, scored))}


def choosing(settings: Any, manifest: Mapping[str, Any]) -> Any:
    """The settings of rollouts for a policy: of one that has no scorer yet a single plan is tried."""
    count, score = _followed(settings.planner_candidates, settings.planner_score, has_scorer(manifest))
    return replace(settings, planner_candidates=count, planner_score=score)


def _followed(count: int, score: str, scored: bool) -> tuple[int, str]:
    return (1, "bundle") if score == "learned" and not scored else (count, score)


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
    from keystep.record.plans_tried import plans_sha256
    from keystep.train.scorer import train_scorer
    from keystep.train.scorer_data import OneSidedError

    recover_folder(output)  # of a run that was killed
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
