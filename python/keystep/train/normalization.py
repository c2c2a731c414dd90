"""How the numbers that a network reads and writes are normalised: what is chosen, and what the data say.

A range is as wide as its farthest frame. Where a few frames lie far out, min_max leaves the rest a sliver of
[-1, 1], in which the noise of training is large; every dimension is therefore looked at before step 1.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keystep.data import DatasetError, DatasetReader
from keystep.data.cache import mapped_columns
from keystep.models.checkpoint import Config, network_modes
from keystep.models.config import ActConfig
from keystep.models.normalizer import MIN_WIDTH, normalization_entry, offset_and_scale
from keystep.train.config import parse_choices

MANY = 5
"""A range of more than MANY times that of the middle 90 % of the frames has outliers. It is 1.1 times as wide
for a uniform distribution, and of 100,000 frames 2.7 times for a normal, 4.7 times for a Laplace one."""
_MIDDLE, _ENDS = (0.05, 0.95), (0.01, 0.99)
_LISTED = 5  # episodes of a warning


@dataclass(frozen=True)
class Normalized:
    """A network and what it takes its numbers by.

    Attributes:
        network: with the clip range that the data need.
        modes: by key, of everything the network reads or writes.
        stats: of the dataset; of keys normalised by quantiles with `q01` and `q99`.
        notes: what was chosen, and on outliers; to be printed.
    """

    network: Config
    modes: dict[str, str]
    stats: dict[str, dict[str, Any]]
    notes: list[str]


def normalize(
    network: Config,
    reader: DatasetReader,
    stats: dict[str, dict[str, Any]],
    choices: Sequence[str],
    cache: Path | None,
    still: np.ndarray | None = None,
) -> Normalized:
    """Applies the choices to a network, and looks at the data.

    Args:
        stats: of the dataset's features: `min`, `max`, `mean`, `std`.
        choices: see `parse_choices`.
        cache: folder of the memory-mapped columns.
        still: (A,) an action that is a target besides those of the dataset; NaN where it is one of these.

    Raises:
        ValueError: a choice for what the network does not know.
        DatasetError: a number that is not finite.
    """
    modes = network_modes(network)
    vectors = [key for key in modes if ".images." not in key]
    modes |= _chosen(choices, vectors)
    notes, stats = list[str](), dict(stats)
    columns = mapped_columns(reader, vectors, cache) if vectors else {}
    for key, values in columns.items():
        names = reader.features[key].names or ()
        notes += list(_outliers(key, modes[key], names, values, reader))
        if modes[key] == "quantile":
            stats[key] = stats[key] | quantiles(values)
    sampled = getattr(network, "subgoal", "action")
    if sampled in columns and not isinstance(network, ActConfig):
        entry = normalization_entry(modes[sampled], stats[sampled])
        ends = [
            columns[sampled].min(axis=0),
            columns[sampled].max(axis=0),
            *([] if still is None else [still]),
        ]
        sampler = dataclasses.replace(network.sampler, clip_range=clip_range(entry, ends))
        network = dataclasses.replace(network, sampler=sampler)
    if choices:
        chosen = ", ".join(f"{key} {modes[key]}" for key in vectors)
        notes.insert(0, f"normalization: {chosen}")
    return Normalized(network, modes, stats, notes)


def _chosen(choices: Sequence[str], vectors: Sequence[str]) -> dict[str, str]:
    given = parse_choices(choices)
    for_all = given.pop("", None)
    if for_all and not vectors:
        raise ValueError(f"normalization: expected none (images have their own), got {for_all}")
    for key, mode in given.items():
        if key not in vectors:
            known = ", ".join(vectors) or "none (images have their own)"
            raise ValueError(f"normalization: expected a key of {known}, got {key}={mode}")
    return ({key: for_all for key in vectors} if for_all else {}) | given


def quantiles(values: np.ndarray) -> dict[str, list[float]]:
    """`q01` and `q99` over all frames, exact; values: (frames, dimensions)."""
    found = np.stack([np.quantile(column, _ENDS) for column in _columns(values)], axis=1)
    return {"q01": found[0].tolist(), "q99": found[1].tolist()}


def clip_range(entry: dict[str, Any], values: Iterable[np.ndarray]) -> float:
    """Where a sampler may clip what it samples: beyond all `values` (dimensions,) in network units.

    Of min_max that is 1; else it is rounded up to two digits.
    """
    if entry["mode"] == "min_max":
        return 1.0
    offset, scale = offset_and_scale(entry)
    sizes = np.abs((np.stack([*values]).astype(np.float64) - offset) / scale)
    return max(1.0, math.ceil(100 * float(np.nanmax(sizes))) / 100)


def _columns(values: np.ndarray) -> Iterator[np.ndarray]:
    """One dimension after the other: a whole memory-mapped column need not fit into memory."""
    rows = values.reshape(len(values), -1)
    for dimension in range(rows.shape[1]):
        yield rows[:, dimension].astype(np.float64)


def _outliers(
    key: str, mode: str, names: Sequence[str], values: np.ndarray, reader: DatasetReader
) -> Iterator[str]:
    """What to say of each dimension whose range is many times its spread."""
    stops = np.array([episode.stop for episode in reader.episodes()])
    for dimension, column in enumerate(_columns(values)):
        name = f"{key}[{dimension}]" + (f" ({names[dimension]})" if dimension < len(names) else "")
        _check_finite(name, column, stops)
        low, high = np.quantile(column, _MIDDLE)
        if column.max() - column.min() <= max(MIN_WIDTH, MANY * (high - low)) or _is_switch(column):
            continue
        yield _remark(name, key, mode, column, (low, high), stops)


def _is_switch(column: np.ndarray) -> bool:
    """Two values, the rarer in at least 1 % of the frames: a gripper that is seldom open is no outlier."""
    counts = np.unique(column, return_counts=True)[1]
    return len(counts) == 2 and counts.min() >= 0.01 * len(column)


def _check_finite(name: str, column: np.ndarray, stops: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(column))
    if len(bad):
        episode, frame = _place(int(bad[0]), stops)
        raise DatasetError(
            f"{name}: expected finite numbers, got {column[bad[0]]} in frame {frame} of "
            f"episode {episode}; correct it or leave that episode out"
        )


def _place(row: int, stops: np.ndarray) -> tuple[int, int]:
    """Episode, and frame in it."""
    episode = int(np.searchsorted(stops, row, side="right"))
    return episode, row - (int(stops[episode - 1]) if episode else 0)


def _remark(
    name: str, key: str, mode: str, column: np.ndarray, middle: tuple[float, float], stops: np.ndarray
) -> str:
    low, high = middle
    distance = np.maximum(low - column, column - high)
    # Without what is beyond this fence the range would not be too wide.
    outside = np.flatnonzero(distance > (MANY - 1) / 2 * (high - low))
    episodes = np.searchsorted(stops, outside, side="right")
    worst = [outside[episodes == e][np.argmax(distance[outside[episodes == e]])] for e in np.unique(episodes)]
    worst.sort(key=lambda row: -distance[row])
    places = [(*_place(int(row), stops), column[row]) for row in worst[:_LISTED]]
    listed = ", ".join(f"episode {e} ({value:.4g} in frame {frame})" for e, frame, value in places)
    more = f" and {len(worst) - _LISTED} more" if len(worst) > _LISTED else ""
    return (
        f"warning: {name} reaches {column.min():.4g} .. {column.max():.4g}, but 90 % of the frames lie in "
        f"{low:.4g} .. {high:.4g}. Far out: {listed}{more}. {_advice(key, mode, column, high - low)}"
    )


def _advice(key: str, mode: str, column: np.ndarray, spread: float) -> str:
    drop = "If these episodes are mistakes, leave them out of the dataset"
    if mode != "min_max":
        return f"{drop}; {mode} keeps them, far from the rest."
    low, high = np.quantile(column, _ENDS)
    better = "mean_std" if high - low > MANY * spread else "mean_std or quantile"
    share = spread / (column.max() - column.min())
    return (
        f"{drop}; min_max leaves the rest {share:.1%} of the network's range: --normalization {key}={better}."
    )
