"""Pictures of observations and of subgoals: the camera's, the simulator's, or a drawing without a driver."""

from __future__ import annotations

from typing import Any

import numpy as np

from keystep.suites.base import Pictures
from keystep.suites.franka3blocks import layout

Picture = np.ndarray

STATE = "observation.state"
CUBE_COLOURS = {"red": (213, 94, 0), "green": (0, 158, 115), "blue": (0, 114, 178)}
GREY, BLACK = (235, 235, 235), (20, 20, 20)
Y_RANGE_M, X_RANGE_M, Z_RANGE_M = (-0.36, 0.36), (0.3, 0.7), (0.24, 0.56)
GAP_M = 0.02


class CameraPictures(Pictures):
    """Of a policy whose subgoals are images: what it sees and what it imagines, as they are.

    Args:
        key: the camera's, e.g. "observation.images.static".
    """

    def __init__(self, key: str) -> None:
        self._key = key

    def seen(self, observation: dict[str, Any]) -> Picture:
        return observation[self._key]

    def imagined(self, subgoals: dict[str, np.ndarray]) -> list[Picture]:
        return list(subgoals[self._key])


class SimulatedPictures(Pictures):
    """Of a policy whose subgoals are states: a second simulation is put into each state and looked at.

    Args:
        env: Franka-3Blocks with a camera, that nothing else uses.
    """

    def __init__(self, env: Any) -> None:
        self._env = env.unwrapped
        self._env.reset(seed=0)

    def seen(self, observation: dict[str, Any]) -> Picture:
        return self.picture(observation[STATE])

    def imagined(self, subgoals: dict[str, np.ndarray]) -> list[Picture]:
        return [self.picture(state) for state in subgoals[STATE]]

    def picture(self, state: np.ndarray) -> Picture:
        """What the camera sees of the arm's joints and the cubes' places; cubes stand upright."""
        self._env.set_state(body_state(self._env.get_state(), state, self._env.simulation.joint_limits()))
        return self._env.render()


def body_state(
    current: dict[str, np.ndarray], state: np.ndarray, limits: np.ndarray
) -> dict[str, np.ndarray]:
    """`current` (`Franka3BlocksEnv.get_state`) with the joints and cubes of an observed or imagined state.

    Args:
        limits: (9, 2) of the joints; an imagined arm may be beyond them.
    """
    fingers = np.repeat(state[layout.FINGER], 2)
    joints = np.clip(np.concatenate([state[layout.ARM_JOINTS], fingers]).astype(np.float64), *limits.T)
    cubes = np.zeros_like(current["cubes"])
    cubes[:, :3] = state[layout.CUBE_POSITIONS].reshape(3, 3)
    cubes[:, 3] = 1.0  # quaternion wxyz
    still = np.zeros_like(joints)
    return current | {"joints": joints, "joint_velocities": still, "drive_targets": joints, "cubes": cubes}


class DrawnPictures(Pictures):
    """Without a graphics driver: hand and cubes from above and, below that, from behind: as the robot looks.

    Args:
        size: side of the picture in pixels.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        height_m = (X_RANGE_M[1] - X_RANGE_M[0]) + GAP_M + (Z_RANGE_M[1] - Z_RANGE_M[0])
        self._scale = size / max(height_m, Y_RANGE_M[1] - Y_RANGE_M[0])

    def seen(self, observation: dict[str, Any]) -> Picture:
        return self.picture(observation[STATE])

    def imagined(self, subgoals: dict[str, np.ndarray]) -> list[Picture]:
        return [self.picture(state) for state in subgoals[STATE]]

    def picture(self, state: np.ndarray) -> Picture:
        from PIL import Image, ImageDraw

        image = Image.new("RGB", (self._size, self._size), "white")
        draw = ImageDraw.Draw(image)
        across = [self._across(y) for y in (Y_RANGE_M[1], Y_RANGE_M[0])]
        draw.rectangle((across[0], self._above(X_RANGE_M[1]), across[1], self._above(X_RANGE_M[0])), GREY)
        draw.rectangle(
            (across[0], self._behind(layout.TABLE_TOP_M), across[1], self._behind(Z_RANGE_M[0])), GREY
        )
        cubes = zip(layout.CUBES, state[layout.CUBE_POSITIONS].reshape(3, 3), strict=True)
        for name, (x, y, z) in sorted(cubes, key=lambda cube: cube[1][2]):
            self._cube(draw, name, y, self._above(x))
            self._cube(draw, name, y, self._behind(z))
        self._hand(draw, state)
        return np.asarray(image)

    def _across(self, y: float) -> float:
        """Left of the robot (+y) is left."""
        return self._size / 2 - y * self._scale

    def _above(self, x: float) -> float:
        return (X_RANGE_M[1] - x) * self._scale

    def _behind(self, z: float) -> float:
        return self._size - (z - Z_RANGE_M[0]) * self._scale

    def _cube(self, draw: Any, name: str, y: float, row: float) -> None:
        half, column = layout.CUBE_EDGE_M / 2 * self._scale, self._across(y)
        box = (column - half, row - half, column + half, row + half)
        draw.rectangle(box, CUBE_COLOURS[name], BLACK)
        draw.text((column, row), name[0].upper(), "white", anchor="mm", font_size=max(8, half))

    def _hand(self, draw: Any, state: np.ndarray) -> None:
        """The line between the fingers from above; the fingers themselves from behind."""
        x, y, z = state[layout.HAND_POSITION]
        reach = max(float(state[layout.FINGER][0]), 0.004) + 0.008
        ahead, aside = reach * _finger_axis(state[layout.HAND_QUATERNION])
        ends = [(self._across(y + side * aside), self._above(x + side * ahead)) for side in (-1, 1)]
        width = max(2, round(0.01 * self._scale))
        draw.line(ends, BLACK, width)
        for side in (-1, 1):
            column = self._across(y + side * reach)
            draw.line((column, self._behind(z - 0.01), column, self._behind(z + 0.05)), BLACK, width)
        wrist = (
            self._across(y + reach),
            self._behind(z + 0.05),
            self._across(y - reach),
            self._behind(z + 0.05),
        )
        draw.line(wrist, BLACK, width)
        draw.line(
            (self._across(y), self._behind(z + 0.05), self._across(y), self._behind(z + 0.1)), BLACK, width
        )


def _finger_axis(quaternion: np.ndarray) -> np.ndarray:
    """(x, y) of the direction in which the fingers open, the hand's y axis; quaternion xyzw."""
    x, y, z, w = quaternion / max(float(np.linalg.norm(quaternion)), 1e-6)
    return np.array([2 * (x * y - w * z), 1 - 2 * (x * x + z * z)])
