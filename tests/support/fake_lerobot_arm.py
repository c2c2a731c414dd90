"""A robot for LeRobot's tools: it is at once where it is told to be, and its camera sees where that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from lerobot.robots.config import RobotConfig
from lerobot.robots.robot import Robot

SIDE, REACH = 96, 512.0
JOINTS = ("x.pos", "y.pos")


@RobotConfig.register_subclass("fake_arm")
@dataclass
class FakeArmConfig(RobotConfig):
    pass


class FakeArm(Robot):
    config_class = FakeArmConfig
    name = "fake_arm"

    def __init__(self, config: FakeArmConfig) -> None:
        super().__init__(config)
        self.cameras = {"top": None}
        self._place = dict.fromkeys(JOINTS, REACH / 2)
        self._connected = False

    log: ClassVar[list[tuple[dict[str, Any], dict[str, Any]]]] = []
    """What it showed, and was told then."""
    observation_features = {**dict.fromkeys(JOINTS, float), "top": (SIDE, SIDE, 3)}  # noqa: RUF012
    action_features = dict.fromkeys(JOINTS, float)
    is_calibrated = True

    @property
    def is_connected(self) -> bool:
        return self._connected

    def connect(self, calibrate: bool = True) -> None:
        self._connected = True

    def calibrate(self) -> None: ...

    def configure(self) -> None: ...

    def get_observation(self) -> dict[str, Any]:
        picture = np.full((SIDE, SIDE, 3), 200, np.uint8)
        column, row = (int(np.clip(self._place[name] / REACH, 0, 0.9) * SIDE) for name in JOINTS)
        picture[row : row + 8, column : column + 8] = (30, 60, 90)
        self._shown = {**self._place, "top": picture}
        return self._shown

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        self.log.append((self._shown, action))
        self._place = {name: float(np.clip(action[name], 0, REACH)) for name in JOINTS}
        return action

    def disconnect(self) -> None:
        self._connected = False
