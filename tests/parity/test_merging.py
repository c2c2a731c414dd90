"""Merging inside the sampler, x0blend: W against a table, C++ against the slow reference, its properties."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import keystep
from keystep.models import SamplerConfig
from keystep.models.config import flow_sampler
from keystep.models.merging import Known, weights_of
from keystep.models.reference import denoise_loop

H, A = 8, 3
PREDICTIONS = ("epsilon", "sample", "v_prediction")
RULES = ("leading", "trailing", "linspace", "hd_expit")


def curve(c: float) -> float:
    return c * (math.exp(c) - 1) / (math.e - 1)


TABLE = [
    # horizon, delay, overlap, rows, decay, weights
    (8, 0, 8, 8, "linear", [8 / 9, 7 / 9, 6 / 9, 5 / 9, 4 / 9, 3 / 9, 2 / 9, 1 / 9]),
    (8, 2, 5, 8, "linear", [1, 1, 3 / 4, 2 / 4, 1 / 4, 0, 0, 0]),
    (8, 2, 5, 8, "exponential", [1, 1, curve(3 / 4), curve(2 / 4), curve(1 / 4), 0, 0, 0]),
    (8, 4, 4, 8, "exponential", [1, 1, 1, 1, 0, 0, 0, 0]),  # d = s: after a key-step
    (8, 0, 0, 8, "linear", [0] * 8),
    (8, 8, 8, 8, "exponential", [1] * 8),
    (8, 2, 8, 4, "linear", [1, 1, 2 / 3, 1 / 3, 0, 0, 0, 0]),  # it ends where the old chunk does
    (8, 4, 6, 2, "linear", [1, 1, 0, 0, 0, 0, 0, 0]),  # fewer rows than the delay
    (4, 2, 4, 0, "exponential", [0] * 4),
]


@pytest.mark.parametrize(("horizon", "delay", "overlap", "rows", "decay", "weights"), TABLE)
def test_weights(horizon: int, delay: int, overlap: int, rows: int, decay: str, weights: list[float]) -> None:
    got = keystep.merge_weights(horizon, delay, overlap, rows=rows, decay=decay)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, np.float32(weights), atol=1e-7)
    np.testing.assert_allclose(weights_of(horizon, delay, overlap, rows, decay), got, atol=1e-7)


def test_weights_of_all_delays() -> None:
    """1 below the delay, falling, 0 from the overlap on and where no old row is; rows of RTC's own law."""
    for delay in range(9):
        for overlap in range(delay, 9):
            for rows in range(9):
                for decay in ("linear", "exponential"):
                    got = keystep.merge_weights(8, delay, overlap, rows=rows, decay=decay)
                    assert (got[: min(delay, rows)] == 1).all() and (got[min(overlap, rows) :] == 0).all()
                    between = got[min(delay, rows) : min(overlap, rows)]
                    assert (np.diff(got) <= 0).all() and ((between > 0) & (between < 1)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0), "horizon: expected an integer in 1"),
        ((8, 9), r"delay: expected an integer in 0..8, got 9"),
        ((8, 4, 3), r"overlap: expected an integer in 4..8, got 3"),
        ((8, -1), "delay"),
    ],
)
def test_weights_that_cannot_be(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(keystep.ArgumentError, match=message):
        keystep.merge_weights(*arguments)
    with pytest.raises(keystep.ArgumentError, match=r"decay: expected linear \| exponential, got 'cubic'"):
        keystep.merge_weights(8, 1, decay="cubic")


def config_of(rng: np.random.Generator, number: int) -> SamplerConfig:
    kind = ("ddim", "ddpm", "flow_euler")[number % 3]
    config = SamplerConfig(
        kind=kind,
        train_steps=int(rng.integers(20, 100)),
        inference_steps=int(rng.integers(1, 12)),
        prediction=str(rng.choice(PREDICTIONS)),
        clip_sample=bool(rng.integers(2)),
        timestep_rule=str(rng.choice(RULES)),
        set_alpha_to_one=bool(rng.integers(2)),
        eta=float(rng.choice([0.0, 0.5])) if kind == "ddim" else 0.0,
        guidance=float(rng.choice([0.0, 1.5])),
    )
    return flow_sampler(config) if kind == "flow_euler" else config


def sampler_of(config: SamplerConfig) -> keystep.Sampler:
    return keystep.Sampler(keystep.SamplerSpec(**asdict(config) | {"betas": list(config.betas)}))


def network(sample: np.ndarray, timestep: int) -> np.ndarray:
    """Rows see their neighbours, so that a known row changes the others; row 1 of guidance is another."""
    mixed = 0.7 * np.tanh(sample + 0.5 * np.roll(sample, 1, axis=-2)) + 0.002 * timestep
    return mixed.astype(np.float32)


def sampled(config: SamplerConfig, noise: np.ndarray, **known: Any) -> np.ndarray:
    def predict(sample: np.ndarray, timestep: int) -> np.ndarray:
        output = network(sample, timestep)
        return np.stack([output, np.float32(0.5) * output]) if config.guidance else output

    sampler = sampler_of(config)
    return sampler.sample(predict, noise if sampler.noise_rows > 1 else noise[0], **known)


def referenced(config: SamplerConfig, noise: np.ndarray, known: Known) -> np.ndarray:
    def predict(sample: Any, timestep: int) -> Any:
        output = network(sample.numpy(), timestep)
        if len(output) == 2:
            output[1] *= np.float32(0.5)
        return torch.from_numpy(output)

    return denoise_loop(config, predict, [torch.from_numpy(row)[None] for row in noise], known)[0].numpy()


def drawn(config: SamplerConfig, seed: int) -> np.ndarray:
    return keystep.noise((sampler_of(config).noise_rows, H, A), seed=seed)


@pytest.mark.parametrize("seed", range(120))
def test_cpp_equals_the_reference(seed: int) -> None:
    """Every kind of sampler and prediction, guided and not, random weights of every decay."""
    rng = np.random.default_rng(seed)
    config = config_of(rng, seed)
    delay = int(rng.integers(0, H + 1))
    overlap, rows = int(rng.integers(delay, H + 1)), int(rng.integers(0, H + 1))
    decay = str(rng.choice(["linear", "exponential"]))
    weights = keystep.merge_weights(H, delay, overlap, rows=rows, decay=decay)
    known = rng.uniform(-1, 1, (H, A)).astype(np.float32)
    noise = drawn(config, seed)
    got = sampled(config, noise, known=known, weights=weights)
    told = Known(
        torch.from_numpy(known)[None],
        weights_of(H, delay, overlap, rows, decay),
        torch.zeros(H, dtype=torch.bool),
    )
    wanted = referenced(config, noise, told)
    tolerance = 2e-3 if config.prediction in ("epsilon", "v_prediction") else 1e-4
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=tolerance, err_msg=repr(config))
    # What is executed from the old chunk is that, whatever the sampler and its end.
    np.testing.assert_allclose(got[weights == 1], known[weights == 1], atol=1e-6)


@pytest.mark.parametrize("number", range(6))
def test_without_weight_nothing_changes(number: int) -> None:
    """Bit for bit: whatever stands in rows that do not exist."""
    config = config_of(np.random.default_rng(number), number)
    noise = drawn(config, number)
    known = np.full((H, A), 7.0, np.float32)
    got = sampled(config, noise, known=known, weights=np.zeros(H, np.float32))
    np.testing.assert_array_equal(got, sampled(config, noise))


@pytest.mark.parametrize("number", range(6))
def test_rows_that_do_not_exist_pull_nowhere(number: int) -> None:
    """lerobot #4454: a prefix padded with zeros pulls a chunk to the mean action."""
    config = config_of(np.random.default_rng(number), number)
    noise, rng = drawn(config, number), np.random.default_rng(number + 100)
    weights = keystep.merge_weights(H, 2, 6, rows=3)
    known = rng.uniform(-1, 1, (H, A)).astype(np.float32)
    padded, other = known.copy(), known.copy()
    padded[3:], other[3:] = 0, 5
    got = [sampled(config, noise, known=rows, weights=weights) for rows in (known, padded, other)]
    np.testing.assert_array_equal(got[0], got[1])
    np.testing.assert_array_equal(got[0], got[2])


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("kind", ["ddim", "ddpm"])
def test_it_is_the_formula(kind: str, prediction: str) -> None:
    """Where nothing is clipped: x0 += W (Y - x0), epsilon recomputed, then the sampler's own step."""
    config = SamplerConfig(kind=kind, prediction=prediction, clip_sample=False)
    sampler = sampler_of(config)
    plain = sampler_of(SamplerConfig(kind=kind, prediction="epsilon", clip_sample=False))
    rng = np.random.default_rng(0)
    weights = keystep.merge_weights(H, 2, 6, decay="linear")
    for timestep in sampler.timesteps[:-1]:
        x, output, y, z = rng.normal(size=(4, H, A)).astype(np.float32)
        signal = np.sqrt(sampler.alphas_cumprod[timestep])
        spread = np.sqrt(1 - sampler.alphas_cumprod[timestep])
        x0 = {
            "epsilon": (x - spread * output) / signal,
            "sample": output.astype(np.float64),
            "v_prediction": signal * x - spread * output,
        }[prediction]
        x0 = x0 + weights[:, None] * (y - x0)
        epsilon = ((x - signal * x0) / spread).astype(np.float32)
        wanted = plain.step(epsilon, int(timestep), x, z)
        stepped = sampler.step(output, int(timestep), x, z)
        got = sampler.merge(int(timestep), weights, y, x, stepped, z)
        np.testing.assert_allclose(got, wanted, atol=2e-4 * max(1.0, np.abs(wanted).max()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": np.ones(H - 1, np.float32)}, "weights: expected one for each row of sample"),
        ({"weights": np.ones(H)}, "weights: expected dtype float32|weights: .*float32"),
        ({"known": np.ones((H, A + 1), np.float32)}, r"known: expected shape \(8, 3\), got \(8, 4\)"),
        ({"known": None}, "weights: expected exactly where there is known"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str) -> None:
    told = {"known": np.zeros((H, A), np.float32), "weights": np.ones(H, np.float32)} | changes
    with pytest.raises(keystep.ArgumentError, match=message):
        sampled(SamplerConfig(), drawn(SamplerConfig(), 0), **told)


# ---- the toy: a denoiser that is exact, so that what is seen at a seam is the rule's alone

TRIALS, LONG, DELAY = 400, 16, 4


class Paths:
    """Smooth paths around one of two ways, upper or lower: a mixture of two Gaussian processes."""

    def __init__(self) -> None:
        time = np.arange(LONG)
        self.ways = np.stack([np.ones(LONG), -np.ones(LONG)]) * 0.8
        self.cov = 0.3**2 * np.exp(-0.5 * ((time[:, None] - time) / 3.0) ** 2) + 1e-6 * np.eye(LONG)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """(LONG, TRIALS) float32, all around the upper way."""
        wiggles = np.linalg.cholesky(self.cov) @ rng.normal(size=(LONG, TRIALS))
        return (self.ways[0][:, None] + wiggles).astype(np.float32)

    def epsilon(self, alphas: np.ndarray) -> Any:
        """The network that could not be better: E[noise | x], each column a path of its own."""

        def predict(x: np.ndarray, timestep: int) -> np.ndarray:
            signal, variance = np.sqrt(alphas[timestep]), 1 - alphas[timestep]
            seen = signal**2 * self.cov + variance * np.eye(LONG)
            apart = x[None] - signal * self.ways[:, :, None]
            solved = np.linalg.solve(seen, apart)
            fit = -0.5 * (apart * solved).sum(axis=1)
            share = np.exp(fit - fit.max(axis=0))
            share /= share.sum(axis=0)
            clean = self.ways[:, :, None] + signal * self.cov @ solved
            return ((x - signal * (share[:, None] * clean).sum(axis=0)) / np.sqrt(variance)).astype(
                np.float32
            )

        return predict


def seam(old: np.ndarray, new: np.ndarray) -> float:
    """Mean size of the second differences that have both chunks in them."""
    path = np.concatenate([old[:DELAY], new[DELAY:]])
    return float(np.abs(np.diff(path, n=2, axis=0)[DELAY - 2 : DELAY]).mean())


@pytest.mark.parametrize("decay", ["exponential", "linear"])
@pytest.mark.parametrize("kind", ["ddim", "ddpm"])
def test_seams_of_an_exact_denoiser(kind: str, decay: str) -> None:
    sampler = keystep.Sampler(keystep.SamplerSpec(kind=kind, inference_steps=20, clip_sample=False))
    paths, rng = Paths(), np.random.default_rng(0)
    old, predict = paths.draw(rng), paths.epsilon(sampler.alphas_cumprod)
    noise = keystep.noise((sampler.noise_rows, LONG, TRIALS), seed=1)
    noise = noise if sampler.noise_rows > 1 else noise[0]
    alone = sampler.sample(predict, noise)
    weights = keystep.merge_weights(LONG, DELAY, decay=decay)
    merged = sampler.sample(predict, noise, known=old, weights=weights)
    natural, nothing, blended = (seam(old, new) for new in (old, alone, merged))
    assert blended < 0.4 * nothing
    assert blended < 3 * natural
    # Nothing but the seam is changed: what is drawn is still one of the ways, and smooth.
    rest = np.abs(np.diff(merged, n=2, axis=0)[DELAY:]).mean()
    assert rest < 2 * np.abs(np.diff(old, n=2, axis=0)).mean()
    print(f"{kind} {decay}: natural {natural:.3f}, nothing {nothing:.3f}, x0blend {blended:.3f}")
