"""Where a parallel gripper can hold a block from above."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from keystep.suites.tabletop import layout
from keystep.suites.tabletop.objects import SIDES, Thing
from keystep.suites.tabletop.oracle.motion import reachable_yaw, wrist_middle
from keystep.suites.tabletop.polygons import gap, rectangle, unit

FINGER_HALF_DEPTH_M = 0.0076  # along the closing direction
FINGER_HALF_WIDTH_M = 0.0105
CLEAR_M = 0.003
TOP_TO_GRASP_M = 0.03  # at most, from the top of the block down to the grasp
PALM_M = 0.04  # the palm is so far above the grasp
PALM_HALF_WIDTH_M = 0.105  # along the closing direction
PALM_HALF_DEPTH_M = 0.035
TIP_M = 0.012  # the finger tips reach so far below the grasp
WIDEST_M = 2 * (layout.FINGER_OPEN_M - CLEAR_M)


ENOUGH_M = 0.05  # more room than this is as good
Obstacles = Callable[[float], Sequence[np.ndarray]]


@dataclass(frozen=True)
class Grasp:
    """Position of the hand (3,), its yaw, and the room its open fingers have."""

    position: np.ndarray
    yaw: float
    room_m: float


def grasps(
    thing: Thing, position: np.ndarray, yaw: float, obstacles: Obstacles, wrist: float = 0.0
) -> list[Grasp]:
    """All grasps of an upright block that the fingers span and the wrist can reach, the best first.

    Args:
        thing: the block; `position` (3,) and `yaw` say where it stands.
        obstacles: from a height, the footprints (K, 2) of what rises above it.
        wrist: the preferred angle (rad) of the wrist's joint; at 0 it has equal room to either side.
    """
    found = []
    preferred = wrist_middle(position) + wrist
    for angle, offset in _closing_directions(thing):
        closing = yaw + angle
        if np.ptp(thing.footprint() @ unit(angle)) > WIDEST_M:
            continue
        centre = position[:2] + offset * unit(closing)
        for hand_yaw in (closing - np.pi / 2, closing + np.pi / 2):
            reached = reachable_yaw(hand_yaw, position)
            if reached is not None:
                hand = np.append(centre, position[2] + thing.height_m / 2 - grasp_depth(thing))
                found.append(Grasp(hand, reached, hand_room(hand, reached, obstacles)))
    return sorted(found, key=lambda grasp: (grasp.room_m < CLEAR_M, abs(grasp.yaw - preferred)))


def grasp_depth(thing: Thing) -> float:
    """From the top of a block down to the grasp."""
    return min(TOP_TO_GRASP_M, thing.height_m / 2, thing.height_m - TIP_M)


def _closing_directions(thing: Thing) -> list[tuple[float, float]]:
    """(angle, offset): the fingers close along the angle, around a point so far along it from the centre."""
    if thing.shape not in SIDES:
        return [(0.0, 0.0), (np.pi / 2, 0.0)]
    count = SIDES[thing.shape]
    if count == 3:  # a corner and the side across
        return [(2 * np.pi * corner / 3, thing.size_m[0] / 8) for corner in range(3)]
    step = 2 * np.pi / count
    return [((side + 0.5) * step, 0.0) for side in range(count // 2)]


def hand_room(hand: np.ndarray, yaw: float, obstacles: Obstacles) -> float:
    """Between the hand at a position (3,) and yaw, its fingers open, and the nearest obstacle."""
    closing = yaw + np.pi / 2
    reach = layout.FINGER_OPEN_M + FINGER_HALF_DEPTH_M
    rooms = [ENOUGH_M]
    low = obstacles(float(hand[2]) - TIP_M)
    for side in (reach, -reach):
        centre = hand[:2] + side * unit(closing)
        finger = rectangle(centre, FINGER_HALF_DEPTH_M, FINGER_HALF_WIDTH_M, closing)
        rooms += [gap(finger, other) for other in low]
    palm = rectangle(hand[:2], PALM_HALF_WIDTH_M, PALM_HALF_DEPTH_M, closing)
    rooms += [gap(palm, other) for other in obstacles(float(hand[2]) + PALM_M)]
    return min(rooms)
