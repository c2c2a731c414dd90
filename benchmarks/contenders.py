"""The ways to run one and the same policy: observation and noise in, actions out.

Every contender is built from one case folder (`benchmarks/cases.py`) and called with the same observation and
the same noise; construction, loading and warm-up are outside the timed call. Imports are local: each runs in
its own process, some in an environment without the packages of the others.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Policy = Callable[[Array, Array], Array]  # state [S] physical, noise [H, A] -> actions [H, A] physical


def torch_eager(case: Path, threads: int) -> Policy:
    """What LeRobot's diffusion policy runs: the plain module at every step, diffusers' scheduler between."""
    import torch
    from diffusers import DDIMScheduler

    from benchmarks.cases import load_torch_policy

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    policy, normalizer, spec = load_torch_policy(case)
    scheduler: Any = DDIMScheduler(
        num_train_timesteps=spec.train_steps,
        beta_schedule=spec.beta_schedule,
        prediction_type=spec.prediction,
        clip_sample=spec.clip_sample,
        clip_sample_range=spec.clip_range,
        timestep_spacing=spec.timestep_rule,
        steps_offset=spec.steps_offset,
        set_alpha_to_one=spec.set_alpha_to_one,
    )
    scheduler.set_timesteps(spec.inference_steps)

    @torch.inference_mode()
    def predict(state: Array, noise: Array) -> Array:
        observation = normalizer.normalize("observation.state", torch.from_numpy(state)[None])
        condition = policy.encode({"observation.state": observation})
        sample = torch.from_numpy(noise)[None]
        for step in scheduler.timesteps:
            timestep = torch.full((1,), int(step), dtype=torch.int64)
            output = policy.denoise(sample, timestep, condition)
            sample = scheduler.step(output, step, sample).prev_sample
        actions: Array = normalizer.unnormalize("action", sample)[0].numpy()
        return actions

    return predict


class Ddim:
    """Deterministic DDIM in numpy, coefficients precomputed: the leanest loop a Python user would write."""

    def __init__(self, manifest: dict[str, Any]) -> None:
        spec = manifest["sampler"]
        if spec["kind"] != "ddim" or spec["eta"] or spec["guidance"] or spec["timestep_rule"] != "leading":
            raise ValueError(f"sampler: expected plain DDIM with the leading rule, got {spec}")
        if spec["beta_schedule"] != "squaredcos_cap_v2" or spec["prediction"] != "epsilon":
            raise ValueError(f"sampler: expected squaredcos_cap_v2 and epsilon, got {spec}")
        steps, stride = spec["train_steps"], spec["train_steps"] // spec["inference_steps"]
        bar = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
        alphas = np.cumprod(1 - np.minimum(1 - bar[1:] / bar[:-1], 0.999))
        self.timesteps = np.arange(spec["inference_steps"])[::-1] * stride + spec["steps_offset"]
        final = 1.0 if spec["set_alpha_to_one"] else alphas[0]
        before = [alphas[t - stride] if t >= stride else final for t in self.timesteps]
        self._alphas = np.stack([alphas[self.timesteps], before], axis=1).astype(np.float32)
        self._clip = np.float32(spec["clip_range"] if spec["clip_sample"] else np.inf)

    def step(self, index: int, epsilon: Array, sample: Array) -> Array:
        """Song et al. 2021, eq. 12 with sigma 0; diffusers keeps epsilon as predicted when x0 is clipped."""
        alpha, before = self._alphas[index]
        clean = np.clip((sample - np.sqrt(1 - alpha) * epsilon) / np.sqrt(alpha), -self._clip, self._clip)
        result: Array = np.sqrt(before) * clean + np.sqrt(1 - before) * epsilon
        return result


class Scaling:
    """Normalisation of the state and its inverse for the action, as the manifest says."""

    def __init__(self, manifest: dict[str, Any]) -> None:
        entries = manifest["normalization"]
        self._state = self._offset_and_scale(entries.get("observation.state", {"mode": "identity"}))
        self._action = self._offset_and_scale(entries["action"])

    @staticmethod
    def _offset_and_scale(entry: dict[str, Any]) -> tuple[Any, Any]:
        if entry["mode"] == "identity":
            return np.float32(0), np.float32(1)
        if entry["mode"] == "mean_std":
            return np.array(entry["mean"], np.float32), np.array(entry["std"], np.float32)
        low, high = np.array(entry["min"], np.float32), np.array(entry["max"], np.float32)
        return (low + high) / 2, (high - low) / 2

    def state(self, state: Array) -> Array:
        offset, scale = self._state
        return ((state - offset) / scale)[None]

    def action(self, sample: Array) -> Array:
        offset, scale = self._action
        return sample[0] * scale + offset


def read_manifest(case: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((case / "bundle.keystep" / "manifest.json").read_text())
    return manifest


def make_inputs(case: Path, seed: int) -> tuple[Array, Array]:
    """The same observation and noise for every contender."""
    manifest, random = read_manifest(case), np.random.default_rng(seed)
    state = random.standard_normal(len(manifest["observation"]["state"]["names"]))
    noise = random.standard_normal((manifest["chunk"]["horizon"], len(manifest["action"]["names"])))
    return state.astype(np.float32), noise.astype(np.float32)


def ort_session(case: Path, graph: str, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    file = case / "bundle.keystep" / read_manifest(case)["graphs"][graph]["file"]
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def onnxruntime_run(case: Path, threads: int) -> Policy:
    """ONNX Runtime from Python over the bundle's encode and denoise graphs, `session.run` at every step."""
    encode, denoise = (ort_session(case, graph, threads) for graph in ("encode", "denoise"))
    manifest = read_manifest(case)
    ddim, scaling = Ddim(manifest), Scaling(manifest)
    conditions = [output.name for output in encode.get_outputs()]
    timesteps = [np.array([t], np.int64) for t in ddim.timesteps]

    def predict(state: Array, noise: Array) -> Array:
        condition = encode.run(conditions, {"observation.state": scaling.state(state)})
        inputs = dict(zip(conditions, condition, strict=True))
        sample = noise[None]
        for index, timestep in enumerate(timesteps):
            (output,) = denoise.run(None, {**inputs, "sample": sample, "timestep": timestep})
            sample = ddim.step(index, output, sample)
        return scaling.action(sample)

    return predict


def onnxruntime_bound(case: Path, threads: int) -> Policy:
    """The same with IoBinding: every tensor bound once to numpy memory that is written in place."""
    import onnxruntime

    encode, denoise = (ort_session(case, graph, threads) for graph in ("encode", "denoise"))
    manifest = read_manifest(case)
    ddim, scaling = Ddim(manifest), Scaling(manifest)
    arrays: dict[str, NDArray[Any]] = {}

    def bind(session: Any) -> Any:
        binding = session.io_binding()
        for tensors, attach in (
            (session.get_inputs(), binding.bind_ortvalue_input),
            (session.get_outputs(), binding.bind_ortvalue_output),
        ):
            for tensor in tensors:
                dtype = np.int64 if tensor.type == "tensor(int64)" else np.float32
                array = arrays.setdefault(tensor.name, np.zeros(tensor.shape, dtype))
                attach(tensor.name, onnxruntime.OrtValue.ortvalue_from_numpy(array))  # borrows the memory
        return binding

    encode_binding, denoise_binding = bind(encode), bind(denoise)
    state_input, sample, timestep = (arrays[name] for name in ("observation.state", "sample", "timestep"))
    output = arrays[denoise.get_outputs()[0].name]

    def predict(state: Array, noise: Array) -> Array:
        state_input[...] = scaling.state(state)
        encode.run_with_iobinding(encode_binding)
        sample[...] = noise
        for index, step in enumerate(ddim.timesteps):
            timestep[0] = step
            denoise.run_with_iobinding(denoise_binding)
            sample[...] = ddim.step(index, output, sample)
        return scaling.action(sample)

    return predict


def onnxruntime_one_graph(case: Path, threads: int) -> Policy:
    """ONNX Runtime from Python over encode and the one-graph `sample` form: two calls a chunk."""
    encode, whole = (ort_session(case, graph, threads) for graph in ("encode", "sample"))
    scaling = Scaling(read_manifest(case))
    conditions = [output.name for output in encode.get_outputs()]

    def predict(state: Array, noise: Array) -> Array:
        condition = encode.run(conditions, {"observation.state": scaling.state(state)})
        inputs = dict(zip(conditions, condition, strict=True))
        (sample,) = whole.run(None, {**inputs, "noise": noise[None]})
        return scaling.action(sample)

    return predict


def openvino_step(case: Path, threads: int) -> Policy:
    """OpenVINO from Python over encode and denoise, latency hint, held to fp32 (its default may be bf16)."""
    import openvino

    manifest = read_manifest(case)
    ddim, scaling = Ddim(manifest), Scaling(manifest)
    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }

    def request(graph: str, **extra: str) -> Any:
        file = case / "bundle.keystep" / manifest["graphs"][graph]["file"]
        return core.compile_model(file, "CPU", {**settings, **extra}).create_infer_request()

    # OpenVINO 2026.4 fails to compile Mish with one thread unless its fusion into "snippets" is off
    encode, denoise = request("encode", SNIPPETS_MODE="DISABLE"), request("denoise")
    conditions = [spec["name"] for spec in manifest["graphs"]["encode"]["outputs"]]
    for name in conditions:  # one buffer for both graphs
        denoise.set_tensor(name, encode.get_tensor(name))
    state_input, sample = encode.get_tensor("observation.state").data, denoise.get_tensor("sample").data
    timestep, output = denoise.get_tensor("timestep").data, denoise.get_output_tensor(0).data

    def predict(state: Array, noise: Array) -> Array:
        state_input[...] = scaling.state(state)
        encode.infer()
        sample[...] = noise
        for index, step in enumerate(ddim.timesteps):
            timestep[0] = step
            denoise.infer()
            sample[...] = ddim.step(index, output, sample)
        return scaling.action(sample)

    return predict


def _keystep(case: Path, threads: int, **options: Any) -> Policy:
    import keystep

    runtime = keystep.load(case / "bundle.keystep", threads=threads, **options)
    runtime.reset()

    def predict(state: Array, noise: Array) -> Array:
        actions: Array = runtime.predict_chunk({"observation.state": state}, noise=noise)
        return actions

    return predict


def keystep_cpu(case: Path, threads: int) -> Policy:
    """keystep's C++ loop through its Python API, `cpu` provider."""
    return _keystep(case, threads)


def keystep_spinning(case: Path, threads: int) -> Policy:
    """The same, its threads spinning between operators, as by ONNX Runtime's default (not keystep's)."""
    return _keystep(case, threads, provider_options={"session.intra_op.allow_spinning": "1"})


def keystep_openvino(case: Path, threads: int) -> Policy:
    """The same engine with the `openvino` provider; runs where onnxruntime-openvino is installed."""
    return _keystep(case, threads, provider="openvino")


CONTENDERS: dict[str, Callable[[Path, int], Policy]] = {
    "torch-eager": torch_eager,
    "onnxruntime-run": onnxruntime_run,
    "onnxruntime-bound": onnxruntime_bound,
    "onnxruntime-one-graph": onnxruntime_one_graph,
    "openvino": openvino_step,
    "keystep": keystep_cpu,
    "keystep-spinning": keystep_spinning,
    "keystep-openvino": keystep_openvino,
}
