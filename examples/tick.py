"""Loads a bundle and ticks it: a whole control loop. Twin of cpp/examples/tick.cpp.

    python examples/tick.py BUNDLE [--task NAME] [--ticks N]

The observation is the mean of the training data and grey images; a robot would put its sensors here.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

import keystep
from keystep.features import Feature


def mean_observation(manifest: dict[str, Any]) -> dict[str, np.ndarray]:
    return {
        entry["key"]: mean_of(Feature.from_dict(entry), entry["normalization"])
        for entry in manifest["observation"]
    }


def mean_of(feature: Feature, stats: dict[str, Any]) -> np.ndarray:
    if feature.dtype == "uint8":
        return np.full(feature.shape, 128, np.uint8)
    mean = {
        "mean_std": lambda: np.array(stats["mean"]),
        "min_max": lambda: (np.array(stats["min"]) + np.array(stats["max"])) / 2,
        "quantile": lambda: (np.array(stats["low"]) + np.array(stats["high"])) / 2,
        "identity": lambda: np.zeros(1),
    }[stats["mode"]]()
    return np.broadcast_to(mean, feature.shape).astype(np.float32)


def main(bundle: Annotated[Path, tyro.conf.Positional], task: str | None = None, ticks: int = 100) -> None:
    """Tick a bundle.

    Args:
        bundle: its folder.
        task: what the robot is told; the bundle's first task when not given.
        ticks: control periods, as fast as they go.
    """
    with keystep.load(bundle) as policy:
        print(f"{policy.manifest['name']}: {policy.description}")
        observation = mean_observation(policy.manifest)
        goal = observation if policy.manifest["goal"] == "observation" else None
        policy.reset(task=task or next(iter(policy.task_names), None), goal=goal)
        for tick in range(ticks):
            action = policy.act(observation)
            if tick < 3:
                print(f"tick {tick} ok:", *(f"{value:.6f}" for value in action))
        print(policy.latency())


if __name__ == "__main__":
    tyro.cli(main)
