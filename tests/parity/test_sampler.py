"""keystep.Sampler against diffusers' DDPMScheduler and DDIMScheduler, every combination of their settings.

Single steps are compared, from the same random sample, model output and noise; whole samples of random
settings with the PyTorch reference. The HD-ExpIt time-step rule, which diffusers does not have, is compared
with a short numpy loop (as in denoising_diffusion_pytorch).
"""

from __future__ import annotations

import itertools
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

import keystep

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
scheduling_ddpm = pytest.importorskip("diffusers.schedulers.scheduling_ddpm")

from keystep.models import SamplerConfig  # noqa: E402
from keystep.models.config import flow_sampler  # noqa: E402
from keystep.models.reference import denoise_loop  # noqa: E402

SHAPE = (1, 8, 7)
TRAIN_STEPS = 100
SCHEDULES = ["linear", "scaled_linear", "squaredcos_cap_v2", "table"]
KINDS = ["ddpm", "ddim", "flow_euler"]
PREDICTIONS = ["epsilon", "sample", "v_prediction"]
RULES = ["leading", "trailing", "linspace"]
STEPS = [1, 5, 10, 50, TRAIN_STEPS]
TOLERANCE = 1e-5


def spec_fields(schedule: str, train_steps: int = TRAIN_STEPS, **fields: Any) -> dict[str, Any]:
    table = np.random.default_rng(4).uniform(1e-3, 0.1, train_steps).tolist()
    betas = table if schedule == "table" else []
    return {"beta_schedule": schedule, "train_steps": train_steps, "betas": betas, **fields}


def reference_scheduler(spec: keystep.SamplerSpec) -> Any:
    shared = {
        "num_train_timesteps": spec.train_steps,
        "beta_start": spec.beta_start,
        "beta_end": spec.beta_end,
        "beta_schedule": "linear" if spec.betas else spec.beta_schedule,
        "trained_betas": list(spec.betas) or None,
        "prediction_type": spec.prediction,
        "clip_sample": spec.clip_sample,
        "clip_sample_range": spec.clip_range,
        "timestep_spacing": spec.timestep_rule,
        "steps_offset": spec.steps_offset,
    }
    if spec.kind == "ddpm":
        scheduler = diffusers.DDPMScheduler(variance_type="fixed_small", **shared)
    else:
        scheduler = diffusers.DDIMScheduler(set_alpha_to_one=spec.set_alpha_to_one, **shared)
    scheduler.set_timesteps(spec.inference_steps)
    return scheduler


def reference_step(scheduler: Any, eta: float, timestep: int, arrays: np.ndarray) -> np.ndarray:
    """`arrays`: model output, sample and noise."""
    output, sample, noise = map(torch.from_numpy, arrays)
    if isinstance(scheduler, diffusers.DDPMScheduler):  # draws its own noise, see `fixed_noise`
        return scheduler.step(output, timestep, sample).prev_sample.numpy()
    variance_noise = noise if eta > 0 else None
    return scheduler.step(
        output, timestep, sample, eta=eta, variance_noise=variance_noise
    ).prev_sample.numpy()


def cancellation(scheduler: Any, spec: keystep.SamplerSpec, timestep: int) -> float:
    """How far single precision leaves DDIM's direction coefficient sqrt(1 - abar' - sigma^2) undetermined.

    With eta = 1 and abar near 0 the root's argument is the difference of two numbers near 1, known to about
    two units in the last place. (torch's square root is not correctly rounded: diffusers' own result depends
    on the machine there.)
    """
    if spec.kind == "ddpm" or spec.eta == 0:
        return 0.0
    previous = timestep - spec.train_steps // spec.inference_steps
    abar_previous = scheduler.alphas_cumprod[previous] if previous >= 0 else scheduler.final_alpha_cumprod
    variance = spec.eta**2 * scheduler._get_variance(timestep, previous)
    argument = max(float(1 - abar_previous - variance), 1e-7)
    return 2 * float(np.finfo(np.float32).eps) / np.sqrt(argument)


@pytest.fixture
def fixed_noise(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """What DDPMScheduler draws."""
    drawn: dict[str, np.ndarray] = {}
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *_, **__: torch.from_numpy(drawn["noise"]))
    return drawn


def compare(spec: keystep.SamplerSpec, fixed_noise: dict[str, np.ndarray]) -> None:
    sampler, scheduler = keystep.Sampler(spec), reference_scheduler(spec)
    timesteps = sampler.timesteps
    np.testing.assert_array_equal(timesteps, scheduler.timesteps.numpy(), err_msg=repr(spec))
    np.testing.assert_allclose(sampler.alphas_cumprod, scheduler.alphas_cumprod.numpy(), rtol=2e-6)
    random = np.random.default_rng(0)
    ends_and_every_ninth = sorted({*timesteps[:3], *timesteps[::9], *timesteps[-3:]})
    for timestep in map(int, ends_and_every_ninth):
        arrays = random.standard_normal((3, *SHAPE)).astype(np.float32)
        output, sample, noise = arrays
        fixed_noise["noise"] = noise
        wanted = reference_step(scheduler, spec.eta, timestep, arrays)
        got = sampler.step(output, timestep, sample, noise)
        tolerance = TOLERANCE * max(1.0, float(np.abs(wanted).max()))
        tolerance += cancellation(scheduler, spec, timestep) * float(np.abs([sample, output]).max())
        np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance, err_msg=f"{spec!r} at {timestep}")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kind", ["ddpm", "ddim"])
def test_steps_equal_diffusers(
    kind: str, schedule: str, prediction: str, rule: str, fixed_noise: dict[str, np.ndarray]
) -> None:
    for steps, eta, clip in itertools.product(STEPS, [0.0, 0.5, 1.0], [None, 1.0, 0.7]):
        if kind == "ddpm" and eta > 0:
            continue  # DDPM has no eta
        fields = spec_fields(schedule, kind=kind, prediction=prediction, timestep_rule=rule, eta=eta)
        fields |= {"inference_steps": steps, "clip_sample": clip is not None, "clip_range": clip or 1.0}
        compare(keystep.SamplerSpec(**fields), fixed_noise)


@pytest.mark.parametrize("schedule", SCHEDULES[:3])
@pytest.mark.parametrize("kind", ["ddpm", "ddim"])
def test_a_thousand_train_steps(kind: str, schedule: str, fixed_noise: dict[str, np.ndarray]) -> None:
    for prediction, rule, steps in itertools.product(PREDICTIONS, RULES, [1, 10, 1000]):
        fields = spec_fields(schedule, 1000, kind=kind, prediction=prediction, timestep_rule=rule)
        compare(keystep.SamplerSpec(**fields, inference_steps=steps), fixed_noise)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_offset_and_final_alpha(prediction: str, fixed_noise: dict[str, np.ndarray]) -> None:
    for kind, final_one, offset in itertools.product(["ddpm", "ddim"], [True, False], [0, 1, 9]):
        fields = spec_fields("squaredcos_cap_v2", kind=kind, prediction=prediction, steps_offset=offset)
        compare(keystep.SamplerSpec(**fields, set_alpha_to_one=final_one), fixed_noise)


def test_time_steps_equal_diffusers_for_every_number_of_steps() -> None:
    for rule, steps in itertools.product(RULES, range(1, TRAIN_STEPS + 1)):
        spec = keystep.SamplerSpec(timestep_rule=rule, inference_steps=steps)
        wanted = reference_scheduler(spec).timesteps.numpy()
        # Rounding can make diffusers' `trailing` one step too long, with a last time-step of -1.
        got = keystep.Sampler(spec).timesteps
        np.testing.assert_array_equal(got, wanted[wanted >= 0], err_msg=repr(spec))


def hd_expit_sample(sampler: keystep.Sampler, model: Any, noise: np.ndarray) -> np.ndarray:
    """The paper's DDIM loop in float64; `noise` (K', ...): the initial noise, then that of each step."""
    spec = sampler.spec
    times = np.linspace(-1, spec.train_steps - 1, spec.inference_steps + 1).astype(int)[::-1]
    abar = np.append(sampler.alphas_cumprod, 1.0)  # time -1 is the clean end
    sample = noise[0].astype(np.float64)
    for row, (time, following) in enumerate(itertools.pairwise(times), start=1):
        output, signal, spread = model(sample, time), np.sqrt(abar[time]), np.sqrt(1 - abar[time])
        x0, direction = {
            "epsilon": lambda x, m, s, n: ((x - n * m) / s, m),
            "sample": lambda x, m, s, n: (m, (x - s * m) / n),
            "v_prediction": lambda x, m, s, n: (s * x - n * m, n * x + s * m),
        }[spec.prediction](sample, output, signal, spread)
        if spec.clip_sample:
            x0 = np.clip(x0, -spec.clip_range, spec.clip_range)
        if following < 0:
            return x0
        variance = (1 - abar[time] / abar[following]) * (1 - abar[following]) / (1 - abar[time])
        sigma = spec.eta * np.sqrt(variance)
        sample = np.sqrt(abar[following]) * x0 + np.sqrt(1 - abar[following] - sigma**2) * direction
        sample += sigma * noise[row] if sigma > 0 else 0.0
    raise AssertionError("the last time is -1")


def smooth_model(sample: np.ndarray, timestep: int) -> np.ndarray:
    return (0.8 * np.tanh(sample) + 0.001 * timestep).astype(sample.dtype)


@pytest.mark.parametrize("steps", [1, 5, 10, 30, 50, 70, TRAIN_STEPS])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_hd_expit_rule(schedule: str, prediction: str, steps: int) -> None:
    for eta, clip in itertools.product([0.0, 0.5, 0.9], [False, True]):
        fields = spec_fields(schedule, prediction=prediction, timestep_rule="hd_expit", clip_sample=clip)
        spec = keystep.SamplerSpec(**fields, inference_steps=steps, eta=eta)
        sampler = keystep.Sampler(spec)
        noise = keystep.noise((steps if eta > 0 else 1, *SHAPE), seed=steps)
        wanted = hd_expit_sample(sampler, smooth_model, noise)
        got = sampler.sample(smooth_model, noise if steps > 1 and eta > 0 else noise[0])
        # Near t = 0 coefficients keep three digits in float32 when eta > 0 (1 - abar' / abar), six otherwise.
        tolerance = (1e-4 if eta > 0 else 2e-5) * max(1.0, float(np.abs(wanted).max()))
        np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance, err_msg=repr(spec))


@pytest.mark.parametrize("guidance", [0.5, 3.0])
def test_guidance(guidance: float) -> None:
    spec = keystep.SamplerSpec(guidance=guidance)
    noise = keystep.noise(SHAPE, seed=1)

    def combined(sample: np.ndarray, timestep: int) -> np.ndarray:
        conditional, unconditional = smooth_model(sample, timestep), np.float32(0.5) * sample
        return np.float32(1 + guidance) * conditional - np.float32(guidance) * unconditional

    def branches(sample: np.ndarray, timestep: int) -> np.ndarray:
        return np.stack([smooth_model(sample, timestep), np.float32(0.5) * sample])

    wanted = keystep.Sampler(keystep.SamplerSpec()).sample(combined, noise)
    np.testing.assert_allclose(keystep.Sampler(spec).sample(branches, noise), wanted, rtol=0, atol=TOLERANCE)


def random_config(seed: int) -> SamplerConfig:
    rng = np.random.default_rng(seed)
    train = int(rng.integers(2, 120))
    schedule = str(rng.choice(SCHEDULES))
    config = SamplerConfig(
        kind=KINDS[seed % len(KINDS)],
        train_steps=train,
        inference_steps=int(rng.integers(1, train + 1)),
        beta_schedule=schedule,
        betas=tuple(rng.uniform(1e-3, 0.05, train).tolist()) if schedule == "table" else (),
        prediction=str(rng.choice(PREDICTIONS)),
        timestep_rule=str(rng.choice([*RULES, "hd_expit"])),
        set_alpha_to_one=bool(rng.integers(2)),
        eta=float(rng.choice([0.0, 0.5, 1.0])),
    )
    return flow_sampler(config) if config.kind == "flow_euler" else config


@pytest.mark.parametrize("seed", range(90))
def test_whole_samples_equal_the_reference(seed: int) -> None:
    config = random_config(seed)
    fields = asdict(config)
    sampler = keystep.Sampler(keystep.SamplerSpec(**fields | {"betas": list(config.betas)}))
    noise = keystep.noise((sampler.noise_rows, 4, 3), seed=seed)
    wanted = denoise_loop(
        config,
        lambda sample, step: torch.from_numpy(smooth_model(sample.numpy(), step)),
        [torch.from_numpy(row)[None] for row in noise],
    )[0].numpy()
    got = sampler.sample(smooth_model, noise if sampler.noise_rows > 1 else noise[0])
    tolerance = 1e-4 if config.prediction in ("sample", "velocity") else 2e-3
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=tolerance, err_msg=repr(config))
