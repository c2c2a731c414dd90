"""Settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class TrainConfig:
    """Everything a training run depends on; the same values on the same machine give the same weights."""

    dataset: Path
    """LeRobotDataset v3.0 folder."""
    output: Path
    """Checkpoint folder, new or to be continued."""
    preset: str = "small"
    """Size of the policy, a key of keystep.models.PRESETS."""
    condition: Literal["task", "goal", "none"] = "task"
    """What the policy is told besides the observation."""
    steps: int = 20_000
    """Optimiser steps in total."""
    batch_size: int = 256
    """Windows per step."""
    learning_rate: float = 1e-4
    """Peak rate of AdamW."""
    warmup_steps: int = 500
    """Steps of linear warm-up."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after the warm-up; cosine ends at 0 after `steps`."""
    weight_decay: float = 1e-6
    """Of AdamW."""
    gradient_clip: float = 1.0
    """Largest gradient norm."""
    ema_decay: float = 0.999
    """Decay of the averaged weights, the ones exported; warms up as 1 - (1 + step)^-ema_power."""
    ema_power: float = 0.75
    """Exponent of the warm-up of the average; 0 for none."""
    chunk_lengths: tuple[int, int] = (4, 8)
    """With goals: shortest and longest number of actions between observation and goal."""
    val_fraction: float = 0.05
    """Share of the episodes held out for the validation loss."""
    val_windows: int = 2048
    """Windows of the held-out episodes used for it."""
    seed: int = 0
    """Of the weights, the split, the batches and the noise."""
    device: Literal["auto", "cpu"] = "auto"
    """`auto` takes a GPU if there is one."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    """Passed to accelerate."""
    threads: int = 0
    """CPU threads of torch; 0 leaves its default. Take fewer than the cores when other programs compute: the
    threads wait for each other in busy loops, and one that is not running stops them all."""
    log_every: int = 100
    """Steps between rows of curves.csv."""
    checkpoint_every: int = 2000
    """Steps between checkpoints, each with the validation loss and a new curves.png."""
    resume: bool = True
    """Continue the run in `output`; when false there must not be one."""
    cache: Path | None = None
    """Folder for the memory-mapped columns; see keystep.data.cache."""

    def __post_init__(self) -> None:
        positive = (
            "steps",
            "batch_size",
            "learning_rate",
            "gradient_clip",
            "val_windows",
            "log_every",
            "checkpoint_every",
        )
        for name in positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        for name in ("warmup_steps", "weight_decay", "ema_power", "threads", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected at least 0, got {getattr(self, name)}")
        for name in ("ema_decay", "val_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: expected [0, 1), got {getattr(self, name)}")


FREE_ON_RESUME = frozenset(
    {"output", "dataset", "steps", "device", "threads", "log_every", "checkpoint_every", "resume", "cache"}
)
"""Fields that may change when a run is resumed (the dataset may move; its digest must not change)."""
