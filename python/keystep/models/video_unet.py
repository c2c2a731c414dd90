"""The planner's video U-Net (AVDC: Ko et al. 2024, arXiv:2310.08576; ADM: Dhariwal and Nichol 2021).

Between modules a video lies as [B, C, M, h, w]. With the channels innermost in memory (channels_last_3d) the
views of it below, frames for the spatial operators and lines of time for the temporal ones, copy nothing.
"""

from __future__ import annotations

import itertools
import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


def largest_divisor(value: int, limit: int) -> int:
    return next(divisor for divisor in range(max(1, limit), 0, -1) if value % divisor == 0)


def group_norm(channels: int) -> nn.GroupNorm:
    """32 groups, fewer for narrow widths: in groups of one channel the embedding's bias would be lost."""
    return nn.GroupNorm(largest_divisor(channels, min(32, channels // 4)), channels)


class SpaceTimeConv(nn.Module):
    """A factorised 3-D convolution: 3x3 over each frame, then 3 over time. [B, C, M, h, w].

    The temporal half starts as the identity (Singer et al. 2022, arXiv:2209.14792).
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.space = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.time = nn.Conv2d(outputs, outputs, (3, 1), padding=(1, 0))
        nn.init.dirac_(self.time.weight)
        nn.init.zeros_(cast(Tensor, self.time.bias))

    def forward(self, x: Tensor) -> Tensor:
        frames = self.space(to_frames(x))
        height, width = frames.shape[2:]
        video = to_video(frames, x.shape[2])
        return self.time(video.flatten(3)).unflatten(3, (height, width))


def to_frames(video: Tensor) -> Tensor:
    """[B, C, M, h, w] -> [B M, C, h, w]."""
    return video.transpose(1, 2).flatten(0, 1)


def to_video(frames: Tensor, count: int) -> Tensor:
    """[B M, C, h, w] -> [B, C, M, h, w] with M = count."""
    return frames.unflatten(0, (-1, count)).transpose(1, 2)


class VideoBlock(nn.Module):
    """ADM's residual block; the embedding is added between the two convolutions."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.first_norm = group_norm(inputs)
        self.first = SpaceTimeConv(inputs, outputs)
        self.embedding = nn.Linear(embedding, outputs)
        self.second_norm = group_norm(outputs)
        self.second = SpaceTimeConv(outputs, outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.first(functional.silu(self.first_norm(x)))
        h = h + self.embedding(functional.silu(embedding))[:, :, None, None, None]
        h = self.second(functional.silu(self.second_norm(h)))
        return h + to_video(self.shortcut(to_frames(x)), x.shape[2])


class SpatialAttention(nn.Module):
    """The positions of each frame attend to one another. [B, C, M, h, w]."""

    def __init__(self, channels: int, head_channels: int) -> None:
        super().__init__()
        self.head_channels = largest_divisor(channels, head_channels)
        self.heads = channels // self.head_channels
        self.norm = group_norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        frames = to_frames(x)
        height, width = frames.shape[2:]
        tokens = self.norm(frames).flatten(2).transpose(1, 2)
        qkv = self.qkv(tokens).unflatten(2, (3, self.heads, self.head_channels)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        mixed = self.out(mixed.transpose(1, 2).flatten(2)).transpose(1, 2).unflatten(2, (height, width))
        return x + to_video(mixed, x.shape[2])


class Upsample(nn.Module):
    """Twice the height and width, nearest neighbour, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = SpaceTimeConv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        frames = functional.interpolate(to_frames(x), scale_factor=2.0, mode="nearest")
        return self.conv(to_video(frames, x.shape[2]))


class Stage(nn.Module):
    """A residual block and spatial attention behind it; none with head_channels 0."""

    def __init__(self, inputs: int, outputs: int, embedding: int, head_channels: int) -> None:
        super().__init__()
        self.block = VideoBlock(inputs, outputs, embedding)
        self.attention = SpatialAttention(outputs, head_channels) if head_channels else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.attention(self.block(x, embedding))


def step_features(timestep: Tensor, width: int) -> Tensor:
    """Sinusoids of the denoise step (Vaswani et al. 2017). [B] int64 -> [B, width]."""
    half = width // 2
    rate = torch.exp(torch.arange(half, device=timestep.device) * (-math.log(10000.0) / half))
    angle = timestep.float()[:, None] * rate[None, :]
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class VideoUnet(nn.Module):
    """Predicts the noise, or the velocity, of M subgoal images; time is never downsampled.

    Args:
        channels_in: of a frame: the noisy subgoal and the repeated observation. channels_out: the subgoal.
        base: channels of the finest level; multipliers: those of each level relative to it.
        blocks: residual blocks per level on the way down; one more on the way up.
        head_channels: per attention head.
        attention_at: attends where height and width are 1/factor of the image's, and in the middle.
        embedding: E, width of the goal embedding and of the one of the denoise step, which are added.
        patch: side of the squares of pixels folded into channels before the finest level; counts as
            downsampling for `attention_at`.

    Height and width are multiples of `stride`.
    """

    def __init__(
        self,
        channels_in: int = 6,
        channels_out: int = 3,
        base: int = 128,
        multipliers: tuple[int, ...] = (1, 2, 3, 4, 5),
        blocks: int = 2,
        head_channels: int = 32,
        attention_at: tuple[int, ...] = (8, 16),
        embedding: int = 512,
        patch: int = 1,
    ) -> None:
        super().__init__()
        widths = [base * multiplier for multiplier in multipliers]
        self.base, self.patch, self.stride = base, patch, patch * 2 ** (len(widths) - 1)

        def stages(inputs: list[int], outputs: int, attends: list[bool]) -> nn.ModuleList:
            heads = [head_channels if attend else 0 for attend in attends]
            return nn.ModuleList(Stage(i, outputs, embedding, h) for i, h in zip(inputs, heads, strict=True))

        self.step = nn.Sequential(nn.Linear(base, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.first = SpaceTimeConv(channels_in * patch**2, widths[0])
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        finer, coarser = widths[:1] + widths[:-1], widths[1:] + widths[-1:]
        for level, width in enumerate(widths):
            attends = [patch * 2**level in attention_at]
            self.down.append(stages([finer[level], *[width] * (blocks - 1)], width, attends * blocks))
            # On the way up a block takes what precedes it and one skip: each output of the way down is one.
            inputs = [coarser[level] + width, *[2 * width] * (blocks - 1), width + finer[level]]
            self.up.insert(0, stages(inputs, width, attends * (blocks + 1)))
        self.shrink = nn.ModuleList(SpaceTimeConv(width, width, stride=2) for width in widths[:-1])
        self.middle = stages(widths[-1:] * 2, widths[-1], [True, False])
        self.grow = nn.ModuleList(Upsample(width) for width in reversed(widths[1:]))
        self.final_norm = group_norm(widths[0])
        self.final = SpaceTimeConv(widths[0], channels_out * patch**2)
        nn.init.zeros_(self.final.space.weight)
        nn.init.zeros_(cast(Tensor, self.final.space.bias))

    def forward(self, x: Tensor, timestep: Tensor, goal: Tensor) -> Tensor:
        """[B, M, C_in, h, w], [B] int64, [B, E] -> [B, M, C_out, h, w]."""
        height, width = x.shape[3:]
        if height % self.stride or width % self.stride:
            raise ValueError(f"camera: expected multiples of {self.stride}, got {height} x {width}")
        embedding = self.step(step_features(timestep, self.base)) + goal
        h = self.first(self._fold(x))
        skips = [h]
        for stages, shrink in itertools.zip_longest(_levels(self.down), self.shrink):
            for stage in stages:
                h = stage(h, embedding)
                skips.append(h)
            if shrink is not None:
                h = shrink(h)
                skips.append(h)
        for stage in self.middle:
            h = stage(h, embedding)
        for stages, grow in itertools.zip_longest(_levels(self.up), self.grow):
            for stage in stages:
                h = stage(torch.cat([h, skips.pop()], dim=1), embedding)
            if grow is not None:
                h = grow(h)
        return self._unfold(self.final(functional.silu(self.final_norm(h))))

    def _fold(self, x: Tensor) -> Tensor:
        """[B, M, C, h, w] -> [B, C patch^2, M, h / patch, w / patch], channels innermost in memory."""
        frames = x.flatten(0, 1)
        if self.patch > 1:
            frames = functional.pixel_unshuffle(frames, self.patch)
        return to_video(frames.contiguous(memory_format=torch.channels_last), x.shape[1])

    def _unfold(self, h: Tensor) -> Tensor:
        frames = to_frames(h)
        if self.patch > 1:
            frames = functional.pixel_shuffle(frames, self.patch)
        return frames.unflatten(0, (-1, h.shape[2])).contiguous()


def _levels(modules: nn.ModuleList) -> list[nn.ModuleList]:
    return [cast(nn.ModuleList, level) for level in modules]
