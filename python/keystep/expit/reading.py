"""A run's settings from a TOML file."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import keystep
from keystep.expit.config import (
    KINDS,
    Demonstrations,
    EvaluationSettings,
    ExpitConfig,
    ExportSettings,
    NetworkSettings,
)
from keystep.expit.presets import EXPIT_PRESETS
from keystep.expit.tables import Table, check_keys, converted, merged, settings_of, told
from keystep.train.config import ControllerTraining, PlannerTraining, TrainConfig
from keystep.train.scorer_config import ScorerTraining

TABLES = ("demonstrations", "planner", "controller", "scorer", "export", "rollouts", "evaluation")
FIXED = (
    "preset",
    "steps",
    "normalization",
    "hold",
    "action_bounds",
    "action_law",
    "subgoal",
    "subgoals",
    "steps_per_subgoal",
    "text_encoder",
    "sampler",
    "observe",
    "cameras",
    "also",
    "history",
    "chunk_start",
    "execute",
)
"""What fine-tuning cannot change: the network, what its numbers mean, and the steps, which the run says."""
WORLD = ("suite", "env_id", "env_kwargs")
"""Of rollouts: what the run says for all its parts."""


def read_config(
    path: Path, budget: int | None = None, preset: str | None = None, **changes: Any
) -> ExpitConfig:
    """The settings of a file, on top of a preset.

    Args:
        path: TOML; relative paths in it are relative to its folder.
        budget: steps of iteration 0, of planner and controller together, in place of the file's; each keeps
            its share of them.
        preset: in place of the file's.
        changes: values of the file in place of its own, of a table only those given; None leaves it.

    Raises:
        ArgumentError: no such file, no TOML, or "key: expected .., got ..".
    """
    table = merged(_read(path), {key: value for key, value in changes.items() if value is not None})
    name = preset or table.pop("preset", "small")
    table.pop("preset", None)
    if not isinstance(name, str) or name not in EXPIT_PRESETS:
        known = ", ".join(EXPIT_PRESETS)
        raise keystep.ArgumentError(f"preset: expected one of {known}, got {told(name)}")
    config = config_of(_on_top(EXPIT_PRESETS[name], table), path.resolve().parent)
    return config if budget is None else with_budget(config, budget)


def _on_top(preset: Table, table: Table) -> dict[str, Any]:
    """D0 that is there needs none of the preset's settings that make one; another kind has other presets."""
    given, controller = table.get("demonstrations"), table.get("controller")
    if isinstance(given, Mapping) and "dataset" in given and "collect" not in given:
        preset = {**preset, "demonstrations": {}}
    if isinstance(controller, Mapping) and "kind" in controller and "preset" not in controller:
        kept = {key: value for key, value in preset["controller"].items() if key != "preset"}
        preset = {**preset, "controller": kept}
    return merged(preset, table)


def config_of(table: Table, folder: Path) -> ExpitConfig:
    """The settings of a table as TOML gives it. Raises ArgumentError."""
    check_keys(table, [field.name for field in fields(ExpitConfig)], "")
    plain = {key: value for key, value in table.items() if key not in TABLES}
    suite = converted(str, plain.get("suite", "franka3blocks"), "suite", folder)
    env = converted(str, plain.get("env", ""), "env", folder)
    kwargs = converted(Mapping[str, Any], plain.get("env_kwargs", {}), "env_kwargs", folder)
    parts = {
        "demonstrations": _demonstrations(table.get("demonstrations", {}), folder),
        "planner": _network("planner", PlannerTraining, table.get("planner", {}), folder),
        "controller": _network("controller", ControllerTraining, table.get("controller", {}), folder),
        "scorer": _scorer(table["scorer"], folder) if "scorer" in table else None,
        "export": settings_of(ExportSettings, table.get("export", {}), "export", folder),
        "rollouts": _rollouts(table.get("rollouts", {}), folder, (suite, env, kwargs)),
        "evaluation": settings_of(EvaluationSettings, table.get("evaluation", {}), "evaluation", folder),
    }
    return settings_of(ExpitConfig, plain, "", folder, parts)


def with_budget(config: ExpitConfig, budget: int) -> ExpitConfig:
    """N_0 of planner and controller so that both together are `budget`. Raises ArgumentError."""
    if budget < 2:
        raise keystep.ArgumentError(f"budget: expected at least 2 steps, got {budget}")
    settings: dict[str, Any] = {"planner": config.planner, "controller": config.controller}
    total = sum(part.training.steps for part in settings.values())
    steps = {"planner": min(budget - 1, max(1, round(budget * config.planner.training.steps / total)))}
    steps["controller"] = budget - steps["planner"]
    settings = {name: _shortened(part, steps[name]) for name, part in settings.items()}
    return replace(config, **settings)


def _shortened(network: NetworkSettings, steps: int) -> NetworkSettings:
    training = network.training
    share = min(1.0, steps / training.steps)
    warmup = round(training.warmup_steps * share)
    return replace(network, training=replace(training, steps=steps, warmup_steps=warmup))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise keystep.ArgumentError(f"config: expected a TOML file, got {path}, which is not there") from None
    except (OSError, ValueError, RecursionError) as error:  # tomllib's is a ValueError
        raise keystep.ArgumentError(f"config: {path}: expected TOML, got {error}") from None


def _demonstrations(table: Any, folder: Path) -> Demonstrations:
    from keystep.record.collect import collect

    found = settings_of(Demonstrations, table, "demonstrations", folder)
    hints = get_type_hints(collect)
    known = [name for name in inspect.signature(collect).parameters if name not in ("output", "resume")]
    own = [name for name in known if name not in ("suite", "env_id", "processes")]
    check_keys(found.collect, own, "demonstrations.collect")
    collect_options = {
        name: converted(hints[name], value, f"demonstrations.collect.{name}", folder)
        for name, value in found.collect.items()
    }
    found = replace(found, collect=collect_options)
    if not found.collect and found.dataset is None:
        wanted = "a dataset, or the settings that collect one"
        raise keystep.ArgumentError(f"demonstrations: expected {wanted}, got neither")
    return found


def _network(name: str, kind: type[TrainConfig], table: Any, folder: Path) -> NetworkSettings:
    if not isinstance(table, Mapping):
        raise keystep.ArgumentError(f"{name}: expected a table, got {told(table)}")
    table = dict(table)
    finetune = table.pop("finetune", {})
    if not isinstance(finetune, Mapping):
        raise keystep.ArgumentError(f"{name}.finetune: expected a table, got {told(finetune)}")
    model = table.pop("kind", "dp" if name == "controller" else "")
    fixed: dict[str, Any] = {"dataset": Path(), "output": Path(), "seed": 0, "weights": None}
    fixed |= {"statistics": None, "resume": True}
    if name == "controller":
        if model not in KINDS:
            raise keystep.ArgumentError(f"controller.kind: expected dp or act, got {told(model)}")
        fixed["condition"] = "goal"
        table.setdefault("preset", "small" if model == "dp" else "act")
        presets: Mapping[str, Any] = KINDS[model]
        if table["preset"] not in presets:
            known = ", ".join(presets)
            raise keystep.ArgumentError(
                f"controller.preset: expected one of {known}, got {told(table['preset'])}"
            )
    elif model:
        raise keystep.ArgumentError(f"{name}.kind: expected none (a controller has one), got {told(model)}")
    training = settings_of(kind, table, name, folder, fixed)
    changed = settings_of(kind, merged(table, finetune), f"{name}.finetune", folder, fixed)
    for key in finetune:
        if key in FIXED:
            wanted = "none, as fine-tuning goes on with the same network and statistics"
            raise keystep.ArgumentError(
                f"{name}.finetune.{key}: expected {wanted}, got {told(finetune[key])}"
            )
    return NetworkSettings(training, {key: getattr(changed, key) for key in finetune}, model)


def _scorer(table: Any, folder: Path) -> ScorerTraining:
    fixed = {"dataset": (), "planner": Path(), "output": Path(), "seed": 0}
    return settings_of(ScorerTraining, table, "scorer", folder, fixed)


def _rollouts(table: Any, folder: Path, world: tuple[str, str, Mapping[str, Any]]) -> Any:
    from keystep.record.rollouts import RolloutSettings

    return settings_of(RolloutSettings, table, "rollouts", folder, dict(zip(WORLD, world, strict=True)))
