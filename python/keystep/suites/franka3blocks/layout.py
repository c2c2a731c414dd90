"""Names, sizes and constants of Franka-3Blocks: everything that can be known without a simulator.

Source: HD-ExpIt (the paper's appendix and the authors' repository), restated in units of metres, radians
and hertz.
"""

from __future__ import annotations

import numpy as np

WORLDS = ("keystep/Franka3Blocks-v1", "keystep/Franka3Blocks-bullet")
"""Environments with these actions and observations. v0's differed: turns, and two values of the state."""

CUBES: tuple[str, ...] = ("red", "green", "blue")
CUBE_EDGE_M = 0.048
CUBE_MASS_KG = 0.1
CUBE_DAMPING = 0.5
FRICTION = 1.0
RESTITUTION = 0.1

TABLE_HALF_SIZE_M = (0.3, 0.8, 0.125)
TABLE_CENTRE_M = (0.5, 0.0, 0.125)
TABLE_TOP_M = 0.25

SIMULATION_RATE_HZ = 240
CONTROL_RATE_HZ = 60
SETTLE_STEPS = 100  # simulation steps after the cubes have been placed

START_JOINTS_RAD = np.array(
    [-7.7e-5, -0.19163, 3.1069e-4, -2.0947, -1.1069e-4, 1.9072, 0.78494, 0.0, 0.0]
)  # 7 arm joints (rad), 2 fingers (m)
NEUTRAL_HAND_M = np.array([0.5, 0.0, 0.4])

CUBE_X_RANGE_M = (0.41, 0.59)
CUBE_Y_RANGE_M = (-0.09, 0.09)
CUBE_START_Z_M = TABLE_TOP_M + CUBE_EDGE_M / 2
CUBE_MIN_DISTANCE_M = 0.053

STACK_OFFSET_M = 0.02  # most of a stack's two cubes, in x and y

POSITION_SCALE_M = 0.05  # metres per unit of action
ROTATION_SCALE_RAD = 0.1  # radians per unit of action
FINGER_SCALE_M = 0.1  # metres of finger target per unit of action
FINGER_OPEN_M = 0.04

CAMERA_EYE_M = (0.9, -0.2, 0.6)
CAMERA_TARGET_M = (0.5, 0.0, 0.3)
CAMERA_FOV_RAD = np.deg2rad(60.0)
CAMERA_NEAR_M = 0.1
CAMERA_FAR_M = 3.0

HAND_POSITION = slice(0, 3)
HAND_QUATERNION = slice(3, 7)
CUBE_POSITIONS = slice(7, 16)
FINGER = slice(16, 17)
ARM_JOINTS = slice(17, 24)
FIXED_JOINTS: tuple[str, ...] = ("joint_8", "hand_joint")
"""The joints eight and nine of the original's URDF, which do not move: always 0."""
STATE_NAMES: tuple[str, ...] = (
    *(f"hand_{axis}_m" for axis in "xyz"),
    *(f"hand_q{axis}" for axis in "xyzw"),
    *(f"{cube}_{axis}_m" for cube in CUBES for axis in "xyz"),
    "finger_1_m",
    *(f"joint_{index}_rad" for index in range(1, 8)),
    *(f"{joint}_rad" for joint in FIXED_JOINTS),
)

STATE_PARTS: tuple[int, ...] = (*(0,) * 7, *(1,) * 3, *(2,) * 3, *(3,) * 3, *(0,) * 10)
"""Whose each number is: 0 the robot's, 1 to 3 the cubes'."""

ACTION_NAMES: tuple[str, ...] = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
ACTION_UNITS: tuple[str, ...] = ("0.05 m",) * 3 + ("0.1 rad",) * 3 + ("+1 opens, -1 closes",)
ACTION_LOW = np.full(7, -1.0, dtype=np.float32)
ACTION_HIGH = np.full(7, 1.0, dtype=np.float32)
ACTION_HOLD = np.zeros(7, dtype=np.float32)
"""The static action: targets equal the current pose and finger position."""
ACTION_LAW: tuple[str, ...] = ("relative",) * 6 + ("absolute",)
"""Whether 0 is no motion, or the last command is repeated: HD-ExpIt pads chunks with that of the gripper."""
for _constant in (ACTION_LOW, ACTION_HIGH, ACTION_HOLD, START_JOINTS_RAD, NEUTRAL_HAND_M):
    _constant.flags.writeable = False
