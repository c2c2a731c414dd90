"""A controller as the graphs of a bundle: which it has, and each as a torch module with example inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from keystep.export import graphs
from keystep.export.levels import Controller
from keystep.models import DiffusionController, SamplerConfig
from keystep.models.given import GivenAct, GivenSteps

OUTPUTS = {
    "encode": graphs.CONDITION,
    "film": graphs.FILM,
    "denoise": "model_output",
    "act": "actions",
}


def controller_graphs(controller: Controller) -> tuple[str, ...]:
    """In the order in which they run."""
    if controller.sampler is None:
        return ("act",)
    known = isinstance(controller.model, DiffusionController)
    return ("encode", "film", "denoise") if known else ("encode", "denoise")


def controller_module(kind: str, controller: Controller) -> tuple[nn.Module, dict[str, Tensor]]:
    """The graph as a torch module, and an example of each input by name."""
    policy = controller.model
    if kind in ("encode", "act"):
        examples = {
            name: torch.zeros(shape, dtype=torch.int64 if name == "task" else torch.float32)
            for name, shape in graphs.encode_inputs(controller.config).items()
        }
        if kind == "act":
            return graphs.ActGraph(policy), examples  # type: ignore[arg-type]
        assert isinstance(policy, DiffusionController | GivenSteps)
        return graphs.EncodeGraph(policy, guided=bool(sampler_of(controller).guidance)), examples
    assert not isinstance(policy, GivenAct)
    branches = 2 if sampler_of(controller).guidance else 1
    if isinstance(policy, GivenSteps):
        return _given_steps(policy, controller)
    assert isinstance(policy, DiffusionController)
    config = policy.config
    if kind == "film":
        return graphs.FilmGraph(policy.unet), {
            graphs.CONDITION: torch.zeros(branches, config.condition_width)
        }
    film = torch.zeros(branches, sum(policy.unet.film_widths()))
    chunk = torch.zeros(branches, config.horizon, config.action_dim)
    inputs = {"sample": chunk, "timestep": torch.zeros(1, dtype=torch.int64), graphs.FILM: film}
    if config.max_delay:  # in the order in which the graph takes them
        inputs = {"sample": chunk, graphs.MASK: torch.zeros(branches, config.horizon, 1)} | inputs
    return graphs.denoise_graph(policy), inputs


def _given_steps(policy: GivenSteps, controller: Controller) -> tuple[nn.Module, dict[str, Tensor]]:
    encoder, examples = controller_module("encode", controller)
    with torch.no_grad():
        condition = encoder.eval()(*examples.values())
    chunk = torch.zeros(1, policy.config.horizon, policy.config.action_dim)
    timestep = torch.zeros(1, dtype=torch.int64)
    return graphs.StepsGraph(policy), {"sample": chunk, "timestep": timestep, graphs.CONDITION: condition}


def sampler_of(controller: Controller) -> SamplerConfig:
    """Of a controller that denoises."""
    assert controller.sampler is not None
    return controller.sampler
