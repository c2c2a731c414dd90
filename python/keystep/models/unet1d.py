"""Conditional 1-D U-Net over a chunk of actions (Chi et al. 2023, arXiv:2303.04137; HD-ExpIt, App. B)."""

from __future__ import annotations

import itertools
import math
from typing import cast

import torch
from torch import Tensor, nn


class ConvBlock(nn.Sequential):
    """Conv1d -> GroupNorm -> Mish, length kept. [B, C_in, L] -> [B, C_out, L]."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, groups: int) -> None:
        super().__init__(
            nn.Conv1d(inputs, outputs, kernel_size, padding=kernel_size // 2),
            nn.GroupNorm(groups, outputs),
            nn.Mish(),
        )


class ResidualBlock(nn.Module):
    """Two convolutions with FiLM (Perez et al. 2018) between them.

    `film` = Linear(Mish(condition)), [B, F] with F = 2 C_out (scale and bias) or C_out (bias only), is
    computed outside `forward`, so that the exporter can hoist it out of the denoise loop.
    """

    def __init__(
        self, inputs: int, outputs: int, condition: int, kernel_size: int, groups: int, film_scale: bool
    ) -> None:
        super().__init__()
        self.film_scale = film_scale
        self.first = ConvBlock(inputs, outputs, kernel_size, groups)
        self.second = ConvBlock(outputs, outputs, kernel_size, groups)
        self.film = nn.Linear(condition, outputs * (2 if film_scale else 1))
        self.shortcut = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, film: Tensor) -> Tensor:
        h = self.first(x)
        film = film.unsqueeze(-1)
        if self.film_scale:
            scale, bias = film.chunk(2, dim=1)
            h = h * (1 + scale) + bias
        else:
            h = h + film
        return self.second(h) + self.shortcut(x)


class StepEmbedding(nn.Module):
    """Sinusoidal embedding of the denoise step and a two-layer MLP. [B] int64 -> [B, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width))

    def forward(self, timestep: Tensor) -> Tensor:
        half = self.width // 2
        rate = torch.exp(torch.arange(half, device=timestep.device) * (-math.log(10000.0) / (half - 1)))
        angle = timestep.float()[:, None] * rate[None, :]
        return self.mlp(torch.cat([angle.sin(), angle.cos()], dim=-1))


class ConditionalUnet1d(nn.Module):
    """Predicts the noise in a chunk of actions.

    Args:
        action_dim: A.
        down_dims: channels per level.
        condition: width C of the condition.
        step_dim: width of the embedding of the denoise step.
        extra: values of a row besides its actions, which `run` takes behind them.
    """

    def __init__(
        self,
        action_dim: int,
        down_dims: tuple[int, ...],
        condition: int,
        step_dim: int,
        kernel_size: int = 5,
        groups: int = 8,
        film_scale: bool = True,
        extra: int = 0,
    ) -> None:
        super().__init__()
        self.step_dim = step_dim
        self.step = StepEmbedding(step_dim)

        def block(inputs: int, outputs: int) -> ResidualBlock:
            return ResidualBlock(inputs, outputs, step_dim + condition, kernel_size, groups, film_scale)

        widths = (action_dim + extra, *down_dims)
        levels = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(nn.ModuleList([block(i, o), block(o, o)]) for i, o in levels)
        self.shrink = nn.ModuleList(nn.Conv1d(o, o, 3, stride=2, padding=1) for o in down_dims[:-1])
        self.middle = nn.ModuleList([block(down_dims[-1], down_dims[-1]) for _ in range(2)])
        self.up = nn.ModuleList(
            nn.ModuleList([block(2 * o, i), block(i, i)]) for i, o in reversed(levels[1:])
        )
        self.grow = nn.ModuleList(
            nn.ConvTranspose1d(i, i, 4, stride=2, padding=1) for i, _ in reversed(levels[1:])
        )
        self.final = nn.Sequential(
            ConvBlock(down_dims[0], down_dims[0], kernel_size, groups), nn.Conv1d(down_dims[0], action_dim, 1)
        )

    def blocks(self) -> list[ResidualBlock]:
        """All residual blocks in the order in which `run` takes their FiLM vectors."""
        groups = [*_levels(self.down), self.middle, *_levels(self.up)]
        return [cast(ResidualBlock, block) for group in groups for block in group]

    def film_widths(self) -> list[int]:
        return [block.film.out_features for block in self.blocks()]

    def film(self, timestep: Tensor, condition: Tensor) -> Tensor:
        """All FiLM vectors. [B] int64, [B, C] -> [B, F]."""
        joint = nn.functional.mish(torch.cat([self.step(timestep), condition], dim=-1))
        return torch.cat([block.film(joint) for block in self.blocks()], dim=-1)

    def run(self, sample: Tensor, film: Tensor) -> Tensor:
        """The U-Net with its FiLM vectors given. [B, H, A + extra], [B, F] -> [B, H, A]."""
        vectors = iter(film.split(self.film_widths(), dim=-1))
        x = sample.transpose(1, 2)
        skips = []
        for level, blocks in enumerate(_levels(self.down)):
            for block in blocks:
                x = block(x, next(vectors))
            skips.append(x)
            if level < len(self.shrink):
                x = self.shrink[level](x)
        for block in self.middle:
            x = block(x, next(vectors))
        for blocks, grow in zip(_levels(self.up), self.grow, strict=True):
            x = torch.cat([x, skips.pop()], dim=1)
            for block in blocks:
                x = block(x, next(vectors))
            x = grow(x)
        return self.final(x).transpose(1, 2)

    def forward(self, sample: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:
        """[B, H, A + extra], [B] int64, [B, C] -> predicted noise [B, H, A]."""
        return self.run(sample, self.film(timestep, condition))


def _levels(modules: nn.ModuleList) -> list[nn.ModuleList]:
    return [cast(nn.ModuleList, level) for level in modules]
