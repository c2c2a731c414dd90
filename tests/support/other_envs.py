"""Environments as others write them: nothing of keystep's own names, options or limits."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

LENGTH = 6
IMAGE = np.full((6, 8, 3), 7, np.uint8)
STATE = np.linspace(-0.5, 0.5, 4)  # float64


class Plain(gymnasium.Env):
    """A Box observation, no options, no attribute of a limit; ends by itself after LENGTH steps."""

    observation_space = gymnasium.spaces.Box(-1, 1, (4,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)

    def __init__(self, size: int = 1, label: Any = None) -> None:
        self.size, self.label = size, label

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        self.options = options
        return self.observation(), {}

    def step(self, action: np.ndarray) -> Any:
        assert action.shape == (3,)
        self.steps += 1
        return self.observation(), 0.0, *self.ends(), self.info()

    def ends(self) -> tuple[bool, bool]:
        return self.steps == LENGTH, False

    def observation(self) -> Any:
        return STATE.copy()

    def info(self) -> dict[str, Any]:
        return {"is_success": np.float32(self.steps >= self.size)}


class Silent(Plain):
    """No word of success; `terminated` from a seed on."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.good = seed is not None and seed % 2 == 0
        return super().reset(seed=seed, options=options)

    def ends(self) -> tuple[bool, bool]:
        over = self.steps == LENGTH
        return over and self.good, over and not self.good

    def info(self) -> dict[str, Any]:
        return {"distance": 0.5}


class Endless(Plain):
    """Never ends, never succeeds."""

    def ends(self) -> tuple[bool, bool]:
        return False, False

    def info(self) -> dict[str, Any]:
        return {"success": False, "strange": "maybe", "reached": np.array([True])}


class Scored(Plain):
    """Its "success" is a score; has a limit, so that what an evaluation costs is measured first."""

    max_episode_steps = LENGTH

    def info(self) -> dict[str, Any]:
        return {"success": 0.4, "solved": self.steps == LENGTH}


class Climber(Plain):
    """Solved at the third step or, from odd seeds, never; what it measures is greatest at the second."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.good = seed is not None and seed % 2 == 0
        return super().reset(seed=seed, options=options)

    def info(self) -> dict[str, Any]:
        height = np.array([4.0 if self.steps == 2 else 1.0]) - self.good
        return {"is_success": self.good and self.steps == 3, "height": height, "name": "hill"}


class Dicts(Plain):
    """LeRobot's names, two cameras of different sizes, one nested and one not contiguous."""

    def observation(self) -> Any:
        wrist = np.full((4, 4, 3), 9, np.uint8)
        return {"agent_pos": STATE.astype(np.float32), "pixels": {"static": IMAGE[::-1], "wrist": wrist}}


class OneCamera(Plain):
    """Gymnasium-Robotics' names, and a picture."""

    def observation(self) -> Any:
        return {"observation": STATE.copy(), "desired_goal": np.zeros(3), "image": IMAGE}


class Buttons(Plain):
    action_space = gymnasium.spaces.Discrete(2)  # type: ignore[assignment]


for _env in (Plain, Silent, Endless, Scored, Climber, Dicts, OneCamera, Buttons):
    gymnasium.register(f"Other{_env.__name__}-v0", entry_point=_env)
gymnasium.register("OtherLimited-v0", entry_point=Endless, max_episode_steps=5)
gymnasium.register("OtherLost-v0", entry_point="no_such_module:Env")
