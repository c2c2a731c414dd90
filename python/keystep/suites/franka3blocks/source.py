"""The scripted expert on Franka-3Blocks as a source of demonstrations."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import keystep
from keystep.data.layout import Column, DatasetError, image_column
from keystep.data.spec import DatasetSpec
from keystep.suites.base import Frames, Rollout, Source, Suite, attempt, check_settings, numbered
from keystep.suites.franka3blocks.layout import CUBES
from keystep.suites.franka3blocks.tasks import TASKS, BlockTask
from keystep.suites.states import END_STATE, SUCCESS_STATE

IMAGE_SIZES = range(1, 16385)  # the environment has no limit; Mesa's Vulkan drivers have this one


@dataclass(frozen=True)
class Perturbation:
    """How demonstrations differ from the plain expert; arguments of `keystep.record.collect.collect`."""

    expert_noise: tuple[float, ...]
    frames_after_success: int | None
    wander_frames: int
    record: Literal["expert", "executed"]
    stack_aligned_m: float
    chained: int
    held: int

    def after(self, task: BlockTask, number: int) -> str:
        """The task that attempt `number` begins after; "": it begins at a reset."""
        if task.cube is not None and task.direction and _due(number, self.held):
            return f"lift_{CUBES[task.cube]}"
        return "another" if _due(number, self.chained) else ""


def _due(number: int, every: int) -> bool:
    """Of attempts counted from 0 the last of each `every`; 0: none."""
    return every > 0 and number % every == every - 1


def franka3blocks_source(
    suite: Suite,
    tasks: Sequence[str] | None,
    seed: int,
    obs_mode: str,
    image_size: int,
    *,
    env_id: str,
    expert_noise: tuple[float, ...],
    frames_after_success: int | None,
    wander_frames: int,
    record: Literal["expert", "executed"],
    stack_aligned_m: float,
    chained: int,
    held: int,
) -> Source:
    """The scripted expert on Franka-3Blocks as a source of demonstrations; see `keystep.record.collect`."""
    from keystep.suites.franka3blocks import layout
    from keystep.suites.franka3blocks.registered import needs_driver

    if record not in ("expert", "executed"):
        raise DatasetError(f"record: expected expert or executed, got {record!r}")
    if not expert_noise or min(expert_noise) < 0:
        raise DatasetError(f"expert_noise: expected values of at least 0, got {expert_noise}")
    if not 0 < stack_aligned_m <= layout.STACK_OFFSET_M:
        wanted = f"above 0, at most {layout.STACK_OFFSET_M} (the most a stack may have)"
        raise DatasetError(f"stack_aligned_m: expected {wanted}, got {stack_aligned_m}")
    for name, value in {"chained": chained, "held": held}.items():
        if value < 0:
            raise DatasetError(f"{name}: expected 0 (none) or more, got {value}")
    perturbation = Perturbation(
        tuple(expert_noise), frames_after_success, wander_frames, record, stack_aligned_m, chained, held
    )
    try:
        draws = needs_driver(env_id)
    except keystep.ArgumentError as error:
        raise DatasetError(str(error)) from None
    check_settings(seed, obs_mode, image_size, IMAGE_SIZES, draws)
    first_seeds = numbered(suite, tasks, seed)
    features = {"observation.state": Column("float32", (len(layout.STATE_NAMES),), layout.STATE_NAMES)}
    if "rgb" in obs_mode:
        features["observation.images.static"] = image_column(image_size, image_size)
    features["action"] = Column("float32", (len(layout.ACTION_NAMES),), layout.ACTION_NAMES)
    action = {
        "names": list(layout.ACTION_NAMES),
        "units": list(layout.ACTION_UNITS),
        "min": layout.ACTION_LOW.tolist(),
        "max": layout.ACTION_HIGH.tolist(),
        "rate_limit": None,
        "hold": layout.ACTION_HOLD.tolist(),
        "law": list(layout.ACTION_LAW),
    }
    how = {
        "env_id": env_id,
        "obs_mode": obs_mode,
        "seed": seed,
        "expert_noise": list(perturbation.expert_noise),
        "frames_after_success": perturbation.frames_after_success,
        "wander_frames": perturbation.wander_frames,
        "record": perturbation.record,
        "stack_aligned_m": perturbation.stack_aligned_m,
        "action": action,
    }
    for name, value in {"chained": chained, "held": held}.items():
        if value:  # datasets without are what they were, and go on
            how[name] = value
    instructions = {name: TASKS[name].instruction for name in first_seeds}
    return Source(
        DatasetSpec(
            layout.CONTROL_RATE_HZ, features, instructions, "franka_panda", how, (END_STATE, SUCCESS_STATE)
        ),
        functools.partial(
            open_simulator, env_id, obs_mode, image_size, seed, suite.seed_stride, perturbation
        ),
        first_seeds,
        suite.seed_stride,
    )


def open_simulator(
    env_id: str,
    obs_mode: str,
    image_size: int,
    first_seed: int,
    seed_stride: int,
    perturbation: Perturbation,
) -> Rollout:
    """Make the environment and return the rollout function on it."""
    import gymnasium

    import keystep.suites.franka3blocks  # noqa: F401  registers the environment
    from keystep.suites.franka3blocks.demonstrations import DEMONSTRATION_FRAMES, rollout_expert

    # Perturbed experts may need longer; episodes that end at success can afford it.
    limit = DEMONSTRATION_FRAMES if perturbation.frames_after_success is None else 2 * DEMONSTRATION_FRAMES

    def rollout(task: str, seed: int) -> Frames | None:
        number = attempt(seed - first_seed, seed_stride)
        noise = perturbation.expert_noise[number % len(perturbation.expert_noise)]
        return rollout_expert(
            env,
            task,
            seed,
            limit,
            noise,
            perturbation.frames_after_success,
            perturbation.wander_frames,
            perturbation.record,
            perturbation.stack_aligned_m,
            perturbation.after(TASKS[task], number),
        )

    env = gymnasium.make(env_id, obs_mode=obs_mode, image_size=image_size)
    return rollout
