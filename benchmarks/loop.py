"""What every contender in Python does around the graphs: inputs, normalisation, the sampler.

Kept as lean as a Python user could write it, so that the contenders are judged by their kernels.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keystep.features import feature_of

Array = NDArray[np.float32]
Policy = Callable[[Array, Array], Array]  # state [S] physical, noise [H, A] -> actions [H, A] physical


class Ddim:
    """Deterministic DDIM in numpy, coefficients precomputed: the leanest loop a Python user would write."""

    def __init__(self, manifest: dict[str, Any]) -> None:
        spec = manifest["sampler"]
        if spec["kind"] != "ddim" or spec["eta"] or spec["guidance"] or spec["timestep_rule"] != "leading":
            raise ValueError(f"sampler: expected plain DDIM with the leading rule, got {spec}")
        if spec["beta_schedule"] != "squaredcos_cap_v2" or spec["prediction"] != "epsilon":
            raise ValueError(f"sampler: expected squaredcos_cap_v2 and epsilon, got {spec}")
        steps, stride = spec["train_steps"], spec["train_steps"] // spec["inference_steps"]
        bar = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
        alphas = np.cumprod(1 - np.minimum(1 - bar[1:] / bar[:-1], 0.999))
        self.timesteps = np.arange(spec["inference_steps"])[::-1] * stride + spec["steps_offset"]
        final = 1.0 if spec["set_alpha_to_one"] else alphas[0]
        before = [alphas[t - stride] if t >= stride else final for t in self.timesteps]
        bars = np.stack([alphas[self.timesteps], before], axis=1).astype(np.float32)
        # by step: the roots of alpha-bar and of 1 - alpha-bar, here and at the step before
        self.roots = [tuple(np.sqrt([a, 1 - a, b, 1 - b]).tolist()) for a, b in bars]
        self.clip = float(spec["clip_range"] if spec["clip_sample"] else np.inf)

    def step(self, index: int, epsilon: Any, sample: Any) -> Any:
        """Song et al. 2021, eq. 12 with sigma 0; diffusers keeps epsilon as predicted when x0 is clipped.

        Arrays or tensors, of the sample's shape.
        """
        alpha, noise, alpha_before, noise_before = self.roots[index]
        clean = ((sample - noise * epsilon) / alpha).clip(-self.clip, self.clip)
        return alpha_before * clean + noise_before * epsilon


class Scaling:
    """Normalisation of the state and its inverse for the action, as the manifest says."""

    def __init__(self, manifest: dict[str, Any]) -> None:
        statistics = {entry["key"]: entry["normalization"] for entry in manifest["observation"]}
        self._state = self._offset_and_scale(statistics.get("observation.state", {"mode": "identity"}))
        self._action = self._offset_and_scale(manifest["action"]["normalization"])

    @staticmethod
    def _offset_and_scale(entry: dict[str, Any]) -> tuple[Any, Any]:
        if entry["mode"] == "identity":
            return np.float32(0), np.float32(1)
        if entry["mode"] == "mean_std":
            return np.array(entry["mean"], np.float32), np.array(entry["std"], np.float32)
        ends = ("low", "high") if entry["mode"] == "quantile" else ("min", "max")
        low, high = (np.array(entry[end], np.float32) for end in ends)
        return (low + high) / 2, (high - low) / 2

    def state(self, state: Array) -> Array:
        offset, scale = self._state
        return ((state - offset) / scale)[None]

    def action(self, sample: Array) -> Array:
        offset, scale = self._action
        return sample[0] * scale + offset

    def normalized_action(self, actions: Any) -> Any:
        """Back to the network's units, whose range is about 2."""
        offset, scale = self._action
        return (actions - offset) / scale


def read_manifest(case: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((case / "bundle.keystep" / "manifest.json").read_text())
    return manifest


def make_inputs(case: Path, seed: int) -> tuple[Array, Array]:
    """The same observation and noise for every contender."""
    manifest, random = read_manifest(case), np.random.default_rng(seed)
    state = random.standard_normal(feature_of(manifest, "observation.state")[0].width)
    noise = random.standard_normal((manifest["chunk"]["horizon"], len(manifest["action"]["names"])))
    return state.astype(np.float32), noise.astype(np.float32)
