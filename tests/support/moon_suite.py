"""A third suite, as somebody else would write it: a point that is to reach one side of a line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import gymnasium
import numpy as np

from keystep.data import Column, DatasetSpec
from keystep.suites.base import (
    TASK,
    Demonstrator,
    Frames,
    Pictures,
    Rollout,
    Source,
    check_settings,
    numbered,
)

SIDES = {"Left": -1.0, "Right": 1.0}
LIMIT = 40


class MoonEnv(gymnasium.Env):
    """One of the two tasks: position (2,) in metres, action (3,), solved beyond 0.5 m on the task's side."""

    observation_space = gymnasium.spaces.Box(-10, 10, (4,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)

    def __init__(self, task: str = "Left", obs_mode: str = "state") -> None:
        self.task, self.obs_mode = task, obs_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        assert not options
        self.steps, self.x = 0, float(self.np_random.uniform(-0.1, 0.1))
        return self.observation(), {}

    def step(self, action: np.ndarray) -> Any:
        self.steps += 1
        self.x += 0.1 * float(action[0])
        success = self.x * SIDES[self.task] > 0.5
        return self.observation(), 0.0, success, self.steps >= LIMIT, {"success": success}

    def observation(self) -> np.ndarray:
        return np.array([self.x, SIDES[self.task], 0, 0], np.float32)


def open_demonstrations() -> Rollout:
    def rollout(task: str, seed: int) -> Frames | None:
        env = MoonEnv(task)
        seen, _ = env.reset(seed=seed)
        frames: dict[str, list[np.ndarray]] = {"observation.state": [], "action": []}
        done = False
        while not done:
            action = np.array([SIDES[task], 0, 0], np.float32)
            frames["observation.state"].append(seen)
            frames["action"].append(action)
            seen, _, done, _, _ = env.step(action)
        return {key: np.stack(values) for key, values in frames.items()}

    return rollout


class Moon:
    name = "moon_suite"
    tasks: Mapping[str, int] = {"Left": 0, "Right": 1}
    seed_stride = 2
    env_id = f"moon/Side{TASK}-v0"
    collect_options: frozenset[str] = frozenset()
    held_out_kinds: tuple[str, ...] = ("any",)

    def register(self) -> None:
        for task in self.tasks:
            env_id = self.env_id.replace(TASK, task)
            if env_id not in gymnasium.registry:
                gymnasium.register(env_id, "moon_suite:MoonEnv", kwargs={"task": task})

    def instruction(self, task: str) -> str:
        return f"Go to the {task.lower()}."

    def source(
        self, tasks: Sequence[str] | None, seed: int, obs_mode: str, image_size: int, **options: Any
    ) -> Source:
        assert not options
        check_settings(seed, obs_mode, image_size, range(1, 1000))
        first_seeds = numbered(self, tasks, seed)
        features = {
            "observation.state": Column("float32", (4,), ("a", "b", "c", "d")),
            "action": Column("float32", (3,), ("x", "y", "z")),
        }
        told = {task: self.instruction(task) for task in first_seeds}
        spec = DatasetSpec(10, features, told, "point", {"suite": "moon.suite", "seed": seed})
        return Source(spec, open_demonstrations, first_seeds, self.seed_stride)

    def phrasings(self, task: str) -> tuple[str, ...]:
        return (self.instruction(task),)

    def held_out(self, task: str) -> tuple[str, ...]:
        return (f"{task}, please.",)

    def meaning(self, task: str) -> dict[str, int]:
        return {"side": list(SIDES).index(task)}

    def demonstrator(self, env: Any, planner: dict[str, Any]) -> Demonstrator:
        raise AssertionError

    def pictures(
        self, make_env: Callable[[dict[str, Any]], Any], subgoal: str
    ) -> AbstractContextManager[Pictures]:
        raise AssertionError


SUITE = Moon()
