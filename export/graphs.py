"""The policy's computation cut into the graphs of a bundle, and their translation to ONNX.

`encode` runs once per chunk: encoders and every FiLM projection that does not depend on the denoise step.
`denoise` runs once per step. A FiLM vector is Linear(Mish([step, condition])) = W_s Mish(step) +
(W_c Mish(condition) + b): Mish acts on each element, so the two halves separate exactly. The first has only
`train_steps` values, a table in `denoise`; the second is what `encode` computes.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from keystep.export.operators import FastMish, with_fast_mish
from keystep.export.rows import UnetRows, scale_offset
from keystep.models import DiffusionPolicy, PolicyConfig, SamplerConfig
from keystep.models.reference import denoise_loop

OPSET = 18
CONDITION = "film"


def encode_inputs(config: PolicyConfig) -> dict[str, tuple[int, ...]]:
    """Names (which are also the roles) and shapes of `encode`'s inputs. `task` is int64, the rest float32."""
    views = ("observation", "goal") if config.goal == "observation" else ("observation",)
    inputs: dict[str, tuple[int, ...]] = {}
    for view in views:
        if config.state_dim:
            inputs[f"{view}.state"] = (1, config.state_dim)
        for camera in config.cameras:
            inputs[f"{view}.images.{camera.name}"] = (1, 3, camera.height, camera.width)
    if config.tasks:
        inputs["task"] = (1,)
    return inputs


class EncodeGraph(nn.Module):
    """Normalised observation (and goal or task) -> `film` [B, F]; with guidance row 1 lacks task and goal."""

    def __init__(self, policy: DiffusionPolicy, guided: bool) -> None:
        super().__init__()
        self.policy = encoder_of(policy)
        self.names = list(encode_inputs(policy.config))
        self.guided = guided
        self.mish = FastMish()
        blocks, step_dim = policy.unet.blocks(), policy.unet.step_dim
        self.weight = nn.Parameter(torch.cat([block.film.weight[:, step_dim:] for block in blocks]).detach())
        self.bias = nn.Parameter(torch.cat([block.film.bias for block in blocks]).detach())

    def forward(self, *inputs: Tensor) -> Tensor:
        condition = self.policy.conditions(dict(zip(self.names, inputs, strict=True)), self.guided)
        return functional.linear(self.mish(condition), self.weight, self.bias)


def encoder_of(policy: DiffusionPolicy) -> DiffusionPolicy:
    """A copy of the policy without its U-Net, with operators that every provider compiles.

    OpenVINO fuses Softplus and Tanh to a Mish that it cannot run with one thread.
    """
    encoder = copy.copy(policy)
    encoder._modules = {name: copy.deepcopy(part) for name, part in policy._modules.items() if name != "unet"}
    return with_fast_mish(encoder)


class DenoiseGraph(nn.Module):
    """Noisy actions [B, H, A], training time-step [1] int64, film [B, F] -> the prediction [B, H, A]."""

    def __init__(self, policy: DiffusionPolicy) -> None:
        super().__init__()
        unet = policy.unet
        with torch.no_grad():
            steps = functional.mish(unet.step(torch.arange(policy.config.sampler.train_steps)))
            weight = torch.cat([block.film.weight[:, : unet.step_dim] for block in unet.blocks()])
            table = functional.linear(steps, weight)
        self.unet = UnetRows(unet, policy.config.horizon)
        self.table = nn.Parameter(table + scale_offset(unet))

    def forward(self, sample: Tensor, timestep: Tensor, film: Tensor) -> Tensor:
        return self.unet(sample, film + functional.embedding(timestep, self.table))


class SampleGraph(nn.Module):
    """The deterministic sampler unrolled: noise [1, H, A], film [B, F] -> normalised actions [1, H, A]."""

    def __init__(self, policy: DiffusionPolicy, sampler: SamplerConfig) -> None:
        super().__init__()
        self.denoise = DenoiseGraph(policy)
        self.sampler = sampler

    def forward(self, noise: Tensor, film: Tensor) -> Tensor:
        def predict(sample: Tensor, timestep: int) -> Tensor:
            return self.denoise(sample, torch.tensor([timestep]), film)

        return denoise_loop(self.sampler, predict, [noise])


def to_onnx(graph: nn.Module, inputs: tuple[Tensor, ...], names: list[str], output: str, path: Path) -> None:
    """Writes one self-contained ONNX file with fixed shapes."""
    quiet = (contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with quiet[0], quiet[1], warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.eval(),
            inputs,
            str(path),
            input_names=names,
            output_names=[output],
            opset_version=OPSET,
            dynamo=False,
        )
