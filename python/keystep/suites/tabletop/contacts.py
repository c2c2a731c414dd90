"""Who touches whom, from PhysX's contact list."""

from __future__ import annotations

from typing import Any

import numpy as np

from keystep.suites.tabletop import layout

CONTACT_DISTANCE_M = 1e-3
GRASP_FORCE_N = 0.5
OPPOSED = -0.5  # cosine of the angle between the forces of the two fingers


class Contacts:
    """Contacts of a `TabletopSimulation`: pairs during the control step, forces in its last simulation step.

    The bodies of the scenario are named by their numbers, fingers ("finger", 0) and ("finger", 1), the other
    links of the robot "arm", the table "table", and everything else, the floor and the scale, "other".
    """

    def __init__(self, simulation: Any) -> None:
        self._physics = simulation.scene.px
        self._links = list(simulation.arm.links)  # kept, for their ids are their names
        self._names: dict[int, Any] = {id(link): "arm" for link in self._links}
        self._names |= {id(finger): ("finger", number) for number, finger in enumerate(simulation.fingers)}
        self._names |= {id(body): number for number, body in enumerate(simulation.bodies)}
        self._names[id(simulation.table)] = "table"
        self.begin_step()

    def begin_step(self) -> None:
        self._pairs: set[tuple[Any, Any]] = set()
        self._forces: dict[tuple[Any, Any], np.ndarray] = {}

    def note(self, last: bool) -> None:
        """After a simulation step; forces are those of the last one of a control step."""
        for contact in self._physics.get_contacts():
            points = contact.points
            near = any(point.separation < CONTACT_DISTANCE_M for point in points)
            impulse = None if near and not last else sum(point.impulse for point in points)
            # What bounces off between two steps is near in neither, but has been pushed.
            if not near and not np.any(impulse):
                continue
            first, second = (self._names.get(id(body), "other") for body in contact.bodies)
            self._pairs |= {(first, second), (second, first)}
            if last and impulse is not None:
                force = impulse * layout.SIMULATION_RATE_HZ
                self._forces[first, second] = self._forces.get((first, second), 0.0) + force
                self._forces[second, first] = self._forces.get((second, first), 0.0) - force

    def touching(self, first: Any, second: Any) -> bool:
        """At any time during the control step."""
        return (first, second) in self._pairs

    def partners(self, body: int) -> set[Any]:
        return {second for first, second in self._pairs if first == body}

    def rests(self, body: int) -> bool:
        """Something that is not the robot touches it."""
        return any(partner != "arm" and not isinstance(partner, tuple) for partner in self.partners(body))

    def force_n(self, on: Any, by: Any) -> np.ndarray:
        """(3,) force on the first by the second."""
        return self._forces.get((on, by), np.zeros(3))

    def grasped(self, body: int) -> bool:
        """The fingers press on it from two sides; not when both push it, or when it is touched from above."""
        first, second = (self.force_n(body, ("finger", number)) for number in (0, 1))
        strengths = np.linalg.norm(first), np.linalg.norm(second)
        opposed = first @ second < OPPOSED * strengths[0] * strengths[1]
        return bool(min(strengths) >= GRASP_FORCE_N and opposed)
