"""What a task is to the rest of keystep: a scene to build, a prompt, and when it is solved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from keystep.suites.tabletop.objects import Body


class World(Protocol):
    """What predicates see after every control step (1/20 s). Bodies are numbered as in `Scenario.bodies`."""

    bodies: tuple[Body, ...]
    """As the scenario placed them: their things, sizes and first poses."""
    positions: np.ndarray
    """(N, 3) centres, metres."""
    quaternions: np.ndarray
    """(N, 4) orientations, wxyz."""

    @property
    def speeds(self) -> np.ndarray:
        """(N,) m/s."""

    @property
    def turns(self) -> np.ndarray:
        """(N,) rad/s."""

    def grasped(self, body: int) -> bool:
        """Both fingers press on it."""

    def touched(self, body: int) -> bool:
        """Hand or fingers touch it."""

    def touching(self, first: int, second: int) -> bool:
        """The two bodies were in contact at some time during the control step."""

    def on_ground(self, body: int) -> bool:
        """It touches the table."""

    def free(self, body: int) -> bool:
        """Nothing touches it."""

    def carried_n(self, upper: int, lower: int) -> float:
        """Upward force in newtons with which `lower` carries `upper`."""

    def weight_n(self, body: int) -> float: ...

    def scale_angle_rad(self) -> float:
        """Of the beam, 0 when level; ValueError in a scene without a scale."""

    def scale_turn_rad_s(self) -> float: ...


class Predicate(Protocol):
    """Tells whether a task is solved. May remember: it belongs to one episode and sees every step once."""

    def begin(self, world: World) -> None:
        """The start of the episode, after the bodies have settled."""

    def update(self, world: World) -> bool:
        """After a control step; whether it holds."""


@dataclass(frozen=True)
class Scenario:
    """One episode's scene and goal.

    Attributes:
        bodies: at most layout.MAX_BODIES; the index is the body's number everywhere.
        roles: what the task's predicate and program call the bodies, such as "A" -> 0; a role of several
            bodies is a tuple.
        prompt: the task in words.
        predicate: fresh, for this episode.
        parameters: whatever else the program needs: an angle, a direction.
        scale: a balance scale stands on the table; its plates are the bodies of kind "plate".
    """

    bodies: tuple[Body, ...]
    roles: Mapping[str, int | tuple[int, ...]]
    prompt: str
    predicate: Predicate
    parameters: Mapping[str, Any] = field(default_factory=dict)
    scale: bool = False

    def name(self, body: int) -> str:
        return self.bodies[body].thing.name


@dataclass(frozen=True)
class Task:
    """One task of the suite.

    Attributes:
        name: as in the paper's table, such as "PickPlaceOnTop".
        level: 0, 1 or 2.
        max_steps: time limit in control steps.
        build: a scenario from a random generator; equal generators give equal scenarios.
        differs: how it differs from ClevrSkills' task of this name; "" when only sizes do.
    """

    name: str
    level: int
    max_steps: int
    build: Callable[[np.random.Generator], Scenario]
    differs: str = ""
