"""Actions relative to a vector that is observed: C++ beside a slow reference, joined as absolute ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keystep

torch = pytest.importorskip("torch")

import plain_onnx  # noqa: E402
from torch import nn  # noqa: E402

from keystep.export import Actions, ExportError, from_module, from_onnx, verify_bundle  # noqa: E402
from keystep.models import SamplerConfig, state_feature, vector_feature  # noqa: E402
from keystep.models.merging import Continued  # noqa: E402
from keystep.models.reference import denoise_loop  # noqa: E402

H, SAMPLER = 6, SamplerConfig(prediction="sample", train_steps=100, inference_steps=5)
ARM = "observation.arm"
SCALE, OFFSET = np.array([2.0, 3.0], np.float32), np.array([1.0, 1.0], np.float32)
ACTIONS = Actions(
    ["x", "y"],
    low=[-40, -40],
    high=[40, 40],
    normalization={"mode": "min_max", "min": [-1, -2], "max": [3, 4]},
    relative={"feature": ARM, "values": [2, None]},
)
OPTIONS: dict[str, Any] = {
    "features": [state_feature(2), vector_feature(ARM, 3, history=2)],
    "action": ACTIONS,
    "horizon": H,
    "execute": 3,
    "start": 1,
    "rate_hz": 20.0,
    "sampler": SAMPLER,
}


class Stepping(nn.Module):
    """A denoiser whose rows see each other."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(2 * H + 8 + 1, 32), nn.SiLU(), nn.Linear(32, 2 * H))

    def encode(self, batch: dict[str, Any]) -> Any:
        return torch.cat([batch["observation.state"], batch[ARM].flatten(1)], dim=-1)

    def denoise(self, sample: Any, timestep: Any, condition: Any) -> Any:
        told = torch.cat([sample.flatten(1), condition, timestep[:, None] / 100], dim=-1)
        return self.net(told).reshape(sample.shape)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Stepping]:
    module = Stepping().eval()
    return from_module(module, tmp_path_factory.mktemp("relative") / "new.keystep", **OPTIONS), module


def seen(count: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        {
            "observation.state": rng.normal(size=2).astype(np.float32),
            ARM: rng.normal(size=3, scale=5).astype(np.float32),
        }
        for _ in range(count)
    ]


@torch.no_grad()
def chunk_of(
    module: Stepping, frames: list[dict[str, np.ndarray]], noise: np.ndarray, before: Continued | None = None
) -> np.ndarray:
    """Absolute actions [H, 2] made at the last of the frames."""
    arm = np.stack([frames[max(0, len(frames) - 2)][ARM], frames[-1][ARM]])
    anchor = np.array([frames[-1][ARM][2], 0], np.float32)
    batch = {"observation.state": torch.from_numpy(frames[-1]["observation.state"])[None]}
    condition = module.encode(batch | {ARM: torch.from_numpy(arm)[None]})

    class Config:
        horizon, chunk_start = H, 1

    known = None
    if before is not None:
        rows = (before.previous - anchor - OFFSET) / SCALE
        known = before.known(torch.from_numpy(rows.astype(np.float32)), Config)

    def predict(sample: Any, timestep: int) -> Any:
        return module.denoise(sample, torch.tensor([timestep]), condition)

    sample = denoise_loop(SAMPLER, predict, [torch.from_numpy(noise)[None]], known)[0].numpy()
    chunk = sample * SCALE + OFFSET + anchor
    return chunk if before is None else before.finished(chunk, 1)


def test_rows_keep_the_vector_of_their_chunk(made: tuple[Path, Stepping]) -> None:
    """The newest frame's, of a vector with a history; and not that of the tick that takes a row."""
    bundle, module = made
    assert verify_bundle(bundle).ok
    frames, rows = seen(9), []
    with keystep.load(bundle, threads=1) as runtime:
        runtime.reset(seed=5)
        for count, frame in enumerate(frames):
            if count % 3 == 0:
                noise = keystep.noise((H, 2), 5, 0, count // 3, 0)
                rows = list(chunk_of(module, frames[: count + 1], noise)[1:4])
            np.testing.assert_allclose(runtime.act(frame), rows.pop(0), atol=2e-5)


@pytest.mark.parametrize(
    ("delay", "overlap", "count"), [(0, 4, 5), (2, 5, 5), (2, 2, 5), (5, 5, 5), (1, 5, 3)]
)
def test_a_chunk_continues_one_made_elsewhere(
    delay: int, overlap: int, count: int, made: tuple[Path, Stepping]
) -> None:
    bundle, module = made
    first, second = seen(2)
    noise = keystep.noise((2, H, 2), 7)
    old = chunk_of(module, [first], noise[0])[:count]
    with keystep.load(bundle, threads=1) as runtime:
        runtime.reset(seed=5)
        ours = runtime.predict_chunk(
            second, noise[1], previous=old, delay=delay, overlap=overlap, rule="x0blend"
        )
    theirs = chunk_of(module, [second], noise[1], Continued(old, delay, overlap))
    np.testing.assert_allclose(ours, theirs, atol=5e-5)
    np.testing.assert_array_equal(ours[1 : 1 + min(delay, count)], old[:delay], "to the bit")


def test_a_served_chunk_continues_one_made_elsewhere(made: tuple[Path, Stepping]) -> None:
    """It is told what it continues before it sees the observation that it is relative to."""
    bundle, module = made
    frames = seen(2)
    with keystep.load(bundle, threads=1) as runtime:
        runtime.reset(seed=5)
        first = runtime.serve_chunk(frames[:1], consumed=0)
        old = first.rows[1:]
        second = runtime.serve_chunk(
            frames, consumed=1, ahead=2, previous=old, continues=first.goal, rule="x0blend", overlap=4
        )
    noise = [keystep.noise((H, 2), 5, 0, number, 0) for number in range(2)]
    np.testing.assert_allclose(first.rows, chunk_of(module, frames[:1], noise[0])[1:], atol=2e-5)
    wanted = chunk_of(module, frames, noise[1], Continued(old, 2, 4))
    np.testing.assert_allclose(second.rows, wanted[1:], atol=5e-5)
    np.testing.assert_array_equal(second.rows[:2], old[:2], "to the bit")


def test_the_gate_comes_after(tmp_path: Path) -> None:
    """Bounds and rate limits are of absolute actions."""
    action = replace(ACTIONS, low=[-1, -1], high=[1, 1], rate_limit=[0.25, 0.25])
    bundle = from_module(Stepping(), tmp_path / "new.keystep", **(OPTIONS | {"action": action}))
    with keystep.load(bundle, threads=1) as runtime:
        runtime.reset(seed=5)
        before = None
        for frame in seen(8):
            frame[ARM][2] = 1000
            given = np.array(runtime.act(frame))
            assert (np.abs(given) <= 1).all()
            assert before is None or (np.abs(given - before) <= 0.25 + 1e-6).all()
            before = given
        assert given[0] == 1


def test_graphs_that_exist_already(tmp_path: Path) -> None:
    action = Actions(
        ["x", "y"],
        low=[-90] * 2,
        high=[90] * 2,
        relative={"feature": "observation.state", "values": [None, 1]},
    )
    options = {"features": [state_feature(plain_onnx.WIDTH)], "action": action, "rate_hz": 20.0}
    bundle = from_onnx(plain_onnx.linear(), tmp_path / "new.keystep", horizon=plain_onnx.HORIZON, **options)
    assert verify_bundle(bundle).ok
    state = np.array([0.5, -4, 2], np.float32)
    with keystep.load(bundle, threads=1) as runtime:
        runtime.reset(seed=0)
        made = runtime.predict_chunk({"observation.state": state})
    wanted = (state @ plain_onnx.matrix()).reshape(plain_onnx.HORIZON, 2) + np.array([0, -4])
    np.testing.assert_allclose(made, wanted, atol=1e-5)


@pytest.mark.parametrize("delay", [0, 1, 2])
def test_late_rows_keep_the_vector_that_their_chunk_saw(delay: int, tmp_path: Path) -> None:
    """In the asynchronous loop, and after an interrupt: not that of the tick that takes them."""
    action = Actions(
        ["x", "y"], [-900] * 2, [900] * 2, relative={"feature": "observation.state", "values": [None, 1]}
    )
    options = {"features": [state_feature(plain_onnx.WIDTH)], "horizon": plain_onnx.HORIZON, "execute": 2}
    bundle = from_onnx(plain_onnx.linear(), tmp_path / "new.keystep", action=action, rate_hz=20.0, **options)
    states = np.random.default_rng(0).normal(size=(24, plain_onnx.WIDTH), scale=9).astype(np.float32)
    chunks = (states @ plain_onnx.matrix()).reshape(24, plain_onnx.HORIZON, 2)
    chunks[:, :, 1] += states[:, 1, None]
    time = keystep.VirtualTime(chunk=(float(delay),))
    made = []  # ago: the observation of the chunk that the row is of
    with keystep.load(bundle, mode="async", merge="replace", virtual_time=time, threads=1) as runtime:
        runtime.reset(seed=0)
        for tick, state in enumerate(states):
            if tick == 12:
                runtime.interrupt()
            try:
                given = runtime.act({"observation.state": state})
            except keystep.PolicyError as error:  # nothing to hold yet
                assert error.status == "underrun" and tick < max(1, delay)
                continue
            near = np.abs(chunks[: tick + 1] - given).max(axis=-1) < 1e-3
            assert near.sum() == 1
            made.append(tick - int(np.argwhere(near)[0, 0]))
    assert min(made) == max(1, delay) and max(made) < 6


@pytest.mark.parametrize(
    ("relative", "told"),
    [
        (ARM, "action.relative: expected {'feature'"),
        ({"feature": ARM}, "action.relative: expected {'feature'"),
        ({"feature": ARM, "values": [1]}, "action.relative.values: expected 2 places"),
        ({"feature": ARM, "values": "12"}, "action.relative.values: expected 2 places"),
        (
            {"feature": ARM, "values": [3, None]},
            "action.relative.values[0]: expected an integer of 0..2, got 3",
        ),
        (
            {"feature": ARM, "values": [-1, None]},
            "action.relative.values[0]: expected an integer of 0..2, got -1",
        ),
        ({"feature": ARM, "values": [0.5, None]}, "action.relative.values[0]: expected an integer"),
        (
            {"feature": ARM, "values": [None, None]},
            "action.relative.values: expected at least one that is not",
        ),
        (
            {"feature": "observation.leg", "values": [0, 1]},
            "action.relative.feature: expected observation.state | ",
        ),
        ({"feature": 3, "values": [0, 1]}, "action.relative.feature: expected"),
    ],
)
def test_what_is_relative_to_nothing(relative: Any, told: str, tmp_path: Path) -> None:
    action = replace(ACTIONS, relative=relative)
    with pytest.raises(ExportError) as error:
        from_module(Stepping(), tmp_path / "new.keystep", **(OPTIONS | {"action": action}))
    assert told in str(error.value)
    assert not list(tmp_path.iterdir())
