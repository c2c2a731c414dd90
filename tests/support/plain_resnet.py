"""A ResNet under torchvision's names, slow and clear: its children are conv1, bn1, relu, maxpool, layer1 ..
layer4, avgpool, fc. Stands in for torchvision where that cannot be installed; keystep's own is another."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

BLOCKS = {"resnet18": [2, 2, 2, 2], "resnet34": [3, 4, 6, 3], "resnet50": [3, 4, 6, 3]}


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation whose four vectors are buffers."""

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((num_features,), value))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = (1, -1, 1, 1)
        scale = self.weight.reshape(shape) * (self.running_var.reshape(shape) + self.eps).rsqrt()
        return x * scale + (self.bias.reshape(shape) - self.running_mean.reshape(shape) * scale)


class Block(nn.Module):
    """Two 3 x 3 convolutions, or three with the 3 x 3 in the middle, and what goes past them."""

    def __init__(self, inputs: int, width: int, stride: int, dilation: int, deep: bool, norm: Any) -> None:
        super().__init__()
        outputs = 4 * width if deep else width
        if deep:
            self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
            self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
            self.bn3 = norm(outputs)
        else:
            self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = norm(width), norm(width)
        self.deep = deep
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        past = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        if self.deep:
            x = self.bn3(self.conv3(torch.relu(x)))
        return torch.relu(x + past)


class PlainResNet(nn.Module):
    def __init__(self, depth: str, norm: Any, dilate_last: bool) -> None:
        super().__init__()
        deep = depth == "resnet50"
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = norm(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for stage, count in enumerate(BLOCKS[depth]):
            width = 64 * 2**stage
            dilated = dilate_last and stage == 3
            blocks = []
            for number in range(count):
                stride = 2 if stage > 0 and number == 0 and not dilated else 1
                blocks.append(Block(inputs, width, stride, 2 if dilated and number else 1, deep, norm))
                inputs = 4 * width if deep else width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, 1000)


def maker(depth: str) -> Callable[..., PlainResNet]:
    def make(
        *,
        weights: Any = None,
        norm_layer: Any = nn.BatchNorm2d,
        replace_stride_with_dilation: Any = (0, 0, 0),
    ) -> PlainResNet:
        assert weights is None, "nothing is downloaded"
        assert not replace_stride_with_dilation[0] and not replace_stride_with_dilation[1]
        return PlainResNet(depth, norm_layer, bool(replace_stride_with_dilation[2]))

    return make


class IntermediateLayerGetter(nn.ModuleDict):
    """The children up to the one that is wanted, whose output is returned by another name."""

    def __init__(self, model: nn.Module, return_layers: dict[str, str]) -> None:
        ((wanted, new_name),) = return_layers.items()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for name, child in model.named_children():
            layers[name] = child
            if name == wanted:
                break
        super().__init__(layers)
        self.new_name = new_name

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        for child in self.values():
            x = child(x)
        return {self.new_name: x}


@torch.no_grad()
def randomize(module: nn.Module, generator: torch.Generator) -> None:
    """Plausible random weights everywhere: norms and biases, too, which otherwise start at 1 and 0."""
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if not tensor.is_floating_point() or name.endswith(("pos_grid", "pos_enc")):
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith("running_var"):
            tensor.copy_(1 + 0.5 * torch.rand(tensor.shape, generator=generator))
        elif tensor.ndim == 1 and name.endswith("weight"):
            tensor.copy_(1 + 0.1 * noise)
        elif tensor.ndim == 1:
            tensor.copy_(0.1 * noise)
        elif tensor.ndim > 1:
            fan = tensor[0].numel()
            tensor.copy_(noise * (1.2 / fan) ** 0.5)
