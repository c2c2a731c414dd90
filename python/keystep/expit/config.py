"""What an expert iteration is: the settings of Algorithms 1 and 2 of HD-ExpIt. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import keystep
from keystep.models.presets import ACT_PRESETS, PRESETS
from keystep.record.best_of_n import PlannerScore, check_candidates
from keystep.record.rollout_settings import MAX_COLLECTION
from keystep.train.config import TrainConfig
from keystep.train.scorer_config import ScorerTraining

FINETUNE = "ft"
KINDS: Mapping[str, Mapping[str, Any]] = {"dp": PRESETS, "act": ACT_PRESETS}
SEEDS = 1000
"""Most iterations, so that no two seeds of runs share one of an iteration."""


@dataclass(frozen=True)
class Demonstrations:
    """D0."""

    dataset: Path | None = None
    """Its folder, which several runs may share; OUTPUT/demonstrations when not given."""
    collect: Mapping[str, Any] = field(default_factory=dict)
    """What makes it: arguments of `keystep.record.collect.collect`, episodes = 100 for example. Without them
    it must be there."""


@dataclass(frozen=True)
class ExportSettings:
    """Of the bundles; what is not given is as trained."""

    name: str | None = None
    """The bundle's own; the run's and the iteration's when not given."""
    precision: Literal["fp32", "bf16", "int8"] = "fp32"
    execute: int | None = None
    kind: str | None = None
    inference_steps: int | None = None
    timestep_rule: str | None = None
    eta: float | None = None
    planner_kind: str | None = None
    planner_steps: int | None = None
    resize: bool = False
    """The runtime may resize images of another size."""

    def __post_init__(self) -> None:
        for name in ("execute", "inference_steps", "planner_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise keystep.ArgumentError(f"{name}: expected at least 1, got {value}")

    def options(self, guidance: float | None = None) -> dict[str, Any]:
        """For `keystep.export.bundle.export_bundle`; `guidance` becomes the bundle's own."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        given = {name: value for name, value in given.items() if value is not None}
        plan = {
            "kind": given.pop("planner_kind", None),
            "inference_steps": given.pop("planner_steps", None),
            "guidance": guidance,
        }
        return given | {"planner_sampler": {name: v for name, v in plan.items() if v is not None}}


@dataclass(frozen=True)
class EvaluationSettings:
    """Of every iteration, on the same episodes."""

    episodes: int = 100
    """Per task."""
    seed: int = 10_000_000
    """Of the first reset, and of the policy's noise."""
    tasks: tuple[str, ...] = ()
    """All of the bundle when empty."""
    resets: Literal["fresh", "shared"] = "fresh"
    """fresh: another reset for every task and episode, as in HD-ExpIt; shared: the same for all tasks."""
    max_episode_steps: int | None = None
    """Steps until an episode is given up; the environment's own limit when not given."""
    guidance: float | None = 5.0
    """Of the planner (lambda)."""
    replan: bool = True
    """Plan again when a plan is used up."""
    planner_candidates: int = 1
    """Plans of which the best is followed."""
    planner_score: PlannerScore = "bundle"
    """What is best. bundle: the scorer's choice, of a bundle without one the density's; learned: the
    scorer's, and before there is one (iteration 0) a single plan is made; density."""

    def __post_init__(self) -> None:
        check_candidates(self.planner_candidates, self.planner_score)
        if self.episodes < 1 or self.seed < 0:
            got = f"{self.episodes} and {self.seed}"
            raise keystep.ArgumentError(f"episodes/seed: expected at least 1 and 0, got {got}")
        if self.max_episode_steps is not None and self.max_episode_steps < 1:
            raise keystep.ArgumentError(
                f"max_episode_steps: expected at least 1, got {self.max_episode_steps}"
            )
        if self.guidance is not None and not 0 <= self.guidance < float("inf"):
            raise keystep.ArgumentError(f"guidance: expected at least 0, got {self.guidance}")
        if self.seed >= 2**62:
            raise keystep.ArgumentError(f"seed: expected less than 2^62, got {self.seed}")
        if len(set(self.tasks)) < len(self.tasks):
            raise keystep.ArgumentError(f"tasks: expected each once, got {', '.join(self.tasks)}")


@dataclass(frozen=True)
class NetworkSettings:
    """Training of the planner or of the controller.

    Attributes:
        training: its settings, those of N0 steps; dataset, output and seed are the loop's.
        finetune: of `ft`, in place of some of them.
        kind: of a controller, dp or act.
    """

    training: TrainConfig
    finetune: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ""

    def of(self, steps: int, finetuned: bool, **given: Any) -> TrainConfig:
        """The settings of one training of so many steps; the warm-up keeps its share of them."""
        changes = dict(self.finetune) if finetuned else {}
        base = replace(self.training, **changes)
        warmup = round(base.warmup_steps * min(1.0, steps / self.training.steps))
        return replace(base, steps=steps, warmup_steps=warmup, **given)


def network_steps(mode: str, first: int, iteration: int, *, growth: float, share: float) -> int:
    """N_t, of N_0 = `first`; `share` of it when fine-tuning."""
    if iteration == 0:
        return first
    return max(1, round(first * (share if mode == FINETUNE else 1 + growth * iteration)))


@dataclass(frozen=True, kw_only=True)
class ExpitConfig:
    """One run of expert iteration; made from a file by `keystep.expit.read_config`."""

    output: Path
    """Folder of the run."""
    mode: Literal["standard", "ft"] = "ft"
    """standard: D <- D u R, networks from scratch; ft: D <- R, from the current weights."""
    iterations: int = 3
    """After iteration 0, which learns from the demonstrations alone."""
    seed: int = 0
    """Of the weights, of the batches, and of the contexts that are collected."""
    suite: str = "franka3blocks"
    """The simulated world."""
    env: str = ""
    """Gymnasium environment; the suite's when empty."""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Options of its constructor."""
    start: Path | None = None
    """Folder of another run whose iteration 0 is taken over; its settings must be the same."""
    growth: float = 0.5
    """standard: N_t = N_(t-1) + growth * N_0."""
    finetune_planner: float = 0.2
    """ft: steps of the planner, in N_0."""
    finetune_controller: float = 0.1
    """ft: of the controller."""
    processes: int = 1
    """Simulators run in parallel on this machine."""
    cluster: str | None = None
    """Ray cluster that collects: "local", or an address."""
    workers: int = 0
    """Of the cluster, one core each; 0: one for each of its cores."""
    without_success: Literal["demonstrations", "refuse", "leave_out"] = "demonstrations"
    """Tasks of which no rollout succeeded, while others' did. demonstrations: ft learns from their episodes
    of D0 in place of rollouts; refuse: the run stops; leave_out: ft learns from the others alone, as
    Algorithm 2 is written. `standard` always has D0."""
    demonstrations: Demonstrations
    planner: NetworkSettings
    controller: NetworkSettings
    scorer: ScorerTraining | None = None
    """Of plans: trained after every collection on all that were tried so far, and exported; None: none is."""
    export: ExportSettings
    rollouts: Any
    """`keystep.record.rollouts.RolloutSettings`; its seed is the first iteration's of seed 0."""
    evaluation: EvaluationSettings

    def __post_init__(self) -> None:
        least = {"iterations": 0, "seed": 0, "processes": 1, "workers": 0}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise keystep.ArgumentError(f"{name}: expected at least {value}, got {getattr(self, name)}")
        if self.iterations >= SEEDS:
            raise keystep.ArgumentError(f"iterations: expected fewer than {SEEDS}, got {self.iterations}")
        self._check_scorer()
        if self.env_kwargs and self.demonstrations.collect:
            raise keystep.ArgumentError(
                "env_kwargs: expected none beside demonstrations.collect, which collects in the suite's own "
                f"world, got {', '.join(self.env_kwargs)}; give demonstrations.dataset alone"
            )
        most = (MAX_COLLECTION - self.rollouts.seed - self.iterations) // SEEDS
        if self.seed > most:
            raise keystep.ArgumentError(f"seed: expected at most {most}, got {self.seed}")
        for name in ("growth", "finetune_planner", "finetune_controller"):
            if not 0 <= getattr(self, name) < float("inf") or (name != "growth" and not getattr(self, name)):
                wanted = "at least 0" if name == "growth" else "above 0"
                raise keystep.ArgumentError(f"{name}: expected a number {wanted}, got {getattr(self, name)}")

    def _check_scorer(self) -> None:
        """A scorer that cannot be, or its choice without one."""
        if self.scorer is None:
            for name, part in (("rollouts", self.rollouts), ("evaluation", self.evaluation)):
                if part.planner_score == "learned":
                    wanted = "bundle or density, as there is no table [scorer]"
                    raise keystep.ArgumentError(f"{name}.planner_score: expected {wanted}, got 'learned'")
        elif (subgoal := getattr(self.planner.training, "subgoal", "")).startswith("observation.images."):
            wanted = "none for plans of images, which have density alone"
            raise keystep.ArgumentError(f"scorer: expected {wanted}, got one for {subgoal}")

    @property
    def dataset(self) -> Path:
        """Folder of D0."""
        return self.demonstrations.dataset or self.output / "demonstrations"

    def steps(self, network: Literal["planner", "controller"], iteration: int) -> int:
        """Optimiser steps of a network in an iteration (N_t)."""
        share = getattr(self, f"finetune_{network}")
        first = getattr(self, network).training.steps
        return network_steps(self.mode, first, iteration, growth=self.growth, share=share)

    def training_seed(self, iteration: int) -> int:
        """Of the networks of an iteration."""
        return self.seed * SEEDS + iteration

    def rollout_settings(self, iteration: int) -> Any:
        """Contexts and noise of an iteration are its own."""
        return replace(self.rollouts, seed=self.rollouts.seed + self.seed * SEEDS + iteration)

    def told_steps(self) -> str:
        """The steps of every iteration, in a line."""
        rows = [(self.steps("planner", t), self.steps("controller", t)) for t in range(self.iterations + 1)]
        parts = ", ".join(f"{planner} + {controller}" for planner, controller in rows)
        return f"training steps, planner + controller, iterations 0 to {self.iterations}: {parts}"
