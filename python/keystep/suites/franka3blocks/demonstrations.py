"""Demonstrations: episodes of the scripted expert in the form training wants them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import gymnasium
import numpy as np

from keystep.suites.franka3blocks.expert import STACK_ALIGNED_M, SUCCESS_FRAMES, ScriptedExpert
from keystep.suites.franka3blocks.tasks import TASKS, BlockTask
from keystep.suites.states import END_STATE, SUCCESS_STATE, end_state

DEMONSTRATION_FRAMES = 64  # HD-ExpIt, D0


def rollout_expert(
    env: gymnasium.Env,
    task: str,
    seed: int,
    max_frames: int = DEMONSTRATION_FRAMES,
    noise: float = 0.0,
    frames_after_success: int | None = None,
    wander_frames: int = 0,
    record: Literal["expert", "executed"] = "expert",
    stack_aligned_m: float = STACK_ALIGNED_M,
    after: str = "",
) -> dict[str, Any] | None:
    """One demonstration; None when the expert fails within `max_frames`, or throws a cube away.

    Without `frames_after_success` it is one of HD-ExpIt's D0: more than 5 frames of success, then the arm is
    on its way home, and what was stacked still stands at the end. Whether it has arrived there is not asked:
    a late success leaves it a few of the last frames, and the hand up to some centimetres away.

    Args:
        env: Franka-3Blocks, wrapped or not (its limit and its end at success do not apply here).
        task: a key of TASKS.
        seed: of the environment and of the expert.
        max_frames: length T of the episode, or its limit with `frames_after_success`.
        noise: standard deviation of Gaussian noise on the executed movement (not the gripper).
        frames_after_success: end the episode so many frames after the first success. None: go on to
            `max_frames`, while the arm is on its way to neutral. A flat policy must not see that: the neutral
            pose at the end, where the arm rests, looks like the one at the start, where it must move.
        wander_frames: for a random number of first frames, at most this, the hand drifts in a random
            direction whatever the expert says. Its approach takes only four frames from one fixed pose; so it
            is seen from everywhere, and with it which cube the task means.
        record: which action the episode keeps. "expert": what the expert would do in that state, although
            something else was done, which shows a policy how to recover (DART, Laskey et al. 2017).
            "executed": what led to the next observation, which planners and goal-conditioned controllers
            learn from; the wandering frames, which lead nowhere, are then left out.
        stack_aligned_m: offset at which a cube is let go on another. The original's is the most that a stack
            may have, which leaves whoever imitates it no room.
        after: begin where the expert has just solved this task, with a cube in the hand perhaps, as a policy
            does that is given one task after the other. Nothing wanders then. "another": any other than
            `task`. "": begin at the reset.

    Returns:
        `observation.*`: (T, ...) what was seen before each action; `action`: float32 (T, 7); `success`:
        bool (T,) after each action; `success_step`: index of the first success; `extras`: the states at the
        end and at the first success, see `keystep.suites.states`.
    """
    world: Any = env.unwrapped
    rng = np.random.default_rng((seed, 1))
    wandering, drift = int(rng.integers(wander_frames, endpoint=True)), rng.uniform(-1, 1, 3)
    if after:
        wandering = 0
        first = str(rng.choice([name for name in TASKS if name != task])) if after == "another" else after
        if not _solve(world, first, seed):
            return None
        observation, _ = world.set_task(task)
    else:
        observation, _ = world.reset(seed=seed, options={"task": task})
    expert = ScriptedExpert(world, seed, stack_aligned_m)
    executes = record == "executed"
    observations: dict[str, list[np.ndarray]] = {key: [] for key in observation}
    actions, success = [], []
    solved = None
    for frame in range(max_frames + (wandering if executes else 0)):
        action = expert.act()
        executed = action.copy()
        executed[:6] += noise * rng.standard_normal(6)
        if frame < wandering:
            executed[:3] = drift
        executed = executed.clip(-1, 1)
        kept = frame >= wandering or not executes
        if kept:
            for key, value in observation.items():
                observations[key].append(value)
            actions.append(executed if executes else action)
        observation, _, _, _, info = world.step(executed)
        if kept:
            success.append(info["success"])
            if info["success"] and solved is None:
                solved = end_state(world)
        if frames_after_success is not None and any(success[: len(success) - frames_after_success]):
            break
        if not world.intact:
            return None
    if not any(success):
        return None
    if frames_after_success is None and not complete(world.task, success, expert.going_home):
        return None
    return {
        **{key: np.stack(values) for key, values in observations.items()},
        "action": np.stack(actions),
        "success": np.array(success),
        "success_step": int(np.argmax(success)),
        "extras": {END_STATE: end_state(world), SUCCESS_STATE: solved},
    }


def _solve(world: Any, task: str, seed: int) -> bool:
    """Up to the first success."""
    world.reset(seed=seed, options={"task": task})
    expert = ScriptedExpert(world, seed)
    for _ in range(2 * DEMONSTRATION_FRAMES):
        world.step(expert.act())
        if world.success or not world.intact:
            break
    return bool(world.success and world.intact)


def complete(task: BlockTask, success: Sequence[bool], going_home: bool) -> bool:
    """Whether an episode is one of D0: held for more than 5 frames, then going home; a stack still stands."""
    return going_home and sum(success) > SUCCESS_FRAMES and (task.family != "stack" or success[-1])
