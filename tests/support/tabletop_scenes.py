"""Scenes set by hand in the real simulator, and slow, clear geometry to check quick code against."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np

from keystep.suites.tabletop import TASKS
from keystep.suites.tabletop.environment import TabletopEnv
from keystep.suites.tabletop.objects import Body, Thing, block
from keystep.suites.tabletop.oracle.api import Oracle
from keystep.suites.tabletop.oracle.motion import OnStep
from keystep.suites.tabletop.scenario import Scenario

LONG = 3000


class Never:
    """A predicate: nothing solves the task."""

    def begin(self, world: Any) -> None:
        pass

    def update(self, world: Any) -> bool:
        return False


def standing(thing: Thing, x: float, y: float, yaw: float = 0.0) -> Body:
    """On the table."""
    return Body(thing, (x, y, thing.height_m / 2), yaw)


def stacked(thing: Thing, below: Body, yaw: float = 0.0) -> Body:
    """On the middle of another body."""
    x, y, z = below.position_m
    return Body(thing, (x, y, z + (below.thing.height_m + thing.height_m) / 2), yaw)


def cube(colour: str, x: float, y: float, yaw: float = 0.0) -> Body:
    return standing(block("cube", colour), x, y, yaw)


RED, BLUE = cube("red", 0.45, -0.12, 0.3), cube("blue", 0.5, 0.12)


def set_scene(
    env: TabletopEnv, *bodies: Body, predicate: Any = None, max_steps: int = LONG
) -> dict[str, Any]:
    """Start an episode with these bodies; what `reset` saw."""
    made = Scenario(
        bodies, {}, "", predicate or Never(), scale=any(body.thing.kind == "plate" for body in bodies)
    )
    env.task = dataclasses.replace(TASKS["Pick"], build=lambda rng: made)
    env.max_episode_steps = max_steps
    return env.reset(seed=0)[0]


def stage(env: TabletopEnv, *bodies: Body, on_step: OnStep | None = None, **options: Any) -> Oracle:
    """An oracle in a scene with these bodies."""
    return Oracle(env, set_scene(env, *bodies, **options), on_step)


def move_body(env: TabletopEnv, body: int, position: Any, quaternion: Any = (1.0, 0.0, 0.0, 0.0)) -> None:
    """As if by magic; it is seen there after the next control step."""
    import sapien

    component = env.simulation.bodies[body]
    component.entity.pose = sapien.Pose(position, quaternion)
    component.linear_velocity = component.angular_velocity = np.zeros(3)


def played(env: TabletopEnv, seed: int, steps: int = 50) -> list[bytes]:
    """All that is seen in an episode of random actions, mostly down to the objects; state mode."""
    actions = np.random.default_rng(seed).uniform(-1, 1, (steps, 7)) - [0, 0, 0.25, 0, 0, 0, 0]
    seen = [env.reset(seed=seed)[0], *(env.step(action)[0] for action in actions)]
    return [b"".join(observation[key].tobytes() for key in sorted(observation)) for observation in seen]


def digest(parts: list[bytes]) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


# ---- geometry


def corners(thing: Thing, position: Any, yaw: float) -> np.ndarray:
    """(K, 2) of its footprint on the table, by complex numbers."""
    points = [complex(*corner) * np.exp(1j * yaw) + complex(*position[:2]) for corner in thing.footprint()]
    return np.array([[point.real, point.imag] for point in points])


def contains(polygon: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(P,) whether points lie inside a convex polygon (K, 2), corners anticlockwise."""
    inside = np.ones(len(points), dtype=bool)
    for start, stop in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        (x, y), to = stop - start, points - start
        inside &= x * to[:, 1] - y * to[:, 0] >= 0
    return inside


def border(polygon: np.ndarray, count: int = 60) -> np.ndarray:
    """(K count, 2) points on the sides, the corners among them."""
    shares = np.arange(count)[:, None] / count
    sides = zip(polygon, np.roll(polygon, -1, axis=0), strict=True)
    return np.vstack([start + shares * (stop - start) for start, stop in sides])


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """Between two convex polygons, too large by half a millimetre at most; 0 when they overlap."""
    one, other = border(first), border(second)
    if contains(first, other).any() or contains(second, one).any():
        return 0.0
    return float(np.linalg.norm(one[:, None] - other[None], axis=2).min())
