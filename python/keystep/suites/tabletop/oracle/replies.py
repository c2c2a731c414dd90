"""VLM + Oracle: a planner writes every key-step, and the oracle's safe executor runs it.

Source: From Code to Action, section 5.2. A key-step is asked for when the one before has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np

from keystep.code.dialogue import parse_reply
from keystep.code.grammar import CodeError
from keystep.code.grid import GRID
from keystep.suites.tabletop import env_id
from keystep.suites.tabletop.environment import TabletopEnv
from keystep.suites.tabletop.oracle.api import Oracle
from keystep.suites.tabletop.oracle.episodes import OracleEpisode, run

MOST_KEYSTEPS = 64
"""Of an episode; the longest program has fewer than half of them."""
PICTURE, OBJECTS = "observation.images.base", "observation.objects"


class WritesKeysteps(Protocol):
    """A planner that writes code, and remembers what it wrote.

    Attributes:
        image_size: height and width of the picture that it sees, in pixels; None: it sees objects.
    """

    image_size: int | None

    def begin(self, task: str) -> None:
        """A new episode, its task in words."""

    def keystep(self, seen: Mapping[str, np.ndarray]) -> str:
        """What it writes when it is asked for a key-step.

        Args:
            seen: observations of the environment as it is now: `observation.state`, `observation.objects`
                and, where it sees pictures, PICTURE.

        Raises:
            CodeError: it can write none.
        """


OpenPlanner = Callable[[], WritesKeysteps]
"""Picklable: every process has a planner of its own."""


class Replies:
    """`episodes.KeySteps` of a planner, up to one that ends the program, or is no key-step.

    Attributes:
        refused: why no more are run; "" else.
    """

    def __init__(self, planner: WritesKeysteps) -> None:
        self._planner, self.refused = planner, ""

    def __call__(self, oracle: Oracle) -> Iterator[str]:
        self._planner.begin(oracle.env.scenario.prompt)
        for _ in range(MOST_KEYSTEPS):
            try:
                code = self._planner.keystep(seen_now(oracle.env))
                reply = parse_reply(code)
            except CodeError as error:
                self.refused = f"reply: {error.problem}"
                return
            if not reply.keystep:
                self.refused = "reply: expected a key-step, got a comment"
                return
            yield code
            if code.strip() == "done()":
                return
        self.refused = f"reply: expected done() within {MOST_KEYSTEPS} key-steps, got none"


def seen_now(env: TabletopEnv) -> dict[str, np.ndarray]:
    """What an environment shows, with a picture where it has cameras."""
    seen = env.observation()
    return {**seen, PICTURE: env.render()} if env.visible and PICTURE not in seen else seen


def play_replies(env: Any, seed: int, planner: WritesKeysteps, grid: int = GRID) -> tuple[OracleEpisode, str]:
    """An episode of a planner's replies from a reset with `seed`; and why it stopped, "" at its end."""
    env, replies = env.unwrapped, Replies(planner)
    episode = run(env, env.reset(seed=seed)[0], replies, grid=grid)
    return episode, episode.reason or replies.refused


def open_for(task: str, planner: WritesKeysteps | None = None) -> gymnasium.Env:
    """An environment that shows what a planner sees, if there is one; a picture only when it is looked at.

    Raises:
        RuntimeError: pictures are needed on a machine without a Vulkan driver.
    """
    size = planner.image_size if planner else None
    pictures: dict[str, Any] = {} if size is None else {"render_mode": "rgb_array", "image_size": size}
    return gymnasium.make(env_id(task), terminate_on_success=False, **pictures)


def mean_picture(tasks: Sequence[str], seed: int, scenes: int, image_size: int) -> np.ndarray:
    """float32 (H, W, 3), 0 to 255: the mean of the first pictures of so many scenes of each task.

    Raises:
        RuntimeError: on a machine without a Vulkan driver.
    """
    total, count = np.zeros((image_size, image_size, 3)), 0
    for task in tasks:
        env = gymnasium.make(env_id(task), render_mode="rgb_array", image_size=image_size)
        with closing(env):
            for number in range(scenes):
                env.reset(seed=seed + number)
                total += np.asarray(env.render())
                count += 1
    return (total / count).astype(np.float32)


@dataclass
class Blind:
    """Opens the same planner, which sees `picture` whatever is there; one of objects sees none.

    Attributes:
        open_planner: see there.
        picture: float32 (H, W, 3), 0 to 255; None for objects.
    """

    open_planner: OpenPlanner
    picture: np.ndarray | None

    def __call__(self) -> WritesKeysteps:
        return _BlindPlanner(self.open_planner(), self.picture)


class _BlindPlanner:
    def __init__(self, planner: WritesKeysteps, picture: np.ndarray | None) -> None:
        self._planner, self._picture = planner, picture
        self.image_size: int | None = None  # so that nothing is drawn
        self.begin = planner.begin

    def keystep(self, seen: Mapping[str, np.ndarray]) -> str:
        if self._picture is None:
            return self._planner.keystep({**seen, OBJECTS: np.zeros_like(seen[OBJECTS])})
        return self._planner.keystep({**seen, PICTURE: self._picture})
