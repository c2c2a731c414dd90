"""Slow, clear references of merging inside the sampler; the C++ runtime is compared with them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from keystep.models.config import SamplerConfig


@dataclass(frozen=True)
class Known:
    """What is known of a chunk before it is made, in network units.

    Attributes:
        rows: [1, H, A], the old chunk's actions, shifted by what was consumed; zeros where there are none.
        weights: [H], of x0blend.
        given: [H] bool, the rows that a network trained for it is given (`trained`).
    """

    rows: Tensor
    weights: Tensor
    given: Tensor


def weights_of(
    horizon: int, delay: int, overlap: int, rows: int | None = None, decay: str = "exponential"
) -> Tensor:
    """W, float32 [H], as RTC writes it (arXiv:2506.07339, eq. 5, where our overlap is H - s)."""
    rows = horizon if rows is None else rows
    start, end = min(delay, rows), min(max(delay, overlap), rows)
    weights = []
    for i in range(horizon):
        c = (end - i) / (end - start + 1)
        if i < start:
            weights.append(1.0)
        elif i >= end:
            weights.append(0.0)
        else:
            weights.append(c if decay == "linear" else c * (math.exp(c) - 1) / (math.e - 1))
    return torch.tensor(weights)


@dataclass(frozen=True)
class Continued:
    """The chunk before, with the arguments of `keystep.Runtime.predict_chunk`."""

    previous: np.ndarray
    delay: int
    overlap: int
    rule: str = "x0blend"
    decay: str = "exponential"

    def known(self, network_rows: Tensor, config: Any) -> Known:
        """`network_rows`: `previous` in network units; the first belongs to row `chunk_start`."""
        horizon, start = config.horizon, config.chunk_start
        rows = min(len(network_rows), horizon - start)
        known = torch.zeros(1, horizon, network_rows.shape[1])
        known[0, start : start + rows] = network_rows[:rows]
        weights, given = torch.zeros(horizon), torch.zeros(horizon, dtype=torch.bool)
        if self.rule == "trained":
            given[start : start + min(self.delay, rows)] = True
        else:
            weights[start:] = weights_of(horizon - start, self.delay, self.overlap, rows, self.decay)
        return Known(known, weights, given)

    def finished(self, chunk: np.ndarray, start: int) -> np.ndarray:
        """The chunk [H, A] with the old one's rows where they are executed from it."""
        kept = self.previous[: min(self.delay, len(chunk) - start)]
        return np.concatenate([chunk[:start], kept, chunk[start + len(kept) :]])


def write_given(sample: Tensor, known: Known | None) -> Tensor:
    """The sample with the rows that are given."""
    if known is None:
        return sample
    return torch.where(known.given[None, :, None], known.rows, sample)


def merged(known: Known | None, stepped: Tensor, before: Tensor, step: KnownStep) -> Tensor:
    """x0blend after one denoise step: between it and the step of a sample whose clean end is known."""
    if known is None:
        return stepped
    weight = known.weights[None, :, None]
    blended = (1 - weight) * stepped + weight * step(before, known.rows)
    return torch.where(weight > 0, blended, stepped)


@dataclass(frozen=True)
class KnownStep:
    """One denoise step from `timestep` to the next of a sample x whose clean end y is known.

    Attributes:
        alphas: alpha-bar of every training step; of flows none.
        following: the training step that comes after, -1: the clean end.
        last: of all steps: it ends at y itself.
        noise: what the step adds, where it has variance.
    """

    sampler: SamplerConfig
    alphas: Tensor | None
    timestep: int
    following: int
    last: bool
    noise: Tensor

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        if self.last:
            return y
        if self.sampler.kind == "flow_euler":  # x = t noise + (1 - t) y
            t, later = ((k + 1) / self.sampler.train_steps for k in (self.timestep, self.following))
            return x + (later - t) * (x - y) / t
        assert self.alphas is not None
        now, after = self.alphas[self.timestep], self._after()
        variance = (1 - after) / (1 - now) * (1 - now / after)
        if self.sampler.kind == "ddpm":  # Ho et al. 2020, eq. 7
            mean = after.sqrt() * (1 - now / after) / (1 - now) * y
            mean = mean + (now / after).sqrt() * (1 - after) / (1 - now) * x
            return mean + variance.clamp(min=1e-20).sqrt() * self.noise
        noise = (x - now.sqrt() * y) / (1 - now).sqrt()  # Song et al. 2021, eq. 12
        spread = (1 - after - self.sampler.eta**2 * variance).clamp(min=0).sqrt()
        return (
            after.sqrt() * y + spread * noise + self.sampler.eta * variance.clamp(min=0).sqrt() * self.noise
        )

    def _after(self) -> Tensor:
        """diffusers' DDIM steps back by a fixed stride, all else by visited steps."""
        assert self.alphas is not None
        sampler, following = self.sampler, self.following
        if sampler.kind == "ddim" and sampler.timestep_rule != "hd_expit":
            following = self.timestep - sampler.train_steps // sampler.inference_steps
            if following < 0 and not sampler.set_alpha_to_one:
                return self.alphas[0]
        return self.alphas[following] if following >= 0 else torch.tensor(1.0)


def step_of(
    sampler: SamplerConfig, scheduler: Any, timestep: int, following: int, noise: Tensor
) -> KnownStep:
    """The `KnownStep` beside a step of diffusers' scheduler."""
    alphas = None if sampler.kind == "flow_euler" else scheduler.alphas_cumprod
    return KnownStep(sampler, alphas, timestep, following, following < 0, noise)
