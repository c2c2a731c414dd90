"""The weights of a 1-D U-Net beside its graphs, as an engine with kernels of its own takes them.

One safetensors file with what the graphs `film` and `denoise` (`plan_film`, `plan_denoise`) compute with; the
names are those of `ConditionalUnet1d.state_dict`, but for the FiLM projections, which are joined and split as
in keystep.export.graphs. docs/bundle.md has the layout and the law of quantisation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from keystep.export.graphs import FilmGraph, step_table
from keystep.export.manifest import ExportError
from keystep.files import sha256
from keystep.models.unet1d import ConditionalUnet1d

Precision = Literal["fp32", "bf16", "int8"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
METADATA = {"format": "keystep-unet1d", "version": "1"}
EPSILON = 1e-5  # of every GroupNorm: the kernels know no other


def check_precision(precision: str) -> None:
    """Raises ExportError."""
    if precision not in PRECISIONS:
        raise ExportError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")


def runnable(precision: str) -> tuple[str, ...]:
    """What weights of this precision can be run in: as they are, or rounded further."""
    return PRECISIONS[PRECISIONS.index(precision) :]


def has_kernels(unet: ConditionalUnet1d) -> bool:
    """Whether the native engine has kernels for it: every GroupNorm has as many groups."""
    return len({module.num_groups for module in unet.modules() if isinstance(module, nn.GroupNorm)}) == 1


def write_unet(
    unet: ConditionalUnet1d, train_steps: int, precision: Precision, path: Path, where: str = "unet"
) -> dict[str, Any]:
    """Writes the file; returns the manifest's entry, with no errors measured yet.

    Args:
        train_steps: T, of the sampler.
        where: the field that errors name.

    Raises:
        ExportError: weights that are not finite, or overflow in `precision`; a network with parts that
            ConditionalUnet1d does not have.
        OSError: the disk is full, for example.
    """
    weights = {
        name: stored
        for full, tensor in layout(unet, train_steps, where).items()
        for name, stored in converted(full, tensor, precision).items()
    }
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise ExportError(f"{where}.{name}: expected finite weights in {precision}, got NaN or Inf")
    _save(weights, path)
    return unet_entry(unet, precision, path.name, sha256(path))


def unet_entry(unet: ConditionalUnet1d, precision: Precision, file: str, digest: str) -> dict[str, Any]:
    """The manifest's entry, with no errors measured yet."""
    first = unet.blocks()[0]
    return {
        "kind": "conditional_unet1d",
        "file": file,
        "sha256": digest,
        "down_dims": [_conv(level).out_channels for level in unet.down],
        "kernel_size": _conv(unet.down[0]).kernel_size[0],
        "groups": cast(nn.GroupNorm, first.first[1]).num_groups,
        "film_scale": first.film_scale,
        "condition": first.film.in_features - unet.step_dim,
        "precision": precision,
        "errors": {},
    }


def layout(unet: ConditionalUnet1d, train_steps: int, where: str = "unet") -> dict[str, Tensor]:
    """All tensors in fp32, a convolution as [taps, inputs, outputs]. Raises ExportError, see `write_unet`."""
    film = FilmGraph(unet)
    found = {
        "film.weight": film.weight.T[None],
        "film.bias": film.bias,
        "film.steps": step_table(unet, train_steps),
    }
    for name, module in unet.named_modules():
        if isinstance(module, nn.Conv1d):
            found[f"{name}.weight"] = module.weight.permute(2, 1, 0)
        elif isinstance(module, nn.ConvTranspose1d):
            found[f"{name}.weight"] = module.weight.permute(2, 0, 1)
        elif isinstance(module, nn.GroupNorm):
            if module.eps != EPSILON:
                raise ExportError(f"{where}.{name}.eps: expected {EPSILON:g}, got {module.eps:g}")
            found[f"{name}.weight"] = module.weight
        else:
            continue
        found[f"{name}.bias"] = cast(Tensor, module.bias)
    _check_complete(unet, found, where)
    return {name: tensor.detach().float().contiguous() for name, tensor in found.items()}


def converted(name: str, tensor: Tensor, precision: Precision) -> dict[str, Tensor]:
    """A tensor of `layout` as the file holds it: only products with many weights are worth rounding."""
    if precision == "fp32" or tensor.ndim < 3:
        return {name: tensor}
    if precision == "bf16":
        return {name: tensor.bfloat16()}  # rounds half to even
    if not torch.isfinite(tensor).all():  # an integer would not show it
        return {name: tensor}
    quantised, scale = quantise(tensor)
    return {name: quantised, f"{name}.scale": scale}


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """[K, I, O] -> int8 in -127..127, and fp32 [O]: the greatest size of each output's weights over 127.

    Halves are rounded to even. A channel of zeros, or of numbers too small for a scale, becomes zeros.
    """
    scale = weight.abs().amax(dim=(0, 1)) / 127
    quantised = torch.where(scale > 0, (weight / scale).round(), 0).clamp(-127, 127)
    return quantised.to(torch.int8), scale


def _conv(level: nn.Module) -> nn.Conv1d:
    """The first convolution of a level's first block."""
    return level[0].first[0]  # type: ignore[index]


def _check_complete(unet: ConditionalUnet1d, found: dict[str, Tensor], where: str) -> None:
    """Every weight of the network is in the file, or in the FiLM tensors that were computed from it."""
    blocks = [name for name, module in unet.named_modules() if module in unet.blocks()]
    joined = {f"{name}.film.{kind}" for name in blocks for kind in ("weight", "bias")}
    left = [name for name in unet.state_dict() if name not in found and name not in joined]
    unknown = [name for name in left if not name.startswith("step.")]
    if unknown:
        got = ", ".join(unknown)
        raise ExportError(f"{where}: expected the weights of ConditionalUnet1d, got others: {got}")


def _save(weights: dict[str, Tensor], path: Path) -> None:
    try:
        save_file(weights, path, METADATA)
    except SafetensorError as error:
        raise OSError(f"{path}: {error}") from None
    path.chmod(0o644)  # safetensors leaves it to its owner alone, unlike the graphs
    with path.open("r+b") as file:  # safetensors shuffles the metadata; equal weights shall be equal files
        length = int.from_bytes(file.read(8), "little")
        header = json.dumps(json.loads(file.read(length)), sort_keys=True, separators=(",", ":"))
        file.seek(8)
        file.write(header.encode().ljust(length))
