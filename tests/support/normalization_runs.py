"""Small datasets of two numbers, and what is trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("accelerate", reason="training packages are not installed")
from keystep.data import Column, DatasetReader, DatasetSpec, DatasetWriter
from keystep.train import ControllerTraining, PlannerTraining
from keystep.train.kinds import recipe_of

STATE = "observation.state"


def write_dataset(folder: Path, episodes: list[np.ndarray], unit: float = 1.0, **told: Any) -> Path:
    """Episodes of states (T, 2); actions (T, 2) are `unit` times those, bounded by 10 units."""
    features = {STATE: Column("float32", (2,), ("x", "y")), "action": Column("float32", (2,), ("dx", "dy"))}
    bound = [10.0 * unit] * 2
    action = {"names": ["dx", "dy"], "units": ["m"] * 2, "min": [-value for value in bound], "max": bound}
    action |= {"rate_limit": None, "hold": [0.0] * 2} | told
    with DatasetWriter(folder, DatasetSpec(60, features, {"go": "Go."}, "toy", {"action": action})) as writer:
        for number, states in enumerate(episodes):
            states = states.astype(np.float32)
            writer.add_episode({STATE: states, "action": np.float32(unit) * states}, "go", seed=number)
    return folder


def healthy(episodes: int = 12, length: int = 40, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(-0.1, 0.1, (length, 2)) for _ in range(episodes)]


def flung(dimension: int, values: dict[int, float]) -> list[np.ndarray]:
    """Healthy episodes, in some of which one frame lies far out."""
    episodes = healthy()
    for episode, value in values.items():
        episodes[episode][7, dimension] = value
    return episodes


def config(kind: type, dataset: Path, output: Path, **changes: Any) -> Any:
    settings = dict(
        dataset=dataset, output=output, preset="tiny", steps=2, batch_size=8, device="cpu", threads=1
    )
    if kind is PlannerTraining:
        settings |= dict(steps_per_subgoal=2, latest_start=4)
    return kind(**settings | changes)


def recipe(kind: type, dataset: Path, **changes: Any) -> Any:
    settings = config(kind, dataset, dataset.parent / "run", **changes)
    return recipe_of(settings, DatasetReader(dataset))


def quantile_draft(dataset: Path) -> Any:
    return recipe(ControllerTraining, dataset, normalization=("quantile",)).draft
