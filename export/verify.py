"""Proves that a compiled policy is the trained one: torch, ONNX and C++ on the golden data of a bundle.

Needs neither torch nor the checkpoint, so it runs on the robot; with a checkpoint, torch computes its answers
anew. "ONNX from Python" is the networks alone, at the first denoise step: it tells a wrong graph from a wrong
loop. "C++ runtime" is the loop with ONNX Runtime for all graphs, "native P" the same with our own kernels for
U-Nets, in precision P.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keystep
from keystep.export.answers import (
    Arrays,
    candidate_answers,
    has_scorer,
    onnx_outputs,
    runtime_answers,
    torch_answers,
)
from keystep.export.code_verify import verify_code_bundle
from keystep.export.comparison import TOLERANCE, Comparison, VerifyReport, compare
from keystep.export.golden_file import CONTINUED, read_golden
from keystep.export.onnx_policy import OnnxPolicy
from keystep.export.rounding import magnified, network_units, resolution
from keystep.manifests import family_of

ONNX, CPP = "ONNX from Python", "C++ runtime"
# Of arrays of golden.npz that have no physical units.
LABELS = {
    "model_output": "model output",
    "plan.model_output": "plan output",
    "scores": "scores",
    "best score": "best score",
}
Errors = dict[str, dict[str, float]]  # by precision: {"max", "rms"}


def verify_bundle(
    path: Path,
    checkpoint: Path | None = None,
    planner: Path | None = None,
    *,
    scorer: Path | None = None,
    tolerance: float = TOLERANCE,
    threads: int = 1,
    **options: Any,
) -> VerifyReport:
    """Compares, on the golden cases, what the bundle computes with what torch computed when it was exported.

    Args:
        checkpoint: also compare with torch now, from this controller's checkpoint.
        planner: and from this planner's.
        scorer: and from this scorer's.
        tolerance: greatest difference allowed, in network units; see `Comparison.allowed` for more.
        options: for `keystep.load` of the runtime with ONNX Runtime, e.g. provider="openvino", with which the
            native engine is left out.

    Raises:
        BundleError: the bundle is damaged. A difference does not raise: see `VerifyReport.ok`.
        ArgumentError: options that do not go together, or with this bundle.
        PolicyError: the runtime's answers are not finite.
    """
    if family_of(path) == "code":
        given = {"checkpoint": checkpoint, "planner": planner, "scorer": scorer}
        given["provider"] = None if options.get("provider") == "cpu" else options.get("provider")
        for name, value in given.items():
            if value is not None:
                raise keystep.ArgumentError(f"{name}: expected none with family code, got {value}")
        return verify_code_bundle(path, tolerance, threads)
    if planner is not None and checkpoint is None:
        raise keystep.ArgumentError("planner: expected the controller's checkpoint beside it, got none")
    if scorer is not None and planner is None:
        raise keystep.ArgumentError("scorer: expected the planner's checkpoint beside it, got none")
    manifest, golden = _read(path)
    if scorer is not None and not has_scorer(manifest):
        raise keystep.ArgumentError(f"scorer: expected none (the bundle has no scorer), got {scorer}")
    wanted = [
        "actions",
        *(["plan"] if manifest["planner"] else []),
        *([CONTINUED] if CONTINUED in golden else []),
    ]
    options = {"engine": "onnxruntime", "threads": threads} | options
    # The runtime comes first: it says what is wrong with a graph.
    cpp = runtime_answers(path, manifest, golden, wanted, **options)
    if has_scorer(manifest):
        cpp |= candidate_answers(path, manifest, golden, **options)
    outputs = onnx_outputs(OnnxPolicy(path, manifest, threads), manifest, golden)
    made = golden_label(manifest)
    rows = _rows(manifest, ONNX, outputs, made, golden) + _rows(manifest, CPP, cpp, made, golden)
    if options.get("provider", "cpu") == "cpu":
        rows += _native_rows(path, manifest, golden, threads)
    if checkpoint is not None:
        torch = torch_answers(checkpoint, planner, manifest, golden, scorer)
        rows += _rows(manifest, CPP, cpp, "torch (checkpoint)", torch)
    if not all(row.within(tolerance) for row in rows):
        rows = _explained(rows, magnified(path, manifest, golden, threads))
    return VerifyReport(manifest["name"], len(golden["actions"]), tolerance, tuple(rows))


def golden_label(manifest: dict[str, Any]) -> str:
    """Who computed the golden data: torch, but for graphs that had no torch behind them."""
    return "golden (ONNX)" if "golden_by" in manifest["provenance"] else "golden (torch)"


def differences(path: Path) -> list[str]:
    """What makes `keystep verify` refuse a bundle, each "field: expected X, got Y": it is not exported."""
    try:
        report = verify_bundle(path, threads=0)
    except (keystep.PolicyError, keystep.BundleError, keystep.ArgumentError) as error:  # NaN, for example
        return [f"verify: expected answers to the golden cases, got {error}"]
    found = []
    for row in report.different:
        allowed = f"{row.allowed(report.tolerance):.2g} in network units"
        wanted = f"{row.ours} to be {row.reference} within {allowed}"
        found.append(f"verify.{row.quantity}: expected {wanted}, got {row.max_error:.2g}")
    return found


def _explained(rows: list[Comparison], rounding: dict[str, float]) -> list[Comparison]:
    """With what rounding alone does to each thing, by the names of golden.npz."""
    found = {LABELS.get(name, name): error for name, error in rounding.items()}
    return [replace(row, rounding=max(row.rounding, found[row.quantity])) for row in rows]


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


def _unets(manifest: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """What a U-Net with weights of its own makes: the U-Net's place in the manifest, and its entry."""
    places = {"actions": ("unet", manifest["unet"])}
    if manifest["planner"]:
        places["plan"] = ("planner.unet", manifest["planner"]["unet"])
    return {quantity: (place, entry) for quantity, (place, entry) in places.items() if entry}


def _native_rows(path: Path, manifest: dict[str, Any], golden: Arrays, threads: int) -> list[Comparison]:
    """One row for each thing that a U-Net makes, in each precision that all of them have been measured in."""
    unets = _unets(manifest)
    errors = [entry["errors"] for _, entry in unets.values()]
    precisions = [name for name in errors[0] if all(name in other for other in errors)] if errors else []
    rows = [
        _native_row(path, manifest, golden, precision, quantity, threads)
        for precision in precisions
        for quantity in unets
    ]
    if CONTINUED in golden and "actions" in unets and "fp32" in precisions:
        rows.append(_native_row(path, manifest, golden, "fp32", CONTINUED, threads))
    if has_scorer(manifest) and "plan" in unets and "fp32" in precisions:
        native = {"engine": "native", "precision": "fp32", "threads": threads}
        answers = candidate_answers(path, manifest, golden, **native)
        rows += _rows(manifest, "native fp32", answers, golden_label(manifest), golden)
    return rows


def _native_row(
    path: Path, manifest: dict[str, Any], golden: Arrays, precision: str, quantity: str, threads: int
) -> Comparison:
    options = {"engine": "native", "precision": precision, "threads": threads}
    answers = runtime_answers(path, manifest, golden, (quantity,), **options)
    (row,) = _rows(manifest, f"native {precision}", answers, golden_label(manifest), golden)
    # Rounded weights may cost what they did at export; in fp32 the engine computes what the graphs do.
    errors = {} if precision == "fp32" else _unets(manifest)[quantity][1]["errors"]
    return replace(row, recorded=errors.get(precision, {"max": 0.0})["max"])


def _rows(
    manifest: dict[str, Any], ours: str, answers: Arrays, reference: str, wanted: Arrays
) -> list[Comparison]:
    """One row for each thing that both know."""
    rows = []
    for name in answers:
        if name not in wanted:
            continue
        left, right = (network_units(manifest, name, values[name]) for values in (answers, wanted))
        row = compare(ours, reference, LABELS.get(name, name), left, right)
        physical = compare("", "", "", answers[name], wanted[name]).max_error if name not in LABELS else None
        rows.append(replace(row, physical=physical, rounding=resolution(manifest, name, wanted[name])))
    return rows


def _read(path: Path) -> tuple[dict[str, Any], Arrays]:
    manifest = keystep.read_manifest(path)
    golden = read_golden(path, manifest)
    if "scores" in golden:
        golden["best score"] = golden["scores"].max(axis=1)
    return manifest, golden
