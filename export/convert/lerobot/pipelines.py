"""The pipelines around a policy of LeRobot, `policy_preprocessor.json` and `policy_postprocessor.json`.

Checkpoints have them since 0.4. A pipeline is a list of steps, some with a file of tensors. Those of ACT and
diffusion rename, normalise and move tensors about; a step that does anything else to the numbers is refused
by its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from keystep.export.convert.fields import Fields, read_object, refuse
from keystep.export.convert.lerobot.relative import AFTER, BEFORE, FIELDS, RelativeSteps
from keystep.export.convert.tensors import read_tensors
from keystep.export.errors import ExportError

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
MODES = {
    "MEAN_STD": ("mean", "std"),
    "MIN_MAX": ("min", "max"),
    "QUANTILES": ("q01", "q99"),
    "QUANTILE10": ("q10", "q90"),
    "IDENTITY": (),
}
"""LeRobot's modes of normalisation, and the statistics that each needs."""

NORMALIZING = ("eps", "features", "norm_map", "normalize_observation_keys", "stats", "device", "dtype")
CHANGING = ("rename_observations_processor", "normalizer_processor", "unnormalizer_processor", *FIELDS)
CONFIGS: dict[str, tuple[str, ...]] = {
    "rename_observations_processor": ("rename_map",),
    "to_batch_processor": (),
    "device_processor": ("device", "float_dtype"),
    "normalizer_processor": NORMALIZING,
    "unnormalizer_processor": NORMALIZING,
    **FIELDS,
}
"""The steps that are known, and the fields of each."""
EPS = 1e-8

Statistics = dict[str, dict[str, Tensor]]
"""By key and name."""


@dataclass(frozen=True)
class Normalizing:
    """What one normalising step does.

    Attributes:
        where: the field that messages name.
        types: of every key that it knows. modes: by type; a type without one is left alone.
        keys: the only keys that it normalises; None: all of `types`.
        eps: what is added to a deviation, and the width of a range that has none.
        adds: eps is added to every range, as before 0.4.
    """

    where: str
    types: dict[str, str]
    modes: dict[str, str]
    statistics: Statistics
    keys: tuple[str, ...] | None = None
    eps: float = EPS
    adds: bool = False


@dataclass(frozen=True)
class Pipelines:
    """Attributes:
    renames: what one step after the other makes of a key, before it is normalised.
    relative: what makes actions relative to the state, and back.
    """

    inputs: Normalizing
    outputs: Normalizing
    renames: tuple[dict[str, str], ...] = ()
    relative: RelativeSteps = field(default_factory=RelativeSteps)

    def given_name(self, key: str) -> str:
        """What the robot calls a key of the policy. Raises ExportError where that is nothing, or several."""
        names: list[str] = []
        for number, step in enumerate(self.renames):
            made = {inner for earlier in self.renames[:number] for inner in earlier.values()}
            names += [outer for outer in step if outer not in made and self._becomes(outer) == key]
        if not names and self._becomes(key) == key:
            return key
        if len(set(names)) != 1:
            wanted = f"one name that becomes {key}"
            got = ", ".join(sorted(names)) or f"none ({key} itself becomes {self._becomes(key)})"
            raise ExportError(f"{PREPROCESSOR}: rename_map: expected {wanted}, got {got}")
        return names[0]

    def _becomes(self, name: str) -> str:
        for step in self.renames:
            name = step.get(name, name)
        return name


def read_pipelines(folder: Path) -> Pipelines | None:
    """None where there are none, as before 0.4. Raises ExportError for what is not converted."""
    there = [(folder / name).is_file() for name in (PREPROCESSOR, POSTPROCESSOR)]
    if not any(there):
        return None
    if not all(there):
        missing = (PREPROCESSOR, POSTPROCESSOR)[there.index(False)]
        raise ExportError(f"{folder}: expected {missing} beside its other half, got none")
    renames: list[dict[str, str]] = []
    before, after = list[Normalizing](), list[Normalizing]()
    relative = RelativeSteps()
    for name, step in _steps(folder / PREPROCESSOR):
        if name == "rename_observations_processor":
            renames.append(_renaming(step, before, relative))
        elif name == "normalizer_processor":
            before.append(_normalizing(name, step, folder))
        elif name in BEFORE:
            relative.remember(_config(name, step), bool(before))
        else:
            _harmless(name, step)
    for name, step in _steps(folder / POSTPROCESSOR):
        if name == "unnormalizer_processor":
            after.append(_normalizing(name, step, folder))
        elif name == AFTER:
            relative.add(_config(name, step), bool(after))
        else:
            _harmless(name, step)
    for found, what in ((before, f"{PREPROCESSOR}: steps"), (after, f"{POSTPROCESSOR}: steps")):
        if len(found) != 1:
            raise refuse(what, "one that normalises", len(found))
    return Pipelines(before[0], after[0], tuple(renames), relative)


def _steps(path: Path) -> Iterator[tuple[str, Fields]]:
    steps = read_object(path).get("steps")
    if not isinstance(steps, list):
        raise refuse(f"{path.name}: steps", "an array", steps)
    for number, step in enumerate(steps):
        fields = Fields(step, f"{path.name}: steps[{number}].")
        name = fields.raw("registry_name", None) or fields.raw("class", None)
        if not isinstance(name, str):
            raise refuse(f"{fields.where}registry_name", "a name", name)
        yield name, fields


def _config(name: str, step: Fields) -> Fields:
    config = step.part("config", {})
    config.only(CONFIGS[name], name)
    return config


def _renaming(step: Fields, before: list[Normalizing], relative: RelativeSteps) -> dict[str, str]:
    renamed = _config("rename_observations_processor", step).part("rename_map", {})
    if renamed.values and relative.before is not None:
        raise refuse(f"{renamed.where}", "renaming before actions are made relative", "after it")
    if renamed.values and before:
        raise refuse(f"{renamed.where}", "renaming before normalising", "after it")
    for outer, inner in renamed.values.items():
        if not isinstance(inner, str) or not outer.startswith("observation."):
            raise refuse(f"{renamed.where}{outer}", "names observation.NAME", inner)
    return dict(renamed.values)


def _harmless(name: str, step: Fields) -> None:
    """Raises ExportError for a step that would change numbers."""
    if name not in CONFIGS or name in CHANGING:
        raise refuse(f"{step.where}registry_name", " | ".join(CONFIGS), name)
    config = _config(name, step)
    if name == "device_processor":
        kind = config.raw("float_dtype", "float32")
        if kind not in ("float32", "float"):
            raise refuse(f"{config.where}float_dtype", "float32", kind)


def _normalizing(name: str, step: Fields, folder: Path) -> Normalizing:
    config = _config(name, step)
    features, modes = config.part("features"), config.part("norm_map")
    types = {key: str(features.part(key).raw("type")) for key in features.values}
    chosen = {kind: modes.choice(kind, MODES) for kind in modes.values}
    keys, eps = config.texts("normalize_observation_keys", None), config.number("eps", EPS)
    if not torch.tensor(eps) > 0:
        raise refuse(f"{config.where}eps", "more than 0", eps)
    # LeRobot leaves the file alone where the configuration itself has some.
    statistics = _inline(config) or _of_file(step, folder)
    return Normalizing(step.where + "config", types, chosen, statistics, keys, eps)


def _of_file(step: Fields, folder: Path) -> Statistics:
    statistics: Statistics = {}
    file = step.raw("state_file", None)
    if file is None:
        return {}
    if not isinstance(file, str) or Path(file).name != file:
        raise refuse(f"{step.where}state_file", "a file's name", file)
    for name, tensor in read_tensors(folder / file).items():
        key, _, what = name.rpartition(".")
        statistics.setdefault(key, {})[what] = tensor
    return statistics


def _inline(config: Fields) -> Statistics:
    stats = config.part("stats", {})
    return {key: _tensors(stats.part(key)) for key in stats.values}


def _tensors(table: Fields) -> dict[str, Tensor]:
    found = {}
    for name, value in table.values.items():
        try:
            found[name] = torch.tensor(value, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            raise refuse(table.where + name, "numbers", value) from None
    return found
