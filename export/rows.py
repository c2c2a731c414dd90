"""The 1-D U-Net once more, as ONNX Runtime's CPU kernels run it fastest: activations are rows [B, L, C].

A convolution over rows is a Gather of its taps and one MatMul with a constant weight, which ONNX Runtime
packs once at loading; its Conv does a matrix product with as many columns as there are actions (4 to 16),
nearly empty, and does not share that among threads. One denoise step, batch 1, against Conv with the same
fast Mish (medians, two EPYC cores, loaded): small 0.33 -> 0.23 ms with 1 thread, 0.36 -> 0.26 with 2; medium
19.7 -> 16.4 with 1, 26.0 -> 21.3 with 2. The parity tests compare this file with the plain modules.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from keystep.export.operators import FastMish
from keystep.models.unet1d import ConditionalUnet1d, ConvBlock, ResidualBlock


class ConvRows(nn.Module):
    """Conv1d on [B, L, C_in] -> [B, L_out, C_out] for one fixed length L."""

    def __init__(self, conv: nn.Conv1d, length: int) -> None:
        super().__init__()
        size, stride, padding = conv.kernel_size[0], conv.stride[0], int(conv.padding[0])
        self.length = (length + 2 * padding - size) // stride + 1
        reads = [[row * stride + tap - padding for tap in range(size)] for row in range(self.length)]
        # Taps that read nothing but padding at this length carry no information: at length 2, two of five.
        taps = [tap for tap in range(size) if any(0 <= read[tap] < length for read in reads)]
        zero = length  # the row of zeros appended in `forward`
        rows = [read[tap] if 0 <= read[tap] < length else zero for read in reads for tap in taps]
        self.pointwise = len(taps) == 1 and rows == list(range(length))
        self.register_buffer("rows", torch.tensor(rows), persistent=False)
        self.weight = nn.Parameter(torch.cat([conv.weight[:, :, tap].T for tap in taps]).detach())
        self.bias = nn.Parameter(conv.bias.detach())  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        if not self.pointwise:
            taps = with_zero_row(x).index_select(1, self.rows)  # type: ignore[arg-type]
            x = taps.reshape(-1, self.length, len(self.weight))
        return x @ self.weight + self.bias


class GrowRows(nn.Module):
    """ConvTranspose1d of kernel 4, stride 2, padding 1 on [B, L, C] -> [B, 2L, C_out].

    Output 2j is x_j W_1 + x_{j-1} W_3 and output 2j+1 is x_{j+1} W_0 + x_j W_2: one product per parity.
    """

    def __init__(self, conv: nn.ConvTranspose1d, length: int) -> None:
        super().__init__()
        if (conv.kernel_size, conv.stride, conv.padding) != ((4,), (2,), (1,)):
            raise ValueError(f"upsampling: expected kernel 4, stride 2, padding 1, got {conv}")
        zero = length
        even = [row for j in range(length) for row in (j, j - 1 if j else zero)]
        odd = [row for j in range(length) for row in (j + 1, j)]  # the last j + 1 is the zero row
        self.length = length
        self.register_buffer("even_rows", torch.tensor(even), persistent=False)
        self.register_buffer("odd_rows", torch.tensor(odd), persistent=False)
        taps = conv.weight.detach().permute(2, 0, 1)
        self.even = nn.Parameter(torch.cat([taps[1], taps[3]]))
        self.odd = nn.Parameter(torch.cat([taps[0], taps[2]]))
        self.bias = nn.Parameter(conv.bias.detach())  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        padded, shape = with_zero_row(x), (-1, self.length, len(self.even))
        even = padded.index_select(1, self.even_rows).reshape(shape)  # type: ignore[arg-type]
        odd = padded.index_select(1, self.odd_rows).reshape(shape)  # type: ignore[arg-type]
        both = torch.cat([even @ self.even, odd @ self.odd], dim=-1)
        return both.reshape(-1, 2 * self.length, len(self.bias)) + self.bias


class BlockRows(nn.Module):
    """ConvBlock. GroupNorm is a LayerNormalization over each group's [L, C / groups], then gain and bias."""

    def __init__(self, block: ConvBlock, length: int) -> None:
        super().__init__()
        norm = block[1]
        assert isinstance(norm, nn.GroupNorm)
        self.conv, self.groups, self.eps = ConvRows(block[0], length), norm.num_groups, norm.eps  # type: ignore[arg-type]
        self.gain, self.bias = nn.Parameter(norm.weight.detach()), nn.Parameter(norm.bias.detach())
        self.mish = FastMish()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        length, channels = self.conv.length, len(self.gain)
        width = channels // self.groups
        grouped = x.reshape(-1, length, self.groups, width).transpose(1, 2)
        grouped = functional.layer_norm(
            grouped.reshape(-1, self.groups, length * width), (length * width,), eps=self.eps
        )
        x = grouped.reshape(-1, self.groups, length, width).transpose(1, 2).reshape(-1, length, channels)
        return self.mish(x * self.gain + self.bias)


class ResidualRows(nn.Module):
    def __init__(self, block: ResidualBlock, length: int) -> None:
        super().__init__()
        self.film_scale = block.film_scale
        self.first, self.second = BlockRows(block.first, length), BlockRows(block.second, length)
        plain = isinstance(block.shortcut, nn.Identity)
        self.shortcut = nn.Identity() if plain else ConvRows(block.shortcut, length)  # type: ignore[arg-type]

    def forward(self, x: Tensor, film: Tensor) -> Tensor:
        """[B, L, C_in], [B, 1, F] -> [B, L, C_out]; the scale comes with the 1 of `h * (1 + scale)` added."""
        h = self.first(x)
        if self.film_scale:
            scale, bias = film.chunk(2, dim=-1)
            h = h * scale + bias
        else:
            h = h + film
        return self.second(h) + self.shortcut(x)


class UnetRows(nn.Module):
    """ConditionalUnet1d.run for chunks of `horizon` actions."""

    def __init__(self, unet: ConditionalUnet1d, horizon: int) -> None:
        super().__init__()
        self.widths = unet.film_widths()
        lengths = [horizon >> level for level in range(len(unet.down))]
        final: Any = unet.final

        def blocks(source: Any, length: int) -> nn.ModuleList:
            return nn.ModuleList(ResidualRows(block, length) for block in source)

        def at_each(kind: Any, source: Iterable[Any], lengths: list[int]) -> nn.ModuleList:
            return nn.ModuleList(kind(*pair) for pair in zip(source, lengths, strict=True))

        self.down = at_each(blocks, unet.down, lengths)
        self.shrink = at_each(ConvRows, unet.shrink, lengths[:-1])
        self.middle = blocks(unet.middle, lengths[-1])
        self.up = at_each(blocks, unet.up, lengths[:0:-1])
        self.grow = at_each(GrowRows, unet.grow, lengths[:0:-1])
        self.final = nn.Sequential(BlockRows(final[0], horizon), ConvRows(final[1], horizon))

    def forward(self, sample: Tensor, film: Tensor) -> Tensor:
        """[B, H, A], [B, F] -> [B, H, A]."""
        vectors = iter(film.unsqueeze(1).split(self.widths, dim=-1))
        x, skips = sample, []
        for level, blocks in enumerate(self.down):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, next(vectors))
            skips.append(x)
            if level < len(self.shrink):
                x = self.shrink[level](x)
        for block in self.middle:
            x = block(x, next(vectors))
        for blocks, grow in zip(self.up, self.grow, strict=True):
            x = torch.cat([x, skips.pop()], dim=-1)
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, next(vectors))
            x = grow(x)
        return self.final(x)


def scale_offset(unet: ConditionalUnet1d) -> Tensor:
    """[F]: 1 at every FiLM scale, 0 at every bias; becomes part of the table of the denoise steps."""
    parts = [torch.zeros(block.film.out_features) for block in unet.blocks()]
    for part, block in zip(parts, unet.blocks(), strict=True):
        if block.film_scale:
            part[: len(part) // 2] = 1.0
    return torch.cat(parts)


def with_zero_row(x: Tensor) -> Tensor:
    """[B, L, C] -> [B, L + 1, C]: what a tap outside the chunk reads."""
    return functional.pad(x, (0, 0, 0, 1))
