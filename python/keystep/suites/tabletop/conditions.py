"""Small conditions on the world, of which predicates.py makes those of the tasks.

Thresholds follow ClevrSkills. Every condition sees every step, so that those with a memory miss nothing.
"Moved", "turned" and "tilted" are measured from the beginning of the episode.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from keystep.suites.tabletop import layout
from keystep.suites.tabletop.objects import Thing
from keystep.suites.tabletop.polygons import DIRECTIONS
from keystep.suites.tabletop.scenario import World

CLEARANCE_M = 0.02
CARRIED_SHARE = 0.5
MOVED_M = 0.1
TILT_RAD = float(np.deg2rad(45.0))
TURN_RAD = float(np.deg2rad(10.0))
FLIGHT_M = 0.05
PUSHED_SHARE = 0.7
PUSHED_COSINE = 0.5


class Now:
    """A condition of the current step alone."""

    def __init__(self, holds: Callable[[World], bool]) -> None:
        self._holds = holds

    def begin(self, world: World) -> None:
        pass

    def update(self, world: World) -> bool:
        return bool(self._holds(world))


# ---- of the current step


def static(body: int) -> Now:
    return Now(
        lambda world: (
            world.speeds[body] < layout.STATIC_SPEED_M_S and world.turns[body] < layout.STATIC_TURN_RAD_S
        )
    )


def grasped(body: int) -> Now:
    return Now(lambda world: world.grasped(body))


def touched(body: int) -> Now:
    return Now(lambda world: world.touched(body))


def on_ground(body: int) -> Now:
    return Now(lambda world: world.on_ground(body))


def carried(upper: int, lower: int) -> Now:
    """`lower` carries at least half of the weight of `upper`."""
    return Now(lambda world: carries(world, upper, lower))


def carries(world: World, upper: int, lower: int) -> bool:
    return world.carried_n(upper, lower) >= CARRIED_SHARE * world.weight_n(upper)


def clear(body: int) -> Now:
    """The table and all other bodies are at least 0.02 m away."""
    return Now(lambda world: _clearance_m(world, body) >= CLEARANCE_M)


def centred(body: int, area: int) -> Now:
    """The middle of the body is above the square."""

    def holds(world: World) -> bool:
        offset = rotation(world.quaternions[area]).T @ (world.positions[body] - world.positions[area])
        return bool((np.abs(offset[:2]) <= np.array(world.bodies[area].thing.size_m[:2]) / 2).all())

    return Now(holds)


def beside(body: int, other: int, direction: str) -> Now:
    """From the other body 0.5 to 2.5 sizes along the direction, at most one size to a side."""
    along = np.array(DIRECTIONS[direction])

    def holds(world: World) -> bool:
        size = pair_size_m(world.bodies[body].thing, world.bodies[other].thing)
        offset = (world.positions[body] - world.positions[other])[:2]
        side = offset - (offset @ along) * along
        return bool(0.5 * size <= offset @ along <= 2.5 * size and np.linalg.norm(side) <= size)

    return Now(holds)


def pair_size_m(first: Thing, second: Thing) -> float:
    """The size by which "next to" is measured: the mean width of two things, at least 0.05 m."""
    return max(0.05, float(np.mean([first.size_m[:2], second.size_m[:2]])))


# ---- since the beginning


class Since:
    """A condition on the world and on how it was at the beginning."""

    def __init__(self, holds: Callable[[World, Start], bool]) -> None:
        self._holds = holds

    def begin(self, world: World) -> None:
        self._start = Start(world)

    def update(self, world: World) -> bool:
        return bool(self._holds(world, self._start))


class Start:
    """Positions (N, 3) in metres and rotations (N, 3, 3) of the bodies when the episode began."""

    def __init__(self, world: World) -> None:
        self.positions = np.array(world.positions, dtype=np.float64)
        self.rotations = np.array([rotation(quaternion) for quaternion in world.quaternions])


class NeverGrasped:
    """The fingers have not held it so far."""

    def __init__(self, body: int) -> None:
        self.body = body

    def begin(self, world: World) -> None:
        self._never = True

    def update(self, world: World) -> bool:
        self._never = self._never and not world.grasped(self.body)
        return self._never


def moved(body: int) -> Since:
    """At least 0.1 m away from where it was, along the table."""

    def holds(world: World, start: Start) -> bool:
        return bool(np.linalg.norm((world.positions[body] - start.positions[body])[:2]) >= MOVED_M)

    return Since(holds)


def tilted(body: int) -> Since:
    """What was its vertical leans by at least 45 degrees."""

    def holds(world: World, start: Start) -> bool:
        since = rotation(world.quaternions[body]) @ start.rotations[body].T
        return bool(np.arccos(np.clip(since[2, 2], -1, 1)) >= TILT_RAD)

    return Since(holds)


def near(body: int, place: int, tolerance_m: float) -> Since:
    """On the table's plane, it is within the tolerance of where the body `place` was."""

    def holds(world: World, start: Start) -> bool:
        return bool(np.linalg.norm((world.positions[body] - start.positions[place])[:2]) <= tolerance_m)

    return Since(holds)


def turned(body: int, degrees: float) -> Since:
    """It has turned about the vertical, anticlockwise from above, to within 10 degrees, and stands upright.

    One angle tells both: that of the rotation which still lacks. Shapes are not taken for symmetric.
    """

    def holds(world: World, start: Start) -> bool:
        lacking = rotation(world.quaternions[body]) @ (_about_z(degrees) @ start.rotations[body]).T
        return bool(np.arccos(np.clip((np.trace(lacking) - 1) / 2, -1, 1)) <= TURN_RAD)

    return Since(holds)


def pushed_towards(body: int, target: int) -> Since:
    """It went towards where the target was: less than 0.7 of the way is left, at most 60 degrees off."""

    def holds(world: World, start: Start) -> bool:
        now, first, goal = world.positions[body], start.positions[body], start.positions[target]
        way, gone = (goal - first)[:2], (now - first)[:2]
        lengths = np.linalg.norm(way) * np.linalg.norm(gone)
        left = np.linalg.norm((goal - now)[:2])
        return bool(left < PUSHED_SHARE * np.linalg.norm(way) and way @ gone >= PUSHED_COSINE * lengths)

    return Since(holds)


class Thrown:
    """After a free flight of at least 0.05 m, measured on the table's plane, `reached` held once.

    The flight begins where the body was when something last touched it, and ends with the next step in which
    something does; that step still counts, for it is the one with the hit.
    """

    def __init__(self, body: int, reached: Callable[[World], bool]) -> None:
        self.body = body
        self._reached = reached

    def begin(self, world: World) -> None:
        self._last_touched = self._takeoff = np.array(world.positions[self.body][:2])
        self._flying = self._hit = False

    def update(self, world: World) -> bool:
        here = np.array(world.positions[self.body][:2])
        if self._flying and not world.grasped(self.body):
            flown = np.linalg.norm(here - self._takeoff)
            self._hit = self._hit or bool(flown >= FLIGHT_M and self._reached(world))
        takes_off = world.free(self.body) and not self._flying
        self._flying = world.free(self.body)
        if takes_off:
            self._takeoff = self._last_touched
        if not self._flying:
            self._last_touched = here
        return self._hit


# ---- geometry


def rotation(quaternion: np.ndarray) -> np.ndarray:
    """(3, 3) of a unit quaternion (4,), wxyz."""
    w, x, y, z = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _about_z(degrees: float) -> np.ndarray:
    half = np.deg2rad(degrees) / 2
    return rotation(np.array([np.cos(half), 0.0, 0.0, np.sin(half)]))


def _clearance_m(world: World, body: int) -> float:
    """At most its distance from the table and the other bodies: heights, and circles around footprints."""
    corners = [
        position + thing.corners() @ rotation(quaternion).T
        for position, quaternion, thing in zip(
            world.positions, world.quaternions, (body.thing for body in world.bodies), strict=True
        )
    ]
    radii = [
        np.linalg.norm((points - position)[:, :2], axis=1).max()
        for points, position in zip(corners, world.positions, strict=True)
    ]
    bottom, top = corners[body][:, 2].min(), corners[body][:, 2].max()
    distances = [bottom]
    for other in set(range(len(corners))) - {body}:
        above = max(bottom - corners[other][:, 2].max(), corners[other][:, 2].min() - top, 0.0)
        apart = np.linalg.norm((world.positions[body] - world.positions[other])[:2])
        distances.append(np.hypot(above, max(apart - radii[body] - radii[other], 0.0)))
    return float(min(distances))
