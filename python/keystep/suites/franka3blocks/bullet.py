"""The physics of Franka-3Blocks on PyBullet, the simulator of the paper: arm, table, cubes and camera.

Source: HD-ExpIt (the paper's appendix and the authors' repository). Three habits of the original are part of
its numbers, and kept:
- The pose of the hand is read without new forward kinematics, so it is that of one simulation step ago.
- Inverse kinematics stops after 100 iterations, or at an error of 1e-5 m of position; it stops short.
- Two cubes touch as soon as PyBullet lists a contact, which may still be a gap.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from importlib import metadata
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pybullet
import pybullet_data

from keystep.suites.franka3blocks import layout

DRIVEN_JOINTS = (*range(7), 9, 10)  # seven of the arm, two fingers; joints 7 and 8 of the URDF are fixed
FINGER_LINKS = (9, 10)
HAND_LINK = 11  # panda_grasptarget
DRIVE_FORCES = (500.0,) * 7 + (200.0,) * 2
IK_ITERATIONS = 100
IK_RESIDUAL_M = 1e-5
STEP_S = 1 / layout.SIMULATION_RATE_HZ
GRAVITY_M_S2 = 9.81
APART_M = 10.0
ROLLING_FRICTION = SPINNING_FRICTION = 0.01
CUBE_COLOURS = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
TABLE_COLOUR = (0.5, 0.5, 0.5)
NORMAL_FORCE = 9  # place in a contact of PyBullet
Vector = tuple[float, float, float]


class BulletSimulation:
    """See `keystep.suites.franka3blocks.simulators.BlocksSimulation`. Each has a physics client of its own.

    Args:
        image_size: side of the square camera image in pixels. The software renderer needs no driver.
    """

    version = f"pybullet {metadata.version('pybullet')}"

    def __init__(self, image_size: int) -> None:
        self._image_size = image_size
        self._client: dict[str, int] = {"physicsClientId": pybullet.connect(pybullet.DIRECT)}
        self._disconnect = weakref.finalize(self, pybullet.disconnect, **self._client)
        self._load_scene()
        self._view = pybullet.computeViewMatrix(layout.CAMERA_EYE_M, layout.CAMERA_TARGET_M, (0.0, 0.0, 1.0))
        self._projection = pybullet.computeProjectionMatrixFOV(
            np.rad2deg(layout.CAMERA_FOV_RAD), 1.0, layout.CAMERA_NEAR_M, layout.CAMERA_FAR_M
        )
        self.set_drive_targets(self.joint_positions())
        self._hand = self._link_pose()

    # ---- scene

    def _load_scene(self) -> None:
        pybullet.setGravity(0.0, 0.0, -GRAVITY_M_S2, **self._client)
        pybullet.setTimeStep(STEP_S, **self._client)
        # Else the order in which contacts are solved depends on what happened before.
        pybullet.setPhysicsEngineParameter(deterministicOverlappingPairs=1, **self._client)
        data = Path(pybullet_data.getDataPath())
        pybullet.loadURDF(str(data / "plane.urdf"), **self._client)
        panda = str(data / "franka_panda" / "panda.urdf")
        self._arm = pybullet.loadURDF(panda, useFixedBase=True, **self._client)
        self._base = pybullet.getBasePositionAndOrientation(self._arm, **self._client)  # of its mass
        for link in range(pybullet.getNumJoints(self._arm, **self._client)):
            pybullet.changeDynamics(self._arm, link, linearDamping=0.0, angularDamping=0.0, **self._client)
        surface = {"lateralFriction": layout.FRICTION, "restitution": layout.RESTITUTION}
        table = self._load_box(0.0, layout.TABLE_HALF_SIZE_M, layout.TABLE_CENTRE_M, TABLE_COLOUR)
        pybullet.changeDynamics(table, -1, **surface, **self._client)
        half: Vector = (layout.CUBE_EDGE_M / 2,) * 3
        self._cubes = []
        for index, colour in enumerate(CUBE_COLOURS):
            centre = (0.5, 0.1 * (index - 1), layout.CUBE_START_Z_M)
            cube = self._load_box(layout.CUBE_MASS_KG, half, centre, colour)
            pybullet.changeDynamics(
                cube,
                -1,
                linearDamping=layout.CUBE_DAMPING,
                angularDamping=layout.CUBE_DAMPING,
                rollingFriction=ROLLING_FRICTION,
                spinningFriction=SPINNING_FRICTION,
                **surface,
                **self._client,
            )
            self._cubes.append(cube)

    def _load_box(self, mass_kg: float, half_size: Vector, centre: Vector, colour: Vector) -> int:
        box = {"shapeType": pybullet.GEOM_BOX, "halfExtents": half_size, **self._client}
        return pybullet.createMultiBody(
            mass_kg,
            pybullet.createCollisionShape(**box),
            pybullet.createVisualShape(rgbaColor=(*colour, 1.0), **box),
            centre,
            **self._client,
        )

    # ---- what moves

    def body_state(self) -> dict[str, np.ndarray]:
        """Everything that moves."""
        positions, velocities = self._joint_states()
        rows = []
        for cube in self._cubes:
            position, xyzw = pybullet.getBasePositionAndOrientation(cube, **self._client)
            linear, angular = pybullet.getBaseVelocity(cube, **self._client)
            rows.append([*position, xyzw[3], *xyzw[:3], *linear, *angular])
        return {
            "joints": positions,
            "joint_velocities": velocities,
            "drive_targets": self._drive_targets.copy(),
            "cubes": np.array(rows, dtype=np.float64),
        }

    def restore(self, body_state: dict[str, np.ndarray]) -> None:
        """Put everything into the given `body_state`, without contacts."""
        joints, velocities = body_state["joints"], body_state["joint_velocities"]
        # Where the hand was one simulation step ago: PyBullet moves joints by their new velocity.
        self._set_joints(joints - STEP_S * velocities, velocities)
        self._hand = self._link_pose()
        # One step with everything apart, as PyBullet keeps contacts and their forces where they touch;
        # loading the world again would take 60 ms. Bodies then come from afar: what PyBullet remembers of
        # their bounds would change the order of contacts, and with it the last bits.
        for index, body in enumerate((self._arm, *self._cubes)):
            self._place(body, (0.0, 0.0, APART_M * (1 + index)))
        pybullet.stepSimulation(**self._client)
        self._set_joints(joints, velocities)
        self._place(self._arm, *self._base)
        self.set_drive_targets(body_state["drive_targets"])
        for cube, row in zip(self._cubes, body_state["cubes"], strict=True):
            self._place(cube, row[:3], np.roll(row[3:7], -1))
            pybullet.resetBaseVelocity(cube, row[7:10], row[10:13], **self._client)

    def _place(self, body: int, position: Sequence[float], xyzw: Sequence[float] = (0, 0, 0, 1)) -> None:
        pybullet.resetBasePositionAndOrientation(body, position, xyzw, **self._client)

    def _set_joints(self, positions: np.ndarray, velocities: np.ndarray) -> None:
        for joint, position, velocity in zip(DRIVEN_JOINTS, positions, velocities, strict=True):
            pybullet.resetJointState(self._arm, joint, position, velocity, **self._client)

    def advance(self, steps: int) -> None:
        """Run `steps` simulation steps."""
        for _ in range(steps):
            pybullet.stepSimulation(**self._client)
        self._hand = self._link_pose()

    def set_drive_targets(self, targets: np.ndarray) -> None:
        """Position targets (9,): seven arm joints (rad) and two fingers (m)."""
        self._drive_targets = np.array(targets, dtype=np.float64)
        pybullet.setJointMotorControlArray(
            self._arm,
            DRIVEN_JOINTS,
            pybullet.POSITION_CONTROL,
            targetPositions=self._drive_targets,
            forces=DRIVE_FORCES,
            **self._client,
        )

    # ---- arm

    def _joint_states(self) -> tuple[np.ndarray, np.ndarray]:
        states = pybullet.getJointStates(self._arm, DRIVEN_JOINTS, **self._client)
        positions, velocities = zip(*(state[:2] for state in states), strict=True)
        return np.array(positions), np.array(velocities)

    def joint_positions(self) -> np.ndarray:
        """(9,): rad, and m for the fingers."""
        return self._joint_states()[0]

    def joint_limits(self) -> np.ndarray:
        """(9, 2): lowest and highest position of each joint."""
        infos = [pybullet.getJointInfo(self._arm, joint, **self._client) for joint in DRIVEN_JOINTS]
        return np.array([info[8:10] for info in infos])

    def _link_pose(self) -> tuple[np.ndarray, np.ndarray]:
        position, quaternion = pybullet.getLinkState(self._arm, HAND_LINK, **self._client)[:2]
        return np.array(position), np.array(quaternion)

    def hand_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) in metres and quaternion (4,), xyzw with x >= 0, of the grasp target in the world."""
        position, quaternion = self._hand
        return position.copy(), quaternion.copy() if quaternion[0] >= 0 else -quaternion

    def solve_joints(self, position: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
        """Inverse kinematics from the current joints: the arm's joints (7,) for a hand pose (xyzw)."""
        joints = pybullet.calculateInverseKinematics(
            self._arm,
            HAND_LINK,
            position,
            quaternion,
            maxNumIterations=IK_ITERATIONS,
            residualThreshold=IK_RESIDUAL_M,
            **self._client,
        )
        return np.array(joints[:7])

    # ---- what can be seen

    def cube_positions(self) -> np.ndarray:
        """(3, 3) cube centres in metres."""
        poses = [pybullet.getBasePositionAndOrientation(cube, **self._client) for cube in self._cubes]
        return np.array([position for position, _ in poses])

    def touching_cubes(self) -> frozenset[tuple[int, int]]:
        """Pairs (i, j), i < j, of cubes in contact after the last simulation step."""
        pairs = combinations(range(len(self._cubes)), 2)
        return frozenset(pair for pair in pairs if self._contacts(*(self._cubes[index] for index in pair)))

    def finger_forces(self, cube: int) -> np.ndarray:
        """(2,) normal force in newtons between each finger and a cube during the last simulation step."""
        touched = self._cubes[cube]
        contacts = [self._contacts(self._arm, touched, linkIndexA=finger) for finger in FINGER_LINKS]
        return np.array([sum(contact[NORMAL_FORCE] for contact in points) for points in contacts])

    def _contacts(self, first: int, second: int, **link: int) -> Any:
        return pybullet.getContactPoints(first, second, **link, **self._client) or ()

    def image(self) -> np.ndarray:
        """uint8 (image_size, image_size, 3): what the static camera sees now."""
        size = self._image_size
        pixels = pybullet.getCameraImage(
            size,
            size,
            self._view,
            self._projection,
            renderer=pybullet.ER_TINY_RENDERER,
            flags=pybullet.ER_NO_SEGMENTATION_MASK,
            **self._client,
        )[2]
        return np.ascontiguousarray(np.reshape(pixels, (size, size, 4))[..., :3], dtype=np.uint8)

    def close(self) -> None:
        self._disconnect()
