"""Without a simulator: an arm that adds up relative actions. For the policy of `stub_bundle`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

ENDLESS, SHORT = "fake_arm:keystep-test/Endless-v0", "fake_arm:keystep-test/Short-v0"
SHORT_STEPS = 30


class FakeArmEnv(gymnasium.Env):
    """Sees where it is and how many steps it took; solved after `steps` of them, if not None."""

    def __init__(self, steps: int | None = None) -> None:
        self._limit = steps
        self.action_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self._place, self._steps = np.zeros(3, np.float32), 0
        return self._observation(), {"success": False}

    def step(self, action: np.ndarray) -> Any:
        self._place += action
        self._steps += 1
        success = self._steps == self._limit
        return self._observation(), 0.0, success, False, {"success": success}

    def _observation(self) -> dict[str, np.ndarray]:
        return {
            "observation.state": np.append(self._place, np.float32(self._steps)).astype(np.float32),
            "observation.images.static": np.full((6, 8, 3), self._steps % 256, np.uint8),
        }


gymnasium.register(ENDLESS.partition(":")[2], entry_point=FakeArmEnv)
gymnasium.register(SHORT.partition(":")[2], entry_point=FakeArmEnv, kwargs={"steps": SHORT_STEPS})
