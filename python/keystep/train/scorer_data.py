"""Tried plans as a scorer is trained on them and judged by: the split by contexts, and what is measured."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import torch

from keystep.data.errors import DatasetError
from keystep.record.plans_tried import TriedPlans

BINS = 10  # of the calibration error
Key = tuple[str, bytes]
"""A task and a state: what plans compete within."""


class OneSidedError(DatasetError):
    """There is nothing to tell apart: no failures, or no successes."""


class ScorerData:
    """The labels, and which plans are for training and for validation.

    Args:
        held_out: `split_contexts`.

    Raises:
        OneSidedError: no task has both failures and successes; a side of the split lacks one of them.
    """

    def __init__(self, tried: TriedPlans, held_out: set[bytes]) -> None:
        self.labels = torch.from_numpy(tried.success.astype(np.float32))
        self.notes = one_sided(tried)
        out = np.array([state in held_out for _, state in keys(tried)])
        self.training, self.validation = np.flatnonzero(~out), np.flatnonzero(out)
        for name, side in (("training", self.training), ("validation", self.validation)):
            good = int(tried.success[side].sum())
            if not 0 < good < len(side):
                got = f"{good} successes and {len(side) - good} failures"
                raise OneSidedError(f"{name}: expected successes and failures in its contexts, got {got}")


def keys(tried: TriedPlans) -> list[Key]:
    """Of each plan its task and what was seen.

    Not the context's name: collections start from the same state under several names.
    """
    return [(task, seen.tobytes()) for task, seen in zip(tried.tasks, tried.observations, strict=True)]


def split_contexts(tried: TriedPlans, fraction: float, seed: int) -> set[bytes]:
    """The states held out: a share of those of each task, at least one where there are two.

    A state is held out for all tasks or for none.
    """
    by_task: dict[str, set[bytes]] = defaultdict(set)
    for task, state in keys(tried):
        by_task[task].add(state)
    states = sorted(set().union(*by_task.values()))
    order = np.random.default_rng(seed).permutation(len(states))
    rank = dict(zip(states, order.tolist(), strict=True))
    held_out: set[bytes] = set()
    for own in by_task.values():
        count = max(1, round(fraction * len(own))) if len(own) > 1 else 0
        held_out.update(sorted(own, key=rank.__getitem__)[:count])
    return held_out


def one_sided(tried: TriedPlans) -> list[str]:
    """Which tasks teach nothing, as none of their plans failed, or none succeeded. OneSidedError: all."""
    outcomes: dict[str, list[bool]] = defaultdict(list)
    for task, success in zip(tried.tasks, tried.success, strict=True):
        outcomes[task].append(bool(success))
    lacking = {
        task: "failures" if all(found) else "successes"
        for task, found in sorted(outcomes.items())
        if len(set(found)) == 1
    }
    told = [f"{task}: no {what} in {len(outcomes[task])} plans" for task, what in lacking.items()]
    if len(lacking) == len(outcomes):
        raise OneSidedError(f"dataset: expected failures and successes of a task, got {'; '.join(told)}")
    return told


def metrics(logits: np.ndarray, tried: TriedPlans, chosen: np.ndarray) -> dict[str, Any]:
    """How well `logits` of the plans `chosen` tell what became of them.

    Returns:
        `plans`, `contexts`, `success` (their share), `auc`, `auc_by_task` (of tasks with both outcomes),
        `auc_within_contexts` (of pairs from one context, which is what the runtime chooses between; None
        without any), `pairs_within_contexts` (of few of them that figure is chance), `brier` (mean squared
        error of the probability) and `calibration_error` (mean distance of probability and share of successes
        in BINS equal bins, weighted; 0.05 or less is well calibrated).
    """
    every = keys(tried)
    success, groups = tried.success[chosen], [every[index] for index in chosen]
    tasks = np.array([task for task, _ in groups])
    # Not 1 / (1 + exp(-x)), which overflows.
    probability = 0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    gaps = [
        abs(probability[bins == number].mean() - success[bins == number].mean()) * (bins == number).mean()
        for number in np.unique(bins)
    ]
    within, pairs = _within(logits, success, groups)
    by_task = {str(task): auc(logits[tasks == task], success[tasks == task]) for task in np.unique(tasks)}
    return {
        "plans": len(chosen),
        "contexts": len(set(groups)),
        "success": float(success.mean()),
        "auc": auc(logits, success),
        "auc_by_task": {task: value for task, value in by_task.items() if value is not None},
        "auc_within_contexts": within,
        "pairs_within_contexts": pairs,
        "brier": float(np.mean((probability - success) ** 2)),
        "calibration_error": float(np.sum(gaps)),
    }


def auc_of_task(tried: TriedPlans, training: np.ndarray, chosen: np.ndarray) -> float | None:
    """What the rates of tasks in `training` tell of the plans `chosen`: a scorer that sees more is above."""
    outcomes: dict[str, list[bool]] = defaultdict(list)
    for index in training:
        outcomes[tried.tasks[index]].append(bool(tried.success[index]))
    rates = {task: float(np.mean(found)) for task, found in outcomes.items()}
    unknown = float(tried.success[training].mean())
    scores = np.array([rates.get(tried.tasks[index], unknown) for index in chosen])
    return auc(scores, tried.success[chosen])


def auc(scores: np.ndarray, success: np.ndarray) -> float | None:
    """The share of pairs of a success and a failure whose scores stand in that order, ties by half.

    None where there is no pair. It is Mann and Whitney's U over the number of pairs.
    """
    good, bad = np.sort(scores[success]), np.sort(scores[~success])
    if not len(good) or not len(bad):
        return None
    below, not_above = (np.searchsorted(bad, good, side) for side in ("left", "right"))
    return float((below + not_above).mean() / 2 / len(bad))


def _within(logits: np.ndarray, success: np.ndarray, groups: list[Key]) -> tuple[float | None, int]:
    """Over all contexts, weighted by their pairs, and the number of these."""
    members: dict[Key, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    found, weights = [], []
    for indices in members.values():
        good = int(success[indices].sum())
        if (value := auc(logits[indices], success[indices])) is not None:
            found.append(value)
            weights.append(good * (len(indices) - good))
    return (float(np.average(found, weights=weights)) if found else None), sum(weights)
