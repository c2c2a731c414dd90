"""A suite with one environment whose states can be kept: a point on a line, which half of all policies solve.

Environment variables change it: LINE_FAILING, tasks that are never solved; LINE_SECONDS, of a step.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from moon_suite import SIDES, Moon

from keystep.data import Column, DatasetSpec
from keystep.suites.base import Frames, Rollout, Source, numbered
from keystep.suites.states import END_STATE, end_state

LIMIT, FAR, WALL = 60, 0.11, 0.2
ENV_ID = "moon/Line-v0"


class LineEnv(gymnasium.Env):
    """Position in metres between two walls, action (3,); solved beyond `FAR` on the task's side."""

    observation_space = gymnasium.spaces.Box(-10, 10, (4,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    simulator = "numbers 1"

    def __init__(self, obs_mode: str = "state") -> None:
        self.obs_mode, self.task, self.x, self.steps = obs_mode, "Left", 0.0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.x = float(self.np_random.uniform(-0.1, 0.1))
        return self.set_task((options or {}).get("task", self.task))

    def set_task(self, task: str) -> Any:
        self.task, self.steps = task, 0
        return self._observation(), {"success": False}

    def step(self, action: np.ndarray) -> Any:
        time.sleep(float(os.environ.get("LINE_SECONDS", "0")))
        self.steps += 1
        self.x = float(np.clip(self.x + 0.1 * float(action[0]), -WALL, WALL))
        failing = os.environ.get("LINE_FAILING", "").split(",")
        success = self.x * SIDES[self.task] > FAR and self.task not in failing
        return self._observation(), 0.0, False, self.steps >= LIMIT, {"success": success}

    def get_state(self) -> dict[str, np.ndarray]:
        return {"x": np.array(self.x)}

    def set_state(self, state: dict[str, np.ndarray]) -> Any:
        self.x = float(state["x"])
        return self.set_task(self.task)

    def _observation(self) -> dict[str, np.ndarray]:
        return {"observation.state": np.array([self.x, SIDES[self.task], 0, 0], np.float32)}


def open_demonstrations() -> Rollout:
    SUITE.register()
    env: Any = gymnasium.make(ENV_ID, disable_env_checker=True).unwrapped

    def rollout(task: str, seed: int) -> Frames | None:
        seen, _ = env.reset(seed=seed, options={"task": task})
        frames: dict[str, list[np.ndarray]] = {"observation.state": [], "action": []}
        for _ in range(8):
            frames["observation.state"].append(seen["observation.state"])
            frames["action"].append(np.array([SIDES[task], 0, 0], np.float32))
            seen, *_ = env.step(frames["action"][-1])
        return {key: np.stack(values) for key, values in frames.items()} | {
            "extras": {END_STATE: end_state(env)}
        }

    return rollout


class Line(Moon):
    name = "line"
    env_id = ENV_ID

    def register(self) -> None:
        if ENV_ID not in gymnasium.registry:
            gymnasium.register(ENV_ID, "moon.line:LineEnv")

    def source(
        self, tasks: Sequence[str] | None, seed: int, obs_mode: str, image_size: int, **options: Any
    ) -> Source:
        first_seeds = numbered(self, tasks, seed)
        features: Mapping[str, Column] = {
            "observation.state": Column("float32", (4,), ("a", "b", "c", "d")),
            "action": Column("float32", (3,), ("x", "y", "z")),
        }
        told = {task: self.instruction(task) for task in first_seeds}
        made = {"suite": "moon.line", "env_id": ENV_ID, "seed": seed}
        spec = DatasetSpec(10, features, told, "point", made, (END_STATE,))
        return Source(spec, open_demonstrations, first_seeds, self.seed_stride)


SUITE = Line()
