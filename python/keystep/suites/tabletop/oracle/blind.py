"""A planner that does not see: what its figures are beside those with sight, sight is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import gymnasium
import numpy as np

from keystep.suites.tabletop import env_id
from keystep.suites.tabletop.oracle.replies import PICTURE, OpenPlanner, WritesCode, Written

OBJECTS = "observation.objects"


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

    def __call__(self) -> WritesCode:
        return _BlindPlanner(self.open_planner(), self.picture)


class _BlindPlanner:
    def __init__(self, planner: WritesCode, picture: np.ndarray | None) -> None:
        self._planner, self._picture = planner, picture
        self.image_size: int | None = None  # so that nothing is drawn
        self.begin, self.prepare = planner.begin, planner.prepare

    def write(self, seen: Mapping[str, np.ndarray], request: bool = True) -> Written:
        if self._picture is None:
            return self._planner.write({**seen, OBJECTS: np.zeros_like(seen[OBJECTS])}, request)
        return self._planner.write({**seen, PICTURE: self._picture}, request)
