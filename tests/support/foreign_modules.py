"""Policies that are no class of ours, as people write them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from keystep.export import Actions
from keystep.models import camera_feature, state_feature

FEATURES = [state_feature(4), camera_feature("top", 16, 20, history=2)]
ACTIONS = Actions(
    names=["x", "y"],
    low=[-2, -2],
    high=[2, 2],
    normalization={"mode": "min_max", "min": [-1, -2], "max": [1, 2]},
)
NORMALIZATION = {"observation.state": {"mode": "mean_std", "mean": [0, 1, 2, 3], "std": [1, 1, 2, 2]}}
HORIZON = 6


class Seeing(nn.Module):
    """[1, 16] of a state and two frames of one camera."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(6, 8, 5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 3 * 4, 12))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        frames = batch["observation.images.top"].flatten(1, 2)
        return torch.cat([batch["observation.state"], self.image(frames)], dim=-1)


class Regression(nn.Module):
    """Behaviour cloning in one step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.see = Seeing()
        self.head = nn.Sequential(nn.Linear(16, 32), nn.Dropout(0.5), nn.Tanh(), nn.Linear(32, HORIZON * 2))

    def act(self, batch: dict[str, Tensor]) -> Tensor:
        return self.head(self.see(batch)).unflatten(1, (HORIZON, 2))


class Denoising(nn.Module):
    """A small denoiser over whole chunks; its condition has a shape of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.see = Seeing()
        self.net = nn.Sequential(nn.Linear(16 + 2 * HORIZON + 1, 64), nn.SiLU(), nn.Linear(64, 2 * HORIZON))

    def encode(self, batch: dict[str, Tensor]) -> Tensor:
        return self.see(batch).unflatten(1, (4, 4))

    def denoise(self, sample: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:
        parts = [sample.flatten(1), condition.flatten(1), timestep[:, None] / 100]
        return self.net(torch.cat(parts, dim=-1)).reshape(sample.shape)
