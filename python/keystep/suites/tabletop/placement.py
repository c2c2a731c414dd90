"""Where things stand at the start: rejection sampling that keeps room for the gripper's fingers.

Everything is a convex polygon on the table. Two of them keep at least a gap between them; the gap is measured
along the normals of their edges, which never exceeds the true distance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from keystep.suites.tabletop import layout
from keystep.suites.tabletop.objects import Body, Thing
from keystep.suites.tabletop.polygons import DIRECTIONS, disc, gap, outline, unit

GAP_M = 0.045
"""Between solid things: an open finger fits beside each."""
FLAT_GAP_M = 0.03
"""When one of the two is flat or only room kept free: a block in an area stays clear of its neighbours."""
REACH_M = (0.33, 0.66)
"""Distances from the robot's foot at which the hand can go down to the table."""
TRIES = 60
SCENES = 400

T = TypeVar("T")
Region = Callable[[np.random.Generator], np.ndarray]
"""Draws a centre (x, y) in metres."""


class Crowded(Exception):
    """No place was found; the scene starts again from nothing."""


def on_table(rng: np.random.Generator) -> np.ndarray:
    """Anywhere in the workspace."""
    (x_low, x_high), (y_low, y_high) = layout.WORKSPACE_X_M, layout.WORKSPACE_Y_M
    return rng.uniform((x_low, y_low), (x_high, y_high))


def out_of_reach(rng: np.random.Generator) -> np.ndarray:
    """In front of the robot, farther than its hand reaches."""
    azimuths = (-layout.THROW_AZIMUTH_RAD, layout.THROW_AZIMUTH_RAD)
    distance, azimuth = rng.uniform(*layout.OUT_OF_REACH_M), rng.uniform(*azimuths)
    return distance * np.array([np.cos(azimuth), np.sin(azimuth)])


def in_box(x_m: tuple[float, float], y_m: tuple[float, float]) -> Region:
    return lambda rng: rng.uniform((x_m[0], y_m[0]), (x_m[1], y_m[1]))


def around(centre: np.ndarray, distance_m: tuple[float, float]) -> Region:
    """In a ring."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        return centre + rng.uniform(*distance_m) * unit(rng.uniform(-np.pi, np.pi))

    return draw


def beside(centre: np.ndarray, direction: str, distance_m: tuple[float, float]) -> Region:
    """Straight in one of DIRECTIONS, 15 mm to a side at most."""
    along = np.array(DIRECTIONS[direction])

    def draw(rng: np.random.Generator) -> np.ndarray:
        return centre + rng.uniform(*distance_m) * along + rng.uniform(-0.015, 0.015) * along[::-1]

    return draw


class Placement:
    """Bodies as they are placed one after the other.

    Args:
        rng: draws everything; equal generators give equal scenes.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.bodies: list[Body] = []
        self._taken: list[tuple[np.ndarray, bool]] = []

    def put(self, thing: Thing, region: Region = on_table, yaw_rad: float | None = None) -> int:
        """Places a thing on the table where it has room and returns its number.

        Raises:
            Crowded: no place in the region was free.
        """
        for _ in range(TRIES):
            centre = region(self.rng)
            yaw = self.rng.uniform(-np.pi, np.pi) if yaw_rad is None else yaw_rad
            corners = outline(thing, centre, yaw)
            allowed = region is out_of_reach or within_workspace(centre)
            if allowed and self.is_free(corners, thing.kind == "block"):
                self._taken.append((corners, thing.kind == "block"))
                return self._add(thing, centre, thing.height_m / 2, yaw)
        raise Crowded

    def put_on(self, thing: Thing, lower: int) -> int:
        """Places a thing on the middle of another body and returns its number."""
        base = self.bodies[lower]
        top = base.position_m[2] + base.thing.height_m / 2
        yaw = self.rng.uniform(-np.pi, np.pi)
        self._taken.append((outline(thing, self.centre(lower), yaw), True))
        return self._add(thing, self.centre(lower), top + thing.height_m / 2, yaw)

    def fix(self, thing: Thing, position_m: tuple[float, float, float]) -> int:
        """A body at a given place, whatever is there."""
        self._taken.append((outline(thing, np.array(position_m[:2]), 0.0), True))
        return self._add(thing, np.array(position_m[:2]), position_m[2], 0.0)

    def keep_free(self, radius_m: float, region: Region = on_table) -> np.ndarray:
        """Finds room for a disc, keeps it from later things and returns its centre (x, y).

        Raises:
            Crowded: no place in the region was free.
        """
        for _ in range(TRIES):
            centre = region(self.rng)
            corners = disc(centre, radius_m)
            if within_workspace(centre) and self.is_free(corners, False):
                self._taken.append((corners, False))
                return centre
        raise Crowded

    def keep_lane_free(self, start: np.ndarray, stop: np.ndarray, width_m: float) -> None:
        """Keeps a strip between two points from later things; those already there may stand in it."""
        along = (stop - start) / np.linalg.norm(stop - start)
        side = width_m / 2 * np.array([-along[1], along[0]])
        self._taken.append((np.array([start - side, stop - side, stop + side, start + side]), False))

    def is_free(self, corners: np.ndarray, solid: bool) -> bool:
        """Whether a polygon (K, 2) keeps its gap from everything placed so far."""
        return all(
            gap(corners, other) >= (GAP_M if solid and other_solid else FLAT_GAP_M)
            for other, other_solid in self._taken
        )

    def centre(self, body: int) -> np.ndarray:
        """(x, y) of a body, in metres."""
        return np.array(self.bodies[body].position_m[:2])

    def _add(self, thing: Thing, centre: np.ndarray, z: float, yaw: float) -> int:
        if len(self.bodies) == layout.MAX_BODIES:
            raise ValueError(f"scene: expected at most {layout.MAX_BODIES} bodies")
        self.bodies.append(Body(thing, (float(centre[0]), float(centre[1]), float(z)), float(yaw)))
        return len(self.bodies) - 1


def arranged(rng: np.random.Generator, arrange: Callable[[Placement], T]) -> tuple[tuple[Body, ...], T]:
    """The bodies of the first scene that `arrange` completes, and what it returned.

    Raises:
        RuntimeError: none of many scenes had room.
    """
    for _ in range(SCENES):
        scene = Placement(rng)
        try:
            made = arrange(scene)
        except Crowded:
            continue
        return tuple(scene.bodies), made
    raise RuntimeError(f"placement: expected room for all bodies, found none in {SCENES} scenes")


def reachable(centre: np.ndarray) -> bool:
    """Whether the hand can go down there."""
    return bool(REACH_M[0] <= np.linalg.norm(centre) <= REACH_M[1])


def within_workspace(centre: np.ndarray) -> bool:
    (x_low, x_high), (y_low, y_high) = layout.WORKSPACE_X_M, layout.WORKSPACE_Y_M
    return bool(x_low <= centre[0] <= x_high and y_low <= centre[1] <= y_high)
