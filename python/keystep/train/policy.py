"""From a dataset to a policy: the only file of training that knows both."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keystep.data import DatasetReader
from keystep.models.checkpoint import Checkpoint, camera_entry
from keystep.models.config import PRESETS, CameraConfig
from keystep.train.config import TrainConfig

ACTION, STATE, IMAGES = "action", "observation.state", "observation.images."


def plan(config: TrainConfig, reader: DatasetReader) -> Checkpoint:
    """What the dataset and the settings say about the policy: the checkpoint without provenance.

    Raises:
        ValueError: no such preset, or the dataset has nothing to condition on.
    """
    if config.preset not in PRESETS:
        raise ValueError(f"preset: expected one of {', '.join(PRESETS)}, got {config.preset!r}")
    state = reader.features.get(STATE)
    cameras = tuple(
        CameraConfig(key.removeprefix(IMAGES), *reader.features[key].shape[:2]) for key in reader.image_keys
    )
    policy = dataclasses.replace(
        PRESETS[config.preset],
        action_dim=reader.features[ACTION].shape[0],
        state_dim=state.shape[0] if state else 0,
        cameras=cameras,
        goal="observation" if config.condition == "goal" else "none",
        tasks=len(reader.tasks) if config.condition == "task" else 0,
    )
    return Checkpoint(
        config=policy,
        stats=statistics(reader),
        tasks=reader.tasks if config.condition == "task" else [],
        action=reader.collection.get("action") or unnamed_action(reader),
        observation={
            "state": {"names": list(state.names or [])} if state else None,
            "images": [camera_entry(camera) for camera in cameras],
        },
        control_rate_hz=float(reader.info["fps"]),
        provenance={},
    )


def statistics(reader: DatasetReader) -> dict[str, dict[str, Any]]:
    """The dataset's statistics of the policy's keys, one value per dimension or image channel."""
    found: dict[str, dict[str, Any]] = {}
    for key in reader.features:
        if key == ACTION or key.startswith("observation."):
            values = {name: np.asarray(value).reshape(-1) for name, value in reader.stats[key].items()}
            found[key] = {name: values[name].tolist() for name in ("min", "max", "mean", "std")}
            found[key]["count"] = int(values["count"][0])
    return found


def unnamed_action(reader: DatasetReader) -> dict[str, Any]:
    """The action of a dataset that keystep did not collect: bounded by what was seen, zero holds."""
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
