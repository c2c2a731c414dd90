"""Touching, pushing and toppling with the finger tips."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from keystep.code.values import Pose
from keystep.suites.tabletop import layout
from keystep.suites.tabletop.oracle.grasps import TIP_M
from keystep.suites.tabletop.oracle.motion import CLOSED, OPEN, VIA_M, Failure, reachable_yaw
from keystep.suites.tabletop.oracle.scene import reachable
from keystep.suites.tabletop.oracle.skills import HOVER_M, Skills
from keystep.suites.tabletop.polygons import gap, rectangle, unit

PUSH_M_S = 0.35
TAP_M_S = 0.15
BEHIND_M = 0.03
"""Between the finger tips and the body before a push."""
FINGERS_HALF_DEPTH_M = 0.011
TIPS_HALF_M = 0.012
"""Half the gap between the finger tips while pushing: two tips keep a body from turning away, and a round one
does not slip between them."""
BEYOND_M = 0.012
"""At most so far from the middle of its back is a body pushed to bring it back to the line."""
SHOVE_M = 0.125
TOPPLED_RAD = 0.9
ARRIVED_M = 0.012
ASTRAY_M = 0.02
"""So far off its way a body is about to slip off the finger tips: the stroke ends, the next aims anew."""
STROKES = 7
WAYS = 16


def tap(skills: Skills, body: int) -> None:
    """Touch from above with closed fingers."""
    _prepare(skills, body, "block", "area", "plate")
    above = np.append(skills.scene.position(body)[:2], skills.scene.top(body) + HOVER_M + TIP_M)
    skills.motion.gripper = CLOSED
    skills.travel(above)
    target = above - [0.0, 0.0, HOVER_M + 0.01]
    skills.motion.go(target, speed=TAP_M_S, until=lambda: skills.motion.env.world.touched(body))
    if not skills.motion.env.world.touched(body):
        raise Failure(f"{skills.name(body)}: expected to touch it, met nothing")
    skills.motion.go(above, within=VIA_M)


def shove(skills: Skills, body: int) -> None:
    """Push it a little more than 0.1 m in the direction with most room."""
    _prepare(skills, body)
    start = skills.scene.position(body)[:2].copy()
    direction = _clear_direction(skills, body, SHOVE_M)
    for _ in range(STROKES):
        goal = start + SHOVE_M * unit(direction)
        _stroke(skills, body, goal, _push_height(skills, body))
        if np.linalg.norm(skills.scene.position(body)[:2] - start) > 0.105:
            return
    raise Failure(f"{skills.name(body)}: expected to push it 0.1 m, it moved less")


def push_to(skills: Skills, body: int, place: Pose) -> None:
    """Over the table to a place; ends early when it meets what stands there."""
    _prepare(skills, body)
    goal = place.array[:2]
    skills.require_reachable(goal, "target_pose")
    for _ in range(STROKES):
        if _distance(skills, body, goal) <= ARRIVED_M or _met(skills, body, goal):
            return
        _stroke(skills, body, goal, _push_height(skills, body))
    if _distance(skills, body, goal) > 2 * ARRIVED_M and not _met(skills, body, goal):
        left = _distance(skills, body, goal)
        raise Failure(f"{skills.name(body)}: expected to push it there, it stopped {left:.2f} m away")


def topple(skills: Skills, body: int) -> None:
    """Push it over, high up."""
    _prepare(skills, body)
    for _ in range(STROKES):
        direction = _clear_direction(skills, body, 0.10)
        high = skills.scene.top(body) - 0.3 * TIP_M
        goal = skills.scene.position(body)[:2] + 0.12 * unit(direction)
        _stroke(skills, body, goal, high, until=lambda: skills.scene.tilt(body) > TOPPLED_RAD, straight=True)
        skills.motion.wait(4)
        if skills.scene.tilt(body) > TOPPLED_RAD:
            return
    raise Failure(f"{skills.name(body)}: expected it to fall over, it still stands")


def topple_structure(skills: Skills, bodies: Sequence[int]) -> None:
    """Sweep away whatever rests on another body, from low down, until nothing does."""
    for body in bodies:
        skills.require_on_table(body)
    for _ in range(len(bodies) + 1):
        upper = [body for body in bodies if not skills.contacts.touching(body, "table")]
        if not upper:
            return
        body = min(upper, key=lambda body: float(skills.scene.position(body)[2]))
        _prepare(skills, body)
        direction = _clear_direction(skills, body, 0.10, without=tuple(bodies))
        goal = skills.scene.position(body)[:2] + 0.10 * unit(direction)
        _stroke(skills, body, goal, float(skills.scene.position(body)[2]), straight=True)
        skills.motion.wait(8)
    raise Failure("topple_structure: expected all on the table, some still lie on others")


# ---- the strokes


def _prepare(skills: Skills, body: int, *kinds: str) -> None:
    """The hand is empty, and the body, a block or one of `kinds`, within its reach."""
    held = skills.held()
    if held is not None:
        raise Failure(f"gripper: expected empty, got {skills.name(held)}")
    kind = skills.scene.thing(body).kind
    if kind not in (kinds or ("block",)):
        raise Failure(f"{skills.name(body)}: expected a block, which can be pushed; its kind is {kind}")
    skills.require_on_table(body)
    skills.require_reachable(skills.scene.position(body), skills.name(body))


def _stroke(
    skills: Skills,
    body: int,
    goal: np.ndarray,
    height: float,
    until: Callable[[], bool] | None = None,
    straight: bool = False,
) -> None:
    """From behind the body towards a goal (2,), steering it there; or straight on, for toppling."""
    motion, scene = skills.motion, skills.scene
    here = scene.position(body)[:2]
    ahead = (goal - here) / max(float(np.linalg.norm(goal - here)), 1e-9)
    angle = float(np.arctan2(ahead[1], ahead[0]))
    contact = scene.thing(body).radius_m + FINGERS_HALF_DEPTH_M
    behind = here - (contact + BEHIND_M) * ahead
    if not reachable(behind):
        raise Failure(f"{skills.name(body)}: expected the hand to reach behind it, got out of reach")
    yaw = _across(angle, behind, motion.yaw)
    motion.gripper = CLOSED if straight else 2 * TIPS_HALF_M / layout.FINGER_OPEN_M - 1
    above = max(scene.top(body), height) + HOVER_M + TIP_M
    skills.travel(np.append(behind, above), yaw)
    if not motion.go(np.append(behind, height), yaw, within=0.006):
        motion.go(np.append(behind, above), within=VIA_M)
        raise Failure(f"{skills.name(body)}: expected room for the hand behind it, got stuck")
    if straight:
        motion.go(np.append(goal, height), yaw, speed=PUSH_M_S, within=0.01, until=until)
    else:
        _steer(skills, body, goal, height, yaw)
    back = motion.position - np.append(0.02 * ahead, 0.0)
    motion.go(back, yaw, within=0.01)
    motion.go(np.append(back[:2], above), yaw, within=VIA_M)
    motion.gripper = OPEN


def _steer(skills: Skills, body: int, goal: np.ndarray, height: float, yaw: float) -> None:
    """Push along the line to the goal until the body is there, or something stops it."""
    motion, scene = skills.motion, skills.scene
    aim = goal - scene.position(body)[:2]
    aim = aim / np.linalg.norm(aim)
    steps = int(np.linalg.norm(goal - motion.position[:2]) / PUSH_M_S * layout.CONTROL_RATE_HZ) + 12
    for _ in range(steps):
        error = goal - scene.position(body)[:2]
        left = float(error @ aim)
        if left <= 0.002 or skills.scene.fallen(body) or _met(skills, body, goal):
            return
        if np.linalg.norm(error - left * aim) > ASTRAY_M:
            return
        # As far beyond the body as the body is off the line, so that it comes back; but on its back side.
        off = -(error - left * aim)
        beyond = off * min(1.0, BEYOND_M / max(float(np.linalg.norm(off)), 1e-9))
        aside = scene.position(body)[:2] + beyond - motion.position[:2]
        aside -= (aside @ aim) * aim
        speed = min(PUSH_M_S, 0.06 + 4 * left)
        correction = np.clip(8 * aside, -0.15, 0.15)
        motion.step(np.append(speed * aim + correction, 5 * (height - motion.position[2])), motion.turn(yaw))


def _push_height(skills: Skills, body: int) -> float:
    return max(skills.scene.bottom(body) + TIP_M, float(skills.scene.position(body)[2]) - 0.003)


def _across(angle: float, position: np.ndarray, near: float) -> float:
    """The hand's yaw that puts the finger tips side by side, seen along a direction."""
    options = [reachable_yaw(yaw, position) for yaw in (angle, angle + np.pi)]
    found = [yaw for yaw in options if yaw is not None]
    return min(found, key=lambda yaw: abs(yaw - near))


def _clear_direction(skills: Skills, body: int, length: float, without: tuple[int, ...] = ()) -> float:
    """The direction (rad) in which the body, pushed so far, and the hand behind it have most room."""
    scene = skills.scene
    here = scene.position(body)[:2]
    half = scene.thing(body).radius_m
    obstacles = scene.obstacles(0.006, body, *without)
    best, best_room = None, -np.inf
    for angle in np.arange(WAYS) * 2 * np.pi / WAYS:
        ahead = unit(angle)
        behind = here - (half + BEHIND_M + FINGERS_HALF_DEPTH_M) * ahead
        if not (reachable(behind) and reachable(here + length * ahead)):
            continue
        middle = here + (length + half - (half + BEHIND_M + 0.02)) / 2 * ahead
        way = rectangle(middle, length / 2 + half + 0.03, max(half, 0.045), float(angle))
        room = min(0.05, min((gap(way, other) for other in obstacles), default=0.05))
        room -= 0.02 * abs(float(np.linalg.norm(here + length * ahead)) - 0.5)  # not to the edge of the reach
        if room > best_room:
            best, best_room = float(angle), room
    if best is None:
        raise Failure(f"{skills.name(body)}: expected room to push it, got none")
    return best


def _distance(skills: Skills, body: int, goal: np.ndarray) -> float:
    return float(np.linalg.norm(skills.scene.position(body)[:2] - goal))


def _met(skills: Skills, body: int, goal: np.ndarray) -> bool:
    """It touches another body that stands at the goal."""
    others = [other for other in skills.contacts.partners(body) if isinstance(other, int)]
    near = skills.scene.thing(body).radius_m
    return any(
        skills.scene.thing(other).kind == "block" and _distance(skills, other, goal) < near
        for other in others
    )
