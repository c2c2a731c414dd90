"""Proves that a compiled policy is the trained one: torch, ONNX and C++ on the golden data of a bundle.

Needs neither torch nor the checkpoint, so it runs on the robot; with a checkpoint, torch computes its answers
anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import keystep
from keystep.export import numpy_sampler

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
    *,
    tolerance: float = TOLERANCE,
    threads: int = 1,
    **options: Any,
) -> VerifyReport:
    """Compares, on the golden cases, what the bundle computes with what torch computed when it was exported.

    Args:
        checkpoint: also compare with torch now, from this training checkpoint.
        tolerance: greatest difference allowed.
        options: for `keystep.load`, e.g. provider="openvino".

    Raises:
        BundleError: the bundle is damaged. A difference does not raise: see `VerifyReport.ok`.
    """
    manifest = keystep.read_manifest(path)
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
    native = _native_actions(path, manifest, golden, threads, options)
    compare("C++ runtime", "golden (torch)", "actions", native, golden["actions"])
    compare("C++ runtime", "ONNX from Python", "actions", native, actions)
    if checkpoint is not None:
        fresh = _torch_actions(checkpoint, manifest, golden)
        compare("C++ runtime", "torch (checkpoint)", "actions", native, fresh)
    return VerifyReport(manifest["name"], len(cases), tolerance, tuple(rows))


def _read_golden(path: Path, manifest: dict[str, Any]) -> Arrays:
    with np.load(path, allow_pickle=False) as archive:
        golden = {name: archive[name] for name in archive.files}
    roles = [tensor["role"] for tensor in manifest["graphs"]["encode"]["inputs"]]
    outputs = ["actions", *(["model_output"] if "denoise" in manifest["graphs"] else [])]
    for name in [*outputs, "noise", *roles]:
        if name not in golden:
            raise keystep.BundleError(f"golden.{name}: expected an array in {path.name}, got none")
        if not len(golden[name]) or len(golden[name]) != len(golden["actions"]):
            cases = f"{len(golden['actions'])} cases, at least one"
            raise keystep.BundleError(f"golden.{name}: expected {cases}, got {len(golden[name])}")
    return golden


class OnnxPolicy:
    """A bundle's graphs run by ONNX Runtime from Python, with the numpy sampler between."""

    def __init__(self, path: Path, manifest: dict[str, Any], threads: int) -> None:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        self._manifest = manifest
        self._sessions = {
            kind: onnxruntime.InferenceSession(
                path / graph["file"], settings, providers=["CPUExecutionProvider"]
            )
            for kind, graph in manifest["graphs"].items()
        }

    @property
    def has_steps(self) -> bool:
        return "denoise" in self._sessions

    def actions(self, golden: Arrays, case: int) -> np.ndarray:
        """[H, A], physical units."""
        noise = golden["noise"][case]
        if self.has_steps:
            sample = numpy_sampler.sample(self._manifest["sampler"], self._predict(golden, case), noise)
        else:
            inputs = {"noise": noise[:1], **self._condition(golden, case)}
            sample = self._sessions["sample"].run(["actions"], inputs)[0][0]
        offset, scale = _offset_and_scale(self._manifest["normalization"]["action"])
        return sample * scale + offset

    def first_output(self, golden: Arrays, case: int) -> np.ndarray:
        """[H, A]: the conditional model output of the first denoise step."""
        spec = self._manifest["sampler"]
        noise = np.repeat(golden["noise"][case][:1], 2 if spec["guidance"] else 1, axis=0)
        return self._predict(golden, case)(noise, numpy_sampler.timesteps(spec)[0])[0]

    def _predict(self, golden: Arrays, case: int) -> Callable[[np.ndarray, int], np.ndarray]:
        condition = self._condition(golden, case)

        def predict(sample: np.ndarray, timestep: int) -> np.ndarray:
            inputs = {"sample": sample, "timestep": np.array([timestep]), **condition}
            return self._sessions["denoise"].run(["model_output"], inputs)[0]

        return predict

    def _condition(self, golden: Arrays, case: int) -> Arrays:
        inputs = {}
        for tensor in self._manifest["graphs"]["encode"]["inputs"]:
            value = golden[tensor["role"]][case]
            if tensor["role"] != "task":
                value = self._normalized(tensor["role"], value)
            inputs[tensor["name"]] = value.reshape(tensor["shape"])
        names = [tensor["name"] for tensor in self._manifest["graphs"]["encode"]["outputs"]]
        return dict(zip(names, self._sessions["encode"].run(names, inputs), strict=True))

    def _normalized(self, role: str, value: np.ndarray) -> np.ndarray:
        offset, scale = _offset_and_scale(
            self._manifest["normalization"][role.replace("goal.", "observation.", 1)]
        )
        if ".images." in role:
            value = value.transpose(2, 0, 1) / 255
            offset, scale = (np.reshape(part, (-1, 1, 1)) for part in (offset, scale))
        return ((value - offset) / scale).astype(np.float32)


def _native_actions(
    path: Path, manifest: dict[str, Any], golden: Arrays, threads: int, options: dict[str, Any]
) -> np.ndarray:
    chunks = []
    with keystep.load(path, threads=threads, **options) as runtime:
        for case, noise in enumerate(golden["noise"]):
            views = {"observation": {}, "goal": {}}  # type: dict[str, dict[str, np.ndarray]]
            for name, values in golden.items():
                view, _, rest = name.partition(".")
                if view in views:
                    views[view][f"observation.{rest}"] = np.ascontiguousarray(values[case])
            task = manifest["tasks"][int(golden["task"][case])]["name"] if "task" in golden else None
            runtime.reset(task=task, goal=views["goal"] or None)
            chunks.append(runtime.predict_chunk(views["observation"], noise[0] if len(noise) == 1 else noise))
    return np.stack(chunks)


def _torch_actions(checkpoint: Path, manifest: dict[str, Any], golden: Arrays) -> np.ndarray:
    from keystep.export.golden import torch_answer  # needs torch, which a robot need not have
    from keystep.models import SamplerConfig, load_policy

    policy, known = load_policy(checkpoint)
    spec = SamplerConfig(**manifest["sampler"] | {"betas": tuple(manifest["sampler"]["betas"])})
    cases = range(len(golden["actions"]))
    return np.stack([torch_answer(policy, known, spec, golden, case)[0] for case in cases])


def _offset_and_scale(entry: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    if entry["mode"] == "identity":
        return np.zeros(1), np.ones(1)
    if entry["mode"] == "mean_std":
        return np.array(entry["mean"]), np.array(entry["std"])
    low, high = np.array(entry["min"]), np.array(entry["max"])
    return (high + low) / 2, (high - low) / 2
