"""Foreign weights into our modules: every tensor must be there, of its shape, and none be left over."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from keystep.export.errors import ExportError

Tensors = dict[str, Tensor]


def read_tensors(path: Path) -> Tensors:
    """A safetensors file in float32, whatever precision it has. Raises ExportError: no such file."""
    try:
        found = load_file(path)
    except (OSError, ValueError, SafetensorError) as error:  # ValueError: no name of a file
        raise ExportError(f"{path.name!a}: expected a safetensors file, got {error}") from None
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in found.items()}


def fill(
    module: nn.Module, weights: Tensors, theirs: Callable[[str], str], unused: Iterable[str], file: str
) -> None:
    """Loads the module.

    Args:
        theirs: the name in `weights` of a tensor of the module.
        unused: how names begin that a policy at work does not need.

    Raises:
        ExportError: configuration and weights disagree: tensors are missing, left over, of another shape, or
            not finite.
    """
    state, left = {}, set(weights)
    for name, ours in module.state_dict().items():
        if name.endswith("num_batches_tracked"):  # of training
            state[name] = ours
            continue
        source = theirs(name)
        left.discard(source)
        if source not in weights:
            raise ExportError(f"{file}: {source}: expected a tensor {[*ours.shape]}, got nothing")
        if weights[source].shape != ours.shape:
            got = [*weights[source].shape]
            raise ExportError(f"{file}: {source}: expected a tensor {[*ours.shape]}, got {got}")
        if not torch.isfinite(weights[source]).all():
            raise ExportError(f"{file}: {source}: expected finite numbers, got NaN or Inf")
        state[name] = weights[source]
    beginnings = tuple(unused)
    over = [name for name in sorted(left) if not name.startswith(beginnings)]
    over = [name for name in over if not name.endswith("num_batches_tracked")]
    if over:
        raise ExportError(f"{file}: {over[0]}: expected no such tensor by config.json, got one")
    module.load_state_dict(state)
