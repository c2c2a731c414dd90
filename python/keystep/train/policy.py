"""From a dataset to a policy and to the checkpoint folder: the only file of training that knows both."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from keystep.data import DatasetReader
from keystep.data.files import replacing, to_json, write_text
from keystep.models import PRESETS, DiffusionPolicy, Normalizer, PolicyConfig
from keystep.train.config import TrainConfig

ACTION, STATE, IMAGES = "action", "observation.state", "observation.images."


@dataclass(frozen=True)
class Plan:
    """What a dataset and the settings say about the policy.

    Attributes:
        policy: sizes and condition.
        stats: per key "min", "max", "mean", "std" (flat lists) and "count"; the policy's normalisation.
        modes: per key "mean_std" or "min_max".
        tasks: {"name", "instruction"} by task index.
        action: names, units, min, max, rate_limit, hold.
        observation: "state" names and "images".
        control_rate_hz: of the dataset.
        provenance: where the dataset came from.
    """

    policy: PolicyConfig
    stats: dict[str, dict[str, Any]]
    modes: dict[str, str]
    tasks: list[dict[str, str]]
    action: dict[str, Any]
    observation: dict[str, Any]
    control_rate_hz: float

    @property
    def hold(self) -> np.ndarray:
        return np.asarray(self.action["hold"], np.float32)


def plan(config: TrainConfig, reader: DatasetReader) -> Plan:
    """Derive the policy from the dataset."""
    if config.preset not in PRESETS:
        raise ValueError(f"preset: expected one of {', '.join(PRESETS)}, got {config.preset!r}")
    width = reader.features[ACTION].shape[0]
    cameras = [
        {
            "camera": key.removeprefix(IMAGES),
            "height": reader.features[key].shape[0],
            "width": reader.features[key].shape[1],
            "order": "rgb",
        }
        for key in reader.image_keys
    ]
    state = reader.features.get(STATE)
    policy = dataclasses.replace(
        PRESETS[config.preset],
        state_dim=state.shape[0] if state else 0,
        action_dim=width,
        images=tuple(camera["camera"] for camera in cameras),
        condition=config.condition,
        tasks=len(reader.tasks),
    )
    stats, modes = statistics(config, reader)
    unknown = {
        "units": [""] * width,
        "min": stats[ACTION]["min"],
        "max": stats[ACTION]["max"],
        "rate_limit": None,
    }
    names = list(reader.features[ACTION].names or [f"action_{n}" for n in range(width)])
    return Plan(
        policy=policy,
        stats=stats,
        modes=modes,
        tasks=reader.tasks if config.condition == "task" else [],
        action=reader.collection.get("action") or {"names": names, **unknown, "hold": [0.0] * width},
        observation={"state": {"names": list(state.names or [])} if state else None, "images": cameras},
        control_rate_hz=float(reader.info["fps"]),
    )


def statistics(
    config: TrainConfig, reader: DatasetReader
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The normalisation: observations by mean and deviation, actions to [-1, 1]; narrow ones widened."""
    stats: dict[str, dict[str, Any]] = {}
    modes = {ACTION: "min_max"} | {
        key: "mean_std" for key in reader.features if key.startswith("observation.")
    }
    for key in modes:
        found = {
            name: np.asarray(reader.stats[key][name], np.float64).reshape(-1)
            for name in ("min", "max", "mean", "std")
        }
        if key == ACTION:
            found["max"] = np.where(
                found["max"] - found["min"] < config.min_range, found["min"] + 1.0, found["max"]
            )
        else:
            found["std"] = np.maximum(found["std"], config.min_std)
        stats[key] = {name: value.tolist() for name, value in found.items()}
        stats[key]["count"] = int(np.asarray(reader.stats[key]["count"]).reshape(-1)[0])
    return stats, modes


def build(plan: Plan) -> DiffusionPolicy:
    return DiffusionPolicy(plan.policy)


def normalizer(plan: Plan) -> Normalizer:
    return Normalizer(plan.stats, plan.modes)


def write(folder: Path, plan: Plan, weights: dict[str, torch.Tensor], provenance: dict[str, Any]) -> None:
    """model.safetensors, then policy.json, each replaced atomically."""
    with replacing(folder / "model.safetensors") as staged:
        save_file({name: value.contiguous() for name, value in weights.items()}, staged)
        staged.chmod(0o644)  # safetensors creates private files
    document = {
        "format": "keystep-checkpoint",
        "version": 1,
        "policy": dataclasses.asdict(plan.policy),
        "sampler": {},
        "stats": plan.stats,
        "tasks": plan.tasks,
        "action": plan.action,
        "observation": plan.observation,
        "control_rate_hz": plan.control_rate_hz,
        "provenance": provenance,
    }
    write_text(folder / "policy.json", to_json(document))
