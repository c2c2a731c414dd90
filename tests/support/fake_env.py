"""Without simulator and bundle: an environment that the stub of conftest.py can act in, and a planner."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from stub_bundle import state_entry

import keystep
import keystep.latency
from keystep.evaluate.parallel import Played
from keystep.evaluate.report import EvaluationReport, task_report
from keystep.evaluate.settings import EpisodeResult, Evaluation, Job

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

    def set_task(self, task: str) -> Any:
        """The next task from here: the same limit again."""
        self.total, self.steps = 0.0, 0
        self.info = {"task": task, "success": False}
        return self._observation(), self.info

    def step(self, action: np.ndarray) -> Any:
        self.total += float(action[0])
        self.steps += 1
        self.info["success"] = self.total > self.limit
        return self._observation(), 0.0, self.info["success"], self.steps == self.max_episode_steps, self.info

    def render(self) -> np.ndarray:
        return np.full((8, 8, 3), self.steps, np.uint8)

    def _observation(self) -> dict[str, np.ndarray]:
        image = np.full((6, 8, 3), self.steps, np.uint8)
        return {
            "observation.state": self.state,
            "observation.images.static": image,
            "observation.extra": np.zeros(1, np.float32),
        }


gymnasium.register("keystep-test/Reach-v0", entry_point=ReachEnv)


TASKS = ("lift_red", "lift_green", "push_red_left", "stack")


class FakeHierarchy:
    """A subgoal policy without a bundle: M = 3 subgoals, n = 2 actions each, with the surface of Runtime.

    The first action value is constant within an episode and drawn from (seed, episode): some tasks are solved
    within the limit of ReachEnv and some are not. `resets` keeps what `reset` was given.
    """

    SUBGOALS, STEPS = 3, 2

    def __init__(self, shift: float = 0.0, fault_at: int = -1) -> None:
        self.manifest = {
            "name": "fake",
            "family": "subgoal",
            "goal": "text",
            "tasks": [{"name": name, "instruction": f"Do {name}."} for name in TASKS],
            "observation": [state_entry()],
            "action": {"names": ["x", "y", "z"]},
            "planner": {
                "subgoal": "observation.state",
                "subgoals": self.SUBGOALS,
                "steps_per_subgoal": self.STEPS,
            },
        }
        self.resets: list[dict[str, Any]] = []
        self.observations: list[np.ndarray] = []
        self.shift, self.fault_at = shift, fault_at

    def reset(self, task: str | None = None, *, seed: int = 0, episode: int = 0, **options: Any) -> None:
        self.resets.append({"task": task, "seed": seed, "episode": episode, **options})
        self.strength = np.random.default_rng((seed, episode)).uniform(0.1, 1.0) + self.shift
        self.ticks = 0

    def act(self, observation: dict[str, Any]) -> np.ndarray:
        if self.ticks == self.fault_at:
            raise keystep.PolicyError("rejected_plan")
        self.observations.append(observation["observation.state"])
        self.ticks += 1
        return np.full(3, self.strength, np.float32)

    def plan(self) -> dict[str, np.ndarray] | None:
        return {"observation.state": np.arange(self.SUBGOALS * 4, dtype=np.float32).reshape(-1, 4)}

    @property
    def plan_progress(self) -> dict[str, int]:
        done = self.ticks - 1
        plan, within = divmod(done, self.SUBGOALS * self.STEPS)
        return {"plans": plan + 1, "subgoal": within // self.STEPS, "actions": within % self.STEPS + 1}

    def reset_latency(self) -> None: ...

    def latency(self) -> keystep.LatencyReport:
        planned = (self.ticks - 1) % (self.SUBGOALS * self.STEPS) == 0
        plan = keystep.latency.StageLatency(int(planned), 7000.0, *[7000.0] * 5)
        tick = keystep.latency.StageLatency(1, 500.0, *[500.0] * 5)
        fields: dict[str, Any] = dict.fromkeys(keystep.LatencyReport.__dataclass_fields__, 0)
        fields |= {"engine": "fake", "engine_choices": [], "stages": {"plan": plan, "tick": tick}}
        return keystep.LatencyReport(**fields)


def made_up_report(solved: dict[str, list[bool | None]], seeds: tuple[int, ...] = (0,)) -> EvaluationReport:
    """A report of these episodes (None: skipped), for each seed alike; the last of several solves nothing."""
    episodes = len(next(iter(solved.values())))
    evaluation = Evaluation(ENV_ID, tuple(solved), episodes, 0, noise_seeds=seeds)
    results = [
        EpisodeResult(
            Job(seed, episode, (task,)),
            int(bool(ok) and (seed != seeds[-1] or len(seeds) == 1)),
            10 + episode,
            skipped=ok is None,
        )
        for seed in seeds
        for task, outcomes in solved.items()
        for episode, ok in enumerate(outcomes)
    ]
    return task_report(evaluation, Played(results, 1.0))
