"""What to say of a vector's numbers before a training is spent on them.

A range is as wide as its farthest frame. Where a few frames lie far out, min_max leaves the rest a sliver of
[-1, 1], in which the noise of training is large.
"""

from __future__ import annotations

import numpy as np

from keystep.models.normalizer import MIN_STD, MIN_WIDTH, normalization_entry, offset_and_scale
from keystep.train.measure import Dimension

MANY = 5
"""A range of more than MANY times that of the middle 90 % of the frames has outliers. It is 1.1 times as wide
for a uniform distribution, and of 100,000 frames 2.7 times for a normal, 4.7 times for a Laplace one."""
_MIDDLE = (0.05, 0.95)
_SHARE = 1 / MANY  # of the network's range: what the middle 90 % take at least where none lies far out
_LISTED = 5  # episodes of a warning


def outliers(key: str, mode: str, dimension: Dimension, stats: dict[str, float]) -> str | None:
    """What to say of a dimension whose range is many times its spread."""
    low, high = np.quantile(dimension.values, _MIDDLE)
    width = stats["max"] - stats["min"]
    if width <= max(MIN_WIDTH, MANY * (high - low)) or _is_switch(dimension.values):
        return None
    distance = np.maximum(low - dimension.values, dimension.values - high)
    # Without what is beyond this fence the range would not be too wide.
    outside = np.flatnonzero(distance > (MANY - 1) / 2 * (high - low))
    return (
        f"warning: {dimension.name} reaches {stats['min']:.4g} .. {stats['max']:.4g}, but 90 % of the frames "
        f"lie in {low:.4g} .. {high:.4g}. Far out: {_listed(dimension, outside, distance)}. "
        f"{_advice(key, mode, stats, high - low)}"
    )


def narrow(key: str, mode: str, dimension: Dimension, stats: dict[str, float]) -> str | None:
    """What to say of a dimension that moves, but so little that `mode` takes it for constant."""
    width = stats["max"] - stats["min"]
    own = stats["std"] if mode == "mean_std" else width / 2
    ratio = own / _scale(mode, stats)
    if not _moves(stats) or ratio >= 1 - 1e-6:
        return None
    limit = f"standard deviation is below {MIN_STD}" if mode == "mean_std" else f"range is below {MIN_WIDTH}"
    other = f", or --normalization {key}=min_max" if width >= MIN_WIDTH else ""
    return (
        f"warning: {dimension.name} moves within {stats['min']:.6g} .. {stats['max']:.6g}, but {mode} takes "
        f"it for constant, as its {limit}: in the network's numbers it moves {ratio:.2g} times as much "
        f"as others. If it matters, scale it in the dataset (mm instead of m){other}"
    )


def _moves(stats: dict[str, float]) -> bool:
    """More than by the rounding of single precision."""
    return stats["max"] - stats["min"] > 1e-6 * max(abs(stats["min"]), abs(stats["max"]))


def _is_switch(values: np.ndarray) -> bool:
    """Two values, the rarer in at least 1 % of the frames: a gripper that is seldom open is no outlier."""
    counts = np.unique(values, return_counts=True)[1]
    return len(counts) == 2 and counts.min() >= 0.01 * len(values)


def _listed(dimension: Dimension, outside: np.ndarray, distance: np.ndarray) -> str:
    """The farthest frame of each episode, the farthest episode first."""
    episodes = np.searchsorted(dimension.stops, outside, side="right")
    worst = [outside[episodes == e][np.argmax(distance[outside[episodes == e]])] for e in np.unique(episodes)]
    worst.sort(key=lambda row: -distance[row])
    places = [(*dimension.place(int(row)), dimension.values[row]) for row in worst[:_LISTED]]
    listed = ", ".join(f"episode {e} ({value:.4g} in frame {frame})" for e, frame, value in places)
    return listed + (f" and {len(worst) - _LISTED} more" if len(worst) > _LISTED else "")


def _advice(key: str, mode: str, stats: dict[str, float], spread: float) -> str:
    """Names only what would give the rest its share of the network's range."""
    drop = "If these episodes are mistakes, leave them out of the dataset"
    shares = {each: spread / 2 / _scale(each, stats) for each in ("min_max", "mean_std", "quantile")}
    if shares[mode] >= _SHARE:
        return f"{drop}; {mode} keeps them, far from the rest."
    left = f"{drop}; {mode} leaves the rest {shares[mode]:.1%} of the network's range"
    better = [each for each in ("mean_std", "quantile") if shares[each] >= _SHARE]
    if better:
        return f"{left}: --normalization {key}={' or '.join(better)}."
    return f"{left}; no other mode helps, only other data do."


def _scale(mode: str, stats: dict[str, float]) -> float:
    """What one unit of the network is of this dimension's."""
    entry = normalization_entry(mode, {name: [value] for name, value in stats.items()})
    return float(offset_and_scale(entry)[1][0])
