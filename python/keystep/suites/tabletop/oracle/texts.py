"""Whole episodes as text: what the oracle would write, without a simulator and without time.

A key-step's code names cells of things where they are then. So the key-steps are run, one after the other, by
a robot that puts things at once where they should end; what a simulator would make of it differs by a cell at
times, as things are held and thrown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from keystep.code.executor import Executor
from keystep.code.grid import GRID, Cell, cell, check_grid
from keystep.code.outcome import CallResult, OracleError, Outcome
from keystep.code.samples import TextEpisode
from keystep.code.values import Actor, Pose
from keystep.suites.tabletop.camera import boxes
from keystep.suites.tabletop.oracle.episodes import References
from keystep.suites.tabletop.oracle.programs import program, render
from keystep.suites.tabletop.oracle.scene import LiveScene
from keystep.suites.tabletop.scenario import Scenario
from keystep.suites.tabletop.tasks import TASKS, task_named

FIRST_SEED = 2_000_000_000
"""Of the scenes of texts. Datasets and evaluations count from smaller seeds and do not come near it."""
HELD_M = 0.17
"""Height of what is held and carried."""
PUSHED_M, SHORT_M = 0.12, 0.07
"""How far a shove moves a block, and before what stands at the goal it stops."""
_DONE = CallResult(Outcome.SUCCESS, steps=1)


def text_episode(task: str, seed: int, grid: int = GRID) -> TextEpisode:
    """Raises ValueError for an unknown task or grid, OracleError where a call has no room in the scene."""
    scenario = task_named(task).build(np.random.default_rng(seed))
    robot = StillRobot(scenario, grid)
    executor, references = Executor(robot), References(robot, scenario)
    keysteps, seen = [], []
    for template in program(task, scenario):
        seen.append(robot.still.boxes())
        keysteps.append(render(template, references))
        result = executor.run(keysteps[-1])
        if result.outcome is not Outcome.SUCCESS:
            raise OracleError(result.reason)
    names = tuple(scenario.name(body) for body in range(len(scenario.bodies)))
    return TextEpisode(task, seed, scenario.prompt, tuple(keysteps), names, np.stack(seen))


def text_episodes(tasks: Sequence[str] | None = None, grid: int = GRID) -> Iterator[TextEpisode]:
    """Without end, the tasks (all when None) in turn, on seeds that no dataset and no evaluation has."""
    names = list(TASKS if tasks is None else tasks)
    seeds = {task_named(name).name: FIRST_SEED + list(TASKS).index(name) for name in names}
    while True:
        for task, seed in seeds.items():
            with suppress(OracleError):  # nobody could do what it says; the next scene may have room
                yield text_episode(task, seed, grid)
        seeds = {task: seed + len(TASKS) for task, seed in seeds.items()}


def _found(place: Pose | None) -> Pose:
    if place is None:
        raise OracleError("place: expected room, got none")
    return place


class StillScene:
    """The bodies of a scenario in the form in which `LiveScene` reads an environment."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario, self.world = scenario, self
        self.positions = np.array([body.position_m for body in scenario.bodies], dtype=np.float64)
        self.quaternions = np.array([_about_z(body.yaw_rad) for body in scenario.bodies])

    def boxes(self) -> np.ndarray:
        """float32 (bodies, 4), see camera.py."""
        return boxes(self.scenario.bodies, self.positions, self.quaternions).astype(np.float32)


def _about_z(yaw_rad: float) -> np.ndarray:
    """(4,) wxyz."""
    return np.array([np.cos(yaw_rad / 2), 0.0, 0.0, np.sin(yaw_rad / 2)])


class StillRobot:
    """An `executor.Api` that moves the bodies of a scenario at once. Of several alike the nearest."""

    def __init__(self, scenario: Scenario, grid: int = GRID) -> None:
        self.grid = check_grid(grid)
        self.still = StillScene(scenario)
        self.scene = LiveScene(self.still)
        self._held: int | None = None

    def cell(self, body: int) -> Cell:
        bodies, still = self.still.scenario.bodies, self.still
        box = boxes((bodies[body],), still.positions[[body]], still.quaternions[[body]])[0]
        return cell(box, self.grid)

    def free_cell(self, body: int) -> Cell:
        return self.scene.free_cell(body, self.grid)

    # ---- queries

    def get_actor(self, name: str, actor_pos: Cell | None = None) -> Actor:
        bodies = [body for body in range(len(self.scene)) if self.scene.thing(body).name == name]
        if not bodies:
            raise OracleError(f"name: expected one that is there, got {name!r}")
        if len(bodies) == 1:
            return Actor(bodies[0], name)
        wanted = np.array(actor_pos or (0, 0))
        return Actor(min(bodies, key=lambda body: float(np.linalg.norm(wanted - self.cell(body)))), name)

    def get_pose(self, actor: Actor) -> Pose:
        return self.scene.pose(actor.body)

    def free_space(self, actor: Actor, near: Cell | None = None) -> Pose:
        return self.scene.free_space(actor.body, near, self.grid)

    def free_space_next_to(self, actor: Actor, next_to_actor: Actor, direction: str) -> Pose:
        return _found(self.scene.place_beside(actor.body, next_to_actor.body, direction))

    def rotate_z(self, pose: Pose, angle: float) -> Pose:
        return Pose(pose.position, pose.yaw + float(np.deg2rad(angle)))

    # ---- actions

    def move3d(self, target: Actor | Pose) -> CallResult:
        if self._held is not None:
            place = target if isinstance(target, Pose) else self.get_pose(target)
            self._put(self._held, (*place.position[:2], HELD_M))
        return _DONE

    def pick(self, actor: Actor) -> CallResult:
        self._held = actor.body
        self.still.positions[actor.body][2] = HELD_M
        return _DONE

    def place(self, actor: Actor, pose: Pose) -> CallResult:
        self._held = None
        self._put(actor.body, pose.position, pose.yaw)
        return _DONE

    def place_on(self, actor: Actor, dest: Actor) -> CallResult:
        return self.place(actor, _found(self.scene.place_upon(actor.body, dest.body)))

    def touch(self, actor: Actor, push: bool = False, topple: bool = False) -> CallResult:
        if push:
            self.still.positions[actor.body][0] += PUSHED_M
        return _DONE

    def push(self, actor: Actor, target_pose: Pose) -> CallResult:
        start, goal = self.still.positions[actor.body][:2].copy(), target_pose.array[:2]
        way = float(np.linalg.norm(goal - start))
        others = np.delete(self.still.positions[:, :2], actor.body, axis=0)
        taken = bool((np.linalg.norm(others - goal, axis=1) < SHORT_M / 2).any())
        share = max(way - SHORT_M * taken, 0.0) / max(way, 1e-9)
        self.still.positions[actor.body][:2] = start + share * (goal - start)
        return _DONE

    def rotate(self, actor: Actor, angle: float) -> CallResult:
        return self.place(actor, self.rotate_z(self._lowered(actor.body), angle))

    def throw(self, actor: Actor, target: Actor | Pose) -> CallResult:
        goal = target if isinstance(target, Pose) else self.get_pose(target)
        return self.place(actor, Pose((*goal.position[:2], self._lowered(actor.body).position[2])))

    def topple_structure(self, actors: list[Actor]) -> CallResult:
        return _DONE

    def done(self) -> CallResult:
        return _DONE

    # ---- parts

    def _lowered(self, body: int) -> Pose:
        """Its pose, standing on the table."""
        pose = self.scene.pose(body)
        return Pose((*pose.position[:2], self.scene.thing(body).height_m / 2), pose.yaw)

    def _put(self, body: int, position: Any, yaw: float | None = None) -> None:
        self.still.positions[body] = position
        if yaw is not None:
            self.still.quaternions[body] = _about_z(yaw)
