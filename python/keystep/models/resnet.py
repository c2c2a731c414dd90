"""ResNets under torchvision's names (He et al. 2016, arXiv:1512.03385), which most foreign policies see with.

Batch normalisation has fixed statistics at inference, so `folded` makes it part of the convolution before it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from keystep.models.encoders import group_norm

Norm = Callable[[int], nn.Module]

DEPTHS: dict[str, tuple[bool, tuple[int, ...]]] = {
    "resnet18": (False, (2, 2, 2, 2)),
    "resnet34": (False, (3, 4, 6, 3)),
    "resnet50": (True, (3, 4, 6, 3)),
    "resnet101": (True, (3, 4, 23, 3)),
    "resnet152": (True, (3, 8, 36, 3)),
}
"""By name: whether its blocks are bottlenecks, and how many each stage has."""

STRIDE = 32
"""Pixels of an image for one cell of the last map, rounded up; half as many with a dilated last stage."""


class Basic(nn.Module):
    """Two convolutions of 3 x 3."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, dilation: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = norm(width)
        self.downsample = _shortcut(inputs, width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(h)) + self.downsample(x))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 (which has the stride) and 1 x 1."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, dilation: int, norm: Norm) -> None:
        super().__init__()
        outputs = self.expansion * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = norm(outputs)
        self.downsample = _shortcut(inputs, outputs, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu(self.bn1(self.conv1(x)))
        h = functional.relu(self.bn2(self.conv2(h)))
        return functional.relu(self.bn3(self.conv3(h)) + self.downsample(x))


class ResNet(nn.Module):
    """[B, 3, h, w] -> its last map, [B, channels, h / 32, w / 32], sizes rounded up.

    Args:
        kind: one of `DEPTHS`.
        grouped: GroupNorm (groups of 16 channels) in place of BatchNorm.
        dilated: the last stage dilates instead of halving; of bottlenecks alone.
    """

    def __init__(self, kind: str, grouped: bool = False, dilated: bool = False) -> None:
        super().__init__()
        norm: Norm = group_norm if grouped else nn.BatchNorm2d
        bottleneck, depths = DEPTHS[kind]
        block = Bottleneck if bottleneck else Basic
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = norm(64)
        inputs = 64
        for stage, blocks in enumerate(depths):
            stride = 2 if stage and not (dilated and stage == 3) else 1
            dilation = 2 if dilated and stage == 3 else 1
            width = 64 << stage
            layers = [block(inputs, width, stride, 1, norm)]
            inputs = width * block.expansion
            layers += [block(inputs, width, 1, dilation, norm) for _ in range(blocks - 1)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.channels = inputs

    def forward(self, image: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(image)))
        x = functional.max_pool2d(x, 3, 2, 1)
        for stage in range(4):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return x


def _shortcut(inputs: int, outputs: int, stride: int, norm: Norm) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))


@torch.no_grad()
def folded(module: nn.Module) -> nn.Module:
    """The module with every BatchNorm2d made part of the convolution registered just before it, in place."""
    before: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            assert before is not None and isinstance(before[1], nn.Conv2d)
            setattr(module, before[0], _joined(before[1], child))
            setattr(module, name, nn.Identity())
        else:
            folded(child)
        before = name, child
    return module


def _joined(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """In double precision, rounded once."""
    assert norm.running_mean is not None and norm.running_var is not None
    gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    size: tuple[int, int] = conv.kernel_size  # type: ignore[assignment]
    new = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        size,
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        conv.dilation,  # type: ignore[arg-type]
    )
    new.weight.copy_(conv.weight.double() * gain[:, None, None, None])
    assert new.bias is not None
    new.bias.copy_(norm.bias.double() - norm.running_mean.double() * gain)
    return new
