"""What the frames of a dataset say of its vectors, dimension by dimension.

Training believes these, not statistics that another tool wrote down: a wrong range of the actions would turn
every one of them into a constant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from keystep.data import Dataset, DatasetError

_ENDS = (0.01, 0.99)  # the shares of the frames below the ends of `quantile`
_BLOCK = 256  # frames of depth at a time


@dataclass(frozen=True)
class Dimension:
    """All frames of one dimension of a feature.

    Attributes:
        name: "action[1] (y)".
        values: (frames,) float64, finite.
        stops: (episodes,) the frame after each one's last.
    """

    name: str
    values: np.ndarray
    stops: np.ndarray

    def place(self, row: int) -> tuple[int, int]:
        """Episode, and frame in it."""
        episode = int(np.searchsorted(self.stops, row, side="right"))
        return episode, row - (int(self.stops[episode - 1]) if episode else 0)

    def stats(self) -> dict[str, float]:
        low, high = (float(end) for end in np.quantile(self.values, _ENDS))
        ends = {"min": float(self.values.min()), "max": float(self.values.max())}
        return ends | {
            "mean": float(self.values.mean()),
            "std": float(self.values.std()),
            "q01": low,
            "q99": high,
        }


def dimensions(key: str, values: np.ndarray, reader: Dataset) -> Iterator[Dimension]:
    """The dimensions of a feature, of whose `values` (frames, D) all need not fit into memory.

    Raises:
        DatasetError: a number that is not finite, in single precision, in which networks compute.
    """
    names = reader.features[key].names or ()
    stops = np.array([episode.stop for episode in reader.episodes()])
    rows = values.reshape(len(values), -1)
    for number in range(rows.shape[1]):
        column = rows[:, number].astype(np.float64)
        name = f"{key}[{number}]" + (f" ({names[number]})" if number < len(names) else "")
        dimension = Dimension(name, column, stops)
        bad = np.flatnonzero(~np.isfinite(column))
        if len(bad):
            episode, frame = dimension.place(int(bad[0]))
            raise DatasetError(
                f"{name}: expected finite numbers of single precision, got {column[bad[0]]} in frame {frame} "
                f"of episode {episode}; correct it or leave that episode out"
            )
        yield dimension


def measured_depth(values: np.ndarray) -> dict[str, Any]:
    """Statistics of depth images (frames, h, w), of the one channel that they have.

    All are finite: the reader refuses others.
    """
    lows, highs, sums, squares = [], [], [], []
    for first in range(0, len(values), _BLOCK):
        block = values[first : first + _BLOCK].astype(np.float64)
        lows.append(block.min())
        highs.append(block.max())
        sums.append(block.sum())
        squares.append(np.square(block).sum())
    mean = float(np.sum(sums)) / values.size
    std = max(float(np.sum(squares)) / values.size - mean**2, 0.0) ** 0.5
    found = {"min": float(min(lows)), "max": float(max(highs)), "mean": mean, "std": std}
    return {name: [value] for name, value in found.items()} | {"count": len(values)}
