"""A planner's computation cut into the graphs of a bundle.

`text` (keystep.export.text) runs once per episode, `plan_encode` and `plan_film`, of a U-Net over vectors,
once per plan, `plan_denoise` once per denoise step. With guidance ROW_TENSORS have two rows, the goal's and
the null text's; the runtime may run the first row of `plan_denoise` alone.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from keystep.export.graphs import DenoiseGraph, FilmGraph
from keystep.export.operators import with_fast_mish
from keystep.models.planner import Planner, StatePlanner

GOAL, CONDITION, FILM = "goal_text", "plan_condition", "plan_film"
SAMPLE, TIMESTEP, OUTPUT = "plan.sample", "plan.timestep", "plan.model_output"


class PlanEncodeGraph(nn.Module):
    """Normalised state [1, S], goal embeddings [R, E] -> `plan_condition` [R, C]."""

    def __init__(self, planner: StatePlanner) -> None:
        super().__init__()
        self.join = with_fast_mish(copy.deepcopy(planner.join))

    def forward(self, observation: Tensor, goal: Tensor) -> Tensor:
        seen = observation.expand(goal.shape[0], -1)
        return self.join(torch.cat([seen, goal], dim=-1))


class WholeDenoiseGraph(nn.Module):
    """Noisy subgoals [B, M, ...], time-step [1], goals [B, E], observation [1, ...] -> [B, M, ...]."""

    def __init__(self, planner: Planner) -> None:
        super().__init__()
        self.planner = planner

    def forward(self, sample: Tensor, timestep: Tensor, goal: Tensor, observation: Tensor) -> Tensor:
        rows = sample.shape[0]
        seen = observation.expand(rows, *[-1] * (observation.ndim - 1))
        return self.planner.denoise(sample, timestep.expand(rows), goal, seen)


def plan_module(kind: str, planner: Planner, guided: bool) -> tuple[nn.Module, dict[str, Tensor], str]:
    """The graph `kind` as a torch module, an example of each input by name, and its output's name."""
    config, rows = planner.config, 2 if guided else 1
    goal = torch.zeros(rows, config.embedding)
    seen = torch.zeros(1, *config.subgoal_shape)
    sample = torch.zeros(rows, config.subgoals, *config.subgoal_shape)
    timestep = torch.zeros(1, dtype=torch.int64)
    if isinstance(planner, StatePlanner):
        if kind == "plan_encode":
            return PlanEncodeGraph(planner), {f"plan.{config.subgoal}": seen, GOAL: goal}, CONDITION
        if kind == "plan_film":
            return FilmGraph(planner.unet), {CONDITION: torch.zeros(rows, config.condition_features)}, FILM
        film = torch.zeros(rows, sum(planner.unet.film_widths()))
        graph = DenoiseGraph(planner.unet, config.subgoals, config.sampler.train_steps)
        return graph, {SAMPLE: sample, TIMESTEP: timestep, FILM: film}, OUTPUT
    inputs = {SAMPLE: sample, TIMESTEP: timestep, GOAL: goal, f"plan.{config.subgoal}": seen}
    return WholeDenoiseGraph(planner), inputs, OUTPUT


def plan_graphs(planner: Planner) -> tuple[str, ...]:
    """The planner's graphs besides `text`."""
    per_plan = ("plan_encode", "plan_film") if isinstance(planner, StatePlanner) else ()
    return (*per_plan, "plan_denoise")


ROW_TENSORS = (SAMPLE, GOAL, FILM, OUTPUT)
