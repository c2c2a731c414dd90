"""The physics of Franka-3Blocks on ManiSkill 3: arm, table, cubes and camera.

Where SAPIEN's PhysX cannot do what the PyBullet original does: there is no rolling friction (spinning
friction is the contact patch of the fingers), the arm's links have no gravity (PyBullet's stiff motors
hide it), and motors are implicit springs tuned to the same decay (see APPROACH_PER_S and robot.py).
"""

from __future__ import annotations

from importlib import metadata
from typing import Any

import numpy as np
import sapien
from mani_skill.sensors.camera import CameraConfig
from mani_skill.utils import sapien_utils

from keystep.suites.arm import ArmSimulation
from keystep.suites.franka3blocks import layout
from keystep.suites.quick_scene import add_arm, arm_builder
from keystep.suites.robot import ARM_FORCE_LIMIT_NM, DRIVE_DAMPING

CUBE_COLOURS = ((0.8, 0.1, 0.1), (0.1, 0.65, 0.15), (0.1, 0.2, 0.8))
TABLE_COLOUR = (0.72, 0.6, 0.45)
Size = tuple[float, float, float]
CONTACT_DISTANCE_M = 1e-3
ARM_JOINTS = 7
APPROACH_PER_S = 22.8
"""The arm's error decays at this rate, slower than PyBullet's motors alone (robot.py): the original's inverse
kinematics stops short of the pose. Five steps of +1 move the hand by 7.9 cm, here and there."""


class Franka3BlocksSimulation(ArmSimulation):
    """See `keystep.suites.franka3blocks.simulators.BlocksSimulation`."""

    version = f"sapien {metadata.version('sapien')}"
    SIMULATION_RATE_HZ = layout.SIMULATION_RATE_HZ
    CONTROL_RATE_HZ = layout.CONTROL_RATE_HZ
    _builder: Any = None
    _quick_scene: Any = None
    FRICTION = layout.FRICTION
    RESTITUTION = layout.RESTITUTION

    @property
    def _default_sensor_configs(self) -> list[CameraConfig]:
        pose = sapien_utils.look_at(layout.CAMERA_EYE_M, layout.CAMERA_TARGET_M)
        size = self._image_size
        return [
            CameraConfig(
                "static",
                pose,
                size,
                size,
                fov=layout.CAMERA_FOV_RAD,
                near=layout.CAMERA_NEAR_M,
                far=layout.CAMERA_FAR_M,
            )
        ]

    def _load_scene(self, options: dict) -> None:
        cubes = [actor._objs[0] for actor in self._load_boxes(self.scene)]
        self._bind(self.agent.robot._objs[0], cubes)

    def _load_boxes(self, scene: Any) -> list[Any]:
        """Table, ground and cubes; returns the cubes. `scene` is ManiSkill's or SAPIEN's."""
        self._load_box(scene, "table", layout.TABLE_HALF_SIZE_M, layout.TABLE_CENTRE_M, TABLE_COLOUR)
        self._load_box(scene, "ground", (2.0, 2.0, 0.05), (0.0, 0.0, -0.051), (0.4, 0.4, 0.42))
        half = (layout.CUBE_EDGE_M / 2,) * 3
        centres = [(0.5, 0.1 * (index - 1), layout.CUBE_START_Z_M) for index in range(len(layout.CUBES))]
        return [
            self._load_box(scene, name, half, centre, colour, "dynamic")
            for name, centre, colour in zip(layout.CUBES, centres, CUBE_COLOURS, strict=True)
        ]

    def _load_box(
        self, scene: Any, name: str, half_size: Size, centre: Size, colour: Size, kind: str = "static"
    ) -> Any:
        builder = scene.create_actor_builder()
        volume_m3 = 8 * float(np.prod(half_size))
        builder.add_box_collision(half_size=half_size, density=layout.CUBE_MASS_KG / volume_m3)
        if self._visible:
            paint = sapien.render.RenderMaterial(base_color=(*colour, 1.0))
            builder.add_box_visual(half_size=half_size, material=paint)
        builder.initial_pose = sapien.Pose(centre)
        builder.set_physx_body_type(kind)
        return builder.build(name=name)

    def rebuild(self) -> None:
        """See `ArmSimulation`. Without visuals ManiSkill makes the first scene only (see quick_scene.py)."""
        if self._visible or self.scene is None:
            super().rebuild()
            return
        if self._builder is None:
            self._builder = arm_builder(self.agent, self.agent.urdf_path)
        self._set_scene_config()  # of PhysX, which another simulation of this process may have changed
        px = sapien.physx.PhysxCpuSystem()
        px.timestep = 1.0 / self.SIMULATION_RATE_HZ
        scene = sapien.Scene([px])
        arm = add_arm(scene, self._builder, self.arm)
        self._bind(arm, self._load_boxes(scene))
        self.px, self._quick_scene = px, scene

    def _bind(self, arm: Any, cubes: list[Any]) -> None:
        """Keep what a step works on. `cubes` are SAPIEN's entities."""
        self._bind_arm(arm)
        for joint in self.joints[:ARM_JOINTS]:
            joint.set_drive_properties(
                APPROACH_PER_S * DRIVE_DAMPING, DRIVE_DAMPING, ARM_FORCE_LIMIT_NM, "acceleration"
            )
        self.cubes = []
        for entity in cubes:
            body = entity.find_component_by_type(sapien.physx.PhysxRigidDynamicComponent)
            body.linear_damping = body.angular_damping = layout.CUBE_DAMPING
            self.cubes.append(body)

    def body_state(self) -> dict[str, np.ndarray]:
        """Everything that moves: joints (9,), joint_velocities (9,), drive_targets (9,) and cubes (3, 13).

        A cube's row is position 3, quaternion wxyz 4, linear velocity 3, angular velocity 3.
        """
        rows = []
        for cube in self.cubes:
            pose = cube.entity_pose
            rows.append(np.concatenate([pose.p, pose.q, cube.linear_velocity, cube.angular_velocity]))
        targets = [joint.drive_target[0] for joint in self.joints]
        return {
            "joints": self.arm.qpos.astype(np.float64),
            "joint_velocities": self.arm.qvel.astype(np.float64),
            "drive_targets": np.array(targets, dtype=np.float64),
            "cubes": np.stack(rows).astype(np.float64),
        }

    def restore(self, body_state: dict[str, np.ndarray]) -> None:
        """A new scene in the given `body_state`."""
        self.rebuild()
        self.arm.set_qpos(body_state["joints"])
        self.arm.set_qvel(body_state["joint_velocities"])
        self.set_drive_targets(body_state["drive_targets"])
        for cube, row in zip(self.cubes, body_state["cubes"], strict=True):
            cube.entity.pose = sapien.Pose(row[:3], row[3:7])
            cube.linear_velocity, cube.angular_velocity = row[7:10], row[10:13]

    def joint_positions(self) -> np.ndarray:
        """(9,): rad, and m for the fingers."""
        return self.arm.qpos

    def joint_limits(self) -> np.ndarray:
        """(9, 2): lowest and highest position of each joint."""
        return self.arm.qlimits

    def cube_positions(self) -> np.ndarray:
        """(3, 3) cube centres in metres."""
        return np.array([cube.entity_pose.p for cube in self.cubes], dtype=np.float64)

    def image(self) -> np.ndarray:
        """uint8 (image_size, image_size, 3): what the static camera sees now."""
        return self.images("static")[0]

    def touching_cubes(self) -> frozenset[tuple[int, int]]:
        """Pairs (i, j), i < j, of cubes in contact after the last simulation step."""
        index = {id(cube): number for number, cube in enumerate(self.cubes)}
        pairs = set()
        for contact in self.px.get_contacts():
            first, second = (index.get(id(body)) for body in contact.bodies)
            if first is None or second is None:
                continue
            if any(point.separation < CONTACT_DISTANCE_M for point in contact.points):
                pairs.add((min(first, second), max(first, second)))
        return frozenset(pairs)

    def finger_forces(self, cube: int) -> np.ndarray:
        """(2,) contact force in newtons between each finger and a cube during the last simulation step."""
        impulses = np.zeros((2, 3))
        for contact in self.px.get_contacts():
            if self.cubes[cube] not in contact.bodies:
                continue
            for number, finger in enumerate(self.fingers):
                if finger in contact.bodies:
                    impulses[number] += np.sum([point.impulse for point in contact.points], axis=0)
        return np.linalg.norm(impulses, axis=1) * layout.SIMULATION_RATE_HZ
