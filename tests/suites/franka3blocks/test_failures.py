"""Kinds of failure, on trajectories that are made for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from keystep.suites import suite_named
from keystep.suites.franka3blocks import layout
from keystep.suites.franka3blocks.failures import FAILURE_KINDS, HELD_STEPS, failure_of, held_cubes
from keystep.suites.franka3blocks.tasks import TASKS, BlockState

START = {"red": (0.45, 0.05), "green": (0.5, -0.05), "blue": (0.55, 0.05)}
OPEN, CLOSED, ON_CUBE = 0.04, 0.0, 0.024
Z = layout.CUBE_START_Z_M


class Film:
    """An episode, moved by hand: the hand goes about, and takes along the cube that it holds."""

    def __init__(self) -> None:
        self.cubes = np.array([(*START[name], Z) for name in layout.CUBES])
        self.hand, self.finger = np.array(layout.NEUTRAL_HAND_M), OPEN
        self.held: int | None = None
        self.states = [self._state()]

    def _state(self) -> np.ndarray:
        state = np.zeros(len(layout.STATE_NAMES), np.float32)
        state[layout.HAND_POSITION] = self.hand
        state[layout.CUBE_POSITIONS] = self.cubes.ravel()
        state[layout.FINGER] = self.finger
        return state

    def go(self, x: float, y: float, z: float, steps: int = 10) -> Film:
        way = (np.array([x, y, z]) - self.hand) / steps
        for _ in range(steps):
            self.hand = self.hand + way
            if self.held is not None:
                self.cubes[self.held] += way
            self.states.append(self._state())
        return self

    def wait(self, steps: int = 8) -> Film:
        self.states += [self._state() for _ in range(steps)]
        return self

    def grasp(self, name: str) -> Film:
        cube = layout.CUBES.index(name)
        self.go(*self.cubes[cube])
        self.held, self.finger = cube, ON_CUBE
        return self.wait()

    def let_go(self, **falls: float) -> Film:
        """`z`: where the cube comes to rest."""
        assert self.held is not None
        self.finger = OPEN
        self.cubes[self.held, 2] = falls.get("z", Z)
        self.held = None
        return self.wait()

    def move(self, name: str, x: float, y: float, z: float = 0.0) -> Film:
        """A cube alone."""
        self.cubes[layout.CUBES.index(name)] += (x, y, z)
        return self.wait()

    def by(self, x: float, y: float, z: float) -> Film:
        return self.go(*(self.hand + np.array([x, y, z])))

    def over(self, name: str, off: float = 0.0) -> Film:
        x, y, z = self.cubes[layout.CUBES.index(name)]
        return self.go(x + off, y, z + 0.06)


FILMS: dict[str, tuple[str, Film, str]] = {
    "nothing at all": ("lift_red", Film().wait(), "no grasp"),
    "closed beside it": ("lift_red", Film().go(0.35, 0.05, Z), "no grasp"),
    "nudged, never held": ("lift_red", Film().move("red", 0.03, 0), "no grasp"),
    "another one held": ("lift_red", Film().grasp("blue").by(0, 0, 0.15), "wrong cube"),
    "another one pushed": ("push_red_left", Film().grasp("green").by(0, 0.1, 0), "wrong cube"),
    "lost at 5 cm": ("lift_red", Film().grasp("red").by(0, 0, 0.05).let_go(), "dropped"),
    "held at 5 cm": ("lift_red", Film().grasp("red").by(0, 0, 0.05), "time out"),
    "carried away": ("lift_red", Film().grasp("red").by(0, -0.12, 0.05).by(0, 0, 0.1), "off target"),
    "to the right": ("push_red_left", Film().grasp("red").by(0, -0.1, 0), "wrong side"),
    "to the left": ("push_red_right", Film().grasp("red").by(0, 0.1, 0), "wrong side"),
    "halfway": ("push_red_left", Film().grasp("red").by(0, 0.04, 0).let_go(), "dropped"),
    "halfway, held": ("push_red_left", Film().grasp("red").by(0, 0.04, 0), "time out"),
    "through the air": ("push_red_left", Film().grasp("red").by(0, 0, 0.06).by(0, 0.1, 0), "off target"),
    "flung": ("push_red_left", Film().grasp("red").by(0, 0, 0.02).move("red", 0.5, 0), "off the table"),
    "fallen": ("stack", Film().move("blue", 0, 0, -0.1), "off the table"),
    "not touched": ("stack", Film().wait(), "no grasp"),
    "lost before": ("stack", Film().grasp("red").by(0, 0, 0.08).let_go(), "dropped"),
    "fell off": ("stack", Film().grasp("red").by(0, 0, 0.1).over("green", 0.03).let_go(), "placed off"),
    "never let go": ("stack", Film().grasp("red").by(0, 0, 0.1).over("green"), "time out"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILMS)
def test_kinds_of_failure(name: str) -> None:
    task, film, kind = FILMS[name]
    assert failure_of(TASKS[task], np.stack(film.states)) == kind
    assert kind in FAILURE_KINDS


@pytest.mark.parametrize("name", FILMS)
def test_these_are_failures(name: str) -> None:
    """Else what a kind says of them would not be asked."""
    task, film, _ = FILMS[name]
    scenes = [BlockState(state[layout.CUBE_POSITIONS].reshape(3, 3)) for state in film.states]
    assert not any(TASKS[task].success(scenes[0], scene) for scene in scenes)


def test_every_kind_is_met() -> None:
    assert {kind for _, _, kind in FILMS.values()} == set(FAILURE_KINDS)


def test_fingers_that_close_on_nothing_hold_nothing() -> None:
    """They pass the width of a cube in less steps than a grasp lasts, wherever the hand is."""
    count = 2 * HELD_STEPS
    cubes = np.zeros((count, 3, 3))
    cubes[:, 1:] = 1.0
    hand = np.zeros((count, 3))
    closing = np.linspace(OPEN, CLOSED, count)
    assert not held_cubes(hand, cubes, closing).any()
    holding = np.where(np.arange(count) < HELD_STEPS, ON_CUBE, OPEN)
    assert held_cubes(hand, cubes, holding)[:, 0].tolist() == [True] * HELD_STEPS + [False] * HELD_STEPS
    assert not held_cubes(hand, cubes, holding)[:, 1:].any()


def test_the_suite_tells_them_from_observations() -> None:
    suite: Any = suite_named("franka3blocks")
    film = Film().grasp("red").by(0, 0, 0.05)
    seen = [{"observation.state": state} for state in film.states]
    assert suite.failure("lift_red", seen) == "time out"
    assert suite.failure_kinds == FAILURE_KINDS
