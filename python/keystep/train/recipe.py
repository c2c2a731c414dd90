"""What a trainer needs to know about what it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from keystep.data import Dataset
from keystep.models.checkpoint import Checkpoint
from keystep.models.text import TextEncoder
from keystep.train.actions import ACTION


class Windows(Protocol):
    """Training examples by index.

    `batch(indices, rng)` gives raw arrays by key, `tasks()` the number of each one's task.
    """

    def __len__(self) -> int: ...
    def tasks(self) -> np.ndarray: ...
    def batch(self, windows: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]: ...


class Recipe(Protocol):
    """A network and its data.

    Attributes:
        draft: the checkpoint without provenance.
        notes: what was chosen where the dataset leaves a choice, and what its numbers look like, to be told
            before training.
        text_encoder: of a planner.
    """

    draft: Checkpoint
    notes: list[str]

    @property
    def text_encoder(self) -> TextEncoder | None: ...

    def windows(self, episodes: list[int]) -> Windows:
        """The training examples of some episodes."""

    def prepare(self, arrays: dict[str, np.ndarray], device: Any) -> dict[str, Any]:
        """Raw arrays as the normalised batch that the network's `loss` takes."""

    def save_extras(self, output: Path) -> None:
        """Writes what the checkpoint needs besides the weights."""


def statistics(reader: Dataset) -> dict[str, dict[str, Any]]:
    """The dataset's statistics of the policy's keys, one value per dimension or image channel."""
    found: dict[str, dict[str, Any]] = {}
    for key, feature in reader.features.items():
        measured = (feature.is_number and not feature.is_depth) or feature.is_image
        if measured and (key == ACTION or key.startswith("observation.")):
            values = {name: np.asarray(value).reshape(-1) for name, value in reader.stats[key].items()}
            found[key] = {name: values[name].tolist() for name in ("min", "max", "mean", "std")}
            found[key]["count"] = int(values["count"][0])
    return found
