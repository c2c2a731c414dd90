"""A tiny flat policy of random weights, for comparing the ways to compute it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from keystep.models import (
    PRESETS,
    DiffusionConfig,
    SamplerConfig,
    load_policy,
    random_checkpoint,
    save_checkpoint,
)

# Untrained networks amplify rounding more than trained ones; `leading` keeps the sampler from adding to it.
TINY = replace(PRESETS["tiny"], sampler=SamplerConfig(timestep_rule="leading"))


def unit_checkpoint(folder: Path, config: DiffusionConfig, seed: int = 0) -> None:
    """A random policy whose actions are in [-1, 1], as those of Franka-3Blocks: the unit of the tolerance."""
    checkpoint = random_checkpoint(folder, config, seed)
    policy, _ = load_policy(folder)
    unit = {"min": [-1.0] * config.action_dim, "max": [1.0] * config.action_dim}
    stats = checkpoint.stats | {"action": checkpoint.stats["action"] | unit}
    save_checkpoint(folder, replace(checkpoint, stats=stats), policy.state_dict())
