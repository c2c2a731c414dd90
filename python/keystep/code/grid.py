"""The grid over the base camera's picture that says where things are, in code and in questions.

A cell is (column, row): columns from the left, rows from the top. Cells are centred on the grid's lines, so a
grid of n has n + 1 of them to a side, 0 .. n.
Source: From Code to Action, section 4.2, and ClevrSkills' converter to LLaVA, whose grid is 10 x 10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Cell = tuple[int, int]
OUT_OF_VIEW: Cell = (-1, -1)

GRID = 32
"""Ours. On the table a cell is 27 x 36 mm."""
PAPER_GRID = 10
"""The paper's: 86 x 116 mm, more than the 40 mm by which Swap may miss."""
MAX_GRID = 100


def check_grid(grid: int) -> int:
    """The grid; ValueError unless it is a whole number that can be one."""
    if isinstance(grid, bool) or not isinstance(grid, int) or not 1 <= grid <= MAX_GRID:
        raise ValueError(f"grid: expected 1 to {MAX_GRID} cells, got {grid!r}")
    return grid


def grid_of(collection: Mapping[str, Any]) -> int:
    """Of the dataset that says this of itself; datasets made before it was a setting have the paper's.

    Raises:
        ValueError: it says something else than a grid.
    """
    return check_grid(collection.get("grid", PAPER_GRID))


def cell(box: Sequence[float] | np.ndarray, grid: int = GRID) -> Cell:
    """The cell of a box (left, top, right, bottom), fractions of the picture: that of its centre.

    (-1, -1) when the box is four times -1, out of view. Raises ValueError for any other box that does not lie
    in the picture.
    """
    values = np.asarray(box, dtype=np.float64)
    if values.shape != (4,):
        raise ValueError(f"box: expected left, top, right, bottom, got shape {values.shape}")
    if (values == -1).all():
        return OUT_OF_VIEW
    low, high = values[:2], values[2:]
    if not ((low >= 0) & (low <= high) & (high <= 1)).all():
        raise ValueError(
            f"box: expected fractions 0 <= left <= right <= 1, top likewise, got {values.tolist()}"
        )
    return cell_at((low + high) / 2, grid)


def cell_at(point: np.ndarray, grid: int = GRID) -> Cell:
    """The cell of a point (right, down), fractions of the picture; a half goes to the even neighbour."""
    column, row = np.round(np.asarray(point) * grid).astype(int).tolist()
    return column, row
