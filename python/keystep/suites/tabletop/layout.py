"""Names, sizes and constants of the tabletop suite: everything that can be known without a simulator.

World frame: origin at the foot of the robot, +x to the front, +y to the left, z = 0 on the table top.
Source: From Code to Action, appendix E, and the facts of ClevrSkills, restated in metres, radians and hertz;
sizes are those a parallel gripper can hold.
"""

from __future__ import annotations

import numpy as np

VERSION = 1
"""Of the simulated world. An episode replays exactly only in the version that recorded it."""

SIMULATION_RATE_HZ = 100
CONTROL_RATE_HZ = 20

MAX_BODIES = 8
"""Slots for objects in observations and datasets."""

GRAVITY_M_S2 = 9.81
FRICTION = 1.0
DENSITY_KG_M3 = 400.0
BLOCK_WIDTH_M = 0.045
BLOCK_HEIGHT_M = 0.04
AREA_HEIGHT_M = 0.004

WORKSPACE_X_M = (0.34, 0.60)
WORKSPACE_Y_M = (-0.26, 0.26)
"""Where centres of reachable objects start and end."""
OUT_OF_REACH_M = (0.78, 0.88)
"""Distance from the robot's foot of what can only be hit by a throw."""

THROW_AZIMUTH_RAD = float(np.deg2rad(20.0))
"""Those stand at most so far to either side of straight ahead, within the base camera's picture."""

STATIC_SPEED_M_S = 1e-3
STATIC_TURN_RAD_S = 1e-2

SCALE_CENTRE_M = (0.52, 0.0)
SCALE_ARM_M = 0.13
"""From the pivot to the centre of a plate; the beam lies along y, "left plate" at +y."""
PLATE_SIZE_M = (0.11, 0.11, 0.008)
PLATE_HEIGHT_M = 0.07
"""Centre of a plate above the table when the beam is level."""
SCALE_LIMIT_RAD = float(np.deg2rad(6.0))

FINGER_OPEN_M = 0.04
FINGER_STEP_M = 0.02
"""Most that the fingers' target moves in a control step."""
HAND_START_M = (0.40, 0.0, 0.30)
START_JOINTS_RAD = np.array([0.0, -0.4207, 0.0, -2.5762, 0.0, 2.1554, 0.7854, 0.04, 0.04])
"""The hand upright at HAND_START_M: seven arm joints (rad), two fingers (m)."""
START_NOISE_RAD = 0.02

CAMERAS = ("base", "wrist")
BASE_EYE_M = (1.20, 0.0, 0.75)
BASE_TARGET_M = (0.52, 0.0, 0.0)
BASE_FOV_RAD = float(np.deg2rad(46.0))
WRIST_OFFSET_M = (0.06, 0.0, 0.02)
"""On the hand's link, whose z points to the finger tips."""
WRIST_QUATERNION = (float(np.sqrt(0.5)), 0.0, -float(np.sqrt(0.5)), 0.0)
"""wxyz: SAPIEN's cameras look along +x; this one along the hand's z."""
WRIST_FOV_RAD = float(np.deg2rad(90.0))

ACTION_NAMES: tuple[str, ...] = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
ACTION_UNITS: tuple[str, ...] = ("0.05 m",) * 3 + ("0.25 rad",) * 3 + ("+1 open, -1 closed",)
ACTION_LAW: tuple[str, ...] = ("relative",) * 6 + ("absolute",)
"""Whether 0 is no motion, or the command itself is held."""
POSITION_SCALE_M = 0.05
ROTATION_SCALE_RAD = 0.25
ACTION_LOW = np.full(7, -1.0, dtype=np.float32)
ACTION_HIGH = np.full(7, 1.0, dtype=np.float32)

STATE_NAMES: tuple[str, ...] = (
    *(f"joint_{index}_rad" for index in range(1, 8)),
    *(f"finger_{index}_m" for index in (1, 2)),
    *(f"joint_{index}_rad_s" for index in range(1, 8)),
    *(f"finger_{index}_m_s" for index in (1, 2)),
    *(f"hand_{axis}_m" for axis in "xyz"),
    *(f"hand_q{axis}" for axis in "wxyz"),
    *(f"hand_v{axis}_m_s" for axis in "xyz"),
    *(f"hand_w{axis}_rad_s" for axis in "xyz"),
)
"""Proprioception, `observation.state`; in both observation modes."""

POSE_NAMES = ("x_m", "y_m", "z_m", "qw", "qx", "qy", "qz")
OBJECT_NAMES: tuple[str, ...] = (
    "present",
    *POSE_NAMES,
    *(f"size_{axis}_m" for axis in "xyz"),
    *("is_cube", "is_cylinder", "is_triangle", "is_hexagon", "is_area", "is_plate"),
    *(f"colour_{channel}" for channel in "rgb"),
)
"""One slot of `observation.objects`."""
BOX_NAMES = ("left", "top", "right", "bottom")
"""Of `objects.boxes`: fractions of the base camera's picture in 0..1; four times -1 when out of view."""
