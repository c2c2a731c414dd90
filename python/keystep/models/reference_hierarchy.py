"""HD-ExpIt's Algorithm 4 in PyTorch, slow and clear: what the C++ loop of subgoal policies is compared with.

The planner imagines M subgoals from what is seen; the controller takes n actions towards each; when all are
used up and the episode goes on, the planner is asked again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from keystep.models.checkpoint import load_planner, load_scorer
from keystep.models.frames import as_input
from keystep.models.reference import ReferencePolicy, denoise_loop, drawn_noise
from keystep.models.scorer import pooled

PLAN_NOISE = 0x80000000
"""Added to the number of the plan: plans and chunks draw from separate streams."""
CANDIDATE_STEPS = 1 << 24
"""Between the steps of one candidate's noise and the next's."""


def density(plans: Tensor) -> Tensor:
    """Minus the mean distance of each of [N, M, ..] to the others; NaN of one with NaN or Inf in it."""
    good = _finite(plans)
    flat = plans[good].flatten(1).double()
    distances = (flat[:, None] - flat[None]).square().sum(dim=-1).sqrt()
    scores = torch.full((len(plans),), torch.nan, dtype=torch.float64)
    scores[good] = -distances.sum(dim=1) / max(1, len(flat) - 1)
    return scores


def best_of(scores: Tensor) -> int:
    """The first of the greatest, never a NaN unless there is nothing else."""
    return int(scores.nan_to_num(nan=-torch.inf).argmax())


def _finite(plans: Tensor) -> Tensor:
    return plans.flatten(1).isfinite().all(dim=1)


class ReferenceHierarchy:
    """A trained planner and controller with the surface of `keystep.Runtime`.

    Equal noise gives equal actions to 1e-4.

    Args:
        planner, controller: folders written by training.
        replan: ask the planner again when all subgoals are used up; else the last one stays.
        execute: actions executed per chunk, at most n; by default as trained.
        planner_sampler, controller_sampler: fields of SamplerConfig to change, e.g. {"inference_steps": 10}.
        candidates: plans imagined one after the other, of which the best is followed.
        scorer: folder of a scorer, which says what is best; else the medoid is.
    """

    def __init__(
        self,
        planner: Path | str,
        controller: Path | str,
        *,
        replan: bool = True,
        execute: int | None = None,
        planner_sampler: Mapping[str, Any] | None = None,
        controller_sampler: Mapping[str, Any] | None = None,
        candidates: int = 1,
        scorer: Path | str | None = None,
    ) -> None:
        self.planner, self.checkpoint, self.text_encoder = load_planner(Path(planner))
        self.config = self.planner.config
        self.controller = ReferencePolicy(controller, execute=execute, **dict(controller_sampler or {}))
        # A chunk ends with its subgoal; that matters where the last one stays and cuts no chunk.
        self.controller.execute = min(self.controller.execute, self.config.steps_per_subgoal)
        self.sampler = replace(self.config.sampler, **dict(planner_sampler or {}))
        self.replan = replan
        self.normalizer = self.checkpoint.normalizer()
        self.task_names = [task["name"] for task in self.checkpoint.tasks]
        self.candidates = candidates
        self.scorer = load_scorer(Path(scorer))[0] if scorer is not None else None
        self.scores: Tensor | None = None  # of the last plan's candidates
        self._goals: list[Tensor] | None = None
        self._plan: Tensor | None = None

    def reset(
        self,
        task: str | None = None,
        *,
        seed: int = 0,
        episode: int = 0,
        instruction: str | None = None,
        guidance: float | None = None,
    ) -> None:
        """Starts an episode. task: as `keystep.Runtime`; instruction: any sentence; guidance: lambda."""
        if instruction is None:
            tasks = self.checkpoint.tasks
            known = {text: entry["instruction"] for entry in tasks for text in entry.values()}
            if task not in known:
                raise ValueError(f"task: expected one of {', '.join(self.task_names)}, got {task!r}")
            instruction = known[task]
        self.controller.reset(seed=seed, episode=episode)
        self._guidance = self.sampler.guidance if guidance is None else guidance
        self._goal = self._goal_rows(instruction)
        self._told = pooled(self.text_encoder.encode([instruction]))
        self._seed, self._episode, self._plans = seed, episode, 0
        self._goals = self._plan = None

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """The next action, float32 (A,)."""
        config = self.config
        exhausted = self._goals is not None and self._taken == config.subgoals * config.steps_per_subgoal
        if self._goals is None or (exhausted and self.replan):
            self._make_plan(observation)
        assert self._goals is not None
        if self._taken % config.steps_per_subgoal == 0 and self._taken // config.steps_per_subgoal < len(
            self._goals
        ):
            goal = self._goals[self._taken // config.steps_per_subgoal]
            self.controller.set_goal({config.subgoal.replace("observation.", "goal.", 1): goal})
        self._taken += 1
        return self.controller.act(observation)

    def plan(self) -> dict[str, np.ndarray] | None:
        """The last plan, as `keystep.Runtime.plan`."""
        if self._plan is None:
            return None
        values = self._plan.numpy()
        if self.config.images:
            values = np.rint(values.clip(0, 1).transpose(0, 2, 3, 1) * 255).astype(np.uint8)
        return {self.config.subgoal: values}

    @torch.no_grad()
    def predict_plan(
        self, observation: dict[str, np.ndarray], noise: np.ndarray | None = None, candidate: int = 0
    ) -> Tensor:
        """A plan [M, *subgoal_shape] in physical units (images in 0..1). noise: (K, M, *subgoal_shape)."""
        sampler, shape = replace(self.sampler, guidance=self._guidance), self._shape
        goal, seen = self._goal, self._seen(observation)

        def predict(sample: Tensor, timestep: int) -> Tensor:
            rows = len(sample)
            return self.planner.denoise(
                sample, torch.full((rows,), timestep), goal, seen.expand(rows, *seen.shape[1:])
            )

        if noise is None:
            number = PLAN_NOISE | self._plans
            drawn = drawn_noise(
                sampler, shape, self._seed, self._episode, number, first=candidate * CANDIDATE_STEPS
            )
        else:
            drawn = [torch.from_numpy(row)[None] for row in np.asarray(noise, np.float32).reshape(-1, *shape)]
        return self.normalizer.unnormalize(self.config.subgoal, denoise_loop(sampler, predict, drawn))[0]

    def close(self) -> None:
        """Nothing to free; here for the common surface."""

    @property
    def _shape(self) -> tuple[int, ...]:
        return (self.config.subgoals, *self.config.subgoal_shape)

    def _make_plan(self, observation: dict[str, np.ndarray]) -> None:
        plans = torch.stack(
            [self.predict_plan(observation, candidate=number) for number in range(self.candidates)]
        )
        self.scores = torch.full((self.candidates,), torch.nan)
        if self.candidates > 1:
            self.scores = self._scores(plans, observation)
        self._plan = plans[best_of(self.scores)]
        goals = self.controller.normalizer.normalize(self.config.subgoal, self._plan)
        self._goals = list(goals[:, None])
        self._plans += 1
        self._taken = 0

    @torch.no_grad()
    def _scores(self, plans: Tensor, observation: dict[str, np.ndarray]) -> Tensor:
        """Of [N, M, *subgoal_shape] in physical units, the more the better; NaN: not to be followed."""
        tried, count = self.normalizer.normalize(self.config.subgoal, plans), len(plans)
        if self.scorer is not None:
            seen = self._seen(observation)
            logits = self.scorer(seen.expand(count, -1), self._told.expand(count, -1), tried)
            return torch.where(_finite(tried) & logits.isfinite(), logits, torch.nan)
        return density(tried)

    @torch.no_grad()
    def _goal_rows(self, text: str) -> Tensor:
        """[1, E], or [2, E] with the null text in row 1."""
        tokens = self.text_encoder.encode([text])
        guided = torch.cat([tokens, torch.zeros_like(tokens)])
        return self.planner.goal(guided if self._guidance else tokens)

    def _seen(self, observation: dict[str, np.ndarray]) -> Tensor:
        value = torch.from_numpy(np.ascontiguousarray(observation[self.config.subgoal]))
        value = as_input(self.config.feature, value)
        return self.normalizer.normalize(self.config.subgoal, value)[None]
