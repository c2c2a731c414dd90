"""A dataset small enough to train on in a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from keystep.data import Column, DatasetSpec, DatasetWriter, image_column

TASKS = {"left": "Go left.", "right": "Go right."}


def write_dataset(
    path: Path,
    episodes: int = 6,
    length: int = 20,
    image: bool = False,
    tasks: dict[str, str] = TASKS,
) -> Path:
    """Walks whose action is a smooth function of state and task, so that a small network can fit it."""
    features = {
        "observation.state": Column("float32", (2,), ("x", "constant")),
        "action": Column("float32", (3,), ("dx", "dy", "constant")),
    }
    if image:
        features["observation.images.static"] = image_column(32, 32)
    action = {"names": ["dx", "dy", "constant"], "units": ["m"] * 3, "min": [-1.0] * 3, "max": [1.0] * 3}
    action |= {"rate_limit": None, "hold": [0.0] * 3}
    with DatasetWriter(path, DatasetSpec(60, features, tasks, "toy", {"action": action})) as writer:
        for number in range(episodes):
            rng = np.random.default_rng(number)
            direction = (-1, 1)[number % 2]
            x = rng.uniform(-0.2, 0.2) + direction * np.linspace(0, 1, length)
            frames = {
                "observation.state": np.stack([x, np.ones(length)], 1).astype(np.float32),
                "action": np.stack([direction * np.cos(x), np.sin(x), np.zeros(length)], 1).astype(
                    np.float32
                ),
            }
            if image:
                frames["observation.images.static"] = rng.integers(
                    0, 256, (length, 32, 32, 3), dtype=np.uint8
                )
            writer.add_episode(frames, list(tasks)[number % 2], seed=number)
    return path
