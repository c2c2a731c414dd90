"""Whether a run that is to be continued is the one that was begun."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keystep.data import DatasetError
from keystep.models.checkpoint import Checkpoint
from keystep.models.code_planner.config import CodePlannerConfig
from keystep.models.config import ActConfig
from keystep.models.scorer_config import ScorerConfig
from keystep.train.config import FREE_ON_RESUME, TrainConfig, defaults, plain

NORMALIZATION = "normalization_values"
"""In the numbers of a training state: what the network's numbers mean."""
_ROUNDING = 1e-6  # of another machine's sums


def normalization_values(plan: Checkpoint) -> dict[str, Any]:
    """The entry of every key, and where samples are clipped: JSON values."""
    config = plan.config
    clip = {}
    if not isinstance(config, ActConfig | ScorerConfig | CodePlannerConfig):
        clip = {"clip_range": config.sampler.clip_range}
    return plan.normalizer().entries | clip


def check_same_run(
    output: Path, stored: dict[str, Any], config: TrainConfig, subject: dict[str, Any], plan: Checkpoint
) -> None:
    """Compares what the run in `output` was begun with; what it did not store yet is not compared.

    Args:
        stored: the numbers of its training state.
        subject: what a run is about besides its settings.

    Raises:
        DatasetError: something differs, or another folder was meant.
    """
    if not config.resume:
        raise DatasetError(f"{output}: expected no training run, found one; choose another folder, or resume")
    expected = {**plain(config), **subject}
    found = {**defaults(config), **stored["config"]}
    found |= {key: stored.get(key, value) for key, value in subject.items()}
    for key in sorted(set(expected) - FREE_ON_RESUME):
        if expected[key] != found.get(key):
            raise DatasetError(f"{output}: {key}: expected {found.get(key)} to resume, got {expected[key]}")
    if NORMALIZATION in stored:
        check_values(f"{output}: normalization", stored[NORMALIZATION], normalization_values(plan))


def check_same_network(output: Path, stored: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    """Compares the tensors of a run, by name, with those of the network that is to go on.

    Raises:
        DatasetError: one has another shape, or only one of them has it.
    """
    for name in {**stored, **mine}:
        was, now = (tuple(each[name].shape) if name in each else None for each in (stored, mine))
        if was != now:
            began = "another version began this run; choose another folder"
            wanted = f"{was or 'no tensor'} to resume"
            raise DatasetError(f"{output}: {name}: expected {wanted}, got {now or 'none'}; {began}")


def check_values(where: str, stored: Any, new: Any) -> None:
    """Raises DatasetError at the first place where JSON values differ by more than rounding."""
    if isinstance(stored, dict) and isinstance(new, dict) and stored.keys() == new.keys():
        for key, value in new.items():
            check_values(f"{where}.{key}", stored[key], value)
    elif not _equal(stored, new):
        mend = "the weights mean the former; restore the dataset's meta/stats.json, or choose another folder"
        raise DatasetError(f"{where}: expected {stored!r:.200} to resume, got {new!r:.200}; {mend}")


def _equal(stored: Any, new: Any) -> bool:
    if isinstance(stored, list) and isinstance(new, list):
        return len(stored) == len(new) and all(map(_equal, stored, new))
    if isinstance(stored, float) and isinstance(new, float):
        return math.isclose(stored, new, rel_tol=_ROUNDING, abs_tol=1e-9)
    return bool(stored == new)
