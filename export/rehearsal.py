"""Whether a network could be exported, asked before it is trained.

The graphs are walked on torch's meta device, which has shapes but no numbers: their tensors are those of the
real bundle, and no time is spent. The manifest made of them goes through every check that the exporter and
the loader have.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from keystep.export import plan_graphs, score_graph
from keystep.export.bundle import tensor_entry
from keystep.export.controller_parts import OUTPUTS, controller_graphs, controller_module
from keystep.export.levels import (
    Controller,
    Planning,
    Scoring,
    as_controller,
    as_planning,
    changed_sampler,
    planning_ahead,
    within_subgoals,
)
from keystep.export.manifest import ExportError, build_manifest
from keystep.export.text import TEXT, TOLD, tokenizer_nodes
from keystep.export.unet_weights import Precision, check_precision, unet_entry
from keystep.models import (
    PRESETS,
    ActConfig,
    Checkpoint,
    DiffusionController,
    PlannerConfig,
    ScorerConfig,
)
from keystep.models.checkpoint import make_model
from keystep.models.code_planner.config import CodePlannerConfig
from keystep.models.planner import StatePlanner
from keystep.models.text import TextEncoder

_HASH = "0" * 64
Tensors = dict[str, Tensor]


def rehearse(
    plan: Checkpoint, text_encoder: TextEncoder | None = None, scorer: Checkpoint | None = None
) -> dict[str, Any]:
    """Exports a network of this checkpoint with the default options, but for its numbers.

    Args:
        plan: of a controller, or of a planner, which is given a controller to go with it.
        text_encoder: of the planner.
        scorer: of the planner's plans.

    Returns:
        The manifest it would have, but for hashes and measured errors.

    Raises:
        ExportError: what `export_bundle`, or loading the bundle, would refuse: "field: expected X, got Y".
    """
    planning = None
    with torch.device("meta"):
        if isinstance(plan.config, PlannerConfig):
            assert text_encoder is not None
            model = make_model(plan.config).eval()
            sampler = changed_sampler(plan.config.sampler, {}, "planner.sampler")
            scoring = Scoring(make_model(scorer.config).eval(), scorer) if scorer else None  # type: ignore[arg-type]
            planning = Planning(model, plan, text_encoder, sampler, True, scoring)  # type: ignore[arg-type]
            plan = _controller_for(plan)
        controller = _controller(plan)
        if planning is not None:
            controller = within_subgoals(controller, planning, None)
        entries = _controller_entries(controller)
        entries |= _planner_entries(planning) if planning is not None else {}
    return _manifest(controller, planning, entries)


def rehearse_bundle(
    controller: Checkpoint,
    planner: Checkpoint,
    text_encoder: TextEncoder,
    *,
    name: str = "rehearsal",
    precision: Precision = "fp32",
    execute: int | None = None,
    replan: bool = True,
    plan_ahead: int | None = None,
    resize: bool = False,
    planner_sampler: dict[str, Any] | None = None,
    **sampler: Any,
) -> dict[str, Any]:
    """Exports a hierarchy of these checkpoints but for its numbers; the options are `export_bundle`'s.

    Returns:
        The manifest it would have, but for hashes and measured errors.

    Raises:
        ExportError: what `export_bundle`, or loading the bundle, would refuse: "field: expected X, got Y".
    """
    check_precision(precision)
    with torch.device("meta"):
        model, policy = make_model(planner.config).eval(), make_model(controller.config).eval()
        acting = as_controller(policy, controller, sampler, execute, resize)  # type: ignore[arg-type]
        planning = as_planning(model, planner, text_encoder, planner_sampler or {}, replan, acting)  # type: ignore[arg-type]
        planning = planning_ahead(planning, plan_ahead)
        acting = within_subgoals(acting, planning, execute)
        entries = _controller_entries(acting) | _planner_entries(planning)
    if precision != "fp32" and not _unets(acting, planning):
        raise ExportError(f"precision: expected fp32 for a policy without steps of a U-Net, got {precision}")
    return _manifest(acting, planning, entries, name)


def _manifest(
    controller: Controller, planning: Planning | None, entries: dict[str, Any], name: str = "rehearsal"
) -> dict[str, Any]:
    golden = {"file": "golden.npz", "sha256": _HASH}
    return build_manifest(name, controller, planning, entries, golden, _unets(controller, planning))


def _controller(plan: Checkpoint) -> Controller:
    model, config = make_model(plan.config).eval(), plan.config
    assert not isinstance(config, PlannerConfig | ScorerConfig | CodePlannerConfig)
    sampler = None if isinstance(config, ActConfig) else changed_sampler(config.sampler, {})
    return Controller(model, plan, sampler, config.execute)  # type: ignore[arg-type]


def _controller_for(planner: Checkpoint) -> Checkpoint:
    """A small one whose goal is what the planner imagines."""
    known = planner.config
    assert isinstance(known, PlannerConfig)
    config = replace(
        PRESETS["tiny"],
        action_dim=len(planner.action["names"]),
        observation=known.observation,
        goal="observation",
        tasks=0,
    )
    return replace(planner, config=config)


def _controller_entries(controller: Controller) -> dict[str, Any]:
    entries = {}
    for kind in controller_graphs(controller):
        module, inputs = controller_module(kind, controller)
        entries[kind] = _entry(kind, module, inputs, OUTPUTS[kind])
    return entries


def _planner_entries(planning: Planning) -> dict[str, Any]:
    model, config = planning.model, planning.config
    tokenizer_nodes(planning.text_encoder)  # refuses a vocabulary that no graph can have
    tokens = torch.zeros(2 if planning.guided else 1, config.text_tokens, config.text_width)
    goal = model.goal(tokens)
    text = {
        "inputs": [tensor_entry(TEXT, "string", [1])],
        "outputs": [tensor_entry(plan_graphs.GOAL, "float32", list(goal.shape))],
    }
    if planning.scoring is not None:
        text["outputs"].append(tensor_entry(TOLD, "float32", [len(tokens), config.text_width]))
    entries = {"text": {"file": "text.onnx", "sha256": _HASH, **text}}
    for kind in plan_graphs.plan_graphs(model):
        module, inputs, output = plan_graphs.plan_module(kind, model, planning.guided)
        entries[kind] = _entry(kind, module, inputs, output)
    if planning.scoring is not None:
        scoring = score_graph.score_module(planning.scoring.model, planning.guided)
        entries["score"] = _entry("score", *scoring)
    return entries


@torch.no_grad()
def _entry(kind: str, module: nn.Module, inputs: Tensors, output: str) -> dict[str, Any]:
    """A graph's entry of the manifest, with what the module makes of its inputs."""
    try:
        made = module.to("meta")(*inputs.values())
    except RuntimeError as error:  # torch: sizes that do not fit together
        sizes = ", ".join(f"{name} {list(value.shape)}" for name, value in inputs.items())
        wanted = "inputs that the network takes"
        raise ExportError(f"graphs.{kind}: expected {wanted}, got {sizes}: {error}") from None
    return {
        "file": f"{kind}.onnx",
        "sha256": _HASH,
        "inputs": [tensor_entry(name, _dtype(value), list(value.shape)) for name, value in inputs.items()],
        "outputs": [tensor_entry(output, _dtype(made), list(made.shape))],
    }


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _unets(controller: Controller, planning: Planning | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if isinstance(controller.model, DiffusionController):
        found["unet"] = unet_entry(controller.model.unet, "fp32", "unet.safetensors", _HASH)
        found["unet"]["horizon"] = controller.config.horizon
    if planning is not None and isinstance(planning.model, StatePlanner):
        found["planner.unet"] = unet_entry(planning.model.unet, "fp32", "plan_unet.safetensors", _HASH)
        found["planner.unet"]["horizon"] = planning.config.subgoals
    return found
