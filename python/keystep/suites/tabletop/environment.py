"""The tabletop suite as Gymnasium environments: numpy in and out, no batch dimension.

Source: From Code to Action.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from scipy.spatial.transform import Rotation

from keystep.suites.actions import checked_action
from keystep.suites.headless import load_simulation, require_driver
from keystep.suites.tabletop import layout
from keystep.suites.tabletop.camera import boxes
from keystep.suites.tabletop.objects import COLOURS, SHAPES
from keystep.suites.tabletop.scenario import Scenario
from keystep.suites.tabletop.tasks import task_named
from keystep.suites.tabletop.world import SimulatedWorld

OBS_MODES = ("state", "rgb", "state+rgb")
SETTLE_STEPS = 15  # simulation steps


class TabletopEnv(gymnasium.Env):
    """One task of the suite. Every `reset` draws a new scene; the same seed gives the same bit for bit.

    Observations are a dict of numpy arrays:
        `observation.state` float32 (31,): proprioception, see layout.STATE_NAMES;
        `observation.objects` float32 (160,), not in rgb mode: layout.OBJECT_NAMES for each of 8 slots;
        `observation.images.base`, `.wrist` uint8 (image_size, image_size, 3), not in state mode.
    Actions are float32 (7,) in [-1, 1], see layout.ACTION_NAMES: the hand's move and turn (a rotation vector)
    in the world frame, relative to its present pose, and how far the fingers open.

    Args:
        task: a name in `keystep.suites.tabletop.TASKS`.
        obs_mode: "state" needs no graphics driver; "rgb" has two cameras instead of the objects' poses;
            "state+rgb" has both.
        image_size: height and width of images in pixels.
        render_mode: None or "rgb_array": `render` gives the base camera in state mode, too.
        max_episode_steps: time limit in control steps (1/20 s); None: the task's own.
        terminate_on_success: end an episode when its predicate first holds.

    Raises:
        ValueError: an argument is not one of the above.
        RuntimeError: pictures were asked for on a machine without a Vulkan driver.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": layout.CONTROL_RATE_HZ}  # noqa: RUF012
    scenario: Scenario

    def __init__(
        self,
        task: str,
        obs_mode: str = "state",
        image_size: int = 128,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        terminate_on_success: bool = True,
    ) -> None:
        self.task = task_named(task)
        if obs_mode not in OBS_MODES:
            raise ValueError(f"obs_mode: expected one of {', '.join(OBS_MODES)}, got {obs_mode!r}")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode: expected None or 'rgb_array', got {render_mode!r}")
        if not 16 <= image_size <= 1024:
            raise ValueError(f"image_size: expected 16 to 1024 pixels, got {image_size}")
        if max_episode_steps is not None and max_episode_steps < 1:
            raise ValueError(f"max_episode_steps: expected at least 1, got {max_episode_steps}")
        self.obs_mode, self.image_size, self.render_mode = obs_mode, image_size, render_mode
        self._max_episode_steps = max_episode_steps or self.task.max_steps
        self.terminate_on_success = terminate_on_success
        self.action_space = gymnasium.spaces.Box(layout.ACTION_LOW, layout.ACTION_HIGH)
        self.observation_space = observation_space(obs_mode, image_size)
        self.visible = "rgb" in obs_mode or render_mode is not None
        if self.visible:
            require_driver()
        self.simulation = load_simulation("keystep.suites.tabletop.simulation").TabletopSimulation(
            self.visible, image_size
        )

    # ---- episode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode. There are no `options`."""
        super().reset(seed=seed)
        if options:
            raise ValueError(f"options: expected none, got {sorted(options)}")
        self.scenario = self.task.build(self.np_random)
        joints = layout.START_JOINTS_RAD.copy()
        joints[:7] += self.np_random.uniform(-layout.START_NOISE_RAD, layout.START_NOISE_RAD, 7)
        self.simulation.restart(self.scenario.bodies, self.scenario.scale, joints)
        self.simulation.hold(SETTLE_STEPS)
        before = SimulatedWorld(self.simulation, self.scenario.bodies)
        self.simulation.hold(layout.SIMULATION_RATE_HZ // layout.CONTROL_RATE_HZ)
        self.elapsed_steps, self.success, self._finger_target_m = 0, False, layout.FINGER_OPEN_M
        self.world = SimulatedWorld(self.simulation, self.scenario.bodies, before)
        self.scenario.predicate.begin(self.world)
        return self.observation(), self.info()

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One control period (1/20 s). The reward is 1.0 when the task is solved, else 0.0."""
        if not hasattr(self, "world"):
            raise RuntimeError("step: expected a reset before it, got none")
        self._apply(checked_action(action, layout.ACTION_LOW, layout.ACTION_HIGH))
        self.elapsed_steps += 1
        self.world = SimulatedWorld(self.simulation, self.scenario.bodies, self.world)
        self.success = self.scenario.predicate.update(self.world)
        terminated = self.success and self.terminate_on_success
        truncated = self.elapsed_steps >= self.max_episode_steps
        return self.observation(), float(self.success), terminated, truncated, self.info()

    @property
    def max_episode_steps(self) -> int:
        """The limit given to `gymnasium.make`, which keeps it to itself, else the constructor's."""
        made_with = self.spec.max_episode_steps if self.spec is not None else None
        return made_with or self._max_episode_steps

    @max_episode_steps.setter
    def max_episode_steps(self, steps: int) -> None:
        self._max_episode_steps = steps

    def _apply(self, action: np.ndarray) -> None:
        position, quaternion = self.simulation.hand_pose()
        turn = Rotation.from_rotvec(layout.ROTATION_SCALE_RAD * action[3:6])
        goal = (turn * Rotation.from_quat(quaternion)).as_matrix()
        joints = self.simulation.follow(position + layout.POSITION_SCALE_M * action[:3], goal)
        wanted = layout.FINGER_OPEN_M * (action[6] + 1) / 2
        # From where the fingers were told to be, not from where they are: pressing on, they hold.
        move = np.clip(wanted - self._finger_target_m, -layout.FINGER_STEP_M, layout.FINGER_STEP_M)
        self._finger_target_m += move
        self.simulation.drive(joints, self._finger_target_m)

    # ---- what can be seen

    def observation(self) -> dict[str, np.ndarray]:
        simulation = self.simulation
        hand = simulation.hand
        pose = hand.entity_pose
        parts = (simulation.arm.qpos, simulation.arm.qvel, pose.p, pose.q, hand.linear_velocity)
        state = np.concatenate([*parts, hand.angular_velocity]).astype(np.float32)
        observation = {"observation.state": state}
        if "state" in self.obs_mode:
            observation["observation.objects"] = self._objects()
        if "rgb" in self.obs_mode:
            for camera, image in zip(layout.CAMERAS, simulation.images(*layout.CAMERAS), strict=True):
                observation[f"observation.images.{camera}"] = image
        return observation

    def _objects(self) -> np.ndarray:
        rows = np.zeros((layout.MAX_BODIES, len(layout.OBJECT_NAMES)), np.float32)
        kinds = (*SHAPES, "area", "plate")
        for number, body in enumerate(self.scenario.bodies):
            thing = body.thing
            one_hot = [float(thing.shape == kind) for kind in kinds]
            pose = (*self.world.positions[number], *self.world.quaternions[number])
            rows[number] = (1.0, *pose, *thing.size_m, *one_hot, *COLOURS[thing.colour])
        return rows.ravel()

    def poses(self) -> np.ndarray:
        """float32 (MAX_BODIES, 7): layout.POSE_NAMES of every body, zeros for the slots that are empty."""
        found = np.zeros((layout.MAX_BODIES, 7), np.float32)
        count = len(self.scenario.bodies)
        found[:count] = np.hstack([self.world.positions, self.world.quaternions])
        return found

    def boxes(self) -> np.ndarray:
        """float32 (MAX_BODIES, 4): layout.BOX_NAMES of every body, see camera.py."""
        found = np.full((layout.MAX_BODIES, 4), -1.0, np.float32)
        count = len(self.scenario.bodies)
        found[:count] = boxes(self.scenario.bodies, self.world.positions, self.world.quaternions)
        return found

    def info(self) -> dict[str, Any]:
        return {
            "task": self.task.name,
            "instruction": self.scenario.prompt,
            "success": self.success,
            "elapsed_steps": self.elapsed_steps,
        }

    def render(self) -> np.ndarray:
        """uint8 (image_size, image_size, 3): the base camera."""
        if not self.visible:
            raise RuntimeError("render: expected obs_mode 'rgb' or render_mode 'rgb_array', got neither")
        return self.simulation.images("base")[0]

    def close(self) -> None:
        self.simulation.close()


def observation_space(obs_mode: str, image_size: int) -> gymnasium.spaces.Dict:
    def vector(length: int) -> gymnasium.Space:
        return gymnasium.spaces.Box(-np.inf, np.inf, (length,), np.float32)

    spaces = {"observation.state": vector(len(layout.STATE_NAMES))}
    if "state" in obs_mode:
        spaces["observation.objects"] = vector(layout.MAX_BODIES * len(layout.OBJECT_NAMES))
    if "rgb" in obs_mode:
        image = gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        spaces |= {f"observation.images.{camera}": image for camera in layout.CAMERAS}
    return gymnasium.spaces.Dict(spaces)
