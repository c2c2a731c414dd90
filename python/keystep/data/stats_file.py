"""Statistics that others computed: meta/stats.json and those of the episodes, as far as they can be used."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keystep.data import layout, stats
from keystep.data.layout import Column, DatasetError, quoted
from keystep.data.stats import FeatureStats, Stats

_LISTED = 8
_NEEDED = ("min", "max", "mean", "std", "count")


def read_stats(path: Path) -> Stats:
    """Of meta/stats.json what is an array of numbers; nothing when there is no such file.

    Raises:
        DatasetError: no JSON, or no object of objects.
    """
    if not path.exists():
        return {}
    found = layout.load_json(path)
    if not isinstance(found, dict) or not all(isinstance(entry, dict) for entry in found.values()):
        raise DatasetError(f"{path}: expected an object of statistics by feature, got {quoted(found)}")
    return {
        key: {name: array for name in _NEEDED if (array := numeric(entry.get(name))) is not None}
        for key, entry in found.items()
    }


def numeric(value: Any) -> np.ndarray | None:
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError):  # lists of different lengths
        return None
    return array if array.dtype.kind in "biuf" else None


def usable(found: Mapping[str, FeatureStats], features: Mapping[str, Column], frames: int) -> bool:
    """Whether the statistics of all that a policy may see or do are there and finite, over `frames` frames.

    LeRobot's statistics of images are over some of the frames.
    """
    return all(
        _fits(found.get(key, {}), feature, None if feature.is_image else frames)
        for key, feature in features.items()
        if key.split(".")[0] in ("action", "observation") and (feature.is_number or feature.is_image)
    )


def _fits(found: FeatureStats, feature: Column, frames: int | None) -> bool:
    size = feature.channels if feature.is_image else math.prod(feature.shape)
    for name in _NEEDED:
        value = found.get(name)
        if value is None or value.size != (1 if name == "count" else size) or not np.isfinite(value).all():
            return False
    return frames is None or int(found["count"].reshape(-1)[0]) == frames


def combine_episodes(parts: Iterable[Stats], features: Mapping[str, Column]) -> Stats:
    """Of all frames, from the statistics of every episode; empty when an episode lacks some."""
    total: Stats = {}
    for part in parts:
        kept = {key: found for key, found in part.items()
                if key in features and _fits(found, features[key], None)}  # fmt: skip
        if total and total.keys() != kept.keys():
            return {}
        total = stats.combine_all((total, kept)) if total else kept
    return total


def measure(batches: Iterable[Mapping[str, np.ndarray]]) -> Stats:
    """Of all frames, from the frames; shapes are those of the features, (3, 1, 1) of images."""
    total: Stats = {}
    for batch in batches:
        for key, values in batch.items():
            flat = (
                values if values.dtype == np.uint8 and values.ndim == 4 else values.reshape(len(values), -1)
            )
            total[key] = stats.combine(total.get(key), stats.feature_stats(flat))
    return total


def contradictions(key: str, told: Mapping[str, Any], measured: Mapping[str, Any]) -> Iterator[str]:
    """A line if `min` or `max` are not the frames', beyond the rounding of single precision."""
    for name in ("min", "max"):
        if name not in told:
            continue
        first, second = (np.asarray(stats[name], np.float64).reshape(-1) for stats in (told, measured))
        if first.shape != second.shape or not np.isfinite(second).all():
            continue  # told elsewhere
        if not np.allclose(first, second, rtol=1e-6, atol=1e-12):
            found = f"{_listed(second)}, which training takes, got {_listed(first)}"
            yield f"{key}.{name}: expected those of the frames, {found}"
            return


def _listed(values: np.ndarray) -> str:
    more = ", .." if len(values) > _LISTED else ""
    return f"[{', '.join(f'{value:.6g}' for value in values[:_LISTED])}{more}]"
