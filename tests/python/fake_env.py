"""A Gymnasium environment without a simulator that the stub bundle of conftest.py can act in."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

ENV_ID = "fake_env:keystep-test/Reach-v0"


class ReachEnv(gymnasium.Env):
    """Solved when the sum of the first action values passes a limit drawn from the seed; 20 steps at most."""

    max_episode_steps = 20

    def __init__(self, obs_mode: str, image_size: int = 0) -> None:
        shape = (6, 8, 3)
        self.observation_space = gymnasium.spaces.Dict(
            {
                "observation.state": gymnasium.spaces.Box(-1, 1, (4,), np.float32),
                "observation.images.static": gymnasium.spaces.Box(0, 255, shape, np.uint8),
                "observation.extra": gymnasium.spaces.Box(-1, 1, (1,), np.float32),
            }
        )
        self.action_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.limit = self.np_random.uniform(0, 12)
        self.total, self.steps = 0.0, 0
        self.state = self.np_random.uniform(-1, 1, 4).astype(np.float32)
        assert options is not None
        self.info = {"task": options["task"], "success": False}
        return self._observation(), self.info

    def step(self, action: np.ndarray) -> Any:
        self.total += float(action[0])
        self.steps += 1
        self.info["success"] = self.total > self.limit
        return self._observation(), 0.0, self.info["success"], self.steps == self.max_episode_steps, self.info

    def _observation(self) -> dict[str, np.ndarray]:
        image = np.full((6, 8, 3), self.steps, np.uint8)
        return {
            "observation.state": self.state,
            "observation.images.static": image,
            "observation.extra": np.zeros(1, np.float32),
        }


gymnasium.register("keystep-test/Reach-v0", entry_point=ReachEnv)
