"""DDPM and DDIM once more, in numpy and double precision: what `verify` holds the C++ samplers against.

Written from the papers (Ho et al. 2020, arXiv:2006.11239; Song et al. 2021, arXiv:2010.02502) with diffusers'
rules for time-steps, so that a target machine needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Spec = dict[str, Any]  # the manifest's "sampler"
Predict = Callable[[np.ndarray, int], np.ndarray]


def alphas_cumprod(spec: Spec) -> np.ndarray:
    """alpha-bar, float64 [T]."""
    steps, name = spec["train_steps"], spec["beta_schedule"]
    if name == "table":
        betas = np.array(spec["betas"])
    elif name == "linear":
        betas = np.linspace(spec["beta_start"], spec["beta_end"], steps)
    elif name == "scaled_linear":
        betas = np.linspace(spec["beta_start"] ** 0.5, spec["beta_end"] ** 0.5, steps) ** 2
    else:  # squaredcos_cap_v2: Nichol and Dhariwal 2021, arXiv:2102.09672, eq. 17
        signal = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - signal[1:] / signal[:-1], 0.999)
    # Single precision as in diffusers: near the noisy end its rounding shows, and training had it.
    alphas = 1 - betas.astype(np.float32)
    return np.cumprod(alphas, dtype=np.float64).astype(np.float32).astype(np.float64)


def timesteps(spec: Spec) -> list[int]:
    """Training time-steps visited, from noisy to clean."""
    train, count = spec["train_steps"], spec["inference_steps"]
    if spec["timestep_rule"] == "leading":
        visited = np.arange(count)[::-1] * (train // count) + spec["steps_offset"]
    elif spec["timestep_rule"] == "trailing":
        visited = np.round(np.arange(train, 0, -train / count)) - 1
    elif spec["timestep_rule"] == "linspace":
        visited = np.linspace(0, train - 1, count).round()[::-1]
    else:  # hd_expit: reversed(int(linspace(-1, T - 1, S + 1))) without the final -1, in exact arithmetic
        visited = np.array([(i + 1) * train // count - 1 for i in reversed(range(count))])
    return [int(step) for step in visited]


def times(spec: Spec) -> list[float]:
    """Of flow_euler: t of each denoise step, and of the clean end."""
    return [*(float(np.float32((step + 1) / spec["train_steps"])) for step in timesteps(spec)), 0.0]


def alphas_after(spec: Spec) -> list[float]:
    """alpha-bar each denoise step leads to; 1 is the clean end."""
    bar, visited = alphas_cumprod(spec), timesteps(spec)
    if spec["kind"] == "ddim" and spec["timestep_rule"] != "hd_expit":
        # diffusers' DDIM steps back by T // S whatever the rule.
        following = [step - spec["train_steps"] // spec["inference_steps"] for step in visited]
        end = 1.0 if spec["set_alpha_to_one"] else float(bar[0])
    else:
        following, end = [*visited[1:], -1], 1.0
    return [float(bar[step]) if step >= 0 else end for step in following]


def noise_rows(spec: Spec) -> int:
    """K': the initial noise, and one for every step that adds some."""
    if spec["kind"] == "flow_euler" or (spec["kind"] == "ddim" and spec["eta"] == 0):
        return 1
    bar = alphas_cumprod(spec)[timesteps(spec)]
    pairs = zip(bar, alphas_after(spec), strict=True)
    return 1 + sum(_variance(float(alpha), after) > 0 for alpha, after in pairs)


def sample(spec: Spec, predict: Predict, noise: np.ndarray) -> np.ndarray:
    """Noise [K', H, A] to a normalised chunk [H, A]; `predict`: ([B, H, A], time-step) -> model output."""
    x, *rest = noise.astype(np.float64)
    if spec["kind"] == "flow_euler":
        between = times(spec)
        for timestep, now, following in zip(timesteps(spec), between[:-1], between[1:], strict=True):
            x = x + (following - now) * _predicted(spec, predict, x, timestep)
        return x
    bar = alphas_cumprod(spec)
    for timestep, after in zip(timesteps(spec), alphas_after(spec), strict=True):
        mean, sigma = _step(spec, float(bar[timestep]), after, x, _predicted(spec, predict, x, timestep))
        x = mean + sigma * rest.pop(0) if sigma > 0 else mean
    return x


def _predicted(spec: Spec, predict: Predict, x: np.ndarray, timestep: int) -> np.ndarray:
    branches = 2 if spec["guidance"] else 1
    output = predict(np.repeat(x[None], branches, axis=0).astype(np.float32), timestep).astype(np.float64)
    if not spec["guidance"]:
        return output[0]
    return (1 + spec["guidance"]) * output[0] - spec["guidance"] * output[1]


def _step(
    spec: Spec, alpha: float, after: float, x: np.ndarray, model: np.ndarray
) -> tuple[np.ndarray, float]:
    """Mean and deviation of x_{t-1}."""
    if spec["prediction"] == "epsilon":
        clean, direction = (x - (1 - alpha) ** 0.5 * model) / alpha**0.5, model
    elif spec["prediction"] == "sample":
        clean, direction = model, (x - alpha**0.5 * model) / (1 - alpha) ** 0.5
    else:
        clean = alpha**0.5 * x - (1 - alpha) ** 0.5 * model
        direction = alpha**0.5 * model + (1 - alpha) ** 0.5 * x
    if spec["clip_sample"]:
        clean = np.clip(clean, -spec["clip_range"], spec["clip_range"])
    variance = _variance(alpha, after)
    if spec["kind"] == "ddim":  # Song et al. 2021, eq. 12 and 16
        sigma = spec["eta"] * variance**0.5
        return after**0.5 * clean + max(0.0, 1 - after - sigma**2) ** 0.5 * direction, sigma
    one = alpha / after  # Ho et al. 2020, eq. 7
    mean = after**0.5 * (1 - one) / (1 - alpha) * clean + one**0.5 * (1 - after) / (1 - alpha) * x
    return mean, variance**0.5


def _variance(alpha: float, after: float) -> float:
    """Of q(x_{t-1} | x_t, x_0), Ho et al. 2020, eq. 7: 0 for a step that ends clean or where it started."""
    return max(0.0, (1 - after) / (1 - alpha) * (1 - alpha / after))
