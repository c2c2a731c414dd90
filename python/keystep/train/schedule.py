"""The learning rate as a function of the step."""

from __future__ import annotations

import math

from keystep.train.config import TrainConfig


def learning_rate(config: TrainConfig, step: int) -> float:
    """Rate of optimiser step `step`, from 0: linear warm-up, then constant or half a cosine to 0."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
