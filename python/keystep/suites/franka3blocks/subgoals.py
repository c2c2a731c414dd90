"""Ground-truth subgoals: what the scripted expert passes through from the same reset."""

from __future__ import annotations

from typing import Any

import numpy as np

import keystep


class ExpertSubgoals:
    """The expert in an environment of its own. Same seed, same reset: bit for bit (`Franka3BlocksEnv.reset`).

    Args:
        env: Franka-3Blocks, with the observations the policy is given.
        planner: the manifest's "planner".
    """

    def __init__(self, env: Any, planner: dict[str, Any]) -> None:
        self._env = env
        self._key = planner["subgoal"]
        self._ahead = planner["steps_per_subgoal"] * np.arange(1, planner["subgoals"] + 1)

    def subgoals(self, task: str, seed: int) -> dict[str, np.ndarray] | None:
        """M subgoals as `Runtime.reset` wants them; None when the expert fails from this reset."""
        from keystep.suites.franka3blocks.demonstrations import rollout_expert
        from keystep.suites.franka3blocks.expert import STACK_CENTRED_M

        try:
            demonstration = rollout_expert(self._env, task, seed, stack_aligned_m=STACK_CENTRED_M)
        except AttributeError as error:
            expected = "an environment that the scripted expert knows"
            raise keystep.ArgumentError(
                f"ground_truth: expected {expected}, got {self._env} ({error})"
            ) from error
        if demonstration is None:
            return None
        frames = demonstration[self._key]
        # As planners are trained (keystep.data.plans): every n frames, then the last one again.
        return {self._key: np.ascontiguousarray(frames[np.minimum(self._ahead, len(frames) - 1)])}

    def close(self) -> None:
        self._env.close()
