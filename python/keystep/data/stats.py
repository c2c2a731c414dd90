"""Statistics of every feature: exact per episode, combined over episodes in constant memory.

Keys and conventions are LeRobot's (src/lerobot/datasets/compute_stats.py): images per channel in [0, 1] with
shape (3, 1, 1), vectors per element, truth values as 0 and 1, none of strings, `count` of shape (1,).
Combined minimum, maximum, mean and standard deviation are exact. Quantiles of a union do not follow from
those of its parts: each episode has its own, the dataset has none (LeRobot averages the episodes' there,
which is another number). Where training needs some it takes them from the frames
(keystep.train.normalization).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
COMBINED = ("min", "max", "mean", "std", "count")

FeatureStats = dict[str, np.ndarray]
Stats = dict[str, FeatureStats]


def feature_stats(values: np.ndarray) -> FeatureStats:
    """Statistics of one feature over an episode.

    Args:
        values: (T,) or (T, D) numbers or truth values, or (T, h, w, 3) uint8 images.
    """
    frames = len(values)
    is_image = values.ndim == 4
    rows = values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values.reshape(-1, 1)
    if not is_image:
        rows = rows.astype(np.float64)
    quantiles = np.quantile(rows, list(QUANTILES.values()), axis=0)
    found: FeatureStats = {
        "min": rows.min(axis=0),
        "max": rows.max(axis=0),
        "mean": rows.mean(axis=0, dtype=np.float64),
        "std": rows.std(axis=0, dtype=np.float64),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }
    if is_image:
        found = {key: value.reshape(-1, 1, 1) / 255.0 for key, value in found.items()}
    return {**{key: value.astype(np.float64) for key, value in found.items()}, "count": np.array([frames])}


def episode_stats(columns: Mapping[str, np.ndarray]) -> Stats:
    """Of every column but strings, which are arrays of dtype object."""
    return {key: feature_stats(values) for key, values in columns.items() if values.dtype != object}


def combine(first: FeatureStats | None, second: FeatureStats) -> FeatureStats:
    """Statistics of the union of two sets of frames (Chan's parallel variance), without quantiles."""
    if first is None:
        return {name: second[name] for name in COMBINED}
    n, m = int(first["count"][0]), int(second["count"][0])
    share = m / (n + m)
    delta = second["mean"] - first["mean"]
    variance = (1 - share) * first["std"] ** 2 + share * second["std"] ** 2 + share * (1 - share) * delta**2
    return {
        "min": np.minimum(first["min"], second["min"]),
        "max": np.maximum(first["max"], second["max"]),
        "mean": first["mean"] + share * delta,
        "std": np.sqrt(variance),
        "count": np.array([n + m]),
    }


def combine_all(parts: Iterable[Stats]) -> Stats:
    total: Stats = {}
    for part in parts:
        for key, found in part.items():
            total[key] = combine(total.get(key), found)
    return total


def to_json(stats: Stats) -> dict[str, dict[str, list]]:
    return {key: {name: value.tolist() for name, value in found.items()} for key, found in stats.items()}
