"""The motions behind the oracle's calls. Bodies are numbers; a motion that cannot be done raises Failure."""

from __future__ import annotations

import numpy as np

from keystep.code.values import Pose
from keystep.suites.tabletop import layout
from keystep.suites.tabletop.contacts import Contacts
from keystep.suites.tabletop.oracle.grasps import TIP_M, Grasp, Obstacles, grasps, hand_room
from keystep.suites.tabletop.oracle.motion import (
    CLOSED,
    OPEN,
    SLOW_M_S,
    VIA_M,
    WRIST_RANGE_RAD,
    Failure,
    Motion,
    reachable_yaw,
    wrap,
    wrist_middle,
)  # fmt: skip
from keystep.suites.tabletop.oracle.scene import LiveScene, reachable
from keystep.suites.tabletop.polygons import turned

HOVER_M = 0.06
"""Between what is below and the hand's finger tips, or the body it holds."""
CLEAR_M = 0.025
"""The same while passing over something."""
HAND_REACH_M = 0.07
"""Half the width of the open hand: what is nearer to its way must be passed over."""
RELEASE_M = 0.002
TURNED_RAD = 0.04
ATTEMPTS = 3
LEANING_RAD = 0.2
PLACED_M = 0.025
"""So near to where it was put a body must come to rest."""
SETTLE_STEPS = 10
TURNS_RAD = np.deg2rad([0, 30, -30, 60, -60, 90, -90, 120, -120])


def raised(position: np.ndarray, height: float) -> np.ndarray:
    """(3,)"""
    return position + np.array([0.0, 0.0, height])


class Skills:
    def __init__(self, scene: LiveScene, motion: Motion) -> None:
        self.scene, self.motion = scene, motion

    @property
    def contacts(self) -> Contacts:
        return self.motion.env.simulation.contacts

    def name(self, body: int) -> str:
        return self.scene.thing(body).name

    def held(self) -> int | None:
        """The body between the fingers."""
        return next((body for body in range(len(self.scene)) if self.contacts.grasped(body)), None)

    def require_held(self, body: int) -> None:
        held = self.held()
        if held != body:
            found = "nothing" if held is None else self.name(held)
            raise Failure(f"gripper: expected {self.name(body)}, got {found}")

    def require_reachable(self, place: np.ndarray, what: str) -> None:
        if not reachable(place):
            distance = float(np.linalg.norm(place[:2]))
            raise Failure(f"{what}: expected within reach of the hand, got {distance:.2f} m from the robot")

    def require_on_table(self, body: int) -> None:
        if self.scene.fallen(body):
            raise Failure(f"{self.name(body)}: expected on the table, but it has fallen off")

    # ---- moving

    def hang(self, held: int | None) -> float:
        """How far the lowest point of the hand, or of what it holds, is below its position."""
        if held is None:
            return TIP_M
        return max(TIP_M, float(self.motion.position[2]) - self.scene.bottom(held))

    def travel(self, position: np.ndarray, yaw: float | None = None) -> None:
        """Over everything in the way to a position (3,) of the hand."""
        held = self.held()
        without = () if held is None else (held,)
        now = self.motion.position
        high = self.scene.highest_near(now[:2], position[:2], HAND_REACH_M, *without)
        safe = high + CLEAR_M + self.hang(held)
        far = np.linalg.norm(position[:2] - now[:2]) > 0.01
        if far and now[2] < safe - 0.01:
            self.motion.go(np.append(now[:2], safe), yaw, within=VIA_M / 2)
        if far and position[2] < safe - 0.01:
            self.motion.go(np.append(position[:2], safe), yaw, within=VIA_M)
        if not self.motion.go(position, yaw):
            raise Failure("hand: expected a free way, got stuck")

    def hover_over(self, body: int) -> None:
        """The hand, or what it holds, above a body."""
        self.require_on_table(body)
        held = self.held()
        if held is not None and held != body:
            place = self.scene.place_upon(held, body)
            if place is None:
                raise Failure(f"{self.name(body)}: expected room on it for {self.name(held)}, got none")
            self.require_reachable(place.array, self.name(body))
            self.hover_over_place(place)
            return
        self.require_reachable(self.scene.position(body), self.name(body))
        above, yaw = raised(self.scene.position(body), 0.0), None
        if self.graspable(body):
            grasp = self.grasps(body)[0]
            above, yaw = grasp.position, grasp.yaw
        self.travel(np.append(above[:2], self.scene.top(body) + HOVER_M + TIP_M), yaw)

    def hover_over_place(self, place: Pose) -> None:
        """The hand, or what it holds, above a place and whatever stands there."""
        self.require_reachable(place.array, "pose")
        held = self.held()
        here = place.array[:2]
        if held is None:
            high = max(place.position[2], self.scene.highest_near(here, here, 0.0))
            self.travel(np.append(here, high + HOVER_M + TIP_M))
            return
        goal, yaw, _ = self.hand_for(held, place)
        thing = self.scene.thing(held)
        high = self.scene.highest_near(here, here, thing.radius_m, held)
        low = place.position[2] - thing.height_m / 2
        self.travel(raised(goal, max(HOVER_M, high + HOVER_M / 2 - low)), yaw)
        self.require_held(held)

    def hand_for(self, held: int, place: Pose) -> tuple[np.ndarray, float, float]:
        """Position and yaw of the hand that bring the held body to a place, and the turn that is left over.

        The wrist cannot turn all the way round; then it turns as far as it can.
        """
        turn = wrap(place.yaw - self.scene.yaw(held))
        wanted = self.motion.yaw + turn
        reached = reachable_yaw(wanted, place.array)
        if reached is None:
            middle = wrist_middle(place.array)
            reached = float(np.clip(wanted, middle - WRIST_RANGE_RAD, middle + WRIST_RANGE_RAD))
        done = reached - self.motion.yaw
        offset = self.scene.position(held) - self.motion.position
        offset[:2] = turned(offset[None, :2], done)[0]
        return place.array - offset, reached, wrap(place.yaw - self.scene.yaw(held) - done)

    # ---- holding

    def around(self, *bodies: int) -> Obstacles:
        """What the hand must not hit when it deals with bodies."""
        return lambda height: self.scene.obstacles(height, *bodies)

    def graspable(self, body: int) -> bool:
        """A block that stands upright."""
        return self.scene.thing(body).kind == "block" and self.scene.tilt(body) <= LEANING_RAD

    def grasps(self, body: int, wrist: float = 0.0) -> list[Grasp]:
        thing, position = self.scene.thing(body), self.scene.position(body)
        if thing.kind != "block":
            raise Failure(
                f"{self.name(body)}: expected a block, which can be grasped; its kind is {thing.kind}"
            )
        if not self.graspable(body):
            raise Failure(f"{self.name(body)}: expected it upright, but it lies on its side")
        found = grasps(thing, position, self.scene.yaw(body), self.around(body), wrist)
        if not found:
            raise Failure(f"{self.name(body)}: expected sides that the gripper spans and reaches, got none")
        return found

    def pick(self, body: int, wrist: float = 0.0) -> None:
        held = self.held()
        if held is not None:
            raise Failure(f"gripper: expected empty, got {self.name(held)}")
        self.require_on_table(body)
        self.require_reachable(self.scene.position(body), self.name(body))
        for attempt in range(ATTEMPTS):
            options = self.grasps(body, wrist)
            grasp = options[min(attempt, len(options) - 1)]
            self.motion.gripper = OPEN
            above = np.append(grasp.position[:2], self.scene.top(body) + HOVER_M / 2 + TIP_M)
            self.travel(above, grasp.yaw)
            self.motion.go(grasp.position, grasp.yaw, within=0.004)
            self.motion.grip(CLOSED, 4)
            if self.contacts.grasped(body):
                self.motion.go(raised(grasp.position, HOVER_M), grasp.yaw, within=0.01)
                if self.contacts.grasped(body):
                    return
            self.motion.grip(OPEN, 2)
        raise Failure(f"{self.name(body)}: expected it between the fingers, but the gripper is empty")

    def put_down(self, body: int, place: Pose) -> None:
        """At a place and yaw, grasping anew when the wrist cannot turn that far at once."""
        self.require_reachable(place.array, "pose")
        for _ in range(ATTEMPTS):
            left = self.lower(body, place)
            self.require_placed(body, place)
            if abs(left) < TURNED_RAD:
                return
            # From the other end of the wrist's range.
            self.pick(body, -np.sign(left) * 2.0)
        raise Failure(f"{self.name(body)}: expected to turn it, {np.rad2deg(abs(left)):.0f} degrees are left")

    def put_on(self, body: int, base: int) -> None:
        if base == body:
            raise Failure(f"dest: expected another than the held {self.name(body)}, got the same")
        self.require_on_table(base)
        place = self.scene.place_upon(body, base)
        if place is None:
            raise Failure(f"{self.name(base)}: expected room on it for {self.name(body)}, got none")
        self.require_reachable(place.array, self.name(base))
        before = self.scene.position(base).copy()
        self.lower(body, self.with_room(body, place, base))
        self.require_placed(body, place, base, before)

    def require_placed(
        self, body: int, place: Pose, base: int | None = None, before: np.ndarray | None = None
    ) -> None:
        """It rests where it was put; on a base that may have given way since it was at `before`."""
        for _ in range(SETTLE_STEPS):
            if self.motion.env.world.speeds[body] < layout.STATIC_SPEED_M_S:
                break
            self.motion.wait(1)
        gone = 0.0 if base is None or before is None else self.scene.position(base) - before
        off = float(np.linalg.norm(self.scene.position(body) - place.array - gone))
        if off > PLACED_M or not self.contacts.rests(body):
            raise Failure(f"{self.name(body)}: expected where it was put, found {off:.2f} m away")

    def with_room(self, body: int, place: Pose, base: int) -> Pose:
        """The same place, the held body turned such that the hand around it has room; it may face any way."""

        def room(turn: float) -> float:
            goal, yaw, left = self.hand_for(body, Pose(place.position, place.yaw + turn))
            return -1.0 if abs(left) > 0.01 else hand_room(goal, yaw, self.around(body, base))

        turns = sorted(TURNS_RAD, key=abs)
        best = next((turn for turn in turns if room(turn) >= CLEAR_M / 2), max(turns, key=room))
        return Pose(place.position, place.yaw + best)

    def lower(self, body: int, place: Pose) -> float:
        """Bring the held body down at a place and let go; the turn (rad) that is left to do."""
        goal, yaw, left = self.hand_for(body, place)
        self.travel(raised(goal, HOVER_M / 2), yaw)
        goal, yaw, _ = self.hand_for(body, place)
        self.motion.go(raised(goal, 0.01), yaw, within=0.005)
        self.motion.go(raised(goal, RELEASE_M), yaw, speed=SLOW_M_S, until=lambda: self.contacts.rests(body))
        self.release()
        return left

    def release(self) -> None:
        self.motion.grip(OPEN, 3)
        up = raised(self.motion.position, HOVER_M + TIP_M)
        self.motion.go(up, within=VIA_M)

    def rotate(self, body: int, angle: float) -> None:
        """Where it is, on whatever is below it."""
        here = self.scene.position(body)
        support = self.scene.highest_near(here[:2], here[:2], 0.0, body)
        height = support + self.scene.thing(body).height_m / 2
        self.put_down(body, Pose((float(here[0]), float(here[1]), height), self.scene.yaw(body) + angle))
