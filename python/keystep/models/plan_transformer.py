"""A plan as tokens: a transformer over the parts of its subgoals (DiT: Peebles & Xie 2023, 2212.09748)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from keystep.models.planner_config import TransformerConfig
from keystep.models.unet1d import StepEmbedding


class PlanTransformer(nn.Module):
    """Predicts the noise, or what stands for it, in a plan of M vectors.

    Each part of a vector, the few numbers of one object, is a token, of the observation and of every subgoal.
    Subgoals repeat most of what is seen, and put the rest onto something that is seen; attention copies such
    numbers, where a convolution under FiLM has to learn them one by one. Parts of one width share their
    weights, so that equal objects are treated alike.

    Args:
        width: S, of a vector.
        subgoals: M.
        embedding: E, width of the goal embedding.
    """

    order: Tensor
    back: Tensor

    def __init__(self, config: TransformerConfig, width: int, subgoals: int, embedding: int) -> None:
        super().__init__()
        dim = config.width
        labels = config.parts or (0,) * width
        parts = [[c for c, part in enumerate(labels) if part == p] for p in range(max(labels) + 1)]
        columns = [column for part in parts for column in part]
        self.widths, self.rows = [len(part) for part in parts], subgoals + 1
        self.register_buffer("order", torch.tensor(columns), persistent=False)
        self.register_buffer("back", torch.argsort(torch.tensor(columns)), persistent=False)
        sizes = sorted(set(self.widths))
        self.enter = nn.ModuleDict({str(size): nn.Linear(size, dim) for size in sizes})
        self.leave = nn.ModuleDict({str(size): nn.Linear(dim, size) for size in sizes})
        self.part = nn.Parameter(0.02 * torch.randn(len(parts), dim))
        self.row = nn.Parameter(0.02 * torch.randn(self.rows, dim))
        self.step = StepEmbedding(dim)
        self.told = nn.Sequential(nn.Linear(dim + embedding, 2 * dim), nn.Mish())
        self.blocks = nn.ModuleList(ModulatedBlock(dim, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, sample: Tensor, timestep: Tensor, goal: Tensor, observation: Tensor) -> Tensor:
        """[B, M, S], [B] int64, [B, E], [B, S] -> [B, M, S]."""
        rows = torch.cat([observation[:, None], sample], dim=1)
        values = rows.index_select(-1, self.order).split(self.widths, dim=-1)
        entered = [self.enter[str(width)](value) for width, value in zip(self.widths, values, strict=True)]
        tokens = torch.stack(entered, dim=2)  # [B, M + 1, parts, D]
        tokens = tokens + self.part + self.row[:, None]
        told = self.told(torch.cat([self.step(timestep), goal], dim=-1))
        x = tokens.flatten(1, 2)
        for block in self.blocks:
            x = block(x, told)
        x = self.norm(x).unflatten(1, (self.rows, len(self.widths)))[:, 1:]
        found = [self.leave[str(width)](x[:, :, part]) for part, width in enumerate(self.widths)]
        return torch.cat(found, dim=-1).index_select(-1, self.back)


class ModulatedBlock(nn.Module):
    """Attention and two layers; what is told scales and shifts what goes in, and scales what comes out.

    Args:
        dim: D; the told vector has 2 D.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first = nn.LayerNorm(dim, elementwise_affine=False)
        self.second = nn.LayerNorm(dim, elementwise_affine=False)
        self.mixed = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.feedforward = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.modulation = nn.Linear(2 * dim, 6 * dim)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """[B, N, D], [B, 2 D] -> [B, N, D]."""
        shift, scale, gate, shift2, scale2, gate2 = self.modulation(told)[:, None].chunk(6, dim=-1)
        query, key, value = self.mixed(self.first(x) * (1 + scale) + shift).chunk(3, dim=-1)
        query, key, value = (self._split(part) for part in (query, key, value))
        found = functional.scaled_dot_product_attention(query, key, value)
        x = x + (1 + gate) * self.out(found.transpose(1, 2).flatten(2))
        return x + (1 + gate2) * self.feedforward(self.second(x) * (1 + scale2) + shift2)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
