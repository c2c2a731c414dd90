"""How the hand moves: straight lines with bounded speed and acceleration, over whatever stands in the way.

The hand always points down. Positions are of the grasp target between the finger tips, in metres in the
world frame; yaw is about the vertical, 0 when the fingers close along y.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial.transform import Rotation

from keystep.suites.tabletop import layout
from keystep.suites.tabletop.environment import TabletopEnv

PERIOD_S = 1 / layout.CONTROL_RATE_HZ
OPEN, CLOSED = 1.0, -1.0
FAST_M_S, SLOW_M_S = 0.9, 0.25
ACCELERATION_M_S2 = 6.0
BRAKING_M_S2 = 4.0
TURN_RAD_S = 4.0
AT_M, AT_RAD = 0.003, 0.03
VIA_M = 0.03
"""A way-point is passed at this distance."""
STALLED_STEPS = 6
STALLED_M = 5e-4
WRIST_RANGE_RAD = 2.75
"""To either side of the middle; the joint's limit is 2.897."""
UPRIGHT = Rotation.from_rotvec([np.pi, 0.0, 0.0])
OnStep = Callable[[dict[str, np.ndarray], np.ndarray], None]


class OutOfTime(Exception):
    """The call's or the episode's time is over."""


class Interrupted(Exception):
    """Raised by whoever is told of a control step, before it: the call that runs ends here, as asked."""


class Failure(Exception):
    """A call cannot do what it was asked; the text says why."""


class Motion:
    """Drives the hand of an environment.

    Args:
        env: reset; its episode is played.
        observation: what `reset` returned.
        on_step: told what was seen and what is done, before every control step; may raise Interrupted.
    """

    def __init__(self, env: TabletopEnv, observation: dict[str, np.ndarray], on_step: OnStep | None) -> None:
        self.env = env
        self.observation = observation
        self.gripper = OPEN
        self.steps = 0
        self._on_step = on_step
        self._limit = np.inf
        self._velocity = np.zeros(3)

    def allow(self, steps: int) -> None:
        """From now on, at most so many control steps."""
        self._limit = self.steps + steps

    # ---- where it is

    @property
    def position(self) -> np.ndarray:
        """(3,)"""
        return self.env.simulation.hand_pose()[0]

    @property
    def yaw(self) -> float:
        """Of the hand, radians; counted on beyond a half turn as the wrist's joint does."""
        x_axis = Rotation.from_quat(self.env.simulation.hand_pose()[1]).apply([1.0, 0.0, 0.0])
        joints = self.env.simulation.arm.qpos
        about = joints[0] + joints[2] + np.pi / 4 - joints[6]
        return float(about + wrap(np.arctan2(x_axis[1], x_axis[0]) - about))

    # ---- moves

    def step(self, velocity: np.ndarray, turn: np.ndarray | None = None) -> None:
        """One control step at a velocity (3,) in m/s, with a rotation vector (3,) in rad.

        Raises:
            OutOfTime: before the step, when there is no time left for it.
        """
        env = self.env
        if self.steps >= self._limit or env.elapsed_steps >= env.max_episode_steps:
            raise OutOfTime
        action = np.zeros(7)
        action[:3] = velocity * PERIOD_S / layout.POSITION_SCALE_M
        action[3:6] = (self.turn(self.yaw) if turn is None else turn) / layout.ROTATION_SCALE_RAD
        action[6] = self.gripper
        sent = action.clip(-1, 1).astype(np.float32)
        if self._on_step is not None:
            self._on_step(self.observation, sent)
        self.observation = env.step(sent)[0]
        self._velocity = np.asarray(velocity, dtype=np.float64)
        self.steps += 1

    def wait(self, steps: int) -> None:
        for _ in range(steps):
            self.step(np.zeros(3))

    def grip(self, gripper: float, steps: int = 4) -> None:
        self.gripper = gripper
        self.wait(steps)

    def go(
        self,
        position: np.ndarray,
        yaw: float | None = None,
        speed: float = FAST_M_S,
        within: float = AT_M,
        until: Callable[[], bool] | None = None,
    ) -> bool:
        """Straight to a position, turning on the way; False when it is stopped, by something or by `until`.

        Args:
            position: (3,)
            yaw: None keeps the present one.
            speed: m/s at most.
            within: how near is there; the hand does not slow down for VIA_M and more.
            until: ends the move, asked after every step.
        """
        wanted_yaw = self.yaw if yaw is None else yaw
        best, stalled = np.inf, 0
        while True:
            error = position - self.position
            distance = float(np.linalg.norm(error))
            turning = abs(wanted_yaw - self.yaw)
            if distance <= within and turning <= max(AT_RAD, 10 * (within - AT_M)):
                return True
            stalled = 0 if distance + 0.1 * turning < best - STALLED_M else stalled + 1
            best = min(best, distance + 0.1 * turning)
            if stalled >= STALLED_STEPS:
                return False
            self.step(self._approach(error, distance, speed, within), self.turn(wanted_yaw))
            if until is not None and until():
                return False

    def _approach(self, error: np.ndarray, distance: float, speed: float, within: float) -> np.ndarray:
        """The next velocity towards `error`: braking in time, or not at all at a way-point."""
        braking = np.sqrt(2 * BRAKING_M_S2 * distance) if within < VIA_M else np.inf
        wanted = error / max(distance, 1e-9) * min(speed, braking, distance / PERIOD_S)
        change = wanted - self._velocity
        size = float(np.linalg.norm(change))
        return self._velocity + change * min(1.0, ACCELERATION_M_S2 * PERIOD_S / max(size, 1e-9))

    def turn(self, yaw: float) -> np.ndarray:
        """The rotation vector of a step towards a yaw, which also undoes any tilt."""
        now = Rotation.from_quat(self.env.simulation.hand_pose()[1])
        step = np.clip(yaw - self.yaw, -TURN_RAD_S * PERIOD_S, TURN_RAD_S * PERIOD_S)
        goal = Rotation.from_rotvec([0.0, 0.0, self.yaw + step]) * UPRIGHT
        return (goal * now.inv()).as_rotvec()


def wrist_middle(position: np.ndarray) -> float:
    """The yaw of the hand there with the wrist's joint in the middle of its range."""
    return float(np.arctan2(position[1], position[0]) + np.pi / 4)


def reachable_yaw(yaw: float, position: np.ndarray) -> float | None:
    """The same yaw, perhaps a full turn more or less, that the wrist can have there; None if it cannot."""
    middle = wrist_middle(position)
    nearest = middle + wrap(yaw - middle)
    return float(nearest) if abs(nearest - middle) <= WRIST_RANGE_RAD else None


def wrap(angle: float) -> float:
    """To -pi .. pi."""
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
