"""Throws: the hand swings straight at the target and opens; the block flies on with its speed."""

from __future__ import annotations

import numpy as np

from keystep.suites.tabletop import layout
from keystep.suites.tabletop.oracle.motion import (
    ACCELERATION_M_S2,
    OPEN,
    PERIOD_S,
    Failure,
    reachable_yaw,
)
from keystep.suites.tabletop.oracle.skills import Skills
from keystep.suites.tabletop.polygons import unit

RELEASE_RADIUS_M = (0.45, 0.64)
"""Of the hand from the robot's foot when it opens."""
HEIGHTS_M = (0.34, 0.40, 0.46, 0.52)
"""Of the hand above the table when it opens; the lowest that reaches the target is taken."""
SPEED_M_S = 0.95
"""As fast as actions allow, almost: the nearer the target, the earlier the hand opens."""
SLOWEST_M_S = 0.3
AZIMUTH_RAD = np.deg2rad(60.0)
FOLLOW_STEPS = 2
"""Steps at full speed after opening, so that the fingers do not hold the block back."""


def throw_at(skills: Skills, body: int, target: int) -> None:
    """At the upper part of a block, or at the middle of an area."""
    if target == body:
        raise Failure(f"target: expected another than the held {skills.name(body)}, got the same")
    skills.require_on_table(target)
    thing, centre = skills.scene.thing(target), skills.scene.position(target).copy()
    if thing.kind != "block":
        throw(skills, body, centre)
        return
    centre[2] += 0.25 * thing.height_m
    centre[:2] *= 1 - 0.5 * thing.radius_m / np.linalg.norm(centre[:2])  # its near side
    throw(skills, body, centre)


def throw(skills: Skills, body: int, place: np.ndarray) -> None:
    """Such that the block's centre passes `place` (3,)."""
    motion = skills.motion
    azimuth = float(np.arctan2(place[1], place[0]))
    ahead = np.append(unit(azimuth), 0.0)
    hang = float(motion.position[2] - skills.scene.position(body)[2])
    depth = hang + max(float(place[2]), skills.scene.thing(body).height_m / 2)
    radius, height, speed, flight_s = _release(float(np.linalg.norm(place[:2])), depth)
    release = np.append(radius * unit(azimuth), height)
    if abs(azimuth) > AZIMUTH_RAD:
        raise Failure(
            f"target: expected within {np.rad2deg(AZIMUTH_RAD):.0f} degrees of straight ahead, "
            f"got {np.rad2deg(azimuth):.0f}"
        )
    # The fingers open sideways, out of the block's way.
    options = [reachable_yaw(yaw, release) for yaw in (azimuth, azimuth + np.pi)]
    yaw = min((yaw for yaw in options if yaw is not None), key=lambda yaw: abs(yaw - motion.yaw))
    ramp = _ramp(speed)
    skills.travel(release - ahead * sum(ramp) * PERIOD_S, yaw)
    motion.wait(1)
    for velocity in ramp:
        motion.step(velocity * ahead, motion.turn(yaw))
    motion.gripper = OPEN
    for velocity in [speed] * FOLLOW_STEPS + _ramp(speed)[::-1][1:]:
        motion.step(velocity * ahead, motion.turn(yaw))
    motion.wait(int(2 * flight_s / PERIOD_S))


def _release(distance: float, depth: float) -> tuple[float, float, float, float]:
    """Where and how the hand opens for a target so far from the robot's foot: radius, height (m), speed (m/s)
    and the time of flight (s). `depth` is the height of the hand when the block it holds is at the target's.
    """
    near, far = RELEASE_RADIUS_M
    shortest = near + SLOWEST_M_S * _flight_s(HEIGHTS_M[0], depth)
    for height in HEIGHTS_M:
        flight_s = _flight_s(height, depth)
        radius = max(near, distance - SPEED_M_S * flight_s)
        speed = (distance - radius) / max(flight_s, 1e-9)
        if radius <= far and SLOWEST_M_S <= speed <= SPEED_M_S + 1e-9:
            return radius, height, speed, flight_s
    reach = f"{shortest:.2f} to {far + SPEED_M_S * flight_s:.2f} m"
    raise Failure(f"target: expected {reach} from the robot, got {distance:.2f} m")


def _flight_s(height: float, depth: float) -> float:
    return float(np.sqrt(2 * max(height - depth, 0.0) / layout.GRAVITY_M_S2))


def _ramp(speed: float) -> list[float]:
    """Speeds (m/s) of the control steps from rest to `speed`, which the last two have."""
    steps = int(np.ceil(speed / (ACCELERATION_M_S2 * PERIOD_S)))
    return [speed * step / steps for step in range(1, steps + 1)] + [speed]
