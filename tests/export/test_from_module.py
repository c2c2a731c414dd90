"""Any torch module as a bundle: the runtime does what the module does, step by step."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keystep

torch = pytest.importorskip("torch")

from foreign_modules import (  # noqa: E402
    ACTIONS,
    FEATURES,
    HORIZON,
    NORMALIZATION,
    Denoising,
    Regression,
)
from torch import nn  # noqa: E402

from keystep.export import ExportError, from_module, verify_bundle  # noqa: E402
from keystep.models import SamplerConfig, camera_feature  # noqa: E402
from keystep.models.reference import denoise_loop  # noqa: E402

OPTIONS: dict[str, Any] = {"features": FEATURES, "action": ACTIONS, "horizon": HORIZON, "rate_hz": 20.0}
SAMPLER = SamplerConfig(prediction="sample")


def seen(count: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        {
            "observation.state": rng.normal(1, 1, 4).astype(np.float32),
            "observation.images.top": rng.integers(0, 256, (16, 20, 3), np.uint8),
        }
        for _ in range(count)
    ]


def batch_of(frames: list[dict[str, np.ndarray]]) -> dict[str, Any]:
    """What the module is given at the last of the frames: before the first one it stands for all."""
    both = [frames[max(0, len(frames) - 2)], frames[-1]]
    images = np.stack([frame["observation.images.top"].transpose(2, 0, 1) for frame in both])
    known = NORMALIZATION["observation.state"]
    state = (frames[-1]["observation.state"] - np.array(known["mean"])) / np.array(known["std"])
    return {
        "observation.state": torch.from_numpy(state[None].astype(np.float32)),
        "observation.images.top": torch.from_numpy(images[None].astype(np.float32) / 255),
    }


@torch.no_grad()
def chunk_of(module: Any, frames: list[dict[str, np.ndarray]], noise: np.ndarray | None) -> np.ndarray:
    batch = batch_of(frames)
    if noise is None:
        made = module.act(batch)
    else:
        condition = module.encode(batch)

        def predict(sample: Any, timestep: int) -> Any:
            return module.denoise(sample, torch.tensor([timestep]), condition)

        made = denoise_loop(SAMPLER, predict, [torch.from_numpy(noise)[None]])
    return (made[0].numpy() * np.array([1, 2])).clip(-2, 2)


@pytest.mark.parametrize("kind", [Regression, Denoising])
def test_an_episode_is_that_of_the_module(kind: Any, tmp_path: Path) -> None:
    module = kind()
    sampler = SAMPLER if kind is Denoising else None
    options = OPTIONS | {"execute": 3, "start": 1, "sampler": sampler, "normalization": NORMALIZATION}
    bundle = from_module(module, tmp_path / "new.keystep", **options)
    assert module.training, "the caller's module stays as it is"
    module.eval()
    assert verify_bundle(bundle).ok
    frames, rows = seen(8), []
    with keystep.load(bundle, threads=1) as runtime:
        runtime.reset(seed=5)
        for count, frame in enumerate(frames):
            if count % 3 == 0:
                noise = keystep.noise((HORIZON, 2), 5, 0, count // 3, 0) if sampler else None
                rows = list(chunk_of(module, frames[: count + 1], noise)[1:4])
            np.testing.assert_allclose(runtime.act(frame), rows.pop(0), atol=1e-5)


class Broken(Regression):
    """Fails in a way of its own."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way

    def act(self, batch: dict[str, Any]) -> Any:
        made = super().act(batch)
        if self.way == "shape":
            return made[:, 0]
        if self.way == "dtype":
            return made.double()
        if self.way == "key":
            return batch["observation.depth"]
        if self.way == "number":
            return 0.0
        if self.way == "operation":
            return made + torch.linalg.eigvals(made[0].T @ made[0]).real[None, None]
        if self.way == "branch":  # traced once, with zeros
            return made if batch["observation.state"].abs().sum() < 1e-6 else -made
        return made * torch.nan


@pytest.mark.parametrize(
    ("way", "told"),
    [
        ("shape", r"module.act: expected a float32 tensor \[1, 6, 2\], got torch.float32 \[1, 2\]"),
        ("dtype", r"module.act: expected a float32 tensor \[1, 6, 2\], got torch.float64"),
        ("key", r"module.act: expected it to take its features, got KeyError: 'observation.depth'"),
        ("number", r"module.act: expected a float32 tensor \[1, 6, 2\], got float"),
        ("operation", r"module: expected operations that ONNX has, got .*eigvals"),
        ("branch", r"verify.actions: expected ONNX|verify.actions: expected C\+\+ runtime"),
        ("nan", r"golden.*: expected finite answers"),
    ],
)
def test_modules_that_cannot_be_compiled(way: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=told):
        from_module(Broken(way), tmp_path / "new.keystep", **OPTIONS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rate_hz": 0.0}, "rate_hz: expected a positive number, got 0"),
        ({"horizon": 0}, "horizon: expected a positive integer, got 0"),
        ({"execute": 7}, r"execute: expected 1..6, got 7"),
        ({"features": []}, "observation: expected at least one feature"),
        ({"features": [*FEATURES, camera_feature("top", 8, 8)]}, "observation: expected different keys"),
        ({"normalization": {"observation.joints": {"mode": "identity"}}}, "normalization: expected keys of"),
        ({"normalization": {"observation.state": {"mode": "soft"}}}, "normalization.mode: expected identity"),
        (
            {"normalization": {"observation.state": {"mode": "min_max", "min": [0] * 4}}},
            "expected mode, min, max",
        ),
        (
            {"normalization": {"observation.state": {"mode": "min_max", "min": [0] * 4, "max": [1] * 3}}},
            "observation.state.normalization.max: expected 4 finite numbers",
        ),
        (
            {"normalization": {"observation.state": {"mode": "min_max", "min": [0] * 4, "max": [0] * 4}}},
            r"observation.state.normalization.max\[0\]: expected more than 0, got 0",
        ),
        ({"action": replace(ACTIONS, low=[0])}, "action.low: expected 2 finite numbers"),
        ({"action": replace(ACTIONS, high=[-3, -3])}, r"action.max\[0\]: expected more than the minimum"),
        ({"action": replace(ACTIONS, names=["x", "x"])}, "action.names"),
        ({"sampler": SamplerConfig(guidance=1.0)}, "sampler.guidance: expected 0 for a module, got 1"),
        ({"sampler": SAMPLER}, r"module: expected a method encode \(with a sampler\), got Regression"),
    ],
)
def test_options_that_do_not_fit(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=told):
        from_module(Regression(), tmp_path / "new.keystep", **(OPTIONS | changes))
    assert not list(tmp_path.iterdir())


def test_a_module_without_methods(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"module: expected a method act \(without a sampler\), got Linear"):
        from_module(nn.Linear(1, 1), tmp_path / "new.keystep", **OPTIONS)


def test_the_example_makes_a_bundle_that_ticks(tmp_path: Path) -> None:
    examples = Path(__file__).parents[2] / "examples"
    bundle = tmp_path / "own.keystep"
    for command in (["own_policy.py", bundle], ["tick.py", bundle, "--ticks", "5"]):
        done = subprocess.run(
            [sys.executable, *map(str, [examples / command[0], *command[1:]])],
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
    assert verify_bundle(bundle).ok
