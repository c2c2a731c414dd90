"""LeRobot's ACT at work: the latent is zero, and the posterior of training is left out.

Tokens are the latent, the state, the environment, then the cells of each camera, whose size may differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from keystep.models.act import Attention
from keystep.models.resnet import STRIDE, ResNet


@dataclass(frozen=True)
class Sizes:
    """Attributes:
    cameras: key and size (height, width) of each. vectors: key and width, state before environment.
    pre_norm: layers are normalised before attention and layers, not after the sums.
    dilated: the ResNet's last stage dilates instead of halving.
    """

    cameras: tuple[tuple[str, tuple[int, int]], ...]
    vectors: tuple[tuple[str, int], ...]
    action_dim: int
    horizon: int
    width: int
    heads: int
    feedforward: int
    encoder_layers: int
    decoder_layers: int
    latent: int
    pre_norm: bool
    activation: str
    backbone: str
    dilated: bool


class ActFeedForward(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.linear1 = nn.Linear(sizes.width, sizes.feedforward)
        self.linear2 = nn.Linear(sizes.feedforward, sizes.width)
        self.activation = nn.ReLU() if sizes.activation == "relu" else nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.activation(self.linear1(x)))


class EncodingLayer(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.attention = Attention(sizes.width, sizes.heads, 0.0)
        self.feedforward = ActFeedForward(sizes)
        self.norm1, self.norm2 = nn.LayerNorm(sizes.width), nn.LayerNorm(sizes.width)
        self.pre_norm = sizes.pre_norm

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        if self.pre_norm:
            x = x + self.attention(self.norm1(x), position)
            return x + self.feedforward(self.norm2(x))
        x = self.norm1(x + self.attention(x, position))
        return self.norm2(x + self.feedforward(x))


class DecodingLayer(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.attention = Attention(sizes.width, sizes.heads, 0.0)
        self.cross = Attention(sizes.width, sizes.heads, 0.0)
        self.feedforward = ActFeedForward(sizes)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(sizes.width) for _ in range(3))
        self.pre_norm = sizes.pre_norm

    def forward(self, x: Tensor, position: Tensor, memory: Tensor, memory_position: Tensor) -> Tensor:
        if self.pre_norm:
            x = x + self.attention(self.norm1(x), position)
            x = x + self.cross.cross(self.norm2(x), position, memory, memory_position)
            return x + self.feedforward(self.norm3(x))
        x = self.norm1(x + self.attention(x, position))
        x = self.norm2(x + self.cross.cross(x, position, memory, memory_position))
        return self.norm3(x + self.feedforward(x))


class ActNetwork(nn.Module):
    """From a batch of one normalised observation to a chunk [1, H, A]."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.width
        self.cameras = [key for key, _ in sizes.cameras]
        self.keys = [key for key, _ in sizes.vectors]
        self.latent = nn.Linear(sizes.latent, width)
        self.vectors = nn.ModuleList(nn.Linear(values, width) for _, values in sizes.vectors)
        self.positions = nn.Parameter(torch.zeros(1 + len(sizes.vectors), width))
        self.grid: Tensor
        if sizes.cameras:
            self.backbone = ResNet(sizes.backbone, dilated=sizes.dilated)
            self.image = nn.Conv2d(self.backbone.channels, width, 1)
            stride = STRIDE // 2 if sizes.dilated else STRIDE
            grids = [grid(-(-h // stride), -(-w // stride), width) for _, (h, w) in sizes.cameras]
            self.register_buffer("grid", torch.cat(grids), persistent=False)
        self.encoder = nn.ModuleList(EncodingLayer(sizes) for _ in range(sizes.encoder_layers))
        self.encoder_norm = nn.LayerNorm(width) if sizes.pre_norm else nn.Identity()
        self.queries = nn.Parameter(torch.zeros(sizes.horizon, width))
        self.decoder = nn.ModuleList(DecodingLayer(sizes) for _ in range(sizes.decoder_layers))
        self.decoder_norm = nn.LayerNorm(width)
        self.action = nn.Linear(width, sizes.action_dim)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        tokens = [self.latent.bias[None]]  # of a latent of zeros
        tokens += [layer(batch[key]) for layer, key in zip(self.vectors, self.keys, strict=True)]
        tokens += [self._cells(batch[key]) for key in self.cameras]
        x = torch.cat(tokens)[None]
        position = torch.cat([self.positions, self.grid]) if self.cameras else self.positions
        for layer in self.encoder:
            x = layer(x, position)
        memory = self.encoder_norm(x)
        y = torch.zeros_like(self.queries)[None]
        for layer in self.decoder:
            y = layer(y, self.queries, memory, position)
        return self.action(self.decoder_norm(y))

    def _cells(self, image: Tensor) -> Tensor:
        """[1, 3, h, w] -> [cells, D]."""
        return self.image(self.backbone(image)).flatten(2)[0].T


def grid(height: int, width: int, channels: int) -> Tensor:
    """Sinusoids of row and column, over (0, 2 pi], [h w, channels]: half of them of the row, then the column.

    LeRobot adds 1e-6 to the number of rows, and of columns, before it divides by it.
    """
    half = channels // 2
    rate = 10000 ** (2 * (torch.arange(half, dtype=torch.float32) // 2) / half)

    def waves(count: int) -> Tensor:
        place = torch.arange(1, count + 1, dtype=torch.float32) / (torch.tensor(float(count)) + 1e-6)
        angle = (place * (2 * math.pi))[:, None] / rate
        return torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=-1).flatten(1)

    rows = waves(height)[:, None].expand(-1, width, -1)
    columns = waves(width)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)
