"""Operators rewritten for ONNX and ONNX Runtime's CPU kernels, with equal outputs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.onnx.symbolic_helper import parse_args


class FastMish(nn.Module):
    """x tanh(softplus(x)) = x n / (n + 2) with n = e (e + 2), e = exp(x).

    ONNX Runtime has a vectorised Exp but a scalar Softplus. Above 20 the quotient is 1 in float32, and below
    e^2 is finite.
    """

    def forward(self, x: Tensor) -> Tensor:
        e = torch.exp(torch.clamp(x, max=20.0))
        n = e * (e + 2.0)
        return x * (n / (n + 2.0))


ModuleT = TypeVar("ModuleT", bound=nn.Module)


def with_fast_mish(module: ModuleT) -> ModuleT:
    """Replaces every Mish inside `module`, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.Mish):
            setattr(module, name, FastMish())
        else:
            with_fast_mish(child)
    return module


@contextlib.contextmanager
def known_to_onnx() -> Iterator[None]:
    """While torch exports: operators that it has no form for, as several that it has."""
    torch.onnx.register_custom_op_symbolic("aten::rms_norm", _rms_norm, 18)
    try:
        yield
    finally:
        torch.onnx.unregister_custom_op_symbolic("aten::rms_norm", 18)


@parse_args("v", "is", "v", "f")
def _rms_norm(g: Any, x: Any, shape: list[int], weight: Any, eps: float | None) -> Any:
    """x / sqrt(mean(x^2) + eps) * weight, over the last axes, as torch.nn.RMSNorm."""
    axes = g.op("Constant", value_t=torch.arange(-len(shape), 0))
    added = torch.tensor(torch.finfo(torch.float32).eps if eps is None else eps)
    mean = g.op("ReduceMean", g.op("Mul", x, x), axes, keepdims_i=1)
    normal = g.op("Div", x, g.op("Sqrt", g.op("Add", mean, g.op("Constant", value_t=added))))
    return normal if weight.node().mustBeNone() else g.op("Mul", normal, weight)
