"""Physical units to the range the network is trained in, and back; the same law as the C++ runtime's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

# A dimension that never moved in the data carries no scale of its own: dividing by its tiny spread would turn
# a harmless deviation on the robot into an enormous input.
MIN_STD = 1e-2
MIN_WIDTH = 1e-3


def normalization_entry(mode: str, stats: dict[str, list[float]]) -> dict[str, Any]:
    """The manifest's "normalization" entry for one key, constant dimensions widened.

    Args:
        mode: min_max (to [-1, 1]), mean_std or identity.
        stats: `min`, `max`, `mean`, `std`, one value per dimension.
    """
    if mode == "identity":
        return {"mode": "identity"}
    if mode == "mean_std":
        return {"mode": mode, "mean": list(stats["mean"]), "std": [max(std, MIN_STD) for std in stats["std"]]}
    if mode == "min_max":
        high = [
            high if high - low >= MIN_WIDTH else low + 1.0
            for low, high in zip(stats["min"], stats["max"], strict=True)
        ]
        return {"mode": mode, "min": list(stats["min"]), "max": high}
    raise ValueError(f"normalization.mode: expected min_max, mean_std or identity, got {mode!r}")


class Normalizer(nn.Module):
    """y = (x - offset) / scale per key; `modes` maps each key to min_max, mean_std or identity.

    Images are expected as float CHW in [0, 1] with statistics per channel.
    """

    def __init__(self, stats: dict[str, Any], modes: dict[str, str]) -> None:
        super().__init__()
        self.entries = {key: normalization_entry(mode, stats.get(key, {})) for key, mode in modes.items()}
        for key, entry in self.entries.items():
            offset, scale = _offset_and_scale(entry)
            shape = (-1, 1, 1) if ".images." in key else (-1,)
            self.register_buffer(_name(key) + "_offset", offset.reshape(shape), persistent=False)
            self.register_buffer(_name(key) + "_scale", scale.reshape(shape), persistent=False)

    def normalize(self, key: str, value: Tensor) -> Tensor:
        """Physical units to the network's."""
        offset, scale = self._coefficients(key)
        return (value - offset) / scale

    def unnormalize(self, key: str, value: Tensor) -> Tensor:
        """The network's units to physical ones."""
        offset, scale = self._coefficients(key)
        return value * scale + offset

    def _coefficients(self, key: str) -> tuple[Tensor, Tensor]:
        if key not in self.entries:
            raise KeyError(f"normalization: expected one of {', '.join(self.entries)}, got {key}")
        return getattr(self, _name(key) + "_offset"), getattr(self, _name(key) + "_scale")


def default_modes(keys: list[str]) -> dict[str, str]:
    """Actions to [-1, 1], where the sampler clips; everything else to zero mean and unit spread."""
    return {key: "min_max" if key == "action" else "mean_std" for key in keys}


def _name(key: str) -> str:
    return key.replace(".", "_")


def _offset_and_scale(entry: dict[str, Any]) -> tuple[Tensor, Tensor]:
    if entry["mode"] == "identity":
        return torch.zeros(1), torch.ones(1)
    if entry["mode"] == "mean_std":
        return torch.tensor(entry["mean"], dtype=torch.float32), torch.tensor(
            entry["std"], dtype=torch.float32
        )
    low, high = (torch.tensor(entry[key], dtype=torch.float64) for key in ("min", "max"))
    return ((high + low) / 2).float(), ((high - low) / 2).float()
