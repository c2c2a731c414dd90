"""Calls of a module that is not ours: what goes wrong inside is one ExportError that says where."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from keystep.export.errors import ExportError, UnreadError
from keystep.models.given import GivenConfig


def copied(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode. Raises ExportError for what cannot be copied."""
    try:
        return copy.deepcopy(module).eval()
    except Exception as error:  # of code that is not ours
        wanted = "one that copy.deepcopy copies (no locks, files or results of training in it)"
        raise ExportError(f"module: expected {wanted}, got {_told(error)}") from error


@contextlib.contextmanager
def traced_by_torch() -> Iterator[None]:
    """While a module is tried out, run for golden data and exported: each in the same way."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # ONNX has no form of what attention becomes there
    try:
        yield
    except (ExportError, OSError) as error:
        if isinstance(error, UnreadError):
            wanted = f"it to read {', '.join(error.names)}"
            got = "an answer that does not depend on that"
            raise ExportError(f"module.{error.graph}: expected {wanted}, got {got}") from None
        raise
    except torch.onnx.errors.OnnxExporterError as error:
        raise ExportError(f"module: expected operations that ONNX has, got {_told(error)}") from error
    except Exception as error:  # of torch's tracer, or of code that is not ours
        raise ExportError(f"module: expected one that torch.onnx can trace, got {_told(error)}") from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@torch.no_grad()
def try_out(network: nn.Module, config: GivenConfig, steps: bool) -> None:
    """That the module has the methods, and that they make what they should. Raises ExportError."""
    for method in ("encode", "denoise") if steps else ("act",):
        if not callable(getattr(network, method, None)):
            wanted = f"a method {method} ({'with' if steps else 'without'} a sampler)"
            raise ExportError(f"module: expected {wanted}, got {type(network).__name__} without one")
    batch = {
        name: torch.zeros(feature.network_shape(frames))
        for name, (feature, frames) in config.inputs().items()
    }
    chunk = (1, config.horizon, config.action_dim)
    if not steps:
        _made("act", lambda: network.act(batch), chunk)  # type: ignore[operator]
        return
    condition = _made("encode", lambda: network.encode(batch))  # type: ignore[operator]
    told = (torch.zeros(chunk), torch.zeros(1, dtype=torch.int64), condition)
    _made("denoise", lambda: network.denoise(*told), chunk)  # type: ignore[operator]


def _made(method: str, call: Callable[[], Any], shape: tuple[int, ...] | None = None) -> Tensor:
    try:
        made = call()
    except Exception as error:  # of code that is not ours
        wanted = "it to take its features"
        raise ExportError(f"module.{method}: expected {wanted}, got {_told(error)}") from error
    wanted = f"a float32 tensor {[*shape]}" if shape else "a float32 tensor [1, ..]"
    if not isinstance(made, Tensor):
        raise ExportError(f"module.{method}: expected {wanted}, got {type(made).__name__}")
    fits = made.ndim > 0 and len(made) == 1 and (shape is None or made.shape == shape)
    if not fits or made.dtype != torch.float32:
        raise ExportError(f"module.{method}: expected {wanted}, got {made.dtype} {[*made.shape]}")
    return made


def _told(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
