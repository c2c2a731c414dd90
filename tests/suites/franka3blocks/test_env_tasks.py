"""The ten tasks: success predicates on hand-made scenes (no simulator)."""

from __future__ import annotations

import numpy as np
import pytest

from keystep.suites.franka3blocks import TASKS, layout
from keystep.suites.franka3blocks.tasks import BlockState

START = np.array([[0.45, -0.08, 0.274], [0.5, 0.0, 0.274], [0.55, 0.08, 0.274]])


def moved(cube, by, contacts=()):
    cubes = START.copy()
    cubes[cube] += by
    return BlockState(cubes, frozenset(contacts))


@pytest.mark.parametrize(
    ("task", "cube", "by", "expected"),
    [
        ("lift_red", 0, (0, 0, 0.0901), True),
        ("lift_red", 0, (0, 0, 0.0899), False),
        ("lift_red", 1, (0, 0, 0.2), False),
        ("lift_blue", 2, (0.0, 0.0799, 0.1), True),
        ("lift_blue", 2, (0.05, 0.0641, 0.1), False),
        ("push_green_left", 1, (0, 0.0701, 0.0299), True),
        ("push_green_left", 1, (0, 0.0699, 0), False),
        ("push_green_left", 1, (0, -0.1, 0), False),
        ("push_green_left", 1, (0, 0.1, 0.0301), False),
        ("push_green_right", 1, (0, -0.0701, 0), True),
        ("push_green_right", 1, (0, 0.1, 0), False),
    ],
)
def test_lift_and_push_predicates(task, cube, by, expected):
    assert TASKS[task].success(BlockState(START), moved(cube, by)) is expected


@pytest.mark.parametrize(
    ("upper", "lower", "by", "contacts", "expected"),
    [
        (0, 2, (0, 0, 0.048), [(0, 2)], True),
        (2, 0, (0.019, 0, 0.048), [(0, 2)], True),
        (1, 2, (0, 0, 0.039), [(1, 2)], True),
        (1, 2, (0, 0, 0.038), [(1, 2)], False),
        (1, 2, (0, 0.021, 0.048), [(1, 2)], False),
        (1, 2, (0, 0, 0.048), [], False),
        (1, 2, (0, 0, 0.048), [(0, 1)], False),
    ],
)
def test_stack_predicate(upper, lower, by, contacts, expected):
    now = moved(upper, START[lower] - START[upper] + np.array(by), contacts)
    assert TASKS["stack"].success(BlockState(START), now) is expected


def test_the_ten_tasks_and_their_instructions():
    assert list(TASKS) == [
        *(f"lift_{cube}" for cube in layout.CUBES),
        *(f"push_{cube}_{side}" for cube in layout.CUBES for side in ("left", "right")),
        "stack",
    ]
    assert TASKS["push_blue_left"].instruction == "Push the blue block to the left."
    assert TASKS["lift_green"].instruction == "Lift the green block."
