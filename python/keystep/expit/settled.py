"""What a run was begun with, which may not change until it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

from keystep.data.errors import DatasetError
from keystep.expit.config import EvaluationSettings, ExportSettings
from keystep.record.rollout_settings import RolloutSettings
from keystep.train.config import ControllerTraining, PlannerTraining

FREE = (
    "output",
    "iterations",
    "processes",
    "cluster",
    "workers",
    "start",
    "without_success",
    "demonstrations.dataset",
    "rollouts.max_contexts",
)
"""What may change between two starts of a run: where and with how much, not what."""
FREE_OF_TRAINING = ("device", "threads", "log_every", "checkpoint_every", "cache", "dataset", "output")


def plain(value: Any) -> Any:
    """Settings as JSON values."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value


def _defaults(settings: type) -> dict[str, Any]:
    """Of the fields that have one."""
    return {item.name: plain(item.default) for item in fields(settings) if item.default is not MISSING}


_DEFAULTS = {
    "planner.training": _defaults(PlannerTraining),
    "controller.training": _defaults(ControllerTraining),
    "rollouts": _defaults(RolloutSettings),
    "evaluation": _defaults(EvaluationSettings),
    "export": _defaults(ExportSettings),
}


def require_same(where: str, key: str, stored: Any, new: Any) -> None:
    """Raises DatasetError at the first setting that differs and may not."""
    _, training, name = key.rpartition(".training.")
    if key in FREE or (training and name in FREE_OF_TRAINING):
        return
    if isinstance(stored, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*stored, *new]):
            inner = f"{key}.{name}" if key else name
            if name in stored and name in new:
                require_same(where, inner, stored[name], new[name])
            elif name in stored or key.endswith(("collect", "finetune", "env_kwargs")):
                _refuse(where, inner, stored.get(name), new.get(name))
            elif (known := _DEFAULTS.get(key, {})).get(name, new[name]) != new[name]:
                _refuse(where, inner, known[name], new[name])  # a run from before there was this setting
        return
    if stored != new:
        _refuse(where, key, stored, new)


def _refuse(where: str, key: str, stored: Any, new: Any) -> None:
    name = key.replace(".training", "")
    raise DatasetError(
        f"{where}{name}: expected {stored!r:.200} to go on, got {new!r:.200}; take another folder"
    )
