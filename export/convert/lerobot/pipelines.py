"""The pipelines around a policy of LeRobot, `policy_preprocessor.json` and `policy_postprocessor.json`.

Checkpoints have them since 0.4. A pipeline is a list of steps, some with a file of tensors. Those of ACT and
diffusion rename, normalise and move tensors about; a step that does anything else to the numbers is refused
by its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from keystep.export.convert.fields import Fields, read_object, refuse
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
    """

    where: str
    types: dict[str, str]
    modes: dict[str, str]
    statistics: Statistics
    keys: tuple[str, ...] | None = None
    eps: float = 1e-8


@dataclass(frozen=True)
class Pipelines:
    """Attributes:
    names: what the robot calls a key that the policy calls otherwise, by the policy's name.
    """

    inputs: Normalizing
    outputs: Normalizing
    names: dict[str, str] = field(default_factory=dict)


def read_pipelines(folder: Path) -> Pipelines | None:
    """None where there are none, as before 0.4. Raises ExportError for what is not converted."""
    there = [(folder / name).is_file() for name in (PREPROCESSOR, POSTPROCESSOR)]
    if not any(there):
        return None
    if not all(there):
        missing = (PREPROCESSOR, POSTPROCESSOR)[there.index(False)]
        raise ExportError(f"{folder}: expected {missing} beside its other half, got none")
    names: dict[str, str] = {}
    before, after = list[Normalizing](), list[Normalizing]()
    for name, step in _steps(folder / PREPROCESSOR):
        if name == "rename_observations_processor":
            _rename(step, names, before)
        elif name == "normalizer_processor":
            before.append(_normalizing(step, folder))
        else:
            _harmless(name, step)
    for name, step in _steps(folder / POSTPROCESSOR):
        if name == "unnormalizer_processor":
            after.append(_normalizing(step, folder))
        else:
            _harmless(name, step)
    for found, what in ((before, f"{PREPROCESSOR}: steps"), (after, f"{POSTPROCESSOR}: steps")):
        if len(found) != 1:
            raise refuse(what, "one that normalises", len(found))
    return Pipelines(before[0], after[0], names)


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


def _rename(step: Fields, names: dict[str, str], before: list[Normalizing]) -> None:
    renamed = step.part("config", {}).part("rename_map", {})
    if renamed.values and before:
        raise refuse(f"{renamed.where}", "renaming before normalising", "after it")
    for outer, inner in renamed.values.items():
        if not isinstance(inner, str) or not outer.startswith("observation."):
            raise refuse(f"{renamed.where}{outer}", "names observation.NAME", inner)
        if inner in names:
            raise refuse(f"{renamed.where}{outer}", f"one key for {inner}", "two")
        names[inner] = outer


def _harmless(name: str, step: Fields) -> None:
    """Raises ExportError for a step that would change numbers."""
    config = step.part("config", {})
    if name == "to_batch_processor":
        return
    if name == "device_processor":
        kind = config.raw("float_dtype", "float32")
        if kind != "float32":
            raise refuse(f"{config.where}float_dtype", "float32", kind)
        return
    if name in ("relative_actions_processor", "absolute_actions_processor", "delta_actions_processor"):
        if config.flag("enabled", False):
            wanted = "false (actions relative to the state are not converted yet)"
            raise refuse(f"{config.where}enabled ({name})", wanted, True)
        return
    known = "rename_observations_processor | to_batch_processor | device_processor | (un)normalizer_processor"
    raise refuse(f"{step.where}registry_name", known, name)


def _normalizing(step: Fields, folder: Path) -> Normalizing:
    config = step.part("config", {})
    features, modes = config.part("features"), config.part("norm_map")
    types = {key: str(features.part(key).raw("type")) for key in features.values}
    chosen = {kind: modes.choice(kind, MODES) for kind in modes.values}
    keys = config.raw("normalize_observation_keys", None)
    statistics: Statistics = {}
    file = step.raw("state_file", None)
    if file is not None:
        if not isinstance(file, str) or Path(file).name != file:
            raise refuse(f"{step.where}state_file", "a file's name", file)
        for name, tensor in read_tensors(folder / file).items():
            key, _, what = name.rpartition(".")
            statistics.setdefault(key, {})[what] = tensor
    only = tuple(keys) if isinstance(keys, list) else None
    return Normalizing(step.where + "config", types, chosen, statistics, only, config.number("eps", 1e-8))
