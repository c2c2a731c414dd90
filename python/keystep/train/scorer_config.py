"""Settings of the training of a scorer of plans. Importing this module needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class ScorerTraining:
    """Train a scorer of plans on sets of tried ones. It takes a minute, and begins anew each time."""

    dataset: tuple[Path, ...]
    """Folders written by keystep.record.plans_tried."""
    planner: Path
    """Checkpoint of the planner whose plans it will score: its text encoder and normalisation."""
    output: Path
    """Checkpoint folder."""
    steps: int = 3000
    """Optimiser steps; the best weights on held-out contexts are kept."""
    batch_size: int = 256
    """Plans per step."""
    learning_rate: float = 1e-3
    """Peak rate of AdamW, which falls to 0 by a cosine."""
    weight_decay: float = 1e-2
    """Of AdamW."""
    hidden: tuple[int, ...] = (256, 128)
    """Widths of the layers."""
    dropout: float = 0.2
    """Of the hidden values."""
    noise: float = 0.02
    """Standard deviation of noise on observation and plan, normalised."""
    val_fraction: float = 0.2
    """Share of the contexts held out."""
    validate_every: int = 100
    """Steps between looks at the held-out contexts."""
    seed: int = 0
    """Of the weights, the split, the batches and the noise."""
    threads: int = 0
    """CPU threads of torch; 0 leaves its default."""
    device: Literal["cpu"] = "cpu"
    """It is small."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "weight_decay", "noise"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: expected a finite number from 0, got {getattr(self, name)}")
        if not 0 < self.val_fraction < 1:
            raise ValueError(f"val_fraction: expected more than 0 and less than 1, got {self.val_fraction}")
