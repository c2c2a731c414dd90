"""Where the fingers fit: the grasp of a cube that touches no neighbour (geometry only)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from keystep.suites.franka3blocks.layout import CUBE_EDGE_M, CUBES, FINGER_OPEN_M

FINGER_DEPTH_M = 0.0152  # along the closing direction, outwards from the inner face
FINGER_HALF_WIDTH_M = 0.0105
MARGIN_M = 0.001
PREFERRED_SHIFT_M = 0.005  # the authors' grasp, off the centre of the cube in x
SHIFTS_M = np.arange(-9, 10) * 0.0015  # the whole finger stays on the face of the cube


@dataclass(frozen=True)
class HandOffset:
    """Hand offset (x, y) in metres from the centre of the cube, and yaw in radians (0: closes along y)."""

    offset_m: tuple[float, float] = (PREFERRED_SHIFT_M, 0.0)
    yaw_rad: float = 0.0


def clear_grasp(cube: int, cubes: np.ndarray) -> HandOffset:
    """The most preferred grasp whose open fingers fit beside the neighbours; the authors' when none does.

    Args:
        cube: index of the cube to grasp.
        cubes: (3, 3) cube centres in metres; the cubes are taken to be parallel to the axes.
    """
    others = [other for other in range(len(CUBES)) if other != cube]
    neighbours = (cubes[others] - cubes[cube])[:, :2]
    return next((grasp for grasp in _candidates() if _fits(grasp, neighbours)), HandOffset())


def _candidates() -> Iterator[HandOffset]:
    """The authors' grasp, then shifted along the face of the cube, then with the hand turned by 90 deg."""
    yield HandOffset()
    for shift in sorted(SHIFTS_M, key=lambda shift: abs(shift - PREFERRED_SHIFT_M)):
        yield HandOffset((float(shift), 0.0))
    for shift in sorted(SHIFTS_M, key=abs):
        yield HandOffset((0.0, float(shift)), -np.pi / 2)


def _fits(grasp: HandOffset, neighbours: np.ndarray) -> bool:
    reach = FINGER_OPEN_M + FINGER_DEPTH_M / 2  # centre of a finger from the centre of the hand
    half_size = np.array([FINGER_HALF_WIDTH_M, FINGER_DEPTH_M / 2]) + CUBE_EDGE_M / 2 + MARGIN_M
    closing = np.array([0.0, reach])
    if grasp.yaw_rad:
        closing, half_size = closing[::-1], half_size[::-1]
    for finger in (grasp.offset_m + closing, grasp.offset_m - closing):
        if (np.abs(neighbours - finger) < half_size).all(axis=1).any():
            return False
    return True
