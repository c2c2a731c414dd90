"""The scripted expert of Franka-3Blocks (HD-ExpIt, authors' repository): privileged state in, actions out.

Beyond the original it picks a grasp in which the fingers clear the neighbouring cubes (grasps.py), keeps
the hand upright, and tries again after a failure.
A script is a generator that yields one action per control step; scripts are composed with `yield from`.
"""

from __future__ import annotations

from collections.abc import Iterator

import gymnasium
import numpy as np
from scipy.spatial.transform import Rotation

from keystep.suites.franka3blocks import layout
from keystep.suites.franka3blocks.environment import Franka3BlocksEnv
from keystep.suites.franka3blocks.grasps import HandOffset, clear_grasp

OPEN, CLOSE = 1.0, -1.0
SPEED = 0.65  # of the action range, when reaching
SLOW = 0.4  # of the action range, when lifting, dragging and lowering
REACHED_M = 0.01
GRASP_HEIGHT_M = -0.001  # relative to the centre of the cube
GRASP_FORCE_N = 0.5
CLOSE_PATIENCE = 20  # steps
REACH_PATIENCE = 120  # steps
RAISE_M = 0.15
DRAG_M = 0.11
STACK_RAISE_M = layout.CUBE_EDGE_M + 0.002  # clear of the lower cube; the rest on the way
STACK_CLEARANCE_M = 0.078
STACK_ALIGNED_M = layout.STACK_OFFSET_M  # where the original lets a cube go
STACK_CENTRED_M = 0.006  # where ours does, for policies to learn from
HOVER_M = 0.08  # above the cube while the hand still has to turn
TURNED_RAD = 0.15
SUCCESS_FRAMES = 5  # the arm goes home after more success frames than this ...
HOME_STEP = 50  # ... and after this step

Script = Iterator[np.ndarray]


class ScriptedExpert:
    """Solves the environment's current task.

    Args:
        env: Franka-3Blocks, wrapped or not; reset it, then `expert.reset()`, then step it with `act()`.
        seed: of the choice of cubes in the stack task.
        stack_aligned_m: offset at which a cube is let go on another.
    """

    def __init__(self, env: gymnasium.Env, seed: int = 0, stack_aligned_m: float = STACK_ALIGNED_M) -> None:
        unwrapped = env.unwrapped
        if not isinstance(unwrapped, Franka3BlocksEnv):
            raise TypeError(f"env: expected Franka3BlocksEnv, got {type(unwrapped).__name__}")
        self.env = unwrapped
        self.rng = np.random.default_rng(seed)
        self._aligned_m = stack_aligned_m
        self.reset()

    def reset(self) -> None:
        """Start again for the task and scene the environment is in now."""
        self._success_frames = 0
        self._going_home = False
        self._grip = HandOffset()
        self._script = self._solve()

    @property
    def going_home(self) -> bool:
        """It has solved the task, and held that for a while."""
        return self._going_home

    def act(self) -> np.ndarray:
        """The next action, float32 (7,)."""
        self._success_frames += self.env.success
        solved = self._success_frames > SUCCESS_FRAMES and self.env.elapsed_steps > HOME_STEP
        if solved and not self._going_home:
            self._going_home = True
            self._script = self._go_home()
        return next(self._script).astype(np.float32)

    # ---- scripts

    def _solve(self) -> Script:
        task = self.env.task
        while True:
            if task.cube is None:
                upper, lower = self.rng.permutation(len(layout.CUBES))[:2]
                yield from self._stack(upper, lower)
            elif task.direction:
                yield from self._push(task.cube, task.direction)
            else:
                yield from self._lift(task.cube)

    def _lift(self, cube: int) -> Script:
        yield from self._grasp(cube)
        yield from self._rise(RAISE_M, CLOSE)
        while self._holds(cube):
            yield self._move(np.zeros(3), CLOSE)
        yield from self._release()  # lost it: try again

    def _push(self, cube: int, direction: int) -> Script:
        yield from self._grasp(cube)
        goal = self._hand()[1] + direction * DRAG_M
        for _ in range(REACH_PATIENCE):
            if direction * (goal - self._hand()[1]) < 0:
                break
            yield self._move(np.array([0.0, direction * SLOW, 0.0]), CLOSE)
        yield from self._release()

    def _stack(self, upper: int, lower: int) -> Script:
        yield from self._grasp(upper)
        yield from self._rise(STACK_RAISE_M, CLOSE)
        while self._holds(upper) and self._offset(upper, lower) >= self._aligned_m:
            yield self._carry(upper, self._cube(lower) + np.array([0.0, 0.0, STACK_CLEARANCE_M]))
        yield from self._let_go()
        yield from self._release()

    def _let_go(self) -> Script:
        """Lower while the fingers open: the cube is released at once and falls the rest."""
        while self.env.finger_m() < 0.9 * layout.FINGER_OPEN_M:
            yield self._move(np.array([0.0, 0.0, -SLOW]), OPEN)

    def _grasp(self, cube: int) -> Script:
        self._grip = clear_grasp(cube, self.env.simulation.cube_positions())
        for _ in range(REACH_PATIENCE):
            goal = self._cube(cube) + np.array([*self._grip.offset_m, GRASP_HEIGHT_M])
            if np.linalg.norm(goal - self._hand()) <= REACHED_M:
                break
            turned = np.abs(self._turn()).max() < TURNED_RAD / layout.ROTATION_SCALE_RAD
            hover = np.array([0.0, 0.0, 0.0 if turned else HOVER_M])
            yield self._move(go_to(goal + hover - self._hand()), OPEN)
        for _ in range(CLOSE_PATIENCE):
            yield self._move(np.zeros(3), CLOSE)
            if (self.env.simulation.finger_forces(cube) >= GRASP_FORCE_N).all():
                return

    def _rise(self, height_m: float, gripper: float) -> Script:
        goal = self._hand()[2] + height_m
        while self._hand()[2] < goal:
            yield self._move(np.array([0.0, 0.0, SLOW]), gripper)

    def _release(self) -> Script:
        while self.env.finger_m() < 0.9 * layout.FINGER_OPEN_M:
            yield self._move(np.zeros(3), OPEN)
        yield from self._rise(RAISE_M, OPEN)

    def _go_home(self) -> Script:
        self._grip = HandOffset()
        while True:
            yield self._move(go_to(layout.NEUTRAL_HAND_M - self._hand()), OPEN)

    # ---- privileged state

    def _hand(self) -> np.ndarray:
        return self.env.simulation.hand_pose()[0]

    def _cube(self, cube: int) -> np.ndarray:
        return self.env.simulation.cube_positions()[cube]

    def _offset(self, first: int, second: int) -> float:
        return float(np.linalg.norm((self._cube(first) - self._cube(second))[:2]))

    def _holds(self, cube: int) -> bool:
        return bool(np.linalg.norm(self._cube(cube) - self._hand()) < layout.CUBE_EDGE_M)

    # ---- actions

    def _carry(self, cube: int, goal: np.ndarray) -> np.ndarray:
        return self._move(go_to(goal - self._cube(cube)), CLOSE)

    def _move(self, move: np.ndarray, gripper: float) -> np.ndarray:
        return np.concatenate([move, self._turn(), [gripper]])

    def _turn(self) -> np.ndarray:
        """Rotation command towards the upright hand at the wanted yaw.

        The original never turns; but the action law is relative to the current pose, so a tilt that the arm
        picks up would stay, and demonstrations would not show a policy how to undo it.
        """
        upright = Rotation.from_euler("xyz", [np.pi, 0.0, self._grip.yaw_rad])
        turn = Rotation.from_quat(self.env.simulation.hand_pose()[1]).inv() * upright
        return np.clip(turn.as_euler("xyz") / layout.ROTATION_SCALE_RAD, -1.0, 1.0)


def go_to(error_m: np.ndarray) -> np.ndarray:
    """The spec's law: clamp(error / 0.05, +-1) tanh(distance / 0.005) 0.65."""
    distance = float(np.linalg.norm(error_m))
    return np.clip(error_m / layout.POSITION_SCALE_M, -1.0, 1.0) * np.tanh(distance / 0.005) * SPEED
