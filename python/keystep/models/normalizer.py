"""Physical units to the range the network is trained in, and back; the same law as the C++ runtime's."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

MODES = ("min_max", "mean_std", "quantile", "identity")
ENDS = {"min_max": ("min", "max"), "quantile": ("low", "high")}
"""Of the modes that map a range to [-1, 1]: the entry's names of its ends."""

# A dimension that never moved in the data carries no scale of its own: dividing by its tiny spread would turn
# a harmless deviation on the robot into an enormous input.
MIN_STD = 1e-2
MIN_WIDTH = 1e-3


def normalization_entry(mode: str, stats: dict[str, list[float]]) -> dict[str, Any]:
    """The manifest's "normalization" entry for one key, constant dimensions widened.

    Args:
        mode: min_max (to [-1, 1]), mean_std, quantile (1 % and 99 % to -1 and 1, not clipped) or identity.
        stats: `min`, `max`, `mean`, `std`, and `q01`, `q99` for quantile, one value per dimension.
    """
    if mode == "identity":
        return {"mode": "identity"}
    if mode == "mean_std":
        return {"mode": mode, "mean": list(stats["mean"]), "std": [max(std, MIN_STD) for std in stats["std"]]}
    if mode == "min_max":
        return {"mode": mode, "min": list(stats["min"]), "max": _widened(stats["min"], stats["max"])}
    if mode == "quantile":
        low, high = _quantiles(stats)
        return {"mode": mode, "low": low, "high": _widened(low, high)}
    raise ValueError(f"normalization.mode: expected one of {', '.join(MODES)}, got {mode!r}")


def _widened(low: list[float], high: list[float]) -> list[float]:
    """The upper ends, a constant dimension's one above its lower."""
    return [last if last - first >= MIN_WIDTH else first + 1.0 for first, last in zip(low, high, strict=True)]


def _quantiles(stats: dict[str, list[float]]) -> tuple[list[float], list[float]]:
    """Of a dimension that rarely moves, whose quantiles are equal, the whole range: it has no other scale."""
    low, high = [], []
    for q01, q99, least, most in zip(*(stats[key] for key in ("q01", "q99", "min", "max")), strict=True):
        first, last = (q01, q99) if q99 - q01 >= MIN_WIDTH else (least, most)
        low.append(first)
        high.append(last)
    return low, high


def offset_and_scale(entry: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """float64 (dimensions,), or (1,) of the identity: network value = (x - offset) / scale."""
    if entry["mode"] == "identity":
        return np.zeros(1), np.ones(1)
    if entry["mode"] == "mean_std":
        return np.array(entry["mean"], np.float64), np.array(entry["std"], np.float64)
    low, high = (np.array(entry[end], np.float64) for end in ENDS[entry["mode"]])
    return (high + low) / 2, (high - low) / 2


class Normalizer(nn.Module):
    """y = (x - offset) / scale per key; `modes` maps each key to one of MODES.

    Images, the keys of `images`, have statistics per channel and are expected channels first.
    """

    def __init__(self, stats: dict[str, Any], modes: dict[str, str], images: Collection[str] = ()) -> None:
        super().__init__()
        entries = {key: normalization_entry(mode, stats.get(key, {})) for key, mode in modes.items()}
        self._register(entries, images)

    @classmethod
    def of(cls, entries: dict[str, Any], images: Collection[str] = ()) -> Normalizer:
        """By the manifest's entries, as they are."""
        made = cls({}, {})
        made._register(entries, images)
        return made

    def _register(self, entries: dict[str, Any], images: Collection[str]) -> None:
        self.entries = entries
        for key, entry in entries.items():
            offset, scale = (torch.from_numpy(part) for part in offset_and_scale(entry))
            # A narrow range far from zero keeps its digits: single precision holds the offset in two parts.
            parts = {
                "offset": offset.float(),
                "rest": (offset - offset.float()).float(),
                "scale": scale.float(),
            }
            shape = (-1, 1, 1) if key in images else (-1,)
            for name, part in parts.items():
                self.register_buffer(f"{_name(key)}_{name}", part.reshape(shape), persistent=False)

    def normalize(self, key: str, value: Tensor) -> Tensor:
        """Physical units to the network's."""
        offset, rest, scale = self._coefficients(key)
        return ((value - offset) - rest) / scale

    def unnormalize(self, key: str, value: Tensor) -> Tensor:
        """The network's units to physical ones."""
        offset, rest, scale = self._coefficients(key)
        return (value * scale + rest) + offset

    def _coefficients(self, key: str) -> list[Tensor]:
        if key not in self.entries:
            raise KeyError(f"normalization: expected one of {', '.join(self.entries)}, got {key}")
        return [getattr(self, f"{_name(key)}_{part}") for part in ("offset", "rest", "scale")]


def default_modes(keys: list[str]) -> dict[str, str]:
    """Actions to [-1, 1], where the sampler clips; everything else to zero mean and unit spread."""
    return {key: "min_max" if key == "action" else "mean_std" for key in keys}


def _name(key: str) -> str:
    """Of a buffer, which may have no dot; different for all keys."""
    return key.replace("_", "__").replace(".", "_")
