"""The seam between Franka-3Blocks and physics: what a simulator has to offer, and the two there are."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from keystep.suites.headless import load_simulation, require_driver

MANISKILL, BULLET = "maniskill", "bullet"
STDERR = 2
SIMULATORS = (MANISKILL, BULLET)
NO_BULLET = (
    "simulation: expected the package pybullet, found none; install it with: pip install 'keystep[bullet]'"
)


class BlocksSimulation(Protocol):
    """Arm, table, three cubes and a camera. Actions, observations and episodes are in environment.py.

    Joints are the nine driven ones: seven of the arm (rad), then two fingers (m). A body state is what
    `body_state` returns: "joints" (9,), "joint_velocities" (9,), "drive_targets" (9,) and "cubes" (3, 13), a
    cube's row being position 3, quaternion wxyz 4, linear velocity 3, angular velocity 3.

    Attributes:
        version: name and version of the physics, such as "sapien 3.0.3".
    """

    version: str

    def restore(self, body_state: dict[str, np.ndarray]) -> None:
        """Put everything into a body state. What follows is equal bit for bit each time."""
        ...

    def advance(self, steps: int) -> None:
        """Run `steps` simulation steps of 1/240 s."""
        ...

    def body_state(self) -> dict[str, np.ndarray]:
        """Everything that moves."""
        ...

    def hand_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) in metres and quaternion (4,), xyzw with x >= 0, of the grasp target."""
        ...

    def joint_positions(self) -> np.ndarray:
        """(9,): rad, and m for the fingers."""
        ...

    def joint_limits(self) -> np.ndarray:
        """(9, 2): lowest and highest position of each joint."""
        ...

    def solve_joints(self, position: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
        """Inverse kinematics from the current joints: the arm's joints (7,) for a hand pose (xyzw)."""
        ...

    def set_drive_targets(self, targets: np.ndarray) -> None:
        """Position targets (9,) of the motors."""
        ...

    def cube_positions(self) -> np.ndarray:
        """(3, 3) cube centres in metres."""
        ...

    def touching_cubes(self) -> frozenset[tuple[int, int]]:
        """Pairs (i, j), i < j, of cubes in contact after the last simulation step."""
        ...

    def finger_forces(self, cube: int) -> np.ndarray:
        """(2,) contact force in newtons between each finger and a cube during the last simulation step."""
        ...

    def image(self) -> np.ndarray:
        """uint8 (image_size, image_size, 3): what the static camera sees now."""
        ...

    def close(self) -> None: ...


def open_simulation(simulator: str, visible: bool, image_size: int) -> BlocksSimulation:
    """Loads the simulator, which is late because it takes seconds.

    Args:
        simulator: one of SIMULATORS.
        visible: pictures will be asked for.
        image_size: their side in pixels.

    Raises:
        ValueError: there is no such simulator.
        ImportError: its package is not installed; says which extra has it.
        MissingDriver: ManiSkill is to make pictures on a machine without a Vulkan driver.
    """
    if simulator == BULLET:
        try:
            with _without_greeting():
                from keystep.suites.franka3blocks.bullet import BulletSimulation
        except ModuleNotFoundError as error:
            if error.name not in ("pybullet", "pybullet_data"):
                raise
            raise ImportError(NO_BULLET) from error
        return BulletSimulation(image_size)
    if simulator != MANISKILL:
        raise ValueError(f"simulator: expected one of {', '.join(SIMULATORS)}, got {simulator!r}")
    if visible:
        require_driver()
    return load_simulation("keystep.suites.franka3blocks.simulation").Franka3BlocksSimulation(
        visible, image_size
    )


@contextmanager
def _without_greeting() -> Iterator[None]:
    """PyBullet's first import tells when it was built on the process's stderr, amid progress bars."""
    if "pybullet" in sys.modules:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(STDERR)
    try:
        with Path(os.devnull).open("w") as nothing:
            os.dup2(nothing.fileno(), STDERR)
        yield
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)
