"""An episode with its plans: what was imagined, what was reached, and where the time went."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import keystep
from keystep.evaluate.environments import ObservationReader
from keystep.evaluate.rollout import reads_text, steps
from keystep.suites.base import Pictures

Picture = np.ndarray
"""uint8 (height, width, 3)"""


@dataclass
class Plan:
    """One plan.

    Attributes:
        start: what was seen when it was made.
        subgoals: what was imagined, M pictures.
        reached: what was seen when the actions of a subgoal were used up, or when the episode ended.
        ms: time to make it.
    """

    start: Picture
    subgoals: list[Picture]
    reached: list[Picture] = field(default_factory=list)
    ms: float = 0.0


@dataclass(frozen=True)
class Tick:
    """One action.

    Attributes:
        observation: what was seen before it; drawn only when it is shown.
        plan: index of the plan it belongs to.
        subgoal: index of the subgoal within the plan.
        action: number of the action towards this subgoal, from 1.
        stages_ms: time of each stage of the tick.
    """

    observation: dict[str, Any]
    plan: int
    subgoal: int
    action: int
    stages_ms: dict[str, float]


@dataclass
class Recording:
    task: str
    seed: int
    plans: list[Plan] = field(default_factory=list)
    ticks: list[Tick] = field(default_factory=list)
    success: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Timings, without pictures."""
        return {
            "task": self.task,
            "seed": self.seed,
            "success": self.success,
            "actions": len(self.ticks),
            "plans_ms": [plan.ms for plan in self.plans],
            "ticks": [
                {"plan": t.plan, "subgoal": t.subgoal, "action": t.action, "stages_ms": t.stages_ms}
                for t in self.ticks
            ],
        }


def record(
    policy: keystep.Runtime,
    env: Any,
    pictures: Pictures,
    task: str,
    seed: int,
    noise_seed: int | None = None,
    **reset_options: Any,
) -> Recording:
    """Play one episode, as an evaluation's episode 0 from this seed.

    Args:
        noise_seed: of the policy; `seed` when None.
        reset_options: more for `policy.reset`, such as `episode`.

    Raises:
        ArgumentError: the policy has no planner.
        PolicyError: the policy failed.
    """
    if not reads_text(policy.manifest):
        raise keystep.ArgumentError(f"family: expected subgoal, got {policy.manifest['family']!r}")
    recorder = _Recorder(policy, pictures, Recording(task, seed))
    read = ObservationReader(policy.manifest)
    observation, _ = env.reset(seed=seed, options={"task": task})
    policy.reset(task=task, seed=seed if noise_seed is None else noise_seed, **reset_options)
    last = deque(steps(recorder.act, env, read, observation), maxlen=1).pop()
    recorder.finish(read(last.observation), bool(last.success()))
    return recorder.recording


class _Recorder:
    """Notes every tick; the plan's progress before and after tells what the tick did."""

    def __init__(self, policy: keystep.Runtime, pictures: Pictures, recording: Recording) -> None:
        self._policy, self._pictures, self.recording = policy, pictures, recording
        self._subgoal = 0

    def act(self, observation: dict[str, Any]) -> np.ndarray:
        self._policy.reset_latency()
        action = self._policy.act(observation)
        stages = self._policy.latency().stages
        stages_ms = {name: stage.mean_us * stage.count / 1e3 for name, stage in stages.items() if stage.count}
        progress = self._policy.plan_progress
        plans = self.recording.plans
        planned = progress["plans"] > len(plans)
        if plans and (planned or progress["subgoal"] != self._subgoal):
            plans[-1].reached.append(self._pictures.seen(observation))
        if planned:
            plan = self._policy.plan()
            assert plan is not None
            start = self._pictures.seen(observation)
            plans.append(Plan(start, self._pictures.imagined(plan), ms=stages_ms.get("plan", 0.0)))
        self._subgoal = progress["subgoal"]
        tick = Tick(observation, len(plans) - 1, self._subgoal, progress["actions"], stages_ms)
        self.recording.ticks.append(tick)
        return action

    def finish(self, observation: dict[str, Any], success: bool) -> None:
        self.recording.plans[-1].reached.append(self._pictures.seen(observation))
        self.recording.success = success
