"""Names, sizes and constants of CALVIN: everything that can be known without its simulator.

Source: dataset/README.md of mees/calvin (fa03f01), conf/ and robot.py of mees/calvin_env (797142c).
"""

from __future__ import annotations

import numpy as np

CONTROL_RATE_HZ = 30

CAMERAS: dict[str, tuple[int, int, int]] = {"static": (200, 200, 3), "gripper": (84, 84, 3)}
"""By name; `rgb_NAME` in CALVIN's files, `observation.images.NAME` here."""
BLOCKS: tuple[str, ...] = ("red", "blue", "pink")
"""In the order of scene_obs."""

STATE_NAMES: tuple[str, ...] = (
    *(f"tcp_{axis}_m" for axis in "xyz"),
    *(f"tcp_{axis}_rad" for axis in ("roll", "pitch", "yaw")),
    "gripper_width_m",
    *(f"joint_{index}_rad" for index in range(1, 8)),
    "gripper_command",  # +1 open, -1 closed
)
"""Of robot_obs. Euler angles (x, y, z) in the world's frame."""
JOINTS = slice(7, 14)
GRIPPER_COMMAND = 14
SCENE_NAMES: tuple[str, ...] = (
    "slider_m",
    "drawer_m",
    "button_m",
    "switch_rad",
    "lightbulb",  # 1 on, 0 off; the next one, too
    "led",
    *(
        f"{block}_{name}"
        for block in BLOCKS
        for name in ("x_m", "y_m", "z_m", "roll_rad", "pitch_rad", "yaw_rad")
    ),
)
"""Of scene_obs."""

MAX_IMAGE_SIZE = 1024  # of resized images, pixels a side


def image_shape(camera: str, image_size: int | None) -> tuple[int, int, int]:
    """(height, width, 3) of a camera's pictures, resized or not."""
    return CAMERAS[camera] if image_size is None else (image_size, image_size, 3)


SCENE_ORDER: dict[str, tuple[str, ...]] = {
    "doors": ("base__slide", "base__drawer"),
    "lights": ("lightbulb", "led"),
    "movable_objects": tuple(f"block_{block}" for block in BLOCKS),
}
"""calvin_env's names of what scene_obs tells, in the order in which it does."""

ACTIONS = ("relative", "absolute")
ACTION_NAMES: dict[str, tuple[str, ...]] = {
    "relative": ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper"),
    "absolute": ("x", "y", "z", "roll", "pitch", "yaw", "gripper"),
}
ACTION_UNITS: dict[str, tuple[str, ...]] = {
    "relative": ("0.02 m",) * 3 + ("0.05 rad",) * 3 + ("+1 opens, -1 closes",),
    "absolute": ("m",) * 3 + ("rad",) * 3 + ("+1 opens, -1 closes",),
}
ACTION_LAW: dict[str, tuple[str, ...]] = {
    "relative": ("relative",) * 6 + ("absolute",),
    "absolute": ("absolute",) * 7,
}
"""A relative action moves the *target* pose, not the current one: 0 is no motion, drift does not add up."""
REACH_M = 2.0  # bound of absolute positions: beyond whatever the arm reaches from its base
ACTION_HIGH: dict[str, np.ndarray] = {
    "relative": np.ones(7, np.float32),
    "absolute": np.array([REACH_M] * 3 + [np.float32(np.pi)] * 3 + [1.0], np.float32),
}
ACTION_KEYS = {"relative": "rel_actions", "absolute": "actions"}
"""Of CALVIN's files."""

MTLC_STEPS, LH_STEPS = 240, 360  # limits of an episode, and of one task in a row
SETTINGS_PER_TASK, CHAINS, CHAIN_LENGTH = 30, 1000, 5
EPISODE_FRAMES = 64  # at most, of a language segment

for _bound in ACTION_HIGH.values():
    _bound.flags.writeable = False


def action_spec(actions: str) -> dict[str, object]:
    """What a dataset says of its actions. Absolute ones have no hold: it depends on where the arm is."""
    high = ACTION_HIGH[actions]
    return {
        "names": list(ACTION_NAMES[actions]),
        "units": list(ACTION_UNITS[actions]),
        "min": (-high).tolist(),
        "max": high.tolist(),
        "rate_limit": None,
        "hold": [0.0] * 7 if actions == "relative" else None,
        "law": list(ACTION_LAW[actions]),
    }
