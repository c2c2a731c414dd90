"""Proves that a compiled policy is the trained one: torch, ONNX and C++ on the golden data of a bundle.

Needs neither torch nor the checkpoint, so it runs on the robot; with a checkpoint, torch computes its answers
anew.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import keystep
from keystep.export.onnx_policy import OnnxPolicy

TOLERANCE = 1e-4
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Comparison:
    """The greatest absolute difference between two ways to compute one thing, over all golden cases."""

    ours: str
    reference: str
    quantity: str
    max_error: float

    def within(self, tolerance: float) -> bool:
        return self.max_error <= tolerance  # false for NaN


@dataclass(frozen=True)
class VerifyReport:
    """Actions in physical units; model outputs are normalised."""

    bundle: str
    cases: int
    tolerance: float
    comparisons: tuple[Comparison, ...]

    @property
    def ok(self) -> bool:
        return all(comparison.within(self.tolerance) for comparison in self.comparisons)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"ok": self.ok}

    def __str__(self) -> str:
        lines = [f"{self.bundle}: {self.cases} golden cases, tolerance {self.tolerance:g}"]
        for row in self.comparisons:
            verdict = "ok" if row.within(self.tolerance) else "DIFFERS"
            pair = f"{row.ours:<16} = {row.reference:<18}"
            lines.append(f"  {pair} {row.quantity:<12} {row.max_error:9.2e}  {verdict}")
        return "\n".join(lines)


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
        tolerance: greatest difference allowed.
        options: for `keystep.load`, e.g. provider="openvino".

    Raises:
        BundleError: the bundle is damaged. A difference does not raise: see `VerifyReport.ok`.
    """
    if planner is not None and checkpoint is None:
        raise keystep.ArgumentError("planner: expected the controller's checkpoint beside it, got none")
    manifest = {"planner": None, **keystep.read_manifest(path)}  # version 1 knew no planners
    golden = _read_golden(path / manifest["golden"]["file"], manifest)
    cases = range(len(golden["actions"]))
    rows = []

    def compare(ours: str, reference: str, quantity: str, left: np.ndarray, right: np.ndarray) -> None:
        error = float(np.max(np.abs(left.astype(np.float64) - right)))
        rows.append(Comparison(ours, reference, quantity, error))

    onnx = OnnxPolicy(path, manifest, threads)
    actions = np.stack([onnx.actions(golden, case) for case in cases])
    compare("ONNX from Python", "golden (torch)", "actions", actions, golden["actions"])
    if onnx.has_steps:
        outputs = np.stack([onnx.first_output(golden, case) for case in cases])
        compare("ONNX from Python", "golden (torch)", "model output", outputs, golden["model_output"])
    if onnx.has_unrolled:
        unrolled = np.stack([onnx.unrolled_actions(golden, case) for case in cases])
        compare("ONNX, one graph", "golden (torch)", "actions", unrolled, golden["actions"])
    native = _native_answers(path, manifest, golden, threads, options)
    compare("C++ runtime", "golden (torch)", "actions", native["actions"], golden["actions"])
    compare("C++ runtime", "ONNX from Python", "actions", native["actions"], actions)
    if manifest["planner"]:
        plans = [onnx.plan(golden, case) for case in cases]
        outputs = np.stack([output for _, output in plans])
        compare("ONNX from Python", "golden (torch)", "plan output", outputs, golden["plan.model_output"])
        plan = np.stack([plan for plan, _ in plans])
        compare("ONNX from Python", "golden (torch)", "plan", plan, golden["plan"])
        compare("C++ runtime", "golden (torch)", "plan", native["plan"], golden["plan"])
    if checkpoint is not None:
        for quantity, fresh in _torch_answers(checkpoint, planner, manifest, golden).items():
            compare("C++ runtime", "torch (checkpoint)", quantity, native[quantity], fresh)
    return VerifyReport(manifest["name"], len(cases), tolerance, tuple(rows))


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


def _native_answers(
    path: Path, manifest: dict[str, Any], golden: Arrays, threads: int, options: dict[str, Any]
) -> Arrays:
    """`actions` and, of a hierarchy, `plan`, both in physical units (images in 0..1)."""
    chunks, plans = [], []
    with keystep.load(path, threads=threads, **options) as runtime:
        for case in range(len(golden["actions"])):
            seen, goal = _view(golden, "observation", case), _view(golden, "goal", case)
            if manifest["planner"]:
                text, repeats = str(golden["text"][case]), manifest["planner"]["subgoals"]
                runtime.reset(task=text)
                noise = golden["plan.noise"][case]
                plan = runtime.predict_plan(seen, noise[0] if len(noise) == 1 else noise, as_float=True)
                plans.append(plan[manifest["planner"]["subgoal"]])
                # The controller alone: a goal handed in as every subgoal.
                given = {key: np.repeat(value[None], repeats, axis=0) for key, value in goal.items()}
                runtime.reset(task=text, subgoals=given)
            else:
                task = manifest["tasks"][int(golden["task"][case])]["name"] if "task" in golden else None
                runtime.reset(task=task, goal=goal or None)
            rows = golden["noise"][case] if "noise" in golden else None
            chunks.append(
                runtime.predict_chunk(seen, rows[0] if rows is not None and len(rows) == 1 else rows)
            )
    return {"actions": np.stack(chunks), **({"plan": np.stack(plans)} if plans else {})}


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
