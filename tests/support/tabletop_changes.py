"""A small tabletop set by hand, and what can happen to it, one change for each control step."""

from __future__ import annotations

import numpy as np
from tabletop_world import FakeWorld, about, times

from keystep.suites.tabletop import layout
from keystep.suites.tabletop.objects import Body, area, block
from keystep.suites.tabletop.tasks.common import plates

A, B, C, AREA, LEFT, RIGHT = range(6)
H = layout.BLOCK_HEIGHT_M


def world() -> FakeWorld:
    """Three cubes on the table, a turned area, and the plates of a scale, out of the way."""
    cube = block("cube", "red")
    blocks = [(0.4, 0.0, H / 2), (0.5, 0.1, H / 2), (0.5, -0.2, H / 2)]
    bodies = [Body(cube, position, 0.3) for position in blocks]
    bodies.append(Body(area("blue", 0.12), (0.4, -0.15, 0.002), np.pi / 4))
    bodies += [Body(thing, (x + 1.0, y, z)) for thing, (x, y, z) in plates()]
    return FakeWorld(tuple(bodies))


def holds(predicate, *changes, at=None):
    """Whether it holds after the changes, made one after the other from a fresh start, a step for each."""
    now = at or world()
    predicate.begin(now)
    solved = False
    for change in changes:
        change(now)
        solved = predicate.update(now)
    return solved


def put(body, *position, yaw=None):
    def change(now):
        now.positions[body] = position
        if yaw is not None:
            now.quaternions[body] = about((0, 0, 1), yaw)

    return change


def on(body, lower):
    """Rests on another, above its middle."""

    def change(now):
        low, high = now.bodies[lower].thing, now.bodies[body].thing
        now.positions[body] = now.positions[lower] + np.array([0, 0, low.height_m / 2 + high.height_m / 2])
        now.support[body] = lower

    return change


def put_on(body, area_body, x, y):
    """Rests on the area, x and y from its middle along its own sides."""

    def change(now):
        c = np.sqrt(0.5)
        offset = np.array([c * (x - y), c * (x + y), H / 2 + 0.002])
        now.positions[body] = now.positions[area_body] + offset
        now.support[body] = area_body

    return change


def grasp(*bodies):
    return lambda now: setattr(now, "held", set(bodies))


def hand_on(*bodies):
    return lambda now: setattr(now, "hand", set(bodies))


def move(body, speed=0.0, turn=0.0):
    def change(now):
        now.speeds[body], now.turns[body] = speed, turn

    return change


def tilt(body, degrees, axis=(0.6, 0.8, 0.0)):
    def change(now):
        start = about((0, 0, 1), now.bodies[body].yaw_rad)
        now.quaternions[body] = times(about(axis, np.deg2rad(degrees)), start)

    return change


def lift(body, height):
    def change(now):
        now.support.pop(body, None)
        now.positions[body][2] = now.bodies[body].thing.height_m / 2 + height

    return change


def share(value):
    return lambda now: setattr(now, "share", value)


def loaded(*pairs):
    return together(*(on(upper, lower) for upper, lower in pairs))


def meets(*bodies):
    return lambda now: setattr(now, "contacts", {frozenset(bodies)})


def beam(angle=0.0, turn=0.0):
    def change(now):
        now.beam_rad, now.beam_rad_s = np.deg2rad(angle), np.deg2rad(turn)

    return change


def together(*changes):
    def change(now):
        for one in changes:
            one(now)

    return change


STILL = [
    (move(A, 0.9e-3, 0.9e-2), True),
    (move(A, 1.1e-3), False),
    (move(A, turn=1.1e-2), False),
]
