"""The scripted expert on Franka-3Blocks as a source of demonstrations."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from keystep.data.layout import DatasetError, Feature, image_feature
from keystep.data.spec import DatasetSpec
from keystep.record.source import Source, check_settings
from keystep.record.workers import Frames, Rollout

IMAGE_SIZES = range(1, 16385)  # the environment has no limit; Mesa's Vulkan drivers have this one


@dataclass(frozen=True)
class Perturbation:
    """How demonstrations differ from the plain expert; arguments of `keystep.record.collect.collect`."""

    expert_noise: tuple[float, ...]
    frames_after_success: int | None
    wander_frames: int
    record: Literal["expert", "executed"] = "expert"


def franka3blocks_source(
    env_id: str,
    tasks: Sequence[str] | None,
    seed: int,
    obs_mode: str,
    image_size: int,
    perturbation: Perturbation,
) -> Source:
    """The scripted expert on Franka-3Blocks as a source of demonstrations."""
    from keystep.suites.franka3blocks import TASKS, layout

    check_settings(seed, obs_mode, image_size, IMAGE_SIZES)
    names = list(TASKS) if tasks is None else list(tasks)
    for name in names:
        if name not in TASKS:
            raise DatasetError(f"tasks: expected some of {', '.join(TASKS)}, got {name!r}")
    features = {"observation.state": Feature("float32", (len(layout.STATE_NAMES),), layout.STATE_NAMES)}
    if obs_mode == "rgb":
        features["observation.images.static"] = image_feature(image_size, image_size)
    features["action"] = Feature("float32", (len(layout.ACTION_NAMES),), layout.ACTION_NAMES)
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
        "action": action,
    }
    instructions = {name: TASKS[name].instruction for name in names}
    return Source(
        DatasetSpec(layout.CONTROL_RATE_HZ, features, instructions, "franka_panda", how),
        functools.partial(open_simulator, env_id, obs_mode, image_size, seed, perturbation),
        {name: seed + list(TASKS).index(name) for name in names},
        len(TASKS),
    )


def open_simulator(
    env_id: str,
    obs_mode: str,
    image_size: int,
    first_seed: int,
    perturbation: Perturbation,
) -> Rollout:
    """Make the environment and return the rollout function on it."""
    import gymnasium

    from keystep.suites.franka3blocks import TASKS  # also registers the environment
    from keystep.suites.franka3blocks.demonstrations import DEMONSTRATION_FRAMES, rollout_expert

    # Perturbed experts may need longer; episodes that end at success can afford it.
    limit = DEMONSTRATION_FRAMES if perturbation.frames_after_success is None else 2 * DEMONSTRATION_FRAMES

    def rollout(task: str, seed: int) -> Frames | None:
        attempt = (seed - first_seed) // len(TASKS)
        noise = perturbation.expert_noise[attempt % len(perturbation.expert_noise)]
        ending, wander = perturbation.frames_after_success, perturbation.wander_frames
        return rollout_expert(env, task, seed, limit, noise, ending, wander, perturbation.record)

    env = gymnasium.make(env_id, obs_mode=obs_mode, image_size=image_size)
    return rollout
