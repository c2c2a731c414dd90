"""How an episode without success failed, told from its states (HD-ExpIt, appendix F.7). Needs numpy only.

The paper shows kinds of failure: plans that ignore the task or do it to the wrong side, which come from the
planner, and grasps and placements that are off, which come from control. Here each failed episode is of one
kind, the first that fits in the order of the functions below. An episode may have several plans; what counts
is how far it came.
"""

from __future__ import annotations

import numpy as np

from keystep.suites.franka3blocks import layout
from keystep.suites.franka3blocks.tasks import (
    LIFT_DRIFT_M,
    LIFT_HEIGHT_M,
    PUSH_DISTANCE_M,
    PUSH_LEVEL_M,
    STACK_RISE_M,
    BlockTask,
)

OFF_TABLE = "off the table"
NO_GRASP = "no grasp"
WRONG_CUBE = "wrong cube"
WRONG_SIDE = "wrong side"
DROPPED = "dropped"
OFF_TARGET = "off target"
PLACED_OFF = "placed off"
TIME_OUT = "time out"
FAILURE_KINDS = (OFF_TABLE, NO_GRASP, WRONG_CUBE, WRONG_SIDE, DROPPED, OFF_TARGET, PLACED_OFF, TIME_OUT)
"""In the order of tables.

off the table: a cube was flung away. no grasp: no cube was held, nor the right one moved. wrong cube: another
one was held or moved, and not the right one. wrong side: the right one went to the other side. dropped: it
was held and lost on the way. off target: it came far enough, but a lift drifted away, or a push left the
table. placed off: it was let go over another cube and does not rest on it. time out: it is still held.
"""

HELD_WITHIN_M = 0.03
"""Of the hand's grasp point to the centre of a cube that is held."""
HELD_FINGER_M = (layout.CUBE_EDGE_M / 2 - 0.006, layout.CUBE_EDGE_M / 2 + 0.006)
"""Opening of a finger with a cube, turned a little or not, in it."""
HELD_STEPS = 5
"""In a row; fingers that close upon nothing pass the opening in two."""
MOVED_M = 0.02
"""Of a cube that something was done to."""
OVER_M = layout.CUBE_EDGE_M
"""In x and y, of a cube that is over another one."""


def failure_of(task: BlockTask, states: np.ndarray) -> str:
    """One of `FAILURE_KINDS`.

    Args:
        states: (T, 26), see `layout.STATE_NAMES`, from the reset on.
    """
    cubes = states[:, layout.CUBE_POSITIONS].reshape(len(states), len(layout.CUBES), 3)
    held = held_cubes(states[:, layout.HAND_POSITION], cubes, states[:, layout.FINGER][:, 0])
    offset = cubes - np.array([layout.TABLE_CENTRE_M[0], 0.0, layout.TABLE_TOP_M])
    if (np.abs(offset[..., :2]) > 0.3).any() or (offset[..., 2] < -0.01).any():
        return OFF_TABLE
    if task.cube is None:
        return _stack_failure(cubes, held)
    moved = np.linalg.norm(cubes - cubes[0], axis=-1).max(axis=0) > MOVED_M
    others = [number for number in range(len(layout.CUBES)) if number != task.cube]
    if not held[:, task.cube].any() and not moved[task.cube]:
        return WRONG_CUBE if held[:, others].any() or moved[others].any() else NO_GRASP
    way = cubes[:, task.cube] - cubes[0, task.cube]
    if task.family == "push":
        return _push_failure(task.direction * way[:, 1], way[:, 2], held[:, task.cube])
    return _lift_failure(way, held[:, task.cube])


def _lift_failure(way: np.ndarray, held: np.ndarray) -> str:
    """`way`: (T, 3), of the cube from its start."""
    high = way[:, 2] >= LIFT_HEIGHT_M
    if (high & (np.linalg.norm(way[:, :2], axis=1) >= LIFT_DRIFT_M)).any():
        return OFF_TARGET
    return _lost(held)


def _push_failure(along: np.ndarray, rise: np.ndarray, held: np.ndarray) -> str:
    """`along`: (T,), the way towards the right side."""
    if (along >= PUSH_DISTANCE_M).any() and (np.abs(rise[along >= PUSH_DISTANCE_M]) >= PUSH_LEVEL_M).all():
        return OFF_TARGET
    if -along.min() > max(MOVED_M, along.max()):
        return WRONG_SIDE
    return _lost(held)


def _lost(held: np.ndarray) -> str:
    """Of a cube that was touched: whether it was ever held, and is at the end."""
    if not held.any():
        return NO_GRASP
    return TIME_OUT if held[-1] else DROPPED


def _stack_failure(cubes: np.ndarray, held: np.ndarray) -> str:
    if not held.any():
        return NO_GRASP
    for upper, step in _let_go(held):
        gaps = cubes[step, upper] - np.delete(cubes[step], upper, axis=0)
        over = np.linalg.norm(gaps[:, :2], axis=1) < OVER_M
        if (over & (gaps[:, 2] > STACK_RISE_M)).any():
            return PLACED_OFF
    return TIME_OUT if held[-1].any() else DROPPED


def _let_go(held: np.ndarray) -> list[tuple[int, int]]:
    """(cube, last step at which it was held) of every grasp that ended before the episode."""
    ended = held[:-1] & ~held[1:]
    return [(int(cube), int(step)) for step, cube in np.argwhere(ended)]


def held_cubes(hand: np.ndarray, cubes: np.ndarray, finger: np.ndarray) -> np.ndarray:
    """Which cubes are between the closed fingers, for at least `HELD_STEPS` steps.

    Args:
        hand: (T, 3), the grasp point.
        cubes: (T, 3, 3) centres.
        finger: (T,) opening of the first finger.

    Returns:
        (T, 3) bool.
    """
    near = np.linalg.norm(cubes - hand[:, None], axis=-1) < HELD_WITHIN_M
    low, high = HELD_FINGER_M
    now = near & ((finger > low) & (finger < high))[:, None]
    found = np.zeros_like(now)
    for cube in range(now.shape[1]):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], now[:, cube].astype(int), [0]])))
        for start, stop in edges.reshape(-1, 2):
            if stop - start >= HELD_STEPS:
                found[start:stop, cube] = True
    return found
