"""Any torch module as a bundle: the runtime does what the module does, step by step."""

from __future__ import annotations

import subprocess
import sys
import threading
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

from keystep.export import Actions, ExportError, from_module, verify_bundle  # noqa: E402
from keystep.models import SamplerConfig, camera_feature, state_feature, vector_feature  # noqa: E402
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
        ({"horizon": 0}, "horizon: expected an integer of 1..65536, got 0"),
        ({"execute": 7}, r"execute: expected an integer of 1..6, got 7"),
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
        (
            {"sampler": SamplerConfig(guidance=1.0)},
            "sampler.guidance: expected 0 for a network that is not ours, got 1",
        ),
        ({"sampler": SAMPLER}, r"module: expected a method encode \(with a sampler\), got Regression"),
    ],
)
def test_options_that_do_not_fit(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=told):
        from_module(Regression(), tmp_path / "new.keystep", **(OPTIONS | changes))
    assert not list(tmp_path.iterdir())


STATE = {"features": [state_feature(3)], "action": Actions(["x", "y"], low=[-9, -9], high=[9, 9])}
STATE |= {"horizon": 4, "rate_hz": 20.0}


class Small(nn.Module):
    """From a state to four actions, through layers that may be anything."""

    def __init__(self, made: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.begin, self.end = nn.Linear(3, 16), nn.Linear(16, 2)
        self.queries = nn.Parameter(torch.randn(1, 4, 16))
        self.between = made()

    def act(self, batch: dict[str, Any]) -> Any:
        return self.end(self.mixed(self.begin(batch["observation.state"])[:, None] + self.queries))

    def mixed(self, x: Any) -> Any:
        if isinstance(self.between, nn.MultiheadAttention):
            return self.between(x, x, x, need_weights=False)[0]
        return self.between(x, self.queries) if isinstance(self.between, nn.Transformer) else self.between(x)


@pytest.mark.parametrize(
    "made",
    [
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 24, batch_first=True), 2),
        lambda: nn.MultiheadAttention(16, 2, batch_first=True),
        lambda: nn.Transformer(16, 2, 1, 1, 24, batch_first=True),
        lambda: nn.Sequential(nn.RMSNorm(16, eps=1e-3), nn.RMSNorm((4, 16), elementwise_affine=False)),
    ],
    ids=["TransformerEncoder", "MultiheadAttention", "Transformer", "RMSNorm"],
)
def test_layers_of_torch_that_transformers_have(made: Any, tmp_path: Path) -> None:
    module = Small(made)
    bundle = from_module(module, tmp_path / "new.keystep", **STATE)
    assert torch.backends.mha.get_fastpath_enabled(), "torch's own way is as it was"
    module.eval()
    state = np.array([0.3, -1, 2], np.float32)
    with torch.no_grad(), keystep.load(bundle, threads=1) as runtime:
        runtime.reset(seed=0)
        rows = module.act({"observation.state": torch.from_numpy(state)[None]})[0]
        for row in rows.numpy():
            np.testing.assert_allclose(runtime.act({"observation.state": state}), row, atol=1e-5)


class Odd(Small):
    """Fails in torch, not in its own words."""

    def __init__(self, way: str) -> None:
        super().__init__(nn.Identity)
        self.way = way
        if way == "lock":
            self.kept: Any = threading.Lock()
        if way == "training":
            self.kept = self.begin(torch.zeros(1, 3))

    def act(self, batch: dict[str, Any]) -> Any:
        made = super().act(batch)
        if self.way == "complex":
            return torch.view_as_real(torch.view_as_complex(made) * (1 + 1j))
        if self.way == "branch":  # torch cannot even trace it
            return made + (int(made[0, 0].argmax()) > 20)
        if self.way == "gradient":
            with torch.enable_grad():
                x = batch["observation.state"].clone().requires_grad_(True)
                made = made + torch.autograd.grad(self.begin(x).sum(), x)[0].sum()
        if self.way == "numpy":
            return torch.from_numpy(made.numpy())
        return torch.linalg.eigvals(made[0, :2]).real[None, None] + made if self.way == "operation" else made


@pytest.mark.parametrize(
    ("way", "told"),
    [
        ("lock", "module: expected one that copy.deepcopy copies"),
        ("training", "module: expected one that copy.deepcopy copies"),
        ("complex", "module: expected one that torch.onnx can trace, got RuntimeError"),
        ("branch", "module: expected one that torch.onnx can trace, got RuntimeError"),
        ("gradient", "module: expected one that torch.onnx can trace, got RuntimeError"),
        ("numpy", "module.act: expected it to read observation.state, got an answer that does not depend"),
        ("operation", "module: expected operations that ONNX has, got .*eigvals"),
    ],
)
def test_what_torch_refuses_is_one_error(
    way: str, told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ExportError, match=told):
        from_module(Odd(way), tmp_path / "new.keystep", **STATE)
    assert not list(tmp_path.iterdir()) and torch.backends.mha.get_fastpath_enabled()
    assert capfd.readouterr() == ("", ""), "torch's graphs are not for users"


class Stepped(nn.Module):
    """A denoiser that does something of its own with the time-step."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.way = nn.Linear(8 + 3 + 1, 8), way

    def encode(self, batch: dict[str, Any]) -> Any:
        return batch["observation.state"] * 1.5

    def denoise(self, sample: Any, timestep: Any, condition: Any) -> Any:
        told = torch.zeros(1, 1) if self.way == "unread" else timestep[:, None] / 100
        made = self.net(torch.cat([sample.flatten(1), condition, told], -1)).reshape(sample.shape)
        return -made if self.way == "branch" and timestep.item() > 95 else made


@pytest.mark.parametrize(
    ("way", "told"),
    [
        # Not among the ten steps of the golden data, but of those that may be asked for.
        (
            "branch",
            "verify.denoise: expected ONNX to be torch at every time-step within 0.0001, got .* at 96",
        ),
        ("unread", "module.denoise: expected it to read timestep, got an answer that does not depend"),
    ],
)
def test_every_time_step_is_looked_at(way: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=told):
        from_module(Stepped(way), tmp_path / "new.keystep", sampler=SAMPLER, **STATE)
    assert not list(tmp_path.iterdir())


def test_time_steps_of_large_networks() -> None:
    from keystep.export.steps import MOST, tried

    assert tried(1000, 10) == list(range(1000)) and tried(MOST, 10**9) == list(range(MOST))
    some = tried(1000, 10**9)
    assert {0, 500, 999} <= set(some) and len(some) <= MOST + 1 and some == sorted(set(some))


def test_features_that_nothing_reads(tmp_path: Path) -> None:
    features = [state_feature(3), vector_feature("observation.extra", 2)]
    with pytest.raises(ExportError, match=r"module.act: expected it to read observation.extra, got"):
        from_module(Small(nn.Identity), tmp_path / "new.keystep", **(STATE | {"features": features}))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"module": lambda batch: batch}, "module: expected a torch.nn.Module, got <function"),
        ({"features": ["observation.state"]}, "features: expected a list of state_feature"),
        ({"features": {"observation.state": 3}}, "features: expected a list of state_feature"),
        ({"action": {"names": ["x"]}}, "action: expected Actions, got"),
        ({"action": replace(ACTIONS, names="xy")}, "action.names: expected a list of texts, got 'xy'"),
        ({"action": replace(ACTIONS, names=[1, 2])}, "action.names: expected a list of texts"),
        ({"action": replace(ACTIONS, units=["m"])}, "action.units: expected 2 texts"),
        ({"action": replace(ACTIONS, units=None)}, "action.units: expected 2 texts, got None"),
        ({"action": replace(ACTIONS, hold=None)}, "action.hold: expected {'mode': 'last'} or"),
        ({"action": replace(ACTIONS, normalization=None)}, "action.normalization: expected an entry such as"),
        ({"horizon": 4.0}, "horizon: expected an integer of 1..65536, got 4.0"),
        ({"execute": True}, "execute: expected an integer of 1..6, got True"),
        ({"start": -1}, "start: expected an integer of 0..5, got -1"),
        ({"start": 6}, "start: expected an integer of 0..5, got 6"),
        ({"rate_hz": "20"}, "rate_hz: expected a positive number, got '20'"),
        ({"rate_hz": None}, "rate_hz: expected a positive number, got None"),
        ({"sampler": "ddim"}, "sampler: expected a SamplerConfig or None, got 'ddim'"),
        ({"normalization": [1]}, "normalization: expected entries by key"),
        (
            {"normalization": {"observation.state": None}},
            "observation.state.normalization: expected an entry",
        ),
        ({"normalization": {"observation.state": {"mode": []}}}, "normalization.mode: expected identity"),
    ],
)
def test_arguments_of_another_type(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    given = {"module": Regression(), **OPTIONS} | changes
    with pytest.raises(ExportError) as error:
        from_module(given.pop("module"), tmp_path / "new.keystep", **given)
    assert told in str(error.value)


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
