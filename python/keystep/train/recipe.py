"""What a trainer needs to know about what it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from keystep.data import DatasetReader
from keystep.models.checkpoint import Checkpoint
from keystep.train.config import ControllerTraining, PlannerTraining, TrainConfig

ACTION, STATE, IMAGES = "action", "observation.state", "observation.images."


class Windows(Protocol):
    """Training examples by index; `batch(indices, rng)` gives raw arrays by key."""

    def __len__(self) -> int: ...
    def batch(self, windows: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]: ...


class Recipe(Protocol):
    """A network and its data.

    Attributes:
        plan: the checkpoint without provenance.
        notes: what was chosen, and what the data look like, to be told before training.
    """

    plan: Checkpoint
    notes: list[str]

    def windows(self, episodes: list[int]) -> Windows:
        """The training examples of some episodes."""

    def prepare(self, arrays: dict[str, np.ndarray], device: Any) -> dict[str, Any]:
        """Raw arrays as the normalised batch that the network's `loss` takes."""

    def save_extras(self, output: Path) -> None:
        """Writes what the checkpoint needs besides the weights."""


def recipe_of(config: TrainConfig, reader: DatasetReader) -> Recipe:
    if isinstance(config, PlannerTraining):
        from keystep.train.planner import PlannerRecipe

        return PlannerRecipe(config, reader)
    from keystep.train.controller import ControllerRecipe

    if not isinstance(config, ControllerTraining):
        raise TypeError(
            f"config: expected ControllerTraining or PlannerTraining, got {type(config).__name__}"
        )
    return ControllerRecipe(config, reader)


def statistics(reader: DatasetReader) -> dict[str, dict[str, Any]]:
    """The dataset's statistics of the policy's keys, one value per dimension or image channel."""
    found: dict[str, dict[str, Any]] = {}
    for key in reader.features:
        if key == ACTION or key.startswith("observation."):
            values = {name: np.asarray(value).reshape(-1) for name, value in reader.stats[key].items()}
            found[key] = {name: values[name].tolist() for name in ("min", "max", "mean", "std")}
            found[key]["count"] = int(values["count"][0])
    return found


def action_spec(reader: DatasetReader) -> dict[str, Any]:
    """As collected; that of a dataset from elsewhere is bounded by what was seen, and zero holds."""
    if "action" in reader.collection:
        return reader.collection["action"]
    feature, seen = reader.features[ACTION], reader.stats[ACTION]
    width = feature.shape[0]
    return {
        "names": list(feature.names or [f"action_{number}" for number in range(width)]),
        "units": [""] * width,
        "min": seen["min"].tolist(),
        "max": seen["max"].tolist(),
        "rate_limit": None,
        "hold": [0.0] * width,
    }


def still_action(action: dict[str, Any]) -> np.ndarray | None:
    """The values that hold the robot, (A,); None where it is the last action that does."""
    hold = action["hold"]
    values = hold if isinstance(hold, list) else hold.get("values")
    return None if values is None else np.asarray(values, np.float32)


def state_entry(reader: DatasetReader) -> dict[str, Any]:
    """The manifest's entry for the state."""
    return {"names": list(reader.features[STATE].names or [])}
