"""What predicates see: the bodies after a control step (`scenario.World`)."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from keystep.envs.tabletop.objects import Body

GRAVITY_M_S2 = 9.81


class SimulatedWorld:
    """A view of a `TabletopSimulation` as it is now; good until the next step."""

    def __init__(self, simulation: Any, bodies: tuple[Body, ...]) -> None:
        self.bodies = bodies
        self._simulation = simulation
        self._contacts = simulation.contacts
        self.positions, self.quaternions = simulation.poses()

    @cached_property
    def _speeds(self) -> tuple[np.ndarray, np.ndarray]:
        return self._simulation.speeds()

    @property
    def speeds(self) -> np.ndarray:
        return self._speeds[0]

    @property
    def turns(self) -> np.ndarray:
        return self._speeds[1]

    def grasped(self, body: int) -> bool:
        return self._contacts.grasped(body)

    def touched(self, body: int) -> bool:
        return any(
            partner == "arm" or isinstance(partner, tuple) for partner in self._contacts.partners(body)
        )

    def touching(self, first: int, second: int) -> bool:
        return self._contacts.touching(first, second)

    def on_ground(self, body: int) -> bool:
        return self._contacts.touching(body, "ground")

    def free(self, body: int) -> bool:
        return not self._contacts.partners(body)

    def carried_n(self, upper: int, lower: int) -> float:
        return float(self._contacts.force_n(upper, lower)[2])

    def weight_n(self, body: int) -> float:
        return float(self._simulation.bodies[body].mass) * GRAVITY_M_S2

    def scale_angle_rad(self) -> float:
        return self._scale().angle_rad()

    def scale_turn_rad_s(self) -> float:
        return self._scale().turn_rad_s()

    def _scale(self) -> Any:
        if self._simulation.scale is None:
            raise ValueError("scale: expected a scene with one, got none")
        return self._simulation.scale
