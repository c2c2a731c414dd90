"""Scenes in words: each object once, where it is, row by row, and errors that stay near."""

from __future__ import annotations

import numpy as np
import pytest

from keystep.code.told import SceneWords

NAMES = {"red cube": (10, 20), "red ball": (10, 21), "blue cube": (11, 20), "plate": (30,)}
NUMBERS = tuple(range(100, 133))  # a grid of 32
PAD = 0


def words(objects: int = 3) -> SceneWords:
    return SceneWords(NAMES, NUMBERS, (16, 16), objects, PAD)


def box(column: float, row: float) -> list[float]:
    """Around a point in cells of the grid."""
    return [(column - 1) / 32, (row - 1) / 32, (column + 1) / 32, (row + 1) / 32]


def test_a_scene_is_told_row_by_row_with_what_is_missing_last() -> None:
    names = ("plate", "blue cube", "red cube")
    boxes = np.array([box(20, 9), box(4, 9), box(28, 3)])
    told = words(4).tell(names, boxes, None)
    assert told == [10, 20, 128, 103, 11, 20, 104, 109, 30, PAD, 120, 109, *[PAD] * 4]
    assert words(2).tell(names, boxes, None) == told[:8]


def test_what_is_out_of_view_is_not_told_and_of_two_in_a_cell_the_last() -> None:
    boxes = np.array([box(4, 8), [-1.0] * 4, box(5, 9)])
    assert words().tell(("red cube", "blue cube", "red ball"), boxes, None)[:8] == [
        *(10, 21, 105, 109),
        *[PAD] * 4,
    ]


def test_rows_are_those_of_the_map() -> None:
    """Two of one row of the map, the right one higher by a row of the grid."""
    boxes = np.array([box(20, 8), box(4, 9)])
    assert words().tell(("red cube", "blue cube"), boxes, None)[:2] == [11, 20]


def test_errors_are_near_and_rare_and_follow_the_seed() -> None:
    rng, missed, misread, beside = np.random.default_rng(0), 0, 0, 0
    boxes = np.array([box(12, 7)])
    for _ in range(2000):
        told = words(1).tell(("red cube",), boxes, rng)
        assert len(told) == 4
        missed += told == [PAD] * 4
        if told != [PAD] * 4:
            assert told[0] == 10 and told[1] in (20, 21), "of a red one another red one"
            assert abs(told[2] - 112) <= 1 and abs(told[3] - 107) <= 1
            misread += told[1] == 21
            beside += told[2] != 112
    assert 100 < missed < 230 and 120 < misread < 260 and 90 < beside < 220
    for seed in range(40):  # never off the grid
        told = words(1).tell(("plate",), np.array([[0, 0.9, 0.02, 1]]), np.random.default_rng(seed))
        assert told[0] == PAD or (100 <= told[2] <= 101 and told[3] <= 132)
    again = [words().tell(("red cube",), boxes, np.random.default_rng(5)) for _ in range(2)]
    assert again[0] == again[1]


def test_a_name_that_nobody_knows_is_no_scene() -> None:
    with pytest.raises(KeyError):
        words().tell(("green cube",), np.array([box(1, 1)]), None)
