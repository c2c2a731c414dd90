"""From training checkpoints to a bundle. Nothing else writes bundles."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from torch import Tensor, nn

from keystep.export import graphs, plan_graphs, score_graph
from keystep.export.code_bundle import export_code_bundle
from keystep.export.controller_parts import OUTPUTS, controller_graphs, controller_module, sampler_of
from keystep.export.convert.lerobot.source import is_lerobot
from keystep.export.errors import UnreadError
from keystep.export.golden import Arrays, golden_arrays, plan_arrays, score_arrays, write_golden
from keystep.export.levels import (
    Controller,
    Planning,
    load_controller,
    load_planning,
    load_scoring,
    planning_ahead,
    within_subgoals,
)
from keystep.export.manifest import ExportError, build_manifest, validate
from keystep.export.steps import check_steps
from keystep.export.text import TOLD, text_graph
from keystep.export.unet_weights import Precision, check_precision, has_kernels, runnable, write_unet
from keystep.export.verify import differences, measured_errors
from keystep.export.weights import MAX_BYTES, external_entries, save_graph, share_weights
from keystep.files import replacing_folder, sha256, write_json
from keystep.models import DiffusionController
from keystep.models.checkpoint import read_checkpoint
from keystep.models.planner import StatePlanner

DTYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.STRING: "string",
}
CONDITIONS = (graphs.CONDITION, graphs.FILM, plan_graphs.GOAL, plan_graphs.CONDITION, plan_graphs.FILM, TOLD)


def export_bundle(
    checkpoint: Path,
    output: Path,
    *,
    planner: Path | None = None,
    scorer: Path | None = None,
    precision: Precision = "fp32",
    name: str | None = None,
    execute: int | None = None,
    overwrite: bool = False,
    seed: int = 0,
    replan: bool = True,
    plan_ahead: int | None = None,
    resize: bool = False,
    constrained: bool = False,
    planner_sampler: dict[str, Any] | None = None,
    **sampler: Any,
) -> Path:
    """Compiles a controller, and the planner that gives it goals, into the folder `output`.

    The folder appears whole or not at all. Of 1-D U-Nets that denoise step by step the weights are there once
    more, for the native engine, with its errors against torch on the golden cases; where that engine does not
    run them there is a warning instead.

    Args:
        checkpoint: folder of a controller, written by training.
        planner: folder of a planner; the bundle's family is then `subgoal`, else `flat`.
        scorer: folder of a scorer of the planner's plans.
        precision: of the weights for the native engine, fp32, bf16 or int8; ONNX graphs are always fp32.
        name: the policy's name; by default that of the folder.
        execute: actions executed per chunk; by default as trained, and at most what a subgoal is held for.
        overwrite: replace an existing bundle.
        seed: of the golden observations and noise.
        replan: plan again when all subgoals are used up (default of the runtime).
        plan_ahead: in async mode a plan is asked for so many actions before the old one is used up,
            0..steps_per_subgoal; None: as many as recent plans and chunks took (default of the runtime).
        resize: let the runtime resize images of another size.
        constrained: of a planner that writes code: replies are code unless a session is told otherwise.
        planner_sampler: fields of the planner's SamplerConfig to change.
        sampler: fields of the controller's SamplerConfig to change, e.g. inference_steps=10 or kind="ddpm".

    Returns:
        `output`.

    Raises:
        CheckpointError: a checkpoint is missing, damaged, or has weights that are not finite.
        TextEncoderError: the planner's text encoder is damaged or unknown.
        ExportError: an option is out of range or does not fit, or planner and controller do not fit together;
            an engine differs from torch by more than `keystep verify` allows.
        FileExistsError: `output` exists and is not to be replaced.
        OSError: the disk is full, for example; `output` is as it was.
    """
    check_output(output, overwrite)
    if is_lerobot(checkpoint):
        wanted = "a checkpoint of keystep train"
        raise ExportError(
            f"checkpoint: expected {wanted}, got one of LeRobot: keystep convert lerobot {checkpoint}"
        )
    if read_checkpoint(checkpoint).kind == "code_planner":
        pair = {"planner": planner, "scorer": scorer, "execute": execute, "planner_sampler": planner_sampler}
        own = {"name": name, "overwrite": overwrite, "seed": seed, "resize": resize}
        plans = {"replan": replan, "plan_ahead": plan_ahead, "constrained": constrained}
        return export_code_bundle(checkpoint, output, precision=precision, **own, **pair, **plans, **sampler)
    check_precision(precision)
    if constrained:
        raise ExportError("constrained: expected False for a policy that writes no code, got True")
    if planner_sampler and planner is None:
        got = ", ".join(planner_sampler)
        raise ExportError(f"planner_sampler: expected none for a policy without planner, got {got}")
    for field, value in (("scorer", scorer), ("plan_ahead", plan_ahead)):
        if value is not None and planner is None:
            raise ExportError(f"{field}: expected none for a policy without planner, got {value}")
    controller = load_controller(checkpoint, sampler, execute, resize)
    planning = load_planning(planner, planner_sampler or {}, replan, controller) if planner else None
    if planning is not None:
        planning = planning_ahead(planning, plan_ahead)
        if scorer is not None:
            planning = replace(planning, scoring=load_scoring(scorer, planning))
        controller = within_subgoals(controller, planning, execute)
    return write_bundle(
        controller, planning, output, precision=precision, name=name, overwrite=overwrite, seed=seed
    )


def check_output(output: Path, overwrite: bool) -> None:
    """That only a bundle is overwritten. Raises ExportError."""
    if output.exists() and overwrite and not (output / "manifest.json").is_file():
        raise ExportError(f"output: expected a bundle to overwrite, got {output}, which has no manifest.json")


def write_bundle(
    controller: Controller,
    planning: Planning | None,
    output: Path,
    *,
    precision: Precision = "fp32",
    name: str | None = None,
    overwrite: bool = False,
    seed: int = 0,
) -> Path:
    """Writes and verifies the bundle of what is loaded; arguments and errors as of `export_bundle`."""
    with replacing_folder(output, overwrite) as folder:
        unets = _write_unets(controller, planning, precision, folder)
        entries = _write_controller(controller, folder)
        arrays = golden_arrays(controller, seed)
        if planning is not None:
            entries |= _write_planner(planning, folder)
            arrays |= plan_arrays(planning, arrays, seed)
            arrays |= score_arrays(planning, arrays, seed)
        share_weights(entries, folder, MAX_BYTES)
        _check_finite(arrays)
        write_golden(folder / "golden.npz", arrays)
        golden = {"file": "golden.npz", "sha256": sha256(folder / "golden.npz")}
        title = name if name is not None else output.name.removesuffix(".keystep")
        manifest = build_manifest(title, controller, planning, entries, golden, unets)
        write_json(folder / "manifest.json", manifest)
        if unets:
            _record_errors(manifest, unets, precision, folder)
        for difference in differences(folder):
            raise ExportError(difference)
        check_steps(controller, manifest, arrays, folder)
    return output


def _check_finite(arrays: Arrays) -> None:
    for name, values in arrays.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ExportError(f"golden.{name}: expected finite answers of the trained policy, got NaN or Inf")


def _write_controller(controller: Controller, folder: Path) -> dict[str, Any]:
    entries = {}
    for kind in controller_graphs(controller):
        if controller.graphs is not None:
            entries[kind] = _take_graph(controller.graphs[kind], folder)
            continue
        module, inputs = controller_module(kind, controller)
        entries[kind] = _write_graph(kind, module, inputs, OUTPUTS[kind], folder)
    return entries


def _take_graph(path: Path, folder: Path) -> dict[str, Any]:
    """Copies a graph that exists already, and the weights beside it; returns its entry of the manifest."""
    for file in path.parent.glob(f"{path.name}*"):  # FILE.onnx.data, too
        shutil.copy(file, folder / file.name)
    return graph_entry(folder / path.name)


def _write_planner(planning: Planning, folder: Path) -> dict[str, Any]:
    model, guided = planning.model, planning.guided
    path = folder / "text.onnx"
    text_graph(planning.text_encoder, model, guided, path, MAX_BYTES, planning.scoring is not None)
    entries = {"text": graph_entry(path)}
    for kind in plan_graphs.plan_graphs(model):
        module, inputs, output = plan_graphs.plan_module(kind, model, guided)
        # Only the graph that runs once per denoise step runs with other rows: one, or those of candidates.
        rows = plan_graphs.ROW_TENSORS if kind == "plan_denoise" else ()
        entries[kind] = _write_graph(kind, module, inputs, output, folder, rows)
    if planning.scoring is not None:
        module, inputs, output = score_graph.score_module(planning.scoring.model, guided)
        entries["score"] = _write_graph("score", module, inputs, output, folder, score_graph.ROW_TENSORS)
    return entries


def _write_unets(
    controller: Controller, planning: Planning | None, precision: Precision, folder: Path
) -> dict[str, dict[str, Any]]:
    """Weights for the native engine, which only runs step by step: the manifest's entries, by place."""
    entries, policy = {}, controller.model
    if isinstance(policy, DiffusionController) and has_kernels(policy.unet):
        steps, path = sampler_of(controller).train_steps, folder / "unet.safetensors"
        entries["unet"] = write_unet(policy.unet, steps, precision, path)
        entries["unet"]["horizon"] = policy.config.horizon
    if planning is not None and isinstance(planning.model, StatePlanner):
        steps, path = planning.sampler.train_steps, folder / "plan_unet.safetensors"
        entries["planner.unet"] = write_unet(planning.model.unet, steps, precision, path, "planner.unet")
        entries["planner.unet"]["horizon"] = planning.config.subgoals
    if precision != "fp32" and not entries:
        raise ExportError(f"precision: expected fp32 for a policy without steps of a U-Net, got {precision}")
    return entries


def _record_errors(
    manifest: dict[str, Any], unets: dict[str, dict[str, Any]], precision: Precision, folder: Path
) -> None:
    """Runs the bundle as it now is by the native engine, and writes its manifest once more."""
    for place, errors in measured_errors(folder, runnable(precision)).items():
        finite = {name: error for name, error in errors.items() if math.isfinite(error["max"])}
        if precision not in finite:
            wanted = "finite outputs on the golden data"
            raise ExportError(f"{place}.errors.{precision}: expected {wanted}, got NaN or Inf")
        unets[place]["errors"] = finite
    validate(manifest)
    write_json(folder / "manifest.json", manifest)


def _write_graph(
    kind: str,
    module: nn.Module,
    inputs: dict[str, Tensor],
    output: str,
    folder: Path,
    row_tensors: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Writes `kind`.onnx; returns its entry of the manifest."""
    path = folder / f"{kind}.onnx"
    rows = tuple(tensor for tensor in row_tensors if tensor in (*inputs, output))
    model = graphs.to_onnx(module, tuple(inputs.values()), list(inputs), output, rows)
    save_graph(model, path, MAX_BYTES)
    entry = graph_entry(path, len(inputs[rows[0]]) if rows else 1)
    names = [tensor["name"] for tensor in entry["inputs"]]
    if unread := [name for name in inputs if name not in names]:  # the exporter drops them
        raise UnreadError(kind, unread)
    if names != list(inputs):
        raise ExportError(f"graphs.{kind}.inputs: expected {list(inputs)}, got {names}")
    return entry


def graph_entry(path: Path, rows: int = 2) -> dict[str, Any]:
    """The manifest's entry for a graph file; a symbolic first axis has `rows`."""
    model = onnx.load(path, load_external_data=False)
    if not any(used.domain.startswith(("ai.onnx.contrib", "com.microsoft")) for used in model.opset_import):
        onnx.checker.check_model(path)
    entry = {
        "file": path.name,
        "sha256": sha256(path),
        "inputs": [_tensor(value, rows) for value in model.graph.input],
        "outputs": [_tensor(value, rows) for value in model.graph.output],
    }
    if external := external_entries(path):
        entry["external"] = external
    return entry


def _tensor(value: onnx.ValueInfoProto, rows: int) -> dict[str, Any]:
    """The manifest's entry for an input or output."""
    kind = value.type.tensor_type
    shape = [rows if axis.dim_param == graphs.ROWS else axis.dim_value for axis in kind.shape.dim]
    if not all(shape) or kind.elem_type not in DTYPES:
        raise ExportError(f"graphs.{value.name}: expected a known type and a fixed shape, got {kind}")
    return tensor_entry(value.name, DTYPES[kind.elem_type], shape)


def tensor_entry(name: str, dtype: str, shape: list[int]) -> dict[str, Any]:
    """Conditions are known by name; every other name, without `plan.` or `score.`, is the role."""
    role = "condition" if name in CONDITIONS else name.removeprefix("plan.").removeprefix("score.")
    return {"name": name, "dtype": dtype, "shape": shape, "role": role}
