"""The samplers of the C++ loop on their own, so that they can be checked against diffusers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from keystep import _core
from keystep._core import SamplerSpec
from keystep.arguments import integer, rows

Denoise = Callable[[np.ndarray, int], np.ndarray]
"""(sample, timestep) -> model_output of the sample's shape. With guidance: (2, *shape), conditional first."""


class Sampler:
    """DDPM, DDIM (arXiv:2006.11239, arXiv:2010.02502) or flow matching by Euler's method (arXiv:2210.02747).

        sampler = keystep.Sampler(keystep.SamplerSpec(kind="ddim", inference_steps=10))
        sample = sampler.sample(model, keystep.noise((8, 7), seed=0))

    All arrays are float32 and C-contiguous, of one shape. Raises ArgumentError naming the bad field or array.
    """

    def __init__(self, spec: SamplerSpec) -> None:
        self._core = _core.Sampler(spec)
        self._timesteps = np.array(self._core.timesteps, np.int64)
        self._index = {int(timestep): index for index, timestep in enumerate(self._timesteps)}
        self._noisy = [index for index in range(len(self._timesteps)) if self._core.needs_noise(index)]

    @property
    def spec(self) -> SamplerSpec:
        """The specification it was made of, a copy."""
        return self._core.spec

    @property
    def timesteps(self) -> np.ndarray:
        """int64 (K,): the training time-steps visited, from noisy to clean."""
        return self._timesteps.copy()

    @property
    def noise_rows(self) -> int:
        """K': the initial noise, and one for each step that adds some."""
        return 1 + len(self._noisy)

    @property
    def alphas_cumprod(self) -> np.ndarray:
        """float64 (T,): alpha-bar of every training step."""
        return np.array(self._core.alphas_cumprod)

    def step(
        self, model_output: np.ndarray, timestep: int, sample: np.ndarray, noise: np.ndarray | None = None
    ) -> np.ndarray:
        """x_t -> x_{t-1}. `noise`: where the step has variance (DDPM but its last, DDIM with eta > 0)."""
        return self._core.step(self._number(timestep), model_output, sample, noise)

    def merge(
        self,
        timestep: int,
        weights: np.ndarray,
        known: np.ndarray,
        before: np.ndarray,
        sample: np.ndarray,
        noise: np.ndarray | None = None,
    ) -> np.ndarray:
        """After `step`: draws the rows of `sample` towards those that are known, with their weights.

        Row i becomes (1 - w) sample_i + w k_i, where k_i is the step of `before` whose clean sample is
        `known` and whose noise is what remains: x0 += w (known - x0) with the noise recomputed, where nothing
        is clipped. A row of weight 0 stays as it is, to the bit.

        Args:
            weights: float32 (rows,), each in [0, 1].
            before: the sample before the step; noise: as the step had it.
        """
        return self._core.merge(self._number(timestep), weights, known, before, sample, noise)

    def sample(
        self,
        denoise: Denoise,
        noise: np.ndarray,
        *,
        known: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ) -> np.ndarray:
        """The whole loop from noise to a clean sample.

        Args:
            noise: the initial noise when no step adds any, else (K', ...), see `noise_rows`: the initial
                noise, then that of each step that needs some, in order.
            known: of the sample's shape, and with it `weights`: every step merges, see there.
        """
        if (known is None) != (weights is None):
            raise _core.ArgumentError("weights: expected exactly where there is known")
        sample = rows("noise", noise, self.noise_rows)[0] if self._noisy else noise
        row_of = {index: row for row, index in enumerate(self._noisy, start=1)}
        for index, timestep in enumerate(self._timesteps):
            output = denoise(sample, int(timestep))
            if self.spec.guidance != 0.0:
                output = self._core.guide(*rows("denoise", output, 2))
            drawn = noise[row_of[index]] if index in row_of else None
            before, sample = sample, self._core.step(index, output, sample, drawn)
            if known is not None and weights is not None:
                sample = self._core.merge(index, weights, known, before, sample, drawn)
        return sample

    def _number(self, timestep: int) -> int:
        number = integer("timestep", timestep)
        if number not in self._index:
            raise _core.ArgumentError(f"timestep: expected one of {self._timesteps.tolist()}, got {number}")
        return self._index[number]
