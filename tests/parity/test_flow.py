"""flow_euler: flow matching by Euler's method, in C++, torch and diffusers; trained, exported, run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from walks import write_dataset

pytest.importorskip("diffusers")

import diffusers
import torch

import keystep
from keystep.export.bundle import export_bundle
from keystep.export.manifest import ExportError, validate_sampler
from keystep.export.verify import verify_bundle
from keystep.models import SamplerConfig
from keystep.models.config import flow_sampler
from keystep.models.diffusion import FlowMatching
from keystep.models.reference import denoise_loop
from keystep.train import ControllerTraining, train

SHAPE = (8, 7)
WEIGHT = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32) / 3
FLOW: dict[str, Any] = {
    "kind": "flow_euler", "prediction": "velocity", "timestep_rule": "trailing", "clip_sample": False
}  # fmt: skip


def velocity(sample: np.ndarray, timestep: int) -> np.ndarray:
    return np.tanh(sample @ WEIGHT + np.float32(timestep / 50)).astype(np.float32)


def euler(noise: np.ndarray, train_steps: int, steps: int) -> np.ndarray:
    """As pi0 writes it: dt = -1 / steps from time 1, in double."""
    x, time = noise.astype(np.float64), 1.0
    for _ in range(steps):
        x = x - velocity(x.astype(np.float32), round(time * train_steps) - 1) / steps
        time -= 1 / steps
    return x


@pytest.mark.parametrize(("train_steps", "steps"), [(100, 10), (100, 1), (1000, 10), (100, 100), (64, 16)])
def test_it_is_the_euler_method(train_steps: int, steps: int) -> None:
    spec = keystep.SamplerSpec(**FLOW, train_steps=train_steps, inference_steps=steps)
    noise = np.random.default_rng(steps).normal(size=SHAPE).astype(np.float32)
    sample = keystep.Sampler(spec).sample(velocity, noise.copy())
    np.testing.assert_allclose(sample, euler(noise, train_steps, steps), atol=2e-6 * steps)
    assert keystep.Sampler(spec).timesteps[0] == train_steps - 1


@pytest.mark.parametrize("guidance", [0.0, 1.5])
@pytest.mark.parametrize("steps", [1, 7, 10])  # 7 does not divide 100
def test_torch_and_cpp_agree(steps: int, guidance: float) -> None:
    config = flow_sampler(SamplerConfig(inference_steps=steps, guidance=guidance))
    fields = {**vars(config), "betas": list(config.betas)}
    noise = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)

    def predict(sample: np.ndarray, timestep: int) -> np.ndarray:
        """Of one sample; of two rows, with guidance, the second is the unconditional one."""
        out = velocity(sample, timestep)
        return np.stack([out[0], out[1] / 2]) if len(sample) == 2 else out

    def predict_rows(sample: np.ndarray, timestep: int) -> np.ndarray:
        return predict(np.stack([sample, sample]), timestep) if guidance else velocity(sample, timestep)

    def predict_torch(sample: Any, timestep: int) -> Any:
        return torch.from_numpy(predict(sample.numpy(), timestep))

    reference = denoise_loop(config, predict_torch, [torch.from_numpy(noise)[None]])[0].numpy()
    sampler = keystep.Sampler(keystep.SamplerSpec(**fields))
    assert sampler.noise_rows == 1
    np.testing.assert_allclose(sampler.sample(predict_rows, noise.copy()), reference, atol=2e-5)


def test_one_step_is_that_of_diffusers_to_the_bit() -> None:
    spec = keystep.SamplerSpec(**FLOW, inference_steps=10)
    sampler = keystep.Sampler(spec)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=spec.train_steps)
    scheduler.set_timesteps(sigmas=[(int(t) + 1) / spec.train_steps for t in sampler.timesteps])
    rng = np.random.default_rng(5)
    for index, timestep in enumerate(sampler.timesteps):
        sample, output = rng.normal(size=(2, *SHAPE)).astype(np.float32)
        step = scheduler.step(torch.from_numpy(output), scheduler.timesteps[index], torch.from_numpy(sample))
        ours = sampler.step(output, int(timestep), sample.copy())
        np.testing.assert_array_equal(ours, step.prev_sample.numpy())


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("prediction", "epsilon", "prediction: expected velocity, got 'epsilon'"),
        ("timestep_rule", "leading", "timestep_rule: expected trailing, got 'leading'"),
        ("clip_sample", True, r"clip_sample: expected false \(flow_euler clips nothing\), got 1"),
        ("eta", 0.5, r"eta: expected 0 \(flow_euler adds no noise\), got 0.5"),
    ],
)
def test_what_has_no_meaning_is_refused(field: str, value: Any, message: str) -> None:
    """By the loader, and by the schema of the manifest."""
    with pytest.raises(keystep.ArgumentError, match=message):
        keystep.Sampler(keystep.SamplerSpec(**FLOW | {field: value}))
    with pytest.raises(ExportError, match=field):
        validate_sampler(SamplerConfig(**FLOW | {field: value}))


@pytest.mark.parametrize("kind", ["ddpm", "ddim"])
def test_velocity_is_of_flows_alone(kind: str) -> None:
    with pytest.raises(keystep.ArgumentError, match="prediction: expected epsilon"):
        keystep.Sampler(keystep.SamplerSpec(kind=kind, prediction="velocity"))
    with pytest.raises(ExportError, match="prediction"):
        validate_sampler(SamplerConfig(kind=kind, prediction="velocity"))


def test_the_forward_process() -> None:
    """Its ends are the clean sample, nearly, and pure noise; times lean towards the noise as pi0's do."""
    flow = FlowMatching(100)
    clean, noise = torch.randn(2, 5, 8, 7, generator=torch.Generator().manual_seed(0))
    ends = flow.add_noise(clean, noise, torch.full((5,), 99))
    torch.testing.assert_close(ends, noise)
    start = flow.add_noise(clean, noise, torch.zeros(5, dtype=torch.int64))
    torch.testing.assert_close(start, clean + 0.01 * (noise - clean))
    drawn = flow.draw(200_000, torch.Generator().manual_seed(1), torch.device("cpu"))
    assert drawn.min() >= 0 and drawn.max() == 99
    # The mean of Beta(1.5, 1) is 0.6; a time-step k stands for times of (k, k + 1] / 100.
    assert float((drawn + 0.5).mean() / 100) == pytest.approx(0.6, abs=0.003)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    pytest.importorskip("accelerate", reason="training packages are not installed")
    folder = tmp_path_factory.mktemp("flow")
    dataset = write_dataset(folder / "dataset", episodes=12)
    run = folder / "run"
    settings = {"steps": 800, "batch_size": 32, "warmup_steps": 10, "seed": 1, "learning_rate": 1e-3}
    train(ControllerTraining(dataset, run, preset="tiny", sampler="flow_euler", **settings))
    return run, export_bundle(run, folder / "flow.keystep")


def test_it_is_trained_exported_and_verified(trained: tuple[Path, Path]) -> None:
    run, bundle = trained
    sampler = keystep.read_manifest(bundle)["sampler"]
    assert (sampler["kind"], sampler["prediction"]) == ("flow_euler", "velocity")
    report = verify_bundle(bundle, run)
    assert report.ok, report


def test_what_it_learned(trained: tuple[Path, Path]) -> None:
    """The walks' action is a function of state and task."""
    with keystep.load(trained[1], threads=1) as policy:
        errors = []
        for task, direction in (("left", -1), ("right", 1)):
            policy.reset(task=task, seed=0)
            for x in (-0.5, 0.0, 0.5):
                state = np.array([x, 1], np.float32)
                action = policy.predict_chunk({"observation.state": state})[0]
                errors.append(action[:2] - [direction * np.cos(x), np.sin(x)])
    assert np.abs(errors).mean() < 0.2  # 0.6 of an action that is always 0


def test_no_other_kind_runs_it(trained: tuple[Path, Path]) -> None:
    with pytest.raises(keystep.ArgumentError, match="sampler: expected flow_euler, got 'ddim'"):
        keystep.load(trained[1], sampler="ddim")
    with keystep.load(trained[1], sampler="flow_euler", inference_steps=5) as policy:
        policy.reset(task="left", seed=0)
        assert np.isfinite(policy.act({"observation.state": np.zeros(2, np.float32)})).all()


def test_act_is_no_flow(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset")
    with pytest.raises(ValueError, match=r"sampler: expected preset \(act-tiny takes one step"):
        train(ControllerTraining(dataset, tmp_path / "run", preset="act-tiny", sampler="flow_euler"))
