"""A controller's computation cut into the graphs of a bundle, and their translation to ONNX.

`encode` and `film` run once per chunk: the encoders, and every FiLM projection that does not depend on the
denoise step. `denoise` runs once per step. A FiLM vector is Linear(Mish([step, condition])) = W_s Mish(step)
+ (W_c Mish(condition) + b): Mish acts on each element, so the two halves separate exactly. The first has only
`train_steps` values, a table in `denoise`; the second is `film`, a graph of its own because it belongs to the
U-Net: an engine with kernels for U-Nets runs both (keystep.export.unet_weights).
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from keystep.export.operators import FastMish, known_to_onnx, with_fast_mish
from keystep.export.rows import UnetRows, scale_offset
from keystep.models import ActConfig, DiffusionConfig, DiffusionController
from keystep.models.act import ActController
from keystep.models.given import GivenAct, GivenConfig, GivenSteps
from keystep.models.unet1d import ConditionalUnet1d

OPSET = 18
CONDITION, FILM, MASK = "condition", "film", "prefix_mask"
ROWS = "rows"  # the symbolic axis of tensors that the runtime binds with one row or two


def encode_inputs(config: DiffusionConfig | ActConfig | GivenConfig) -> dict[str, tuple[int, ...]]:
    """Names (which are also the roles) and shapes of the inputs of `encode` or `act`; `task` is int64."""
    inputs = {name: feature.network_shape(frames) for name, (feature, frames) in config.inputs().items()}
    return inputs | ({"task": (1,)} if config.tasks else {})


class EncodeGraph(nn.Module):
    """Normalised observation (and goal or task) -> `condition` [B, C]; guided, row 1 lacks task and goal."""

    def __init__(self, policy: DiffusionController | GivenSteps, guided: bool) -> None:
        super().__init__()
        self.policy = encoder_of(policy) if isinstance(policy, DiffusionController) else policy
        self.names = list(encode_inputs(policy.config))
        self.guided = guided

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.policy.conditions(dict(zip(self.names, inputs, strict=True)), self.guided)


class FilmGraph(nn.Module):
    """The half of every FiLM projection that does not depend on the denoise step. [B, C] -> [B, F]."""

    def __init__(self, unet: ConditionalUnet1d) -> None:
        super().__init__()
        self.mish = FastMish()
        blocks = unet.blocks()
        weights = [block.film.weight[:, unet.step_dim :] for block in blocks]
        self.weight = nn.Parameter(torch.cat(weights).detach())
        self.bias = nn.Parameter(torch.cat([block.film.bias for block in blocks]).detach())

    def forward(self, condition: Tensor) -> Tensor:
        return functional.linear(self.mish(condition), self.weight, self.bias)


def encoder_of(policy: DiffusionController) -> DiffusionController:
    """A copy of the policy without its U-Net, with operators that every provider compiles.

    OpenVINO fuses Softplus and Tanh to a Mish that it cannot run with one thread.
    """
    encoder = copy.copy(policy)
    encoder._modules = {name: copy.deepcopy(part) for name, part in policy._modules.items() if name != "unet"}
    return with_fast_mish(encoder)


class DenoiseGraph(nn.Module):
    """Noisy rows [B, H, A], training time-step [1] int64, film [B, F] -> the prediction [B, H, A]."""

    def __init__(self, unet: ConditionalUnet1d, length: int, train_steps: int) -> None:
        super().__init__()
        self.unet = UnetRows(unet, length)
        self.table = nn.Parameter(step_table(unet, train_steps))

    def forward(self, sample: Tensor, timestep: Tensor, film: Tensor) -> Tensor:
        return self.unet(sample, film + functional.embedding(timestep, self.table))


@torch.no_grad()
def step_table(unet: ConditionalUnet1d, train_steps: int) -> Tensor:
    """The half of every FiLM projection that depends on the step alone, with the 1 of `1 + scale`. [T, F]."""
    steps = functional.mish(unet.step(torch.arange(train_steps)))
    weight = torch.cat([block.film.weight[:, : unet.step_dim] for block in unet.blocks()])
    return functional.linear(steps, weight) + scale_offset(unet)


class MaskedDenoiseGraph(DenoiseGraph):
    """The same of a network that is told which rows are given: prefix_mask [B, H, 1], 1 where one is."""

    def forward(self, sample: Tensor, prefix_mask: Tensor, timestep: Tensor, film: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(torch.cat([sample, prefix_mask], dim=-1), timestep, film)


def denoise_graph(policy: DiffusionController) -> DenoiseGraph:
    kind = MaskedDenoiseGraph if policy.config.max_delay else DenoiseGraph
    return kind(policy.unet, policy.config.horizon, policy.config.sampler.train_steps)


class StepsGraph(nn.Module):
    """One denoise step of a network that is given: noisy rows, time-step, condition -> the prediction."""

    def __init__(self, policy: GivenSteps) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, sample: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:
        return self.policy.denoise(sample, timestep, condition)


class ActGraph(nn.Module):
    """ACT as one step: normalised observation and goal -> normalised actions [1, H, A]."""

    def __init__(self, policy: ActController | GivenAct) -> None:
        super().__init__()
        self.policy = policy
        self.names = list(encode_inputs(policy.config))

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.policy.act(dict(zip(self.names, inputs, strict=True)))


def to_onnx(
    graph: nn.Module,
    inputs: tuple[Tensor, ...],
    names: list[str],
    output: str | tuple[str, ...],
    row_tensors: tuple[str, ...] = (),
) -> onnx.ModelProto:
    """The module as an ONNX model with fixed shapes, but for the first axis of `row_tensors`.

    Args:
        output: its name; several of a module that returns a tuple.
    """
    outputs = (output,) if isinstance(output, str) else output
    quiet = (contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:  # of more than 2 GB torch makes many files
        path = Path(folder) / "graph.onnx"
        with quiet[0], quiet[1], _silent(), known_to_onnx(), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph.eval(),
                inputs,
                str(path),
                input_names=names,
                output_names=[*outputs],
                opset_version=OPSET,
                dynamic_axes={name: {0: ROWS} for name in row_tensors},
                dynamo=False,
            )
            made = graph(*inputs)
        model = onnx.load(path)
    made = (made,) if isinstance(made, Tensor) else made
    for declared, tensor in zip(model.graph.output, made, strict=True):
        first = [ROWS] if declared.name in row_tensors else [*tensor.shape[:1]]
        _state_shape(declared, [*first, *tensor.shape[1:]])
    return model


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """torch writes its whole graph to the process's output where it refuses an operation, past Python's."""
    write = torch._C._jit_onnx_log
    torch._C._jit_onnx_log = lambda *_: None
    try:
        yield
    finally:
        torch._C._jit_onnx_log = write


def _state_shape(declared: onnx.ValueInfoProto, shape: list[int | str]) -> None:
    """The exporter loses track of the shape behind a Pad, and leaves the output's open."""
    kind = declared.type.tensor_type.elem_type
    declared.CopyFrom(onnx.helper.make_tensor_value_info(declared.name, kind, shape))
