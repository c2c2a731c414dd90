"""Statistics of every feature: exact per episode, combined over episodes in constant memory.

Keys and conventions are LeRobot's (src/lerobot/datasets/compute_stats.py): images per channel in [0, 1] with
shape (3, 1, 1), vectors per element, truth values as 0 and 1, none of strings, `count` of shape (1,).
Combined minimum, maximum, mean and standard deviation are exact. Quantiles of a union do not follow from
those of its parts: each episode has its own, the dataset has none (LeRobot averages the episodes' there,
which is another number). Where training needs some it takes them from the frames
(keystep.train.normalization).
"""

from __future__ import annotations

import math
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
    count = np.array([len(values)])
    if values.ndim == 4:
        channels = [_of_levels(counts) for counts in _level_counts(values)]
        found = {name: np.array([channel[name] for channel in channels]) for name in channels[0]}
        return {**{name: value.reshape(-1, 1, 1) / 255.0 for name, value in found.items()}, "count": count}
    rows = values.reshape(len(values), -1).astype(np.float64)
    return {
        "min": rows.min(axis=0),
        "max": rows.max(axis=0),
        "mean": rows.mean(axis=0),
        "std": rows.std(axis=0),
        **dict(zip(QUANTILES, np.quantile(rows, list(QUANTILES.values()), axis=0), strict=True)),
        "count": count,
    }


def _level_counts(images: np.ndarray) -> np.ndarray:
    """(channels, 256): how often each value is there. One image after the other: `bincount` makes int64."""
    counts = np.zeros((images.shape[-1], 256), np.int64)
    for image in images:
        for channel, found in enumerate(counts):
            found += np.bincount(image[..., channel].reshape(-1), minlength=256)
    return counts


def _of_levels(counts: np.ndarray) -> dict[str, float]:
    """Of whole numbers 0, 1 .., of which there are so many each: exact, and nothing is sorted."""
    levels, total = np.arange(len(counts)), int(counts.sum())
    seen = np.flatnonzero(counts)
    mean = counts @ levels / total
    ends = np.cumsum(counts)  # sorted, values up to here are at most the level
    places = np.array(list(QUANTILES.values())) * (total - 1)
    low, high = (np.searchsorted(ends, place, side="right") for place in (np.floor(places), np.ceil(places)))
    quantiles = low + (high - low) * (places - np.floor(places))
    return {
        "min": float(seen[0]),
        "max": float(seen[-1]),
        "mean": float(mean),
        "std": math.sqrt(counts @ (levels - mean) ** 2 / total),
        **dict(zip(QUANTILES, quantiles.tolist(), strict=True)),
    }


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
