"""A Panda on ManiSkill 3 as a physics world without batches: arm, kinematics, cameras.

Scenes are made by subclasses.
"""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import sapien
from mani_skill.agents.registration import register_agent
from mani_skill.envs.sapien_env import BaseEnv
from mani_skill.utils.structs.types import DefaultMaterialsConfig, SceneConfig, SimConfig

from keystep.suites.robot import FINGER_LINKS, HAND_LINK, LightPanda, VisiblePanda

for _agent in (LightPanda, VisiblePanda):
    register_agent()(_agent)

ARM_MASK = np.array([1] * 7 + [0] * 2)
FINGERS = slice(7, 9)
COLLECT_EVERY = 25


class ArmSimulation(BaseEnv):
    """What every simulated scene with the Panda has.

    Args:
        visible: build visuals and cameras; needs a Vulkan driver.
        image_size: side of the square camera images in pixels.
    """

    SUPPORTED_ROBOTS = (LightPanda.uid, VisiblePanda.uid)
    SIMULATION_RATE_HZ: int
    CONTROL_RATE_HZ: int
    FRICTION: float
    RESTITUTION: float
    rebuilds = 0
    """Of all simulations of the process."""
    scene: Any
    px: Any
    """The physics of the scene that runs now."""
    model: Any = None
    agent: Any
    _sensors: dict[str, Any]
    _human_render_cameras: dict[str, Any]

    def __init__(self, visible: bool, image_size: int) -> None:
        self._image_size = image_size
        self._visible = visible
        super().__init__(
            obs_mode="none",
            reward_mode="none",
            robot_uids=VisiblePanda.uid if visible else LightPanda.uid,
            sim_backend="physx_cpu",
            render_backend="sapien_cpu" if visible else "none",
        )
        self.px = self.scene.px

    @property
    def _default_sim_config(self) -> SimConfig:
        return SimConfig(
            sim_freq=self.SIMULATION_RATE_HZ,
            control_freq=self.CONTROL_RATE_HZ,
            scene_config=SceneConfig(contact_offset=0.01),
            default_materials_config=DefaultMaterialsConfig(
                static_friction=self.FRICTION, dynamic_friction=self.FRICTION, restitution=self.RESTITUTION
            ),
        )

    def _load_agent(self, options: dict) -> None:
        super()._load_agent(options, sapien.Pose())

    def _bind_arm(self, arm: Any) -> None:
        """Keep the SAPIEN objects: a step then works on numpy, without ManiSkill's batched tensors."""
        self.arm = arm
        if self.model is None:  # of the arm's geometry, which is the same in every scene
            self.model = arm.create_pinocchio_model()
        self.joints = list(arm.active_joints)
        self._joint_low, self._joint_high = arm.qlimits[:7].T
        links = {link.entity.name: link for link in arm.links}
        self.hand = links[HAND_LINK]
        self.fingers = [links[name] for name in FINGER_LINKS]

    def _clear(self) -> None:
        """As in ManiSkill, without its garbage collection (150 ms), which `rebuild` does now and then."""
        self.agent = None
        self._sensors = {}
        self._human_render_cameras = {}
        self.scene = None

    def rebuild(self) -> None:
        """A new scene (10 ms): PhysX keeps contact caches across resets; only this restarts bit for bit.

        ManiSkill's scenes are cycles of references, and Python cannot see the 0.3 MB of native memory
        behind each; so the old ones are collected every few rebuilds.
        """
        ArmSimulation.rebuilds += 1
        if ArmSimulation.rebuilds % COLLECT_EVERY == 0:
            gc.collect()
        self.reset(seed=0, options={"reconfigure": True})
        self.px = self.scene.px

    def advance(self, steps: int) -> None:
        """Run `steps` simulation steps."""
        for _ in range(steps):
            self.px.step()

    def hand_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) in metres and quaternion (4,), xyzw with x >= 0, of the grasp target in the world.

        The hand points down (x close to 1), so fixing the sign of x keeps the quaternion continuous.
        """
        pose = self.hand.entity_pose
        w, x, y, z = pose.q.tolist()
        quaternion = (x, y, z, w) if x >= 0 else (-x, -y, -z, -w)
        return pose.p.astype(np.float64), np.array(quaternion)

    def solve_joints(self, position: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
        """Inverse kinematics: the arm joints (7,) in radians for a hand pose, starting from the current ones.

        Gauss-Newton steps (SAPIEN's pinocchio model with dt = 1), clipped to the joint limits; the best
        effort when the pose is out of reach. `quaternion` is xyzw.
        """
        x, y, z, w = quaternion
        target = sapien.Pose(position, (w, x, y, z))
        joints, _, _ = self.model.compute_inverse_kinematics(
            self.hand.index, target, self.arm.qpos, ARM_MASK, eps=1e-5, max_iterations=20, dt=1.0, damp=1e-4
        )
        return np.minimum(np.maximum(joints[:7], self._joint_low), self._joint_high)

    def set_drive_targets(self, targets: np.ndarray) -> None:
        """Position targets (9,): seven arm joints (rad) and two fingers (m)."""
        for joint, target in zip(self.joints, targets.tolist(), strict=True):
            joint.set_drive_target(target)

    def images(self, *cameras: str) -> list[np.ndarray]:
        """uint8 (image_size, image_size, 3) each: what the named cameras see now."""
        self.scene.update_render(update_sensors=True, update_human_render_cameras=False)
        return [self._picture(self._sensors[name]) for name in cameras]

    @staticmethod
    def _picture(camera: Any) -> np.ndarray:
        camera.capture()
        seen = camera.get_obs(rgb=True, depth=False, position=False, segmentation=False)
        return seen["rgb"][0].contiguous().numpy()
