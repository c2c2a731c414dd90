"""What the oracle knows of the scene: the simulator's own poses, and room on the table."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from keystep.code.grid import OUT_OF_VIEW, Cell, cell_at
from keystep.code.outcome import OracleError
from keystep.code.values import Pose
from keystep.suites.tabletop import layout
from keystep.suites.tabletop.camera import project, rotated
from keystep.suites.tabletop.conditions import pair_size_m
from keystep.suites.tabletop.objects import Thing
from keystep.suites.tabletop.polygons import DIRECTIONS, gap, outline, turned
from keystep.suites.tabletop.scenario import Scenario

REACH_M = (0.285, 0.74)
"""Distances from the robot's foot at which the hand can point down near the table."""
SPACING_M = 0.05
"""Room to others where things are put: a finger and its opening."""
APART_M = 0.08
"""The same, with room to push things past each other."""
TIGHT_M = 0.022
"""Room between things on the same area."""
WAY_M = 0.095
"""From the middle of a body that is pushed to what it must pass."""
BEHIND_M = 0.07
"""From the middle of a body to the hand that is about to push it."""
FALLEN_M = -0.03
NEAR = 0.2
"""How far from its cell in the code an actor, or a free place, may be, of the picture's side."""


class Surroundings(Protocol):
    """An environment, or whatever else has bodies that are somewhere.

    Attributes:
        world: its `positions` (N, 3) in metres and `quaternions` (N, 4), wxyz.
    """

    scenario: Scenario
    world: Any


class LiveScene:
    """The bodies of an environment's episode, by number, as they are now."""

    def __init__(self, env: Surroundings) -> None:
        self._env = env

    def __len__(self) -> int:
        return len(self._env.scenario.bodies)

    def thing(self, body: int) -> Thing:
        return self._env.scenario.bodies[body].thing

    def position(self, body: int) -> np.ndarray:
        """(3,) of the centre."""
        return self._env.world.positions[body]

    def yaw(self, body: int) -> float:
        w, x, y, z = self._env.world.quaternions[body]
        return float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))

    def tilt(self, body: int) -> float:
        """Angle between the body's axis and the vertical, radians."""
        _, x, y, _ = self._env.world.quaternions[body]
        return float(np.arccos(np.clip(1 - 2 * (x * x + y * y), -1, 1)))

    def pose(self, body: int) -> Pose:
        x, y, z = (float(value) for value in self.position(body))
        return Pose((x, y, z), self.yaw(body))

    def corners(self, body: int) -> np.ndarray:
        """(2 K, 3) in the world."""
        corners = rotated(self._env.world.quaternions[body], self.thing(body).corners())
        return corners + self.position(body)

    def top(self, body: int) -> float:
        """Height of its highest corner, metres."""
        return float(self.corners(body)[:, 2].max())

    def bottom(self, body: int) -> float:
        return float(self.corners(body)[:, 2].min())

    def fallen(self, body: int) -> bool:
        """Off the table."""
        return bool(self.position(body)[2] < FALLEN_M)

    def footprint(self, body: int) -> np.ndarray:
        """(K, 2) on the table; of something that lies, the rectangle around it."""
        if self.tilt(body) < 0.1:
            return outline(self.thing(body), self.position(body)[:2], self.yaw(body))
        flat = self.corners(body)[:, :2]
        (left, low), (right, high) = flat.min(axis=0), flat.max(axis=0)
        return np.array([[right, high], [left, high], [left, low], [right, low]])

    def obstacles(self, above: float, *without: int) -> list[np.ndarray]:
        """Footprints of the bodies that rise higher than `above`."""
        return [
            self.footprint(body)
            for body in range(len(self))
            if body not in without and self.top(body) > above
        ]

    def highest_near(self, start: np.ndarray, goal: np.ndarray, reach: float, *without: int) -> float:
        """Height of the highest body within `reach` of the way between two places (2,), or of the table."""
        heights = [0.0]
        for body in range(len(self)):
            distance = _distance_to_way(self.position(body)[:2], start, goal)
            if body not in without and distance < reach + self.thing(body).radius_m:
                heights.append(self.top(body))
        return max(heights)

    # ---- room

    def free_place(self, body: int, near: np.ndarray | None = None) -> Pose | None:
        """The nearest place on the table with room around it; its own place counts as taken.

        Nearest to where it is, or on the picture to `near` (2,), see `seen_at`.

        If it can be had, one that is not on the way from here to another block, and from which the way to
        another block does not lead over here: so things can be moved about between the three places.
        """
        here = self.position(body)[:2]
        blocks = [other for other in range(len(self)) if other != body and self.thing(other).kind == "block"]
        others = [self.position(other)[:2] for other in blocks]
        table = np.array(list(_table()))
        away = table - here if near is None else self.seen_at(body, table) - near
        places = list(table[np.argsort(np.linalg.norm(away, axis=1), kind="stable")])
        triangular = functools.cache(lambda number: _triangular(here, places[number], others))

        def apart() -> Iterator[np.ndarray]:
            return (place for number, place in enumerate(places) if triangular(number))

        taken = [self.footprint(other) for other in range(len(self))]
        for candidates, room in (
            (apart(), APART_M),
            (apart(), SPACING_M),
            (places, APART_M),
            (places, SPACING_M),
        ):
            found = self._first_with_room(body, candidates, taken, room)
            if found is not None:
                return found
        return None

    def seen_at(self, body: int, places: np.ndarray) -> np.ndarray:
        """(K, 2) where on the base camera's picture the body's centre would be, standing at places (K, 2)."""
        height = np.full((len(places), 1), self.thing(body).height_m / 2)
        seen = project(np.hstack([places, height]))
        assert seen is not None  # the camera looks at the table
        return seen

    def free_space(self, body: int, near: Cell | None, grid: int) -> Pose:
        """`free_place` near a cell, or near where it is.

        Raises:
            OracleError: there is no such cell, or no room: at all, or near it.
        """
        name, wanted = self.thing(body).name, None
        if near is not None:
            if not all(0 <= number <= grid for number in near):
                raise OracleError(f"near: expected a cell, two numbers of 0 to {grid}, got {near}")
            wanted = np.array(near) / grid
        pose = self.free_place(body, wanted)
        if pose is None:
            raise OracleError(f"free_space: expected room for {name}, got none")
        seen = self.seen_at(body, pose.array[None, :2])[0]
        if wanted is not None and np.linalg.norm(seen - wanted) > NEAR:
            raise OracleError(
                f"near: expected room for {name} near {near}, got some at {cell_at(seen, grid)}"
            )
        return pose

    def free_cell(self, body: int, grid: int) -> Cell:
        """The cell of its `free_place`, (-1, -1) when there is none."""
        place = self.free_place(body)
        if place is None:
            return OUT_OF_VIEW
        return cell_at(self.seen_at(body, place.array[None, :2])[0], grid)

    def place_beside(self, body: int, beside: int, direction: str) -> Pose | None:
        """A place next to another body: 0.5 to 2.5 of its sizes away, at most half a size to the side."""
        size = pair_size_m(self.thing(body), self.thing(beside))
        along = np.array(DIRECTIONS[direction])
        across = np.array([-along[1], along[0]])
        start = self.thing(body).radius_m + self.thing(beside).radius_m
        centre = self.position(beside)[:2]
        places = [
            centre + distance * along + shift * size * across
            for shift in (0.0, 0.25, -0.25, 0.5, -0.5)
            for distance in np.arange(start + 0.02, 2.3 * size + 1e-9, 0.005)
        ]
        taken = [self.footprint(other) for other in range(len(self)) if other != body]
        for spacing in (SPACING_M, 0.02, 0.008):
            found = self._first_with_room(body, places, taken, spacing, allowed=self.footprint(beside))
            if found is not None:
                return found
        return None

    def place_upon(self, body: int, base: int) -> Pose | None:
        """The place on top of another body that is nearest to its middle and free; upright as it is now.

        On a block, or on the highest of the stack that stands on it.
        """
        thing, under = self.thing(body), self.thing(base)
        if under.kind == "block":
            base = max((base, *self._above(base, body)), key=self.top)
        height = self.top(base) + thing.height_m / 2
        if under.kind == "block":
            x, y = self.position(base)[:2]
            return Pose((float(x), float(y), height), self.yaw(body))
        half = under.size_m[0] / 2 - thing.radius_m * 0.75
        steps = np.linspace(-half, half, 9) if half > 0 else np.zeros(1)
        yaw = self.yaw(base)
        offsets = np.array([[0.0, 0.0], *((x, y) for x in steps for y in steps)])
        order = np.argsort(np.linalg.norm(offsets, axis=1), kind="stable")
        places = list(turned(offsets[order], yaw) + self.position(base)[:2])
        taken = self.obstacles(height - thing.height_m / 2 + 0.002, body, base)
        for room in (SPACING_M, TIGHT_M, 0.004):
            for place in places:
                mine = outline(thing, place, self.yaw(body))
                if min((gap(mine, other) for other in taken), default=np.inf) >= room:
                    return Pose((float(place[0]), float(place[1]), height), self.yaw(body))
        return None

    def _above(self, base: int, without: int) -> list[int]:
        """Blocks over the middle of another."""
        x, y = self.position(base)[:2]
        near = self.thing(base).radius_m / 2
        return [
            other
            for other in range(len(self))
            if other not in (base, without) and self.position(other)[2] > self.position(base)[2]
            and np.hypot(*(self.position(other)[:2] - (x, y))) < near
        ]  # fmt: skip

    def _first_with_room(
        self, body: int, places: Iterable[np.ndarray], taken: list[np.ndarray], room: float,
        allowed: np.ndarray | None = None,
    ) -> Pose | None:  # fmt: skip
        thing = self.thing(body)
        circles = [(other.mean(axis=0), other) for other in taken]
        reaches = [float(np.linalg.norm(other - middle, axis=1).max()) for middle, other in circles]
        for place in places:
            mine = outline(thing, place, self.yaw(body))
            near = [
                other
                for (middle, other), reach in zip(circles, reaches, strict=True)
                if np.linalg.norm(middle - place) < thing.radius_m + reach + room
            ]
            rooms = [
                gap(mine, other) for other in near if allowed is None or not np.array_equal(other, allowed)
            ]
            if reachable(place) and min(rooms, default=np.inf) >= room:
                return Pose((float(place[0]), float(place[1]), thing.height_m / 2), self.yaw(body))
        return None


def reachable(place: np.ndarray) -> bool:
    """Whether the hand can point down there."""
    return bool(REACH_M[0] <= np.linalg.norm(place[:2]) <= REACH_M[1] and place[0] > 0.05)


def _triangular(here: np.ndarray, place: np.ndarray, others: list[np.ndarray]) -> bool:
    """No way between two of the three places leads over the third, and the hand can push along each."""
    return all(
        _distance_to_way(here, place, other) >= WAY_M
        and _distance_to_way(place, here, other) >= WAY_M
        and _can_push(here, place) and _can_push(other, here) and _can_push(place, other)
        for other in others
    )  # fmt: skip


def _can_push(start: np.ndarray, goal: np.ndarray) -> bool:
    return reachable(start - BEHIND_M * (goal - start) / np.linalg.norm(goal - start))


def _distance_to_way(point: np.ndarray, start: np.ndarray, goal: np.ndarray) -> float:
    """Of a point from the straight line between two places, all (2,)."""
    way = goal - start
    along = np.clip((point - start) @ way / max(float(way @ way), 1e-9), 0, 1)
    return float(np.linalg.norm(point - start - along * way))


def _table() -> Iterator[np.ndarray]:
    for x in np.arange(layout.WORKSPACE_X_M[0], layout.WORKSPACE_X_M[1] + 1e-9, 0.02):
        for y in np.arange(layout.WORKSPACE_Y_M[0], layout.WORKSPACE_Y_M[1] + 1e-9, 0.02):
            yield np.array([x, y])
