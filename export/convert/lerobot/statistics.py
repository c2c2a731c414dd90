"""How a checkpoint of LeRobot normalises, as entries of a manifest that compute exactly the same.

Before 0.4 the statistics are tensors among the weights, since then in the pipelines' files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from keystep.export.convert.fields import refuse
from keystep.export.convert.lerobot.pipelines import (
    MODES,
    PREPROCESSOR,
    Normalizing,
    Pipelines,
    Statistics,
    read_pipelines,
)
from keystep.export.convert.lerobot.source import ACTION, Given, LeRobotCheckpoint
from keystep.export.errors import ExportError

IN_WEIGHTS = ("normalize_inputs.", "normalize_targets.", "unnormalize_outputs.")
"""How the names of statistics among the weights begin."""

Entry = dict[str, Any]


@dataclass(frozen=True)
class Normalization:
    """Attributes:
    entries: the manifest's, by the policy's keys.
    bounds: least and greatest action of the data, where they are known.
    names: what the robot calls a key, by the policy's name.
    relative: the manifest's `action.relative`; None: actions are absolute.
    """

    entries: dict[str, Entry]
    bounds: tuple[list[float], list[float]] | None
    names: dict[str, str] = field(default_factory=dict)
    relative: dict[str, Any] | None = None


def normalization_of(source: LeRobotCheckpoint) -> Normalization:
    """Raises ExportError: statistics are missing, of another size, or of names that LeRobot does not find."""
    pipelines = read_pipelines(source.folder) or _in_weights(source)
    entries = {given.key: _entry(pipelines.inputs, given) for given in source.used}
    entries[ACTION] = _entry(pipelines.outputs, source.action)
    seen = pipelines.outputs.statistics.get(ACTION, {})
    bounds = None
    if "min" in seen and "max" in seen:
        bounds = (seen["min"].flatten().tolist(), seen["max"].flatten().tolist())
    names = _used_names(pipelines, source)
    relative = pipelines.relative.entry(source.used, source.action, names)
    return Normalization(entries, bounds, names, relative)


def _used_names(pipelines: Pipelines, source: LeRobotCheckpoint) -> dict[str, str]:
    """Of the keys that the policy reads; no two may come to the same name."""
    names = {given.key: pipelines.given_name(given.key) for given in source.used}
    if len(set(names.values())) < len(names):
        raise refuse(f"{PREPROCESSOR}: rename_map", "different names", sorted(names.values()))
    return names


def _in_weights(source: LeRobotCheckpoint) -> Pipelines:
    modes = source.config.part("normalization_mapping")
    chosen = {kind: modes.choice(kind, MODES) for kind in modes.values}

    def step(place: str, features: tuple[Given, ...]) -> Normalizing:
        types = {given.key: given.type for given in features}
        statistics: Statistics = {}
        for key in types:
            start = f"{place}.buffer_{key.replace('.', '_')}."
            found = {name.removeprefix(start): tensor for name, tensor in source.weights.items()
                     if name.startswith(start)}  # fmt: skip
            if found:
                statistics[key] = found
        where = f"{PREPROCESSOR} or, in older checkpoints, {place} in model.safetensors"
        return Normalizing(where, types, chosen, statistics, adds=place == "normalize_inputs")

    return Pipelines(step("normalize_inputs", source.inputs), step("unnormalize_outputs", source.outputs))


def _entry(step: Normalizing, given: Given) -> Entry:
    """The manifest's entry of a key."""
    action = given.key == ACTION
    if step.keys is not None and given.key not in step.keys and not action:
        return {"mode": "identity"}
    kind = "ACTION" if action else step.types.get(given.key)
    if kind is None:  # LeRobot would hand it over as it is, without a word
        raise refuse(f"{step.where}.features", given.key, ", ".join(step.types) or "none")
    mode = step.modes.get(kind, "IDENTITY")
    if mode == "IDENTITY":
        return {"mode": "identity"}
    known = step.statistics.get(given.key)
    if known is None:
        got = f"those of {', '.join(step.statistics)}" if step.statistics else "none"
        raise ExportError(f"{step.where}: expected statistics of {given.key} for {mode}, got {got}")
    first, second = (_values(step, known, given.key, name, given.shape[0]) for name in MODES[mode])
    where = f"{step.where}: {given.key}.{MODES[mode][1]}"
    if mode == "MEAN_STD":
        widths = [max(std, step.eps) if action else std + step.eps for std in second]
        _check_above(where, [0.0] * len(widths), second, [std + step.eps for std in second])
        return {"mode": "mean_std", "mean": first, "std": widths}
    ends = zip(first, second, strict=True)
    high = [most + step.eps if step.adds or most == least else most for least, most in ends]
    _check_above(where, first, second, high)
    names = ("min_max", "min", "max") if mode == "MIN_MAX" else ("quantile", "low", "high")
    return {"mode": names[0], names[1]: first, names[2]: high}


def _check_above(where: str, low: list[float], told: list[float], high: list[float]) -> None:
    """That every width is more than nothing in single precision, which networks and statistics have."""
    for place, (least, most) in enumerate(zip(low, high, strict=True)):
        if not np.float32(most - least) > 0:
            raise ExportError(f"{where}[{place}]: expected more than {least:g}, got {told[place]:g}")


def _values(step: Normalizing, known: dict[str, Tensor], key: str, name: str, width: int) -> list[float]:
    if name not in known:
        got = ", ".join(known) or "nothing"
        raise ExportError(f"{step.where}: expected {key}.{name}, got {got}")
    values = known[name].flatten().tolist()
    if len(values) != width:
        raise ExportError(f"{step.where}: {key}.{name}: expected {width} values, got {len(values)}")
    for place, value in enumerate(values):
        if not math.isfinite(value):
            raise ExportError(f"{step.where}: {key}.{name}[{place}]: expected a finite number, got {value}")
    return [float(value) for value in values]
