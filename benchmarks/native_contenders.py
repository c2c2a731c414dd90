"""The ways to run one and the same flat policy: observation and noise in, a chunk of actions out.

Every contender is built from one case folder (`benchmarks.cases`) and called with the same observation and
the same noise; construction, loading and warm-up are outside the timed call. Imports are local: each runs in
its own process, some in an environment without the packages of the others.
"""

from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.loop import Array, Ddim, Policy, make_inputs, read_manifest
from benchmarks.native_openvino import FORMS, KINDS, openvino_policy
from benchmarks.openvino_env import PYTHON
from benchmarks.worker import Contender

__all__ = ["CONTENDERS", "make_inputs"]
PRECISIONS = ("fp32", "bf16", "int8")


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


def torch_compiled(case: Path, threads: int) -> Policy:
    """torch.compile of the module, weights frozen (prepacked), coefficients of the sampler precomputed."""
    import torch
    from torch._inductor import config

    from benchmarks.cases import load_torch_policy

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    config.freezing = True
    policy, normalizer, _ = load_torch_policy(case)
    ddim = Ddim(read_manifest(case))
    timesteps = [torch.tensor([t]) for t in ddim.timesteps]
    denoise = torch.compile(policy.denoise, fullgraph=True, dynamic=False)

    @torch.no_grad()  # what freezing asks for
    def predict(state: Array, noise: Array) -> Array:
        observation = normalizer.normalize("observation.state", torch.from_numpy(state)[None])
        condition = policy.encode({"observation.state": observation})
        sample = torch.from_numpy(noise)[None]
        for index, timestep in enumerate(timesteps):
            sample = ddim.step(index, denoise(sample, timestep, condition), sample)
        actions: Array = normalizer.unnormalize("action", sample)[0].numpy()
        return actions

    predict(*make_inputs(case, 0))  # compiles
    return predict


def keystep_policy(case: Path, threads: int, **options: Any) -> Policy:
    """keystep's C++ loop through its Python API, with the engine that the name says."""
    import keystep

    runtime = keystep.load(case / "bundle.keystep", threads=threads, **options)
    runtime.reset()

    def predict(state: Array, noise: Array) -> Array:
        actions: Array = runtime.predict_chunk({"observation.state": state}, noise=noise)
        return actions

    return predict


def native(precision: str, **options: Any) -> Contender:
    """keystep's own engine."""
    return Contender(
        partial(keystep_policy, engine="native", precision=precision, **options),
        ("keystep",),
        precision,
        tolerance=1e-4 if precision == "fp32" else None,
    )


def openvino(form: str, kind: str) -> Contender:
    precision = kind.split("-")[0]
    return Contender(
        partial(openvino_policy, form=form, kind=kind),
        ("openvino",),
        precision,
        tolerance=1e-4 if precision == "fp32" else None,
        python=PYTHON,
    )


ONNXRUNTIME = Contender(partial(keystep_policy, engine="onnxruntime"), ("keystep",))
CONTENDERS: dict[str, Contender] = {
    "torch-eager": Contender(torch_eager, ("torch", "diffusers", "keystep.models")),
    "torch-compile": Contender(torch_compiled, ("torch", "torch._inductor", "keystep.models")),
    "onnxruntime": ONNXRUNTIME,
    **{f"openvino-{kind}-{form}": openvino(form, kind) for kind in KINDS for form in FORMS},
    "keystep-openvino": Contender(
        partial(keystep_policy, provider="openvino"), ("keystep",), python=PYTHON
    ),  # OpenVINO inside ONNX Runtime inside keystep's loop
    **{f"native-{precision}": native(precision) for precision in PRECISIONS},
}
