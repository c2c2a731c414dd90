"""The physics of the tabletop suite: the Panda, a box table, and the bodies of a scenario.

Entities are made with SAPIEN directly: ManiSkill's builders want mesh files and unique names.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sapien
from mani_skill.sensors.camera import CameraConfig
from mani_skill.utils import sapien_utils

from keystep.suites.arm import FINGERS, ArmSimulation
from keystep.suites.tabletop import layout
from keystep.suites.tabletop.contacts import Contacts
from keystep.suites.tabletop.objects import COLOURS, SIDES, Body
from keystep.suites.tabletop.scale import Scale

TABLE_HALF_M = (0.75, 0.65, 0.05)
TABLE_CENTRE_M = (0.45, 0.0, -0.05)
TABLE_PAINT = (0.62, 0.55, 0.46)
FLOOR_Z_M = -0.5
FLOOR_PAINT = (0.35, 0.36, 0.38)
DAMPING = 0.3
IK_ITERATIONS = 2
IK_DAMPING = 0.02
POSTURE_GAIN = 0.1
POSTURE_WEIGHTS = np.array([0.0, 0.3, 1.0, 0.3, 1.0, 0.3, 0.0])  # the elbow's swivel is in joints 3 and 5
FINGER_DRIVE = (1000.0, 100.0, 30.0)  # N/m, N s/m, N: ManiSkill's gripper; stiffer, what it holds shivers
ANGULAR_DAMPING = 8.0  # in place of rolling friction, which PhysX lacks: what rolls comes to rest


class TabletopSimulation(ArmSimulation):
    """The physics world; episodes, actions and observations are in environment.py.

    Args:
        visible: build visuals and cameras; needs a Vulkan driver.
        image_size: side of the square camera images in pixels.
    """

    SIMULATION_RATE_HZ = layout.SIMULATION_RATE_HZ
    CONTROL_RATE_HZ = layout.CONTROL_RATE_HZ
    FRICTION = layout.FRICTION
    RESTITUTION = 0.0

    def __init__(self, visible: bool, image_size: int) -> None:
        self._placed: tuple[Body, ...] = ()
        self._has_scale = False
        self._material: Any = None
        super().__init__(visible, image_size)

    @property
    def _default_sensor_configs(self) -> list[CameraConfig]:
        size, near, far = self._image_size, 0.02, 4.0
        base = sapien_utils.look_at(layout.BASE_EYE_M, layout.BASE_TARGET_M)
        # On the hand, in front of the fingers; SAPIEN's cameras look along +x.
        wrist = sapien.Pose(layout.WRIST_OFFSET_M, layout.WRIST_QUATERNION)
        mount = self.agent.robot.links_map["panda_hand"]
        return [
            CameraConfig("base", base, size, size, layout.BASE_FOV_RAD, near, far),
            CameraConfig("wrist", wrist, size, size, layout.WRIST_FOV_RAD, near, far, mount=mount),
        ]

    def _load_scene(self, options: dict) -> None:
        """The table, and the bodies given to `restart`."""
        self._bind_arm(self.agent.robot._objs[0])
        for joint in self.joints[FINGERS]:
            joint.set_drive_properties(*FINGER_DRIVE, mode="force")
        friction = layout.FRICTION
        self._material = sapien.physx.PhysxMaterial(friction, friction, self.RESTITUTION)
        self.table = self._add_box(TABLE_HALF_M, TABLE_CENTRE_M, TABLE_PAINT)
        self._add_box((4.0, 4.0, 0.05), (0.0, 0.0, FLOOR_Z_M - 0.05), FLOOR_PAINT)
        self.scale = Scale(self.scene) if self._has_scale else None
        self.bodies = [self._add_body(number, body) for number, body in enumerate(self._placed)]
        self.contacts = Contacts(self)

    def restart(self, bodies: tuple[Body, ...], scale: bool, joints: np.ndarray) -> None:
        """A new scene with `bodies` placed and the arm at `joints` (9,)."""
        self._placed, self._has_scale = bodies, scale
        self.rebuild()
        self.arm.set_qpos(joints)
        self.arm.set_qvel(np.zeros(9))
        self.set_drive_targets(joints)

    # ---- what is in the scene

    def _add_box(self, half_size: tuple, centre: tuple, paint: tuple) -> Any:
        collision = sapien.physx.PhysxCollisionShapeBox(half_size, self._material)
        visual = None
        if self.scene.can_render():
            visual = sapien.render.RenderShapeBox(half_size, _paint(paint))
        static = sapien.physx.PhysxRigidStaticComponent()
        return self._add_entity(static, collision, visual, sapien.Pose(centre))

    def _add_body(self, number: int, body: Body) -> Any:
        """The rigid body of a block or an area; a plate is a link of the scale."""
        thing = body.thing
        if thing.kind == "plate":
            assert self.scale is not None
            return self.scale.plate(thing.name)
        pose = sapien.Pose(body.position_m, [np.cos(body.yaw_rad / 2), 0, 0, np.sin(body.yaw_rad / 2)])
        if thing.kind == "area":
            component = sapien.physx.PhysxRigidStaticComponent()
        else:
            component = sapien.physx.PhysxRigidDynamicComponent()
            component.linear_damping, component.angular_damping = DAMPING, ANGULAR_DAMPING
        corners = thing.corners().astype(np.float32)
        half = np.array(thing.size_m) / 2
        if thing.shape in SIDES:
            collision = sapien.physx.PhysxCollisionShapeConvexMesh(corners, np.ones(3), self._material)
        else:
            collision = sapien.physx.PhysxCollisionShapeBox(half, self._material)
        collision.set_density(thing.density_kg_m3)
        visual = None
        if self.scene.can_render():
            paint = _paint(COLOURS[thing.colour])
            round_ = thing.shape in SIDES
            visual = _prism(corners, paint) if round_ else sapien.render.RenderShapeBox(half, paint)
        return self._add_entity(component, collision, visual, pose, f"{number}: {thing.name}")

    def _add_entity(self, component: Any, collision: Any, visual: Any, pose: Any, name: str = "") -> Any:
        entity = sapien.Entity()
        entity.name = name
        component.attach(collision)
        entity.add_component(component)
        if visual is not None:
            render = sapien.render.RenderBodyComponent()
            render.attach(visual)
            entity.add_component(render)
        entity.pose = pose
        self.scene.sub_scenes[0].add_entity(entity)
        return component

    # ---- motion

    def follow(self, position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
        """Arm joints (7,) in radians that bring the hand nearer to a pose, from where they are.

        Damped least squares (Nakamura and Hanafusa 1986) with what is left of the freedom drawing the joints
        to their posture at the start: over long episodes the elbow neither drifts nor meets a limit.

        Args:
            position: (3,) metres.
            rotation: (3, 3) matrix.
        """
        joints = self.arm.qpos.astype(np.float64)
        low, high = self.arm.qlimits[:7].T
        model, hand = self.model, self.hand.index
        for _ in range(IK_ITERATIONS):
            model.compute_full_jacobian(joints)  # and the poses of the links
            pose, twist = model.get_link_pose(hand), model.get_link_jacobian(hand, False)[:, :7]
            linear = twist[:3] + np.cross(twist[3:], pose.p, axis=0)  # from the world's origin to the hand
            jacobian = np.vstack([linear, twist[3:]])
            # For small angles, half the sum of these is the rotation vector from one frame to the other.
            turn = 0.5 * np.cross(pose.to_transformation_matrix()[:3, :3], rotation, axis=0).sum(axis=1)
            error = np.concatenate([position - pose.p, turn])
            rest = POSTURE_GAIN * POSTURE_WEIGHTS * (layout.START_JOINTS_RAD[:7] - joints[:7])
            square = jacobian @ jacobian.T + IK_DAMPING**2 * np.eye(6)
            move = rest + jacobian.T @ np.linalg.solve(square, error - jacobian @ rest)
            joints[:7] = np.clip(joints[:7] + move, low, high)
        return joints[:7]

    def drive(self, arm: np.ndarray, finger: float) -> None:
        """One control period: the arm's joints go straight to `arm` (7,), the fingers to `finger`.

        The arm's targets move in every simulation step and carry their speed, so the drives, which are
        velocity controllers when stiff and over-damped (robot.py), follow without lag or jerks.
        """
        steps = layout.SIMULATION_RATE_HZ // layout.CONTROL_RATE_HZ
        start = self.arm.qpos[:7].astype(np.float64)
        move = arm - start
        for joint, speed in zip(self.joints, move * layout.CONTROL_RATE_HZ, strict=False):
            joint.set_drive_velocity_target(speed)
        self.contacts.begin_step()
        for step in range(1, steps + 1):
            self.set_drive_targets(np.append(start + move * ((step - 0.5) / steps), (finger, finger)))
            self.scene.px.step()
            self.contacts.note(last=step == steps)

    def hold(self, steps: int) -> None:
        """Run simulation steps with the arm where it is."""
        for joint in self.joints:
            joint.set_drive_velocity_target(0.0)
        self.contacts.begin_step()
        for step in range(1, steps + 1):
            self.scene.px.step()
            self.contacts.note(last=step == steps)

    def poses(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions (N, 3) in metres and quaternions (N, 4), wxyz, of the bodies."""
        poses = [body.entity_pose for body in self.bodies]
        positions = np.array([pose.p for pose in poses], dtype=np.float64).reshape(-1, 3)
        return positions, np.array([pose.q for pose in poses], dtype=np.float64).reshape(-1, 4)


def _paint(colour: tuple) -> Any:
    return sapien.render.RenderMaterial(base_color=(*colour, 1.0), roughness=0.8, specular=0.2)


def _prism(corners: np.ndarray, paint: Any) -> Any:
    """The visual of a prism over a convex polygon: every face has its own corners, for flat shading."""
    count = len(corners) // 2
    lower, upper = corners[:count], corners[count:]
    faces = [lower[::-1], upper]
    faces += [np.stack([lower[i - 1], lower[i], upper[i], upper[i - 1]]) for i in range(count)]
    vertices: list[np.ndarray] = []
    normals: list[np.ndarray] = []
    triangles: list[tuple[int, int, int]] = []
    for face in faces:
        normal = np.cross(face[1] - face[0], face[2] - face[0])
        first = len(vertices)
        vertices += list(face)
        normals += [normal / np.linalg.norm(normal)] * len(face)
        triangles += [(first, first + i, first + i + 1) for i in range(1, len(face) - 1)]
    uvs = np.zeros((len(vertices), 2))
    return sapien.render.RenderShapeTriangleMesh(
        np.array(vertices, np.float32), np.array(triangles, np.uint32), np.array(normals, np.float32),
        uvs.astype(np.float32), paint,
    )  # fmt: skip
