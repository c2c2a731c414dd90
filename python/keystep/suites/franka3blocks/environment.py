"""Franka-3Blocks as a Gymnasium environment: numpy in and out, no batch dimension (HD-ExpIt, appendix)."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np

from keystep.suites.actions import checked_action
from keystep.suites.franka3blocks import layout
from keystep.suites.franka3blocks.simulators import BULLET, MANISKILL, BlocksSimulation, open_simulation
from keystep.suites.franka3blocks.tasks import TASKS, BlockState, task_named
from keystep.suites.turns import turned

OBS_MODES = ("state", "rgb", "state+rgb")
FLUNG_FROM_M = np.array([layout.TABLE_CENTRE_M[0], 0.0, layout.TABLE_TOP_M])
FLUNG_M, FALLEN_M = 0.3, 0.01  # from there in x or y, and below
STATE_SHAPES: dict[str, tuple[int, ...]] = {
    "joints": (9,),
    "joint_velocities": (9,),
    "drive_targets": (9,),
    "cubes": (3, 13),
    "start_cubes": (3, 3),
    "elapsed_steps": (),
    "success": (),
    "task": (),
}


class Franka3BlocksEnv(gymnasium.Env):
    """A Franka arm and three cubes on a table; ten tasks, 60 Hz control. In ManiSkill.

    Args:
        obs_mode: "state" gives `observation.state` float32 (26,), see `layout.STATE_NAMES`; "rgb" adds
            `observation.images.static` uint8 (image_size, image_size, 3). ManiSkill needs a Vulkan driver
            for that.
        task: a key of `tasks.TASKS`; `reset(options={"task": name})` changes it.
        image_size: side of the square camera image in pixels.
        max_episode_steps: `truncated` is True from this many steps on.
        terminate_on_success: False lets an episode go on after the first success (collecting demonstrations).

    The action is float32 (7,) in [-1, 1] (clipped): xyz delta x 0.05 m on the *current* position of the hand,
    Euler turn x 0.1 rad in the frame of the *current* hand, gripper +1 opens and -1 closes.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": layout.CONTROL_RATE_HZ}  # noqa: RUF012
    physics: ClassVar[str] = MANISKILL
    """One of `simulators.SIMULATORS`. Part of what an id means, so no option."""
    worlds: ClassVar[tuple[str, ...]] = layout.WORLDS
    """See `keystep.evaluate.worlds`."""
    feature_names: ClassVar[dict[str, tuple[str, ...]]] = {"observation.state": layout.STATE_NAMES}

    def __init__(
        self,
        obs_mode: str = "state",
        task: str = "lift_red",
        image_size: int = 96,
        max_episode_steps: int = 360,
        terminate_on_success: bool = True,
        render_mode: str | None = None,
    ) -> None:
        if obs_mode not in OBS_MODES:
            raise ValueError(f"obs_mode: expected one of {', '.join(OBS_MODES)}, got {obs_mode!r}")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode: expected None or 'rgb_array', got {render_mode!r}")
        for name, value in (("image_size", image_size), ("max_episode_steps", max_episode_steps)):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        self.task = task_named(task)
        self.obs_mode = obs_mode
        self.render_mode = render_mode
        self.terminate_on_success = terminate_on_success
        self._max_episode_steps = max_episode_steps
        self.action_space = gymnasium.spaces.Box(layout.ACTION_LOW, layout.ACTION_HIGH, dtype=np.float32)
        spaces: dict[str, gymnasium.Space] = {
            "observation.state": gymnasium.spaces.Box(-np.inf, np.inf, (len(layout.STATE_NAMES),), np.float32)
        }
        if "rgb" in obs_mode:
            shape = (image_size, image_size, 3)
            spaces["observation.images.static"] = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        self.observation_space = gymnasium.spaces.Dict(spaces)

        self._visible = "rgb" in obs_mode or render_mode is not None
        self._simulation = open_simulation(self.physics, self._visible, image_size)
        self._closed = False
        self.simulator = self.simulation.version
        self._begin()

    @property
    def simulation(self) -> BlocksSimulation:
        """The physics. Raises gymnasium.error.ClosedEnvironmentError after `close`."""
        if self._closed:
            raise gymnasium.error.ClosedEnvironmentError("env: expected an open one, got one that was closed")
        return self._simulation

    # ---- episode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode; the same seed gives the same episode bit for bit. `options`: {"task": name}."""
        super().reset(seed=seed)
        options = dict(options or {})
        self.task = task_named(options.pop("task", self.task.name))
        if options:
            raise ValueError(f"options: expected only 'task', got {sorted(options)}")
        self.simulation.restore(start_body_state(self.np_random))
        self.simulation.advance(layout.SETTLE_STEPS)
        self._begin()
        return self.observation(), self.info()

    def set_task(self, task: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start another task from the scene as it stands, without a reset; returns what `reset` returns.

        The scene becomes the start that success is measured from, and the steps count from zero.
        """
        self.task = task_named(task)
        self._begin()
        return self.observation(), self.info()

    def _begin(self) -> None:
        self.start = self.scene()
        self.elapsed_steps = 0
        self.success = False

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One control period (1/60 s). The reward is 1.0 when the task is solved, else 0.0."""
        self._apply(checked_action(action, layout.ACTION_LOW, layout.ACTION_HIGH))
        self.simulation.advance(layout.SIMULATION_RATE_HZ // layout.CONTROL_RATE_HZ)
        self.elapsed_steps += 1
        self.success = self.task.success(self.start, self.scene())
        terminated = self.success and self.terminate_on_success
        truncated = self.elapsed_steps >= self.max_episode_steps
        return self.observation(), float(self.success), terminated, truncated, self.info()

    @property
    def max_episode_steps(self) -> int:
        """The limit given to `gymnasium.make`, which keeps it to itself, else the constructor's."""
        made_with = self.spec.max_episode_steps if self.spec is not None else None
        return made_with or self._max_episode_steps

    def _apply(self, action: np.ndarray) -> None:
        """The action law: deltas on the *current* pose, then inverse kinematics and position control.

        The turn is composed in the body frame, as the original's product of quaternions does. The hand points
        down, so pitch and yaw turn it against the axes of the world.
        """
        position, quaternion = self.simulation.hand_pose()
        rotation = np.array(turned(quaternion, layout.ROTATION_SCALE_RAD * action[3:6]))
        goal = position + layout.POSITION_SCALE_M * action[:3]
        arm = self.simulation.solve_joints(goal, rotation)
        finger = self.finger_m() + layout.FINGER_SCALE_M * float(action[6])
        finger = min(max(finger, 0.0), layout.FINGER_OPEN_M)
        self.simulation.set_drive_targets(np.concatenate([arm, [finger, finger]]))

    def get_state(self) -> dict[str, np.ndarray]:
        """The episode as it stands, see STATE_SHAPES ("task" is the index in TASKS); np.savez can keep it."""
        return self.simulation.body_state() | {
            "start_cubes": self.start.cubes.copy(),
            "elapsed_steps": np.array(self.elapsed_steps),
            "success": np.array(self.success),
            "task": np.array(list(TASKS).index(self.task.name)),
        }

    def set_state(self, state: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Continue from a `get_state`, here or in another process; returns what `reset` returns.

        Two continuations of the same state are equal bit for bit. The one that was never interrupted
        differs a little, as contact forces are not part of the state: by less than 0.4 mm while cubes are
        held, lifted or at rest, by millimetres once cubes shove each other. `reset` and the same actions
        repeat an episode exactly.
        """
        checked = {name: checked_state_entry(state, name, shape) for name, shape in STATE_SHAPES.items()}
        turns = checked["cubes"][:, 3:7]
        if not np.linalg.norm(turns, axis=1).all():
            raise ValueError(f"state['cubes']: expected quaternions that are not 0, got {turns.tolist()}")
        if int(checked["task"]) not in range(len(TASKS)):
            raise ValueError(f"state['task']: expected an index below {len(TASKS)}, got {checked['task']}")
        self.simulation.restore(checked)
        self.task = list(TASKS.values())[int(checked["task"])]
        self.start = BlockState(checked["start_cubes"].copy())
        self.elapsed_steps = int(checked["elapsed_steps"])
        self.success = bool(checked["success"])
        return self.observation(), self.info()

    # ---- what can be seen

    def scene(self) -> BlockState:
        """The scene as the task's success predicate sees it: contacts, which take time, only for stack."""
        contacts = self.simulation.touching_cubes() if self.task.family == "stack" else frozenset()
        return BlockState(self.simulation.cube_positions(), contacts)

    @property
    def intact(self) -> bool:
        """Whether no cube was flung away, which would stretch the range of all positions in a dataset."""
        offset = self.simulation.cube_positions() - FLUNG_FROM_M
        return bool((np.abs(offset[:, :2]) < FLUNG_M).all() and (offset[:, 2] > -FALLEN_M).all())

    def finger_m(self) -> float:
        """Opening of the first finger: 0 closed, 0.04 open."""
        return float(self.simulation.joint_positions()[7])

    def observation(self) -> dict[str, np.ndarray]:
        position, quaternion = self.simulation.hand_pose()
        joints = self.simulation.joint_positions()
        cubes = self.simulation.cube_positions().ravel()
        fixed = np.zeros(len(layout.FIXED_JOINTS))
        state = np.concatenate([position, quaternion, cubes, joints[7:8], joints[:7], fixed]).astype(
            np.float32
        )
        observation = {"observation.state": state}
        if "rgb" in self.obs_mode:
            observation["observation.images.static"] = self.simulation.image()
        return observation

    def info(self) -> dict[str, Any]:
        return {
            "task": self.task.name,
            "instruction": self.task.instruction,
            "success": self.success,
            "elapsed_steps": self.elapsed_steps,
        }

    def render(self) -> np.ndarray:
        """uint8 (image_size, image_size, 3): the static camera.

        Raises:
            ValueError: the environment was made without pictures.
        """
        if not self._visible:
            raise ValueError("render_mode: expected rgb_array, or an obs_mode with rgb, to render, got None")
        return self.simulation.image()

    def close(self) -> None:
        self._closed = True
        self._simulation.close()


class BulletBlocksEnv(Franka3BlocksEnv):
    """The same in PyBullet."""

    physics = BULLET


def start_body_state(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The start of an episode before the cubes have settled (`simulators.BlocksSimulation.body_state`).

    Cube centres are uniform on a patch of the table, none closer than 0.053 m to another.
    """
    count = len(layout.CUBES)
    while True:
        x = rng.uniform(*layout.CUBE_X_RANGE_M, count)
        y = rng.uniform(*layout.CUBE_Y_RANGE_M, count)
        if np.hypot(x - np.roll(x, 1), y - np.roll(y, 1)).min() >= layout.CUBE_MIN_DISTANCE_M:
            break
    cubes = np.zeros((count, 13))
    cubes[:, 0], cubes[:, 1], cubes[:, 2] = x, y, layout.CUBE_START_Z_M
    cubes[:, 3] = 1.0  # quaternion wxyz
    joints = layout.START_JOINTS_RAD
    return {
        "joints": joints,
        "joint_velocities": np.zeros_like(joints),
        "drive_targets": joints,
        "cubes": cubes,
    }


def checked_state_entry(state: dict[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """`state[name]` as an array of `shape` with finite numbers; ValueError otherwise."""
    if name not in state:
        raise ValueError(f"state: expected keys {sorted(STATE_SHAPES)}, got {sorted(state)}")
    try:
        value = np.asarray(state[name])
    except ValueError as error:  # ragged
        raise ValueError(f"state[{name!r}]: expected shape {shape}, got {error}") from None
    if value.dtype.kind not in "biuf":
        raise ValueError(f"state[{name!r}]: expected numbers, got {state[name]!r:.60}")
    if value.shape != shape:
        raise ValueError(f"state[{name!r}]: expected shape {shape}, got {value.shape}")
    if not np.isfinite(value).all():
        raise ValueError(f"state[{name!r}]: expected finite values, got {value.tolist()}")
    return value
