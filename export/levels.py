"""The two levels of a policy as they come out of training, checked against what is asked of the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from keystep.export.graphs import encode_inputs
from keystep.export.manifest import ExportError, validate_sampler
from keystep.features import Feature
from keystep.models import (
    ActConfig,
    Checkpoint,
    CheckpointError,
    DiffusionConfig,
    DiffusionController,
    PlannerConfig,
    SamplerConfig,
    load_model,
    load_planner,
)
from keystep.models.act import ActController
from keystep.models.checkpoint import load_scorer
from keystep.models.given import GivenAct, GivenConfig, GivenSteps
from keystep.models.planner import Planner
from keystep.models.scorer import PlanScorer
from keystep.models.text import TextEncoder


@dataclass(frozen=True)
class Controller:
    """Attributes:
    sampler: None for a controller of one step (ACT).
    execute: actions taken of each chunk.
    resize: whether the runtime may resize images.
    ensemble_decay: m of ACT's temporal ensembling; None: chunks come one after the other.
    graphs: files of graphs that exist already, by name; None: they are made of the model.
    """

    model: DiffusionController | ActController | GivenAct | GivenSteps
    checkpoint: Checkpoint
    sampler: SamplerConfig | None
    execute: int
    resize: bool = False
    ensemble_decay: float | None = None
    graphs: Mapping[str, Path] | None = None

    @property
    def config(self) -> DiffusionConfig | ActConfig | GivenConfig:
        return self.model.config

    @property
    def features(self) -> list[Feature]:
        """What it observes, in the manifest's order."""
        return [
            replace(feature, resize=self.resize and feature.can_resize) for feature in self.config.observation
        ]

    @property
    def start(self) -> int:
        """The row of a chunk that belongs to the present observation."""
        return self.config.chunk_start


@dataclass(frozen=True)
class Scoring:
    """What says which of several plans is best."""

    model: PlanScorer
    checkpoint: Checkpoint

    @property
    def metrics(self) -> dict[str, Any]:
        """On contexts that it was not trained on; none of a network that never was."""
        found = self.checkpoint.provenance.get("metrics", {})
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Planning:
    """The upper level of a hierarchy."""

    model: Planner
    checkpoint: Checkpoint
    text_encoder: TextEncoder
    sampler: SamplerConfig
    replan: bool
    scoring: Scoring | None = None
    plan_ahead: int | None = None  # actions; None: as many as plans and chunks take

    @property
    def config(self) -> PlannerConfig:
        return self.model.config

    @property
    def guided(self) -> bool:
        """Whether the graphs carry the null text; only a planner trained with dropout knows what that is."""
        return self.config.text_dropout > 0


def load_controller(folder: Path, changes: dict[str, Any], execute: int | None, resize: bool) -> Controller:
    """Raises CheckpointError, ExportError."""
    model, known = load_model(folder)
    if not isinstance(model, DiffusionController | ActController):
        raise CheckpointError(f"{folder}: kind: expected a controller (diffusion or act), got {known.kind}")
    return as_controller(model, known, changes, execute, resize)


def as_controller(
    model: DiffusionController | ActController,
    known: Checkpoint,
    changes: dict[str, Any],
    execute: int | None,
    resize: bool = False,
) -> Controller:
    """What a bundle is asked to be, of a network that is loaded. Raises ExportError."""
    steps = execute if execute is not None else model.config.execute
    most, start = model.config.horizon - model.config.chunk_start, model.config.chunk_start
    if not 1 <= steps <= most:
        whose = f"horizon - chunk_start {start}" if start else "horizon"
        raise ExportError(f"execute: expected 1..{most} ({whose}), got {steps}")
    if isinstance(model, ActController):
        if changes:
            raise ExportError(f"sampler: expected none (ACT takes one step), got {', '.join(changes)}")
        return Controller(model, known, None, steps, resize)
    spec = changed_sampler(model.config.sampler, changes)
    if spec.guidance and not model.config.condition_dropout:
        wanted = "0 for a policy trained without condition_dropout"
        raise ExportError(f"sampler.guidance: expected {wanted}, got {spec.guidance}")
    return Controller(model, known, spec, steps, resize)


def planning_ahead(planning: Planning, actions: int | None) -> Planning:
    """Asked for so many actions before the old one is used up. Raises ExportError."""
    most = planning.config.steps_per_subgoal
    if actions is not None and not 0 <= actions <= most:
        raise ExportError(f"plan_ahead: expected 0..{most} (steps_per_subgoal), got {actions}")
    return replace(planning, plan_ahead=actions)


def load_planning(folder: Path, changes: dict[str, Any], replan: bool, controller: Controller) -> Planning:
    """Raises CheckpointError, TextEncoderError; ExportError if planner and controller do not fit together."""
    return as_planning(*load_planner(folder), changes, replan, controller)


def as_planning(
    model: Planner,
    known: Checkpoint,
    text_encoder: TextEncoder,
    changes: dict[str, Any],
    replan: bool,
    controller: Controller,
) -> Planning:
    """Of networks that are loaded. Raises ExportError."""
    _check_pair(model.config, known, controller)
    spec = changed_sampler(model.config.sampler, changes, "planner.sampler")
    if spec.guidance and not model.config.text_dropout:
        wanted = "0 for a planner trained without text_dropout"
        raise ExportError(f"planner.sampler.guidance: expected {wanted}, got {spec.guidance}")
    return Planning(model, known, text_encoder, spec, replan)


def load_scoring(folder: Path, planning: Planning) -> Scoring:
    """Raises CheckpointError, TextEncoderError; ExportError if scorer and planner do not fit together."""
    model, known, encoder = load_scorer(folder)
    config, planner = model.config, planning.config
    theirs = (planner.subgoal, planner.subgoals, planner.feature.names)
    ours = (config.subgoal, config.subgoals, config.feature.names)
    if ours != theirs:
        wanted = f"the planner's {planner.subgoals} {planner.subgoal} of {planner.subgoal_shape}"
        got = f"{config.subgoals} {config.subgoal} of {config.subgoal_shape}"
        raise ExportError(f"scorer: expected {wanted}, of equal names, got {got}")
    key = planner.subgoal
    entries = [level.normalizer().entries[key] for level in (planning.checkpoint, known)]
    if entries[0] != entries[1]:
        modes = [entry["mode"] for entry in entries]
        wanted = f"the planner's ({modes[0]}, statistics of its dataset)"
        raise ExportError(f"scorer.normalization: expected {wanted}, got another one ({modes[1]})")
    if not _same_encoder(encoder, planning.text_encoder):
        raise ExportError(
            f"scorer.text_encoder: expected the planner's ({planning.text_encoder.kind}), got another one"
        )
    return Scoring(model, known)


def _same_encoder(a: TextEncoder, b: TextEncoder) -> bool:
    if (a.kind, a.settings()) != (b.kind, b.settings()):
        return False
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def within_subgoals(controller: Controller, planning: Planning, execute: int | None) -> Controller:
    """A chunk ends with its subgoal: what is executed by default is cut, more asked for is refused."""
    held = planning.config.steps_per_subgoal
    if execute is not None and execute > held:
        raise ExportError(f"execute: expected 1..{held} (steps_per_subgoal), got {execute}")
    return replace(controller, execute=min(controller.execute, held))


def _check_pair(planner: PlannerConfig, known: Checkpoint, controller: Controller) -> None:
    """A subgoal must be exactly what the controller takes as its goal, and all that it is told."""
    if controller.config.tasks:
        raise ExportError(f"tasks: expected a controller that is told none, got {controller.config.tasks}")
    wanted = planner.subgoal.replace("observation.", "goal.", 1)
    goals = {key: shape for key, shape in encode_inputs(controller.config).items() if key.startswith("goal.")}
    if set(goals) != {wanted}:
        got = ", ".join(goals) or "none"
        raise ExportError(f"goal: expected {wanted} as the planner imagines it, got a controller with {got}")
    if goals[wanted][1:] != planner.subgoal_shape:
        raise ExportError(f"goal: expected the planner's {planner.subgoal_shape}, got {goals[wanted][1:]}")
    seen = next(feature for feature in controller.config.observation if feature.key == planner.subgoal)
    if planner.feature.names != seen.names:
        told = f"the planner's {list(planner.feature.names)}, got {list(seen.names)}"
        raise ExportError(f"{planner.subgoal}.names: expected {told}")
    rates = known.control_rate_hz, controller.checkpoint.control_rate_hz
    if rates[0] != rates[1]:
        raise ExportError(f"control_rate_hz: expected the planner's {rates[0]:g}, got {rates[1]:g}")


def changed_sampler(trained: SamplerConfig, changes: dict[str, Any], where: str = "sampler") -> SamplerConfig:
    """The trained sampler with `changes`, which may not touch what the network was trained on."""
    fixed = {"train_steps", "beta_schedule", "beta_start", "beta_end", "betas", "prediction"}
    for field, value in changes.items():
        if field not in SamplerConfig.__dataclass_fields__:
            raise ExportError(f"{where}.{field}: expected a field of SamplerConfig, got an unknown one")
        before = getattr(trained, field)
        if field in fixed and value != before:
            raise ExportError(f"{where}.{field}: expected {before!r} as trained, got {value!r}")
    spec = replace(trained, **changes)
    validate_sampler(spec, where)
    return spec
