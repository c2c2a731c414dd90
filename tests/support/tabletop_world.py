"""The tabletop without a simulator: a world set by hand, and a robot that moves things in it as told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from keystep.code.outcome import CallResult, Outcome
from keystep.suites.tabletop import layout
from keystep.suites.tabletop.objects import Body
from keystep.suites.tabletop.polygons import DIRECTIONS
from keystep.suites.tabletop.scenario import Predicate, Scenario

GROUND = "ground"
DONE = CallResult(Outcome.SUCCESS, steps=1)


class FakeWorld:
    """A `scenario.World` of which everything can be set. Bodies rest on what `support` says."""

    def __init__(self, bodies: tuple[Body, ...]) -> None:
        self.bodies = bodies
        self.positions = np.array([body.position_m for body in bodies], dtype=np.float64)
        self.quaternions = np.array([about((0, 0, 1), body.yaw_rad) for body in bodies])
        self.speeds, self.turns = np.zeros(len(bodies)), np.zeros(len(bodies))
        self.held: set[int] = set()
        self.hand: set[int] = set()
        self.contacts: set[frozenset[int]] = set()
        self.support: dict[int, int | str] = {number: self._below(number) for number in range(len(bodies))}
        self.share = 1.0
        self.beam_rad, self.beam_rad_s = 0.0, 0.0

    def _below(self, body: int) -> int | str:
        """What a body stands on at the start: the one whose top its lower side meets above its middle."""
        for other, base in enumerate(self.bodies):
            top = base.position_m[2] + base.thing.height_m / 2
            low = self.bodies[body].position_m[2] - self.bodies[body].thing.height_m / 2
            near = np.linalg.norm((self.positions[body] - self.positions[other])[:2]) < 1e-9
            if other != body and near and abs(top - low) < 1e-9:
                return other
        return GROUND

    def grasped(self, body: int) -> bool:
        return body in self.held

    def touched(self, body: int) -> bool:
        return body in self.hand | self.held

    def touching(self, first: int, second: int) -> bool:
        return frozenset((first, second)) in self.contacts

    def on_ground(self, body: int) -> bool:
        return self.support.get(body) == GROUND

    def free(self, body: int) -> bool:
        return not (self.touched(body) or body in self.support or any(body in pair for pair in self.contacts))

    def weight_n(self, body: int) -> float:
        thing = self.bodies[body].thing
        return float(np.prod(thing.size_m) * thing.density_kg_m3 * 9.81)

    def carried_n(self, upper: int, lower: int) -> float:
        return self.share * self._load(upper) if self.support.get(upper) == lower else 0.0

    def _load(self, body: int) -> float:
        above = [upper for upper, lower in self.support.items() if lower == body]
        return self.weight_n(body) + sum(map(self._load, above))

    def scale_angle_rad(self) -> float:
        return self.beam_rad

    def scale_turn_rad_s(self) -> float:
        return self.beam_rad_s


def about(axis: tuple[float, float, float], angle: float) -> np.ndarray:
    """(4,) wxyz."""
    return np.array([np.cos(angle / 2), *(np.sin(angle / 2) * np.array(axis))])


def times(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(4,) the turn `second` and then the turn `first`, wxyz."""
    w, v, x, u = first[0], first[1:], second[0], second[1:]
    return np.array([w * x - v @ u, *(w * u + x * v + np.cross(v, u))])


@dataclass(frozen=True)
class Pose:
    position: np.ndarray
    yaw_rad: float


class PerfectRobot:
    """An `executor.Api` that puts things exactly where the code says and shows the predicate every step."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.world = FakeWorld(scenario.bodies)
        self.predicate: Predicate = scenario.predicate
        self.predicate.begin(self.world)
        self.solved = False
        self.look()

    def look(self) -> CallResult:
        if self.scenario.scale:
            self.world.beam_rad = self._tip_rad()
        self.solved = self.predicate.update(self.world)
        return DONE

    def _tip_rad(self) -> float:
        left, right = (
            self.world._load(plate) - self.world.weight_n(plate)
            for plate in range(len(self.scenario.bodies))
            if self.scenario.bodies[plate].thing.kind == "plate"
        )
        return 0.0 if abs(left - right) < 1e-9 else layout.SCALE_LIMIT_RAD

    def references(self) -> dict[str, str | list[str]]:
        """Every actor by name and, in place of its cell, its number; of free space no cell matters."""

        def code(body: int) -> str:
            return f"get_actor({self.scenario.name(body)!r}, actor_pos=({body}, 0))"

        found: dict[str, str | list[str]] = {}
        for role, body in self.scenario.roles.items():
            if isinstance(body, int):
                found |= {role: code(body), f"{role}@": code(body), f"{role}+": "(0, 0)"}
            else:
                found[role] = [code(one) for one in body]
        return found

    # ---- queries

    def get_actor(self, name: str, actor_pos: tuple[int, int] | None = None) -> int:
        assert actor_pos is not None and self.scenario.name(actor_pos[0]) == name
        return actor_pos[0]

    def get_pose(self, actor: int) -> Pose:
        w, _, _, z = self.world.quaternions[actor]
        return Pose(self.world.positions[actor].copy(), float(2 * np.arctan2(z, w)))

    def free_space(self, actor: int, near: tuple[int, int]) -> Pose:
        return Pose(np.array([0.3, 0.4, self._half(actor)]), self.get_pose(actor).yaw_rad)

    def free_space_next_to(self, actor: int, next_to_actor: int, direction: str) -> Pose:
        place = self.world.positions[next_to_actor].copy()
        place[:2] += 0.1 * np.array(DIRECTIONS[direction])
        return Pose(np.array([*place[:2], self._half(actor)]), 0.0)

    def rotate_z(self, pose: Pose, angle: float) -> Pose:
        return Pose(pose.position, pose.yaw_rad + float(np.deg2rad(angle)))

    # ---- actions

    def move3d(self, target: Any) -> CallResult:
        return self.look()

    def pick(self, actor: int) -> CallResult:
        assert not self.world.held and actor not in self.world.support.values()
        self.world.held = {actor}
        self.world.support.pop(actor)
        self.world.positions[actor][2] += 0.2
        return self.look()

    def place(self, actor: int, pose: Pose) -> CallResult:
        lower = [
            number
            for number, body in enumerate(self.scenario.bodies)
            if body.thing.kind == "area"
            and np.linalg.norm((self.world.positions[number] - pose.position)[:2]) < 0.01
        ]
        return self._put(actor, pose.position, pose.yaw_rad, lower[0] if lower else GROUND)

    def place_on(self, actor: int, dest: int) -> CallResult:
        place = self.world.positions[dest].copy()
        place[2] += self.scenario.bodies[dest].thing.height_m / 2 + self._half(actor)
        if self.scenario.bodies[dest].thing.kind == "area":
            place[0] += 0.05 * sum(lower == dest for lower in self.world.support.values())
        return self._put(actor, place, self.get_pose(actor).yaw_rad, dest)

    def touch(self, actor: int, push: bool = False, topple: bool = False) -> CallResult:
        self.world.hand = {actor}
        if push:
            self.world.positions[actor][0] += 0.12
        if topple:
            self._fall(actor)
        self.look()
        self.world.hand = set()
        return self.look()

    def push(self, actor: int, target_pose: Pose) -> CallResult:
        way = (target_pose.position - self.world.positions[actor])[:2]
        taken = any(
            np.linalg.norm((self.world.positions[other] - target_pose.position)[:2]) < 0.01
            for other in range(len(self.scenario.bodies))
        )
        length = float(np.linalg.norm(way))
        self.world.positions[actor][:2] += way * max(length - 0.07 * taken, 0) / length
        return self.look()

    def rotate(self, actor: int, angle: float) -> CallResult:
        pose = self.get_pose(actor)
        place = np.array([*pose.position[:2], self._half(actor)])
        return self._put(actor, place, pose.yaw_rad + float(np.deg2rad(angle)), GROUND)

    def throw(self, actor: int, target: int) -> CallResult:
        assert self.world.held == {actor}
        self.world.held = set()
        start, goal = self.world.positions[actor].copy(), self.world.positions[target].copy()
        for share in (0.1, 0.5):
            self.world.positions[actor] = start + share * (goal - start)
            self.look()
        self.world.positions[actor] = goal
        self.world.contacts = {frozenset((actor, target))}
        if self.scenario.bodies[target].thing.kind == "block":
            self._fall(target)
        self.look()
        self.world.contacts, self.world.support[actor] = set(), GROUND
        return self.look()

    def topple_structure(self, actors: list[int]) -> CallResult:
        self.world.support.update(dict.fromkeys(actors, GROUND))
        return self.look()

    def done(self) -> CallResult:
        return self.look()

    # ---- parts

    def _half(self, actor: int) -> float:
        return self.scenario.bodies[actor].thing.height_m / 2

    def _put(self, actor: int, place: np.ndarray, yaw_rad: float, lower: int | str) -> CallResult:
        assert self.world.held == {actor}
        self.world.held = set()
        self.world.positions[actor] = place
        self.world.quaternions[actor] = about((0, 0, 1), yaw_rad)
        self.world.support[actor] = lower
        return self.look()

    def _fall(self, actor: int) -> None:
        self.world.quaternions[actor] = times(about((1, 0, 0), np.pi / 2), self.world.quaternions[actor])
