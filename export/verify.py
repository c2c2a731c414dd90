"""Proves that a compiled policy is the trained one: torch, ONNX and C++ on the golden data of a bundle.

Needs neither torch nor the checkpoint, so it runs on the robot; with a checkpoint, torch computes its answers
anew. "C++ runtime" is the loop with ONNX Runtime for all graphs, "native P" the same with our own kernels for
U-Nets, in precision P.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import keystep
from keystep.export.comparison import Comparison, VerifyReport, compare
from keystep.export.onnx_policy import OnnxPolicy, offset_and_scale

TOLERANCE = 1e-4
GOLDEN, ONNX, CPP = "golden (torch)", "ONNX from Python", "C++ runtime"
LABELS = {"model_output": "model output", "plan.model_output": "plan output"}  # of arrays of golden.npz
Arrays = dict[str, np.ndarray]
Errors = dict[str, dict[str, float]]  # by precision: {"max", "rms"}


def verify_bundle(
    path: Path,
    checkpoint: Path | None = None,
    planner: Path | None = None,
    *,
    tolerance: float = TOLERANCE,
    threads: int = 1,
    **options: Any,
) -> VerifyReport:
    """Compares, on the golden cases, what the bundle computes with what torch computed when it was exported.

    Args:
        checkpoint: also compare with torch now, from this controller's checkpoint.
        planner: and from this planner's.
        tolerance: greatest difference allowed; of the native engine, also twice what the manifest records.
        options: for `keystep.load` of the runtime with ONNX Runtime, e.g. provider="openvino", with which the
            native engine is left out.

    Raises:
        BundleError: the bundle is damaged. A difference does not raise: see `VerifyReport.ok`.
    """
    if planner is not None and checkpoint is None:
        raise keystep.ArgumentError("planner: expected the controller's checkpoint beside it, got none")
    manifest, golden = _read(path)
    onnx = OnnxPolicy(keystep._core.read_files(path), manifest, threads)
    answers = _onnx_answers(onnx, manifest, golden)
    rows = _rows(ONNX, answers, GOLDEN, golden)
    if onnx.has_unrolled:
        unrolled = {"actions": _each(onnx.unrolled_actions, golden)}
        rows += _rows("ONNX, one graph", unrolled, GOLDEN, golden)
    wanted = ("actions", "plan") if manifest["planner"] else ("actions",)
    options = {"engine": "onnxruntime", "threads": threads} | options
    cpp = _runtime_answers(path, manifest, golden, wanted, **options)
    rows += _rows(CPP, cpp, GOLDEN, golden) + _rows(CPP, cpp, ONNX, answers)
    if options.get("provider", "cpu") == "cpu":
        rows += _native_rows(path, manifest, golden, threads)
    if checkpoint is not None:
        torch_answers = _torch_answers(checkpoint, planner, manifest, golden)
        rows += _rows(CPP, cpp, "torch (checkpoint)", torch_answers)
    return VerifyReport(manifest["name"], len(golden["actions"]), tolerance, tuple(rows))


def measured_errors(path: Path, precisions: Iterable[str]) -> dict[str, Errors]:
    """What the native engine answers on the golden cases against torch, to be recorded in the manifest.

    Returns:
        By U-Net (`unet`, `planner.unet`) and precision, in network units; infinite where answers are not
        finite. Nothing, after a warning that says why, if the native engine cannot run this bundle.

    Raises:
        BundleError: the runtime does not accept the bundle.
    """
    manifest, golden = _read(path)
    errors: dict[str, Errors] = {}
    for quantity, (place, _) in _unets(manifest).items():
        errors[place] = {}
        for precision in precisions:
            try:
                row = _native_row(path, manifest, golden, precision, quantity, threads=0)
                errors[place][precision] = {"max": row.max_error, "rms": row.rms_error}
            except keystep.PolicyError as error:
                if error.status not in ("rejected_chunk", "rejected_plan"):  # NaN or Inf
                    raise
                errors[place][precision] = {"max": math.inf, "rms": math.inf}
            except keystep.ProviderError as error:
                warnings.warn(f"native engine: {error}; ONNX Runtime runs the bundle's U-Nets", stacklevel=3)
                return {}
    return errors


def graph_error(path: Path, place: str) -> float:
    """The greatest error of ONNX Runtime where the native engine would run `unet` or `planner.unet`.

    In network units: what the policy makes of rounding in single precision. Steps near the noisy end can
    magnify that of an untrained network by thousands.
    """
    manifest, golden = _read(path)
    (quantity,) = (name for name, (known, _) in _unets(manifest).items() if known == place)
    return _network_row(path, manifest, golden, quantity, engine="onnxruntime").max_error


def _unets(manifest: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """What a U-Net with weights of its own makes: the U-Net's place in the manifest, and its entry."""
    places = {"actions": ("unet", manifest["unet"])}
    if manifest["planner"]:
        places["plan"] = ("planner.unet", manifest["planner"].get("unet"))
    return {quantity: (place, entry) for quantity, (place, entry) in places.items() if entry}


def _native_rows(path: Path, manifest: dict[str, Any], golden: Arrays, threads: int) -> list[Comparison]:
    """One row for each thing that a U-Net makes, in each precision that all of them have been measured in."""
    unets = _unets(manifest)
    errors = [entry["errors"] for _, entry in unets.values()]
    precisions = [name for name in errors[0] if all(name in other for other in errors)] if errors else []
    return [
        _native_row(path, manifest, golden, precision, quantity, threads)
        for precision in precisions
        for quantity in unets
    ]


def _native_row(
    path: Path, manifest: dict[str, Any], golden: Arrays, precision: str, quantity: str, threads: int
) -> Comparison:
    options = {"engine": "native", "precision": precision, "threads": threads}
    row = _network_row(path, manifest, golden, quantity, **options)
    recorded = _unets(manifest)[quantity][1]["errors"].get(precision, {"max": 0.0})["max"]
    return replace(row, ours=f"native {precision}", recorded=recorded)


def _network_row(
    path: Path, manifest: dict[str, Any], golden: Arrays, quantity: str, **options: Any
) -> Comparison:
    """The runtime against torch in network units, in which all policies have the same range."""
    answers = _runtime_answers(path, manifest, golden, (quantity,), **options)[quantity]
    planner, normalization = manifest["planner"], manifest["normalization"]
    entry = planner["normalization"] if quantity == "plan" else normalization["action"]
    offset, scale = offset_and_scale(entry)
    ours, wanted = (answers - offset) / scale, (golden[quantity] - offset) / scale
    return compare(CPP, GOLDEN, f"norm. {quantity}", ours, wanted)


def _rows(ours: str, answers: Arrays, reference: str, wanted: Arrays) -> list[Comparison]:
    """One row for each thing that both know."""
    known = [name for name in answers if name in wanted]
    return [compare(ours, reference, LABELS.get(name, name), answers[name], wanted[name]) for name in known]


def _read(path: Path) -> tuple[dict[str, Any], Arrays]:
    """The manifest, and its golden data. Versions 1 and 2 had no U-Nets beside the graphs, 1 no planners."""
    manifest = {"planner": None, "unet": None, **keystep.read_manifest(path)}
    return manifest, _read_golden(path / manifest["golden"]["file"], manifest)


def _read_golden(path: Path, manifest: dict[str, Any]) -> Arrays:
    with np.load(path, allow_pickle=False) as archive:
        golden = {name: archive[name] for name in archive.files}
    graphs = manifest["graphs"]
    names = ["actions", *(["noise"] if manifest["sampler"] else [])]
    names += [tensor["role"] for tensor in graphs["act" if "act" in graphs else "encode"]["inputs"]]
    names += ["model_output"] if "denoise" in graphs else []
    names += ["text", "plan", "plan.noise", "plan.model_output"] if manifest["planner"] else []
    for name in names:
        if name not in golden:
            raise keystep.BundleError(f"golden.{name}: expected an array in {path.name}, got none")
        if not len(golden[name]) or len(golden[name]) != len(golden["actions"]):
            cases = f"{len(golden['actions'])} cases, at least one"
            raise keystep.BundleError(f"golden.{name}: expected {cases}, got {len(golden[name])}")
    return golden


def _onnx_answers(onnx: OnnxPolicy, manifest: dict[str, Any], golden: Arrays) -> Arrays:
    """By the names of golden.npz."""
    answers = {"actions": _each(onnx.actions, golden)}
    if onnx.has_steps:
        answers["model_output"] = _each(onnx.first_output, golden)
    if manifest["planner"]:
        plans = [onnx.plan(golden, case) for case in range(len(golden["actions"]))]
        answers["plan"], answers["plan.model_output"] = (np.stack(part) for part in zip(*plans, strict=True))
    return answers


def _each(answer: Callable[[Arrays, int], np.ndarray], golden: Arrays) -> np.ndarray:
    return np.stack([answer(golden, case) for case in range(len(golden["actions"]))])


def _runtime_answers(
    path: Path, manifest: dict[str, Any], golden: Arrays, quantities: Sequence[str], **options: Any
) -> Arrays:
    """`actions` and `plan`, as wanted, in physical units (images in 0..1)."""
    answer = {"actions": _chunk, "plan": _plan}
    with keystep.load(path, **options) as runtime:
        return {
            quantity: _each(functools.partial(answer[quantity], runtime, manifest), golden)
            for quantity in quantities
        }


def _plan(runtime: keystep.Runtime, manifest: dict[str, Any], golden: Arrays, case: int) -> np.ndarray:
    runtime.reset(task=str(golden["text"][case]))
    noise = _noise(golden, "plan.noise", case)
    plan = runtime.predict_plan(_view(golden, "observation", case), noise, as_float=True)
    return plan[manifest["planner"]["subgoal"]]


def _chunk(runtime: keystep.Runtime, manifest: dict[str, Any], golden: Arrays, case: int) -> np.ndarray:
    """By the controller alone: of a hierarchy, a goal is handed in as every subgoal."""
    goal = _view(golden, "goal", case)
    if manifest["planner"]:
        repeats = manifest["planner"]["subgoals"]
        given = {key: np.repeat(value[None], repeats, axis=0) for key, value in goal.items()}
        runtime.reset(task=str(golden["text"][case]), subgoals=given)
    else:
        task = manifest["tasks"][int(golden["task"][case])]["name"] if "task" in golden else None
        runtime.reset(task=task, goal=goal or None)
    return runtime.predict_chunk(_view(golden, "observation", case), _noise(golden, "noise", case))


def _noise(golden: Arrays, name: str, case: int) -> np.ndarray | None:
    rows = golden[name][case] if name in golden else None
    return rows[0] if rows is not None and len(rows) == 1 else rows


def _view(golden: Arrays, view: str, case: int) -> Arrays:
    """Row `case` of `observation.*` or `goal.*`, with the keys of an observation."""
    names = [name for name in golden if name.startswith(f"{view}.")]
    return {name.replace(view, "observation", 1): np.ascontiguousarray(golden[name][case]) for name in names}


def _torch_answers(
    checkpoint: Path, planner: Path | None, manifest: dict[str, Any], golden: Arrays
) -> Arrays:
    from keystep.export.golden import torch_answer, torch_plan  # needs torch, which a robot need not have
    from keystep.export.levels import load_controller, load_planning

    form, execute = "denoise", manifest["chunk"]["execute"]
    changes = _sampler_changes(manifest["sampler"])
    controller = load_controller(checkpoint, changes, form, execute, resize=False)
    cases = range(len(golden["actions"]))
    answers = {"actions": np.stack([torch_answer(controller, golden, case)[0] for case in cases])}
    if planner is not None:
        changes = _sampler_changes(manifest["planner"]["sampler"])
        planning = load_planning(planner, changes, True, controller)
        answers["plan"] = np.stack([torch_plan(planning, golden, case)[0] for case in cases])
    return answers


def _sampler_changes(entry: dict[str, Any] | None) -> dict[str, Any]:
    return {} if entry is None else entry | {"betas": tuple(entry["betas"])}
