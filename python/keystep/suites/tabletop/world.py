"""What predicates see: the bodies after a control step (`scenario.World`)."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from keystep.suites.tabletop import layout
from keystep.suites.tabletop.objects import Body


class SimulatedWorld:
    """A view of a `TabletopSimulation` as it is now; good until the next step.

    Speeds are those of the control step: what the solver calls velocity is noise for some resting bodies.

    Args:
        before: the view one control step earlier; None at the very beginning.
    """

    def __init__(
        self, simulation: Any, bodies: tuple[Body, ...], before: SimulatedWorld | None = None
    ) -> None:
        self.bodies = bodies
        self._simulation = simulation
        self._contacts = simulation.contacts
        self.positions, self.quaternions = simulation.poses()
        self._angle = simulation.scale.angle_rad() if simulation.scale else None
        self._last_angle = before._angle if before else self._angle
        self._last = (before.positions, before.quaternions) if before else simulation.poses()

    @cached_property
    def speeds(self) -> np.ndarray:
        moves = np.linalg.norm(self.positions - self._last[0], axis=1)
        return moves * layout.CONTROL_RATE_HZ

    @cached_property
    def turns(self) -> np.ndarray:
        w, x = self.quaternions[:, :1], self.quaternions[:, 1:]
        last_w, last_x = self._last[1][:, :1], self._last[1][:, 1:]
        # The vector part of the turn's quaternion: its real part, near 1, has no digits for small angles.
        sines = np.linalg.norm(last_w * x - w * last_x - np.cross(last_x, x), axis=1)
        return 2 * np.arcsin(np.clip(sines, 0, 1)) * layout.CONTROL_RATE_HZ

    def grasped(self, body: int) -> bool:
        return self._contacts.grasped(body)

    def touched(self, body: int) -> bool:
        return any(
            partner == "arm" or isinstance(partner, tuple) for partner in self._contacts.partners(body)
        )

    def touching(self, first: int, second: int) -> bool:
        return self._contacts.touching(first, second)

    def on_ground(self, body: int) -> bool:
        return self._contacts.touching(body, "table")

    def free(self, body: int) -> bool:
        return not self._contacts.partners(body)

    def carried_n(self, upper: int, lower: int) -> float:
        return float(self._contacts.force_n(upper, lower)[2])

    def weight_n(self, body: int) -> float:
        return float(self._simulation.bodies[body].mass) * layout.GRAVITY_M_S2

    def scale_angle_rad(self) -> float:
        if self._angle is None:
            raise ValueError("scale: expected a scene with one, got none")
        return self._angle

    def scale_turn_rad_s(self) -> float:
        now = self.scale_angle_rad()
        return (now - (self._last_angle or 0.0)) * layout.CONTROL_RATE_HZ
