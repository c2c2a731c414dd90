"""A bundle's graphs run by ONNX Runtime from Python, with the runtime's sampler between them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import keystep
from keystep import _core
from keystep.export.golden_file import DELAY, PREVIOUS
from keystep.export.relative import anchor_of
from keystep.features import Feature, feature_of, features_of

Arrays = dict[str, np.ndarray]
Denoise = Callable[[np.ndarray, int], np.ndarray]  # as of keystep.Sampler.sample


class OnnxPolicy:
    """What a bundle computes for its golden cases: `golden` the arrays of golden.npz, `case` a row.

    Args:
        error: standard deviation of noise on every graph's outputs, relative to their greatest value; see
            `keystep.export.rounding`.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], threads: int, error: float = 0.0) -> None:
        self._error, self._rng = error, np.random.default_rng(0)
        files = _core.read_files(path)  # hashed
        self._manifest = manifest
        self._sessions = {
            kind: onnx_session(graph, files, threads, _extended(manifest))
            for kind, graph in manifest["graphs"].items()
        }

    @property
    def has_steps(self) -> bool:
        return "denoise" in self._sessions

    # ---- controller

    def actions(self, golden: Arrays, case: int) -> np.ndarray:
        """[H, A], physical units."""
        if self.has_steps:
            predict = self._predict(golden, case)
            sample = _sampled(self._manifest["sampler"], predict, golden["noise"][case])
        else:
            sample = self._run("act", self._inputs("act", golden, case))["actions"][0]
        offset, scale = self._of_actions(golden, case)
        return sample * scale + offset

    def _of_actions(self, golden: Arrays, case: int) -> tuple[np.ndarray, np.ndarray]:
        """Offset and scale from network units to physical ones."""
        action, features = self._manifest["action"], features_of(self._manifest["observation"])
        offset, scale = offset_and_scale(action["normalization"])
        return offset + anchor_of(action.get("relative"), features, golden, case), scale

    def continued(self, golden: Arrays, case: int) -> np.ndarray:
        """[H, A], physical units: of a chunk that is given its first rows."""
        chunk, delay = self._manifest["chunk"], int(golden[DELAY][case])
        offset, scale = self._of_actions(golden, case)
        previous = golden[PREVIOUS][case][:delay]
        rows = np.zeros((chunk["horizon"], len(self._manifest["action"]["names"])), np.float32)
        given = np.zeros((chunk["horizon"], 1), bool)
        place = slice(chunk["start"], chunk["start"] + delay)
        rows[place], given[place] = (previous - offset) / scale, True
        predict = self._predict(golden, case, given.astype(np.float32))

        def denoise(sample: np.ndarray, timestep: int) -> np.ndarray:
            sample[...] = np.where(given, rows, sample)  # what the sampler goes on from, too
            return predict(sample, timestep)

        sample = _sampled(self._manifest["sampler"], denoise, golden["noise"][case].copy())
        actions = sample * scale + offset
        actions[place] = previous
        return actions

    def first_output(self, golden: Arrays, case: int) -> np.ndarray:
        """[H, A]: the conditional model output of the first denoise step."""
        predict = self._predict(golden, case)
        return _first(self._manifest["sampler"], predict, golden["noise"][case])

    def _predict(self, golden: Arrays, case: int, given: np.ndarray | None = None) -> Denoise:
        condition, guided = self._condition(golden, case), bool(self._manifest["sampler"]["guidance"])

        mask = np.zeros((self._manifest["chunk"]["horizon"], 1), np.float32) if given is None else given

        def predict(sample: np.ndarray, timestep: int) -> np.ndarray:
            step = condition | {"sample": _rows(sample, guided), "timestep": np.array([timestep])}
            step["prefix_mask"] = _rows(mask, guided)
            output = self._run("denoise", step)["model_output"]
            return output if guided else output[0]

        return predict

    def _condition(self, golden: Arrays, case: int) -> Arrays:
        """What the U-Net is told. Without a graph `film`, `encode` does its work."""
        known = self._run("encode", self._inputs("encode", golden, case))
        return known | self._run("film", known) if "film" in self._sessions else known

    def _inputs(self, kind: str, golden: Arrays, case: int) -> Arrays:
        inputs = {}
        for tensor in self._manifest["graphs"][kind]["inputs"]:
            role, value = tensor["role"], golden[tensor["role"]][case]
            if role != "task":
                value = normalized(*feature_of(self._manifest, role), value)
            inputs[tensor["name"]] = value.reshape(tensor["shape"])
        return inputs

    # ---- planner

    def plan(self, golden: Arrays, case: int) -> np.ndarray:
        """A plan [M, ...] in physical units, images in 0..1."""
        planner = self._manifest["planner"]
        plan = _sampled(planner["sampler"], self._predict_plan(golden, case), golden["plan.noise"][case])
        image = feature_of(self._manifest, planner["subgoal"])[0].is_image
        offset, scale = physical_range(planner["normalization"], image)
        return plan * scale + offset

    def candidates(self, golden: Arrays, case: int) -> np.ndarray:
        """The candidates [C, M, ...] of a case, likewise."""
        planner = self._manifest["planner"]
        predict = self._predict_plan(golden, case)
        drawn = np.moveaxis(golden["candidates.noise"][case], 1, 0)
        plans = np.stack([_sampled(planner["sampler"], predict, np.ascontiguousarray(one)) for one in drawn])
        image = feature_of(self._manifest, planner["subgoal"])[0].is_image
        offset, scale = physical_range(planner["normalization"], image)
        return plans * scale + offset

    def scores(self, golden: Arrays, case: int, plans: np.ndarray | None = None) -> np.ndarray:
        """[C]: of `plans` [C, M, ...] in physical units, or else of the case's candidates."""
        planner = self._manifest["planner"]
        known = self._run("text", {"text": np.array([str(golden["text"][case])], dtype=object)})
        known |= self._seen_by_planner(golden, case)
        image = feature_of(self._manifest, planner["subgoal"])[0].is_image
        offset, scale = physical_range(planner["normalization"], image)
        tried = golden["candidates"][case] if plans is None else plans
        known["score.sample"] = ((tried - offset) / scale).astype(np.float32)
        return self._run("score", known)["score.score"]

    def first_plan_output(self, golden: Arrays, case: int) -> np.ndarray:
        """[M, ...]: the conditional model output of the first denoise step."""
        spec = self._manifest["planner"]["sampler"]
        return _first(spec, self._predict_plan(golden, case), golden["plan.noise"][case])

    def _predict_plan(self, golden: Arrays, case: int) -> Denoise:
        planner = self._manifest["planner"]
        text = np.array([str(golden["text"][case])], dtype=object)
        known = self._run("text", {"text": text})
        known |= self._seen_by_planner(golden, case)
        for kind in ("plan_encode", "plan_film"):
            if kind in self._sessions:
                known |= self._run(kind, known)
        guided = bool(planner["sampler"]["guidance"])
        rows = 2 if guided else 1
        known = {name: value if name.startswith("plan.") else value[:rows] for name, value in known.items()}

        def predict(sample: np.ndarray, timestep: int) -> np.ndarray:
            step = known | {"plan.sample": _rows(sample, guided), "plan.timestep": np.array([timestep])}
            output = self._run("plan_denoise", step)["plan.model_output"]
            return output if guided else output[0]

        return predict

    def _seen_by_planner(self, golden: Arrays, case: int) -> Arrays:
        planner = self._manifest["planner"]
        feature, _ = feature_of(self._manifest, planner["subgoal"])
        frame = golden[feature.key][case]
        newest = frame[-1] if feature.history > 1 else frame
        seen = normalized(feature, planner["normalization"], newest)
        return {f"plan.{planner['subgoal']}": seen[None]}

    def _run(self, kind: str, known: Arrays) -> Arrays:
        """The outputs of a graph by name; it takes its inputs out of `known`."""
        graph = self._manifest["graphs"][kind]
        inputs = {tensor["name"]: known[tensor["name"]] for tensor in graph["inputs"]}
        names = [tensor["name"] for tensor in graph["outputs"]]
        outputs = self._sessions[kind].run(names, inputs)
        if self._error:
            outputs = [self._blurred(output) for output in outputs]
        return dict(zip(names, outputs, strict=True))

    def _blurred(self, output: np.ndarray) -> np.ndarray:
        noise = self._rng.standard_normal(output.shape) * np.abs(output).max(initial=0)
        return (output + self._error * noise).astype(output.dtype)


def _rows(sample: np.ndarray, guided: bool) -> np.ndarray:
    return np.repeat(sample[None], 2 if guided else 1, axis=0)


def _sampled(spec: dict[str, Any], predict: Denoise, noise: np.ndarray) -> np.ndarray:
    """From noise [K', ...] to the clean sample."""
    return keystep.Sampler(keystep.SamplerSpec(**spec)).sample(
        predict, noise[0] if len(noise) == 1 else noise
    )


def _first(spec: dict[str, Any], predict: Denoise, noise: np.ndarray) -> np.ndarray:
    """The conditional output of the first denoise step."""
    output = predict(noise[0], int(keystep.Sampler(keystep.SamplerSpec(**spec)).timesteps[0]))
    return output[0] if spec["guidance"] else output


def _extended(manifest: dict[str, Any]) -> bool:
    """Whether its text encoder has a tokeniser of onnxruntime-extensions."""
    return bool(manifest["planner"]) and manifest["planner"]["text"]["encoder"] != "corpus"


def onnx_session(
    graph: dict[str, Any], files: dict[str, bytes], threads: int, extended: bool = False
) -> onnxruntime.InferenceSession:
    """A graph of a manifest, of files that were read."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.add_session_config_entry("session.load_model_format", "ONNX")
    if extended:
        from onnxruntime_extensions import get_library_path  # tokenisers of other encoders

        settings.register_custom_ops_library(get_library_path())
    if names := [entry["file"] for entry in graph.get("external", [])]:
        contents = [files[name] for name in names]
        settings.add_external_initializers_from_files_in_memory(names, contents, [*map(len, contents)])
    return onnxruntime.InferenceSession(files[graph["file"]], settings, providers=["CPUExecutionProvider"])


def session_of(path: Path, manifest: dict[str, Any], kind: str, threads: int) -> onnxruntime.InferenceSession:
    """One graph of a bundle, of files that are hashed."""
    return onnx_session(manifest["graphs"][kind], _core.read_files(path), threads, _extended(manifest))


def normalized(feature: Feature, entry: dict[str, Any], frames: np.ndarray) -> np.ndarray:
    """Frames [.., *shape] of a feature as the network takes them, float32."""
    offset, scale = physical_range(entry, feature.is_image)
    return ((feature.network_values(frames) - offset) / scale).astype(np.float32)


def offset_and_scale(entry: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    if entry["mode"] == "identity":
        return np.zeros(1), np.ones(1)
    if entry["mode"] == "mean_std":
        return np.array(entry["mean"]), np.array(entry["std"])
    ends = ("low", "high") if entry["mode"] == "quantile" else ("min", "max")
    low, high = (np.array(entry[end]) for end in ends)
    return (high + low) / 2, (high - low) / 2


def physical_range(entry: dict[str, Any], image: bool) -> tuple[np.ndarray, np.ndarray]:
    """Offset and scale, to be broadcast to values (of an image: channels first)."""
    offset, scale = offset_and_scale(entry)
    if not image:
        return offset, scale
    return offset.reshape(-1, 1, 1), scale.reshape(-1, 1, 1)
