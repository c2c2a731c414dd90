"""The oracle: a robot API that solves tabletop tasks by knowing where everything is (From Code to Action).

Its functions are those of the code language (`keystep.code.grammar.API`); `Executor` runs generated text on
it, a person calls it directly:

    oracle = Oracle(env, env.reset(seed=0)[0])
    cube = oracle.get_actor("red cube")
    oracle.move3d(cube)
    oracle.pick(cube)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from keystep.code.grid import GRID, cell, check_grid
from keystep.code.outcome import CallResult, OracleError, Outcome
from keystep.code.values import Actor, Pose, check_arguments
from keystep.suites.tabletop import layout
from keystep.suites.tabletop.environment import TabletopEnv
from keystep.suites.tabletop.oracle import pushing, throwing
from keystep.suites.tabletop.oracle.motion import Failure, Interrupted, Motion, OnStep, OutOfTime
from keystep.suites.tabletop.oracle.scene import NEAR, LiveScene
from keystep.suites.tabletop.oracle.skills import Skills
from keystep.suites.tabletop.polygons import DIRECTIONS

CALL_STEPS = 240
"""Control steps after which a call is a time-out (12 s)."""
ALIKE_CELLS = 1.0
SIGNATURES: dict[str, inspect.Signature] = {}
Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


def _cells_apart(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Out of view is as far from every cell as can be."""
    hidden = [place == (-1, -1) for place in (first, second)]
    if any(hidden):
        return 0.0 if all(hidden) else float("inf")
    return float(np.hypot(first[0] - second[0], first[1] - second[1]))


def _query(
    query: Callable[Concatenate[Oracle, Parameters], Answer],
) -> Callable[Concatenate[Oracle, Parameters], Answer]:
    """A query raises OracleError when it has no answer."""

    @functools.wraps(query)
    def ask(self: Oracle, *arguments: Parameters.args, **keywords: Parameters.kwargs) -> Answer:
        self._check(query.__name__, SIGNATURES[query.__name__].bind(self, *arguments, **keywords).arguments)
        return query(self, *arguments, **keywords)

    SIGNATURES[query.__name__] = inspect.signature(query)
    return ask


def _call(
    action: Callable[Concatenate[Oracle, Parameters], None],
) -> Callable[Concatenate[Oracle, Parameters], CallResult]:
    """An action ends in success, failure or time-out; it never raises these, and never hangs.

    It raises OracleError for arguments of other types, before the robot moves.
    """

    @functools.wraps(action)
    def run(self: Oracle, *arguments: Parameters.args, **keywords: Parameters.kwargs) -> CallResult:
        self._check(action.__name__, SIGNATURES[action.__name__].bind(self, *arguments, **keywords).arguments)
        before = self.motion.steps
        self.motion.allow(CALL_STEPS)
        outcome, reason, interrupted = Outcome.SUCCESS, "", False
        try:
            action(self, *arguments, **keywords)
            if self.motion.steps == before:
                self.motion.wait(1)  # every call has a step of its own in the trace
        except Interrupted:
            interrupted = True  # the hand stays where it is until the next key-step
        except Failure as failure:
            outcome, reason = Outcome.FAILURE, str(failure)
        except OutOfTime:
            over = self.env.elapsed_steps >= self.env.max_episode_steps
            limit = f"the episode's {self.env.max_episode_steps}" if over else f"the call's {CALL_STEPS}"
            outcome, reason = Outcome.TIMEOUT, f"{action.__name__}: expected to end within {limit} steps"
        return CallResult(outcome, reason, self.motion.steps - before, interrupted)

    SIGNATURES[action.__name__] = inspect.signature(action)
    return run


class Oracle:
    """Plays one episode of a tabletop environment.

    Args:
        env: a `TabletopEnv`, wrapped or not, just reset; made with terminate_on_success=False, because a
            program goes on to its end.
        observation: what `reset` returned.
        on_step: called before every control step with what was seen and the action, float32 (7,); may raise
            `motion.Interrupted` to end the call.
        grid: in whose cells code says places.

    Raises:
        TypeError: another environment.
        ValueError: it ends at success, or no such grid.
    """

    def __init__(
        self,
        env: Any,
        observation: dict[str, np.ndarray],
        on_step: OnStep | None = None,
        grid: int = GRID,
    ) -> None:
        if not isinstance(env.unwrapped, TabletopEnv):
            raise TypeError(f"env: expected a TabletopEnv, got {type(env.unwrapped).__name__}")
        self.env: TabletopEnv = env.unwrapped
        if self.env.terminate_on_success:
            raise ValueError("env: expected terminate_on_success=False, which programs need, got True")
        self.grid = check_grid(grid)
        self._scenario = self.env.scenario
        self.scene = LiveScene(self.env)
        self.motion = Motion(self.env, observation, on_step)
        self._skills = Skills(self.scene, self.motion)

    # ---- what the scene is like

    @_query
    def get_actor(self, name: str, actor_pos: tuple[int, int] | None = None) -> Actor:
        """The object called `name`; of several, the one nearest to cell `actor_pos`.

        Args:
            actor_pos: (column, row) on the grid over the base camera's picture, (-1, -1) out of view.
                It does not matter when there is only one.

        Raises:
            OracleError: there is none, none near `actor_pos`, or several and no position.
        """
        bodies = [body for body in range(len(self.scene)) if self.scene.thing(body).name == name]
        if not bodies:
            known = sorted({self.scene.thing(body).name for body in range(len(self.scene))})
            raise OracleError(f"name: expected one of {', '.join(known)}, got {name!r}")
        if len(bodies) == 1:
            return Actor(bodies[0], name)
        cells = {body: self.cell(body) for body in bodies}
        places = ", ".join(str(place) for place in cells.values())
        if actor_pos is None:
            raise OracleError(f"actor_pos: expected one of {places} to tell {name}s apart, got none")
        away = {body: _cells_apart(cells[body], actor_pos) for body in bodies}
        body, *others = sorted(bodies, key=away.__getitem__)
        if away[body] > NEAR * self.grid:
            raise OracleError(f"actor_pos: expected a {name} near {actor_pos}, but they are at {places}")
        return Actor(body, name, tuple(other for other in others if away[other] - away[body] < ALIKE_CELLS))

    def cell(self, body: int) -> tuple[int, int]:
        """Where a body is on the grid over the base camera's picture."""
        return cell(self.env.boxes()[body], self.grid)

    def free_cell(self, body: int) -> tuple[int, int]:
        """Of the place that `free_space` of the body gives; (-1, -1) when the table is full."""
        return self.scene.free_cell(body, self.grid)

    @_query
    def get_pose(self, actor: Actor) -> Pose:
        """Where it is now: centre in metres, yaw in radians."""
        return self.scene.pose(actor.body)

    @_query
    def free_space(self, actor: Actor, near: tuple[int, int] | None = None) -> Pose:
        """The nearest place on the table where it could stand with a gripper around it.

        Args:
            near: the cell that it is to be nearest to, in place of the actor.

        Raises:
            OracleError: the table is full, or there is no such cell or no room near it.
        """
        kind = self.scene.thing(actor.body).kind
        if kind != "block":
            raise OracleError(f"free_space: actor: expected a block; the kind of {actor.name} is {kind}")
        return self.scene.free_space(actor.body, near, self.grid)

    @_query
    def free_space_next_to(self, actor: Actor, next_to_actor: Actor, direction: str) -> Pose:
        """A place for `actor` beside another: 'left' (+y), 'right' (-y), 'front' (+x) or 'behind' (-x) of it.

        Raises:
            OracleError: another direction, or no room there.
        """
        if direction not in DIRECTIONS:
            raise OracleError(f"direction: expected one of {', '.join(DIRECTIONS)}, got {direction!r}")
        pose = self.scene.place_beside(actor.body, next_to_actor.body, direction)
        if pose is None:
            where = f"{direction} of {next_to_actor.name}"
            raise OracleError(f"free_space_next_to: expected room for {actor.name} {where}, got none")
        return pose

    @_query
    def rotate_z(self, pose: Pose, angle: float) -> Pose:
        """The pose turned by `angle` degrees, anticlockwise from above."""
        return Pose(pose.position, pose.yaw + float(np.deg2rad(angle)))

    def _check(self, function: str, arguments: Mapping[str, Any]) -> None:
        if self.env.scenario is not self._scenario:
            raise OracleError("oracle: expected the episode it was made for, but the environment was reset")
        check_arguments(function, arguments)

    def _held(self, actor: Actor) -> int:
        """The actor's body, which must be in the gripper."""
        held = self._skills.held()
        body = held if held in actor.alike else actor.body
        assert body is not None
        self._skills.require_held(body)
        return body

    def _lying(self, actor: Actor) -> int:
        """The actor's body; not the one in the gripper if another could be meant."""
        held = self._skills.held()
        return actor.alike[0] if actor.body == held and actor.alike else actor.body

    # ---- what the robot does

    @_call
    def move3d(self, target: Actor | Pose) -> None:
        """Move the hand above an actor or pose; a held actor is carried above it."""
        if isinstance(target, Pose):
            self._skills.hover_over_place(target)
        else:
            self._skills.hover_over(self._lying(target))

    @_call
    def pick(self, actor: Actor) -> None:
        """Grasp an actor from above and lift it. Fails when the gripper stays empty after three tries."""
        self._skills.pick(actor.body)

    @_call
    def place(self, actor: Actor, pose: Pose) -> None:
        """Put the held actor down at a pose, its yaw included, and let go."""
        self._skills.put_down(self._held(actor), pose)

    @_call
    def place_on(self, actor: Actor, dest: Actor) -> None:
        """Put the held actor down on top of another, or on the stack upon it.

        On an area or plate: at the free place nearest its middle.
        """
        self._skills.put_on(self._held(actor), self._lying(dest))

    @_call
    def touch(self, actor: Actor, push: bool = False, topple: bool = False) -> None:
        """Touch an actor from above; or push it from the side, more than 0.1 m, or topple it."""
        if push and topple:
            raise Failure("touch: expected push or topple, got both")
        if topple:
            pushing.topple(self._skills, actor.body)
        elif push:
            pushing.shove(self._skills, actor.body)
        else:
            pushing.tap(self._skills, actor.body)

    @_call
    def push(self, actor: Actor, target_pose: Pose) -> None:
        """Push an actor over the table to a pose (its yaw is not kept), or against what stands there."""
        pushing.push_to(self._skills, actor.body, target_pose)

    @_call
    def rotate(self, actor: Actor, angle: float) -> None:
        """Turn the held actor by `angle` degrees, anticlockwise from above, and put it down where it was."""
        self._skills.rotate(self._held(actor), float(np.deg2rad(angle)))

    @_call
    def throw(self, actor: Actor, target: Actor | Pose) -> None:
        """Throw the held actor at another actor, or to a pose, which may be out of reach."""
        body = self._held(actor)
        if isinstance(target, Pose):
            throwing.throw(self._skills, body, target.array)
        else:
            throwing.throw_at(self._skills, body, self._lying(target))

    @_call
    def topple_structure(self, actors: Sequence[Actor]) -> None:
        """Knock over what the actors are stacked to, until each of them is on the table."""
        pushing.topple_structure(self._skills, [actor.body for actor in actors])

    @_call
    def done(self) -> None:
        """End the program: wait until the task is solved, at most 2 s."""
        for _ in range(2 * layout.CONTROL_RATE_HZ):
            self.motion.wait(1)
            if self.env.success:
                return
