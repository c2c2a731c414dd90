"""The ten tasks of Franka-3Blocks as data: instruction and success predicate (HD-ExpIt, appendix).

A predicate compares the scene now with the scene at the start of the episode. Predicates are composed, so
a task is one line of `TASKS`. Needs numpy only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from keystep.suites.franka3blocks.layout import CUBE_EDGE_M, CUBES, STACK_OFFSET_M

LIFT_HEIGHT_M = 0.09
LIFT_DRIFT_M = 0.08
PUSH_DISTANCE_M = 0.07
PUSH_LEVEL_M = 0.03
STACK_RISE_M = 0.8 * CUBE_EDGE_M


@dataclass(frozen=True)
class BlockState:
    """What predicates see.

    Attributes:
        cubes: (3, 3) cube centres in metres, rows in the order of `CUBES`.
        contacts: pairs (i, j), i < j, of cube indices that touch.
    """

    cubes: np.ndarray
    contacts: frozenset[tuple[int, int]] = frozenset()


Predicate = Callable[[BlockState, BlockState], bool]
"""(start, now) -> bool"""


def all_of(*predicates: Predicate) -> Predicate:
    return lambda start, now: all(predicate(start, now) for predicate in predicates)


def any_of(*predicates: Predicate) -> Predicate:
    return lambda start, now: any(predicate(start, now) for predicate in predicates)


def raised(cube: int, at_least_m: float) -> Predicate:
    return lambda start, now: bool(now.cubes[cube, 2] - start.cubes[cube, 2] >= at_least_m)


def drifted_less(cube: int, than_m: float) -> Predicate:
    return lambda start, now: bool(np.linalg.norm(now.cubes[cube, :2] - start.cubes[cube, :2]) < than_m)


def moved_along_y(cube: int, direction: int, at_least_m: float) -> Predicate:
    return lambda start, now: bool(direction * (now.cubes[cube, 1] - start.cubes[cube, 1]) >= at_least_m)


def kept_level(cube: int, within_m: float) -> Predicate:
    return lambda start, now: bool(abs(now.cubes[cube, 2] - start.cubes[cube, 2]) < within_m)


def touching(first: int, second: int) -> Predicate:
    pair = (min(first, second), max(first, second))
    return lambda start, now: pair in now.contacts


def above(upper: int, lower: int, at_least_m: float) -> Predicate:
    return lambda start, now: bool(now.cubes[upper, 2] > now.cubes[lower, 2] + at_least_m)


def aligned(first: int, second: int, within_m: float) -> Predicate:
    return lambda start, now: bool(np.linalg.norm(now.cubes[first, :2] - now.cubes[second, :2]) < within_m)


def resting_on(upper: int, lower: int) -> Predicate:
    return all_of(
        touching(upper, lower), above(upper, lower, STACK_RISE_M), aligned(upper, lower, STACK_OFFSET_M)
    )


@dataclass(frozen=True)
class BlockTask:
    """One task.

    Attributes:
        name: key in `TASKS`.
        family: "lift", "push" or "stack".
        instruction: what a language-conditioned policy is told.
        success: predicate over the scene at the start of the episode and the scene now.
        cube: index into `CUBES` of the cube to move; None when any will do.
        direction: push only: +1 left (+y), -1 right (-y).
    """

    name: str
    family: str
    instruction: str
    success: Predicate
    cube: int | None = None
    direction: int = 0


def _lift(cube: int) -> BlockTask:
    success = all_of(raised(cube, LIFT_HEIGHT_M), drifted_less(cube, LIFT_DRIFT_M))
    return BlockTask(f"lift_{CUBES[cube]}", "lift", f"Lift the {CUBES[cube]} block.", success, cube)


def _push(cube: int, side: str) -> BlockTask:
    direction = {"left": 1, "right": -1}[side]
    success = all_of(moved_along_y(cube, direction, PUSH_DISTANCE_M), kept_level(cube, PUSH_LEVEL_M))
    instruction = f"Push the {CUBES[cube]} block to the {side}."
    return BlockTask(f"push_{CUBES[cube]}_{side}", "push", instruction, success, cube, direction)


def _stack() -> BlockTask:
    success = any_of(*(resting_on(upper, lower) for upper, lower in permutations(range(len(CUBES)), 2)))
    return BlockTask("stack", "stack", "Stack one block on top of another block.", success)


TASKS: dict[str, BlockTask] = {
    task.name: task
    for task in (
        *(_lift(cube) for cube in range(len(CUBES))),
        *(_push(cube, side) for cube in range(len(CUBES)) for side in ("left", "right")),
        _stack(),
    )
}
"""The ten tasks in their fixed order; the index in this order is the task's number everywhere."""

FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(task.family for task in TASKS.values()))


def task_named(name: str) -> BlockTask:
    """The task called `name`; ValueError listing the known ones otherwise."""
    if name not in TASKS:
        raise ValueError(f"task: expected one of {', '.join(TASKS)}, got {name!r}")
    return TASKS[name]
