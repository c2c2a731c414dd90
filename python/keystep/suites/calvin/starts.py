"""From a symbolic scene to the robot_obs and scene_obs that CALVIN's evaluation starts a chain from.

Source: the facts of calvin_agent/evaluation/utils.py (mees/calvin, fa03f01), restated: poses, the hash, and
the order of the random numbers. `numpy.random.RandomState` never changes: starts are equal bit for bit.
"""

from __future__ import annotations

import numpy as np

from keystep.suites.calvin.layout import BLOCKS, SCENE_NAMES
from keystep.suites.calvin.rules import Scene

ROBOT_OBS = np.array(
    [
        *(0.02586889, -0.2313129, 0.5712808, 3.09045411, -0.02908596, 1.50013585),
        *(0.07999963, -1.21779124, 1.03987629, 2.11978254, -2.34205014, -0.87015899, 1.64119093, 0.55344928),
        1.0,
    ]
)
SLIDER_LEFT_M, DRAWER_OPEN_M, SWITCH_ON_RAD = 0.28, 0.22, 0.088
SHELF_POSITIONS_M = {
    "slider_left": (-2.40851662e-01, 9.24044687e-02, 4.60990009e-01),
    "slider_right": (7.03416330e-02, 9.24044687e-02, 4.60990009e-01),
}
TABLE_POSITIONS_M = (
    (5.00000896e-02, -1.20000177e-01, 4.59990009e-01),
    (2.29995412e-01, -1.19995140e-01, 4.59990010e-01),
)
YAW_RANGE_RAD = (np.pi / 2 - np.pi / 8, np.pi / 2 + np.pi / 8)
ROBOT_OBS.flags.writeable = False


def start_state(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """robot_obs (15,) and scene_obs (24,), float64; the same scene always gives the same."""
    rng = np.random.RandomState(_fnv1(f"dict_values({list(scene.values())})".encode()))
    order = [0, 1]
    rng.shuffle(order)
    obs = np.zeros(len(SCENE_NAMES))
    obs[0] = SLIDER_LEFT_M if scene["slider"] == "left" else 0
    obs[1] = DRAWER_OPEN_M if scene["drawer"] == "open" else 0
    obs[3] = SWITCH_ON_RAD if scene["lightbulb"] else 0
    obs[4:6] = scene["lightbulb"], scene["led"]
    for number, block in enumerate(BLOCKS):
        first = 6 + 6 * number
        obs[first : first + 3] = _position(scene, block, order)
        obs[first + 5] = rng.uniform(*YAW_RANGE_RAD)
    return ROBOT_OBS.copy(), obs


def _position(scene: Scene, block: str, order: list[int]) -> tuple[float, ...]:
    place = str(scene[f"{block}_block"])
    if place in SHELF_POSITIONS_M:
        return SHELF_POSITIONS_M[place]
    second = {"red": False, "blue": scene["red_block"] == "table", "pink": True}[block]
    return TABLE_POSITIONS_M[order[second]]


def _fnv1(data: bytes) -> int:
    """FNV-1, 32 bits, from 0 instead of the usual basis, as pyhash computes it."""
    value = 0
    for byte in data:
        value = (value * 0x01000193) & 0xFFFFFFFF ^ byte
    return value
