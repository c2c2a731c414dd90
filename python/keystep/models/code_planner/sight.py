"""What a planner sees, as tokens of its decoder: own encoders of pictures, and slots of objects."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from keystep.models.code_planner.config import OBJECT_SLOTS, CodePlannerConfig
from keystep.models.code_planner.finding import Finder, FoundTokens
from keystep.models.encoders import BasicBlock, group_norm

POOL_HEADS = 4
_SPREAD = 0.12
"""Of the first attention of an image token around its own place, in sides of the picture."""


class PictureSight(nn.Module):
    """Residual convolutions to a map of 1/16 of each side, which learned queries pool.

    Blocks are some 8 px wide at 128 px: a first stage of stride 2 without max pooling keeps them.
    """

    def __init__(self, config: CodePlannerConfig) -> None:
        super().__init__()
        assert config.picture is not None
        height, width = (side // 16 for side in config.picture.shape[:2])
        self.stem = picture_stem(config.stem)
        self.pool = QueryPool(config.image_tokens, height, width, config.stem[-1], config.width)

    def forward(self, pictures: Tensor) -> Tensor:
        """[N, 3, H, W] in [0, 1] -> [N, K, D]."""
        cells = self.stem(2 * pictures - 1)
        return self.pool(cells.flatten(2).transpose(1, 2))


class FoundSight(nn.Module):
    """The same convolutions, and what is found in a map of 1/8 of each side, in words.

    What is where is learned from boxes alone: replies teach nothing about it, and their gradient ends here.

    The map is of the third stage, with the last one's beside it: two blocks that touch have own cells.

    Attributes:
        finder: learns from boxes, see its loss; `map` makes what it takes.
    """

    def __init__(self, config: CodePlannerConfig) -> None:
        super().__init__()
        fine, coarse = config.stem[-2:]
        self.stem = picture_stem(config.stem)
        self.near, self.far = nn.Conv2d(fine, fine, 1), nn.Conv2d(coarse, fine, 1)
        blur = nn.Conv2d(fine, fine, 3, 1, 1, bias=False)
        self.mix = nn.Sequential(group_norm(fine), nn.ReLU(), blur, group_norm(fine), nn.ReLU())
        self.finder = Finder(fine, config.names, len(config.numbers))
        self.tokens = FoundTokens(config)

    def forward(self, pictures: Tensor, embeddings: Tensor) -> Tensor:
        """[N, 3, H, W] in [0, 1], and the decoder's embeddings [V, D] -> [N, K, D]."""
        with torch.no_grad():
            found = self.finder(self.map(pictures))
        tokens: Tensor = self.tokens(found, embeddings)
        return tokens

    def map(self, pictures: Tensor) -> Tensor:
        """[N, 3, H, W] in [0, 1] -> [N, channels, H / 8, W / 8]."""
        fine = self.stem[:-2](2 * pictures - 1)
        far = functional.interpolate(self.far(self.stem[-2:](fine)), scale_factor=2.0)
        cells: Tensor = self.mix(self.near(fine) + far)
        return cells


def picture_stem(channels: Sequence[int]) -> nn.Sequential:
    """[N, 3, H, W] -> [N, channels of the last, H / 16, W / 16]; the last two layers are the fourth stage."""
    first, *others = channels
    stages: list[nn.Module] = [nn.Conv2d(3, first, 5, 2, 2, bias=False), group_norm(first), nn.ReLU()]
    for inputs, outputs in zip(channels, others, strict=False):
        stages.append(BasicBlock(inputs, outputs, 2))
    return nn.Sequential(*stages, BasicBlock(others[-1], others[-1], 1))


class QueryPool(nn.Module):
    """Cross-attention of learned queries over the cells of a map (Lee et al. 2019, arXiv:1810.00825).

    Each query begins near a place of its own, on a square of places, so that tokens differ and know where
    they look before anything is learned; what it looks at later is free.
    """

    def __init__(self, tokens: int, height: int, width: int, channels: int, features: int) -> None:
        super().__init__()
        self.place = nn.Parameter(0.02 * torch.randn(height * width, channels))
        self.query = nn.Parameter(torch.randn(POOL_HEADS, tokens, features // POOL_HEADS))
        self.near = nn.Parameter(_nearness(tokens, height, width))
        self.norm = nn.LayerNorm(channels)
        self.key_value = nn.Linear(channels, 2 * features)
        self.out = nn.Linear(features, features)
        self.token = nn.Parameter(0.02 * torch.randn(tokens, features))

    def forward(self, cells: Tensor) -> Tensor:
        """[N, cells, channels] -> [N, tokens, features]."""
        known = self.key_value(self.norm(cells + self.place))
        key, value = known.unflatten(-1, (2, POOL_HEADS, -1)).permute(2, 0, 3, 1, 4)  # [N, heads, cells, E]
        query = self.query.expand(len(cells), -1, -1, -1)
        pooled = functional.scaled_dot_product_attention(query, key, value, attn_mask=self.near)
        return self.token + self.out(pooled.transpose(1, 2).flatten(2))


def _nearness(tokens: int, height: int, width: int) -> Tensor:
    """[tokens, cells]: minus half the squared distance of token and cell, in spreads."""
    side = math.ceil(math.sqrt(tokens))
    number = torch.arange(tokens)
    at = torch.stack([(number // side + 0.5) / side, (number % side + 0.5) / side], dim=-1)
    rows, columns = ((torch.arange(count) + 0.5) / count for count in (height, width))
    cells = torch.cartesian_prod(rows, columns)
    return -0.5 * ((at[:, None] - cells) / _SPREAD).square().sum(-1)


class ObjectSight(nn.Module):
    """One token per slot: an embedding of what it is and where, or that it is empty.

    Values of a slot but the first, which is 1 where an object is there and else 0, are expected normalised
    alike in all slots.
    """

    def __init__(self, config: CodePlannerConfig) -> None:
        super().__init__()
        assert config.objects is not None
        self.values = config.objects.shape[0] // OBJECT_SLOTS - 1  # besides presence
        self.layers = nn.Sequential(
            nn.Linear(self.values, config.width), nn.SiLU(), nn.Linear(config.width, config.width)
        )
        self.empty = nn.Parameter(0.02 * torch.randn(config.width))

    def forward(self, objects: Tensor) -> Tensor:
        """[N, slots * values] or [N, slots, values] -> [N, slots, D]; an empty slot shows nothing."""
        slots = objects.reshape(len(objects), OBJECT_SLOTS, 1 + self.values)
        present = slots[..., :1] > 0.5
        return torch.where(present, self.layers(slots[..., 1:]), self.empty)
