"""Hierarchies of random weights: tiny planners and controllers as training writes them, and what they see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from keystep.models import (
    ACT_PRESETS,
    PLANNER_PRESETS,
    PRESETS,
    ActConfig,
    DiffusionConfig,
    PlannerConfig,
    SamplerConfig,
    camera_feature,
    load_model,
    random_checkpoint,
    save_checkpoint,
)
from keystep.models.planner_config import TransformerConfig
from keystep.suites.franka3blocks.layout import STATE_PARTS

CAMERA = camera_feature("static", 16, 16)
# Five actions per subgoal in chunks of three: every second chunk is cut by the next subgoal.
SUBGOALS, STEPS, EXECUTE = 4, 5, 3
PLAN_ACTIONS = SUBGOALS * STEPS

_PLANNER = replace(
    PLANNER_PRESETS["tiny"],
    subgoals=SUBGOALS,
    steps_per_subgoal=STEPS,
    # Strong guidance pushes the plans of an untrained network to the bounds, where they all look the same.
    sampler=replace(PLANNER_PRESETS["tiny"].sampler, guidance=0.5),
)
# Of velocities: near the noisy end the sampler magnifies the errors of predicted noise by thousands.
_CONTROLLER = replace(
    PRESETS["tiny"], goal="observation", execute=EXECUTE, sampler=SamplerConfig(prediction="v_prediction")
)

PLANNERS: dict[str, PlannerConfig] = {
    "state": _PLANNER,
    "images": replace(_PLANNER, observation=(CAMERA,)),
    "tokens": replace(
        _PLANNER,
        network="transformer",
        transformer=TransformerConfig(width=16, layers=2, heads=2, parts=STATE_PARTS),
    ),
    "without dropout": replace(_PLANNER, text_dropout=0.0, sampler=replace(_PLANNER.sampler, guidance=0.0)),
}
CONTROLLERS: dict[str, DiffusionConfig | ActConfig] = {
    "state": _CONTROLLER,
    "long chunks": replace(_CONTROLLER, execute=8),
    "images": replace(_CONTROLLER, image_width=16, image_stages=2, observation=(CAMERA,)),
    "act": replace(ACT_PRESETS["act-tiny"], execute=EXECUTE),
}


Config = PlannerConfig | DiffusionConfig | ActConfig


def write_checkpoint(folder: Path, config: Config, seed: int = 0) -> Path:
    """A network in which everything has an effect, with actions in [-1, 1], the unit of the tolerance.

    Some layers start at zero, so that an untrained network would ignore most of its input.
    """
    checkpoint = random_checkpoint(folder, config, seed)
    model, _ = load_model(folder)
    generator = torch.Generator().manual_seed(seed)
    weights = model.state_dict()
    for name, weight in weights.items():
        if weight.ndim > 1 and not weight.any():
            weights[name] = 0.1 * torch.randn(weight.shape, generator=generator)
    unit = {"min": [-1.0] * 7, "max": [1.0] * 7}
    stats = checkpoint.stats | {"action": checkpoint.stats["action"] | unit}
    save_checkpoint(folder, replace(checkpoint, stats=stats), weights)
    return folder


def write_pair(folder: Path, planner: str, controller: str) -> tuple[Path, Path]:
    """Checkpoints of PLANNERS[planner] and CONTROLLERS[controller]; they normalise by other statistics."""
    return (
        write_checkpoint(folder / "planner", PLANNERS[planner], seed=5),
        write_checkpoint(folder / "controller", CONTROLLERS[controller], seed=6),
    )


class Checkpoints:
    """A folder for each configuration that is asked for, written once; not to be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[Config, Path] = {}

    def __call__(self, config: Config) -> Path:
        if config not in self.made:
            self.made[config] = write_checkpoint(self.folder / str(len(self.made)), config)
        return self.made[config]


class LinearEnv:
    """A stable linear system: x' = 0.9 x + G u, with a gain G of small random numbers."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.state = rng.standard_normal(26).astype(np.float32)
        self.gain = (0.1 * rng.standard_normal((26, 7))).astype(np.float32)

    def observe(self) -> dict[str, np.ndarray]:
        return {"observation.state": self.state}

    def step(self, action: np.ndarray) -> None:
        self.state = np.float32(0.9) * self.state + self.gain @ action


class Film:
    """Pictures that do not depend on the actions: where actions become bytes, 1e-7 may become 1/255."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.step(np.zeros(7))

    def observe(self) -> dict[str, np.ndarray]:
        return {"observation.images.static": self.picture}

    def step(self, action: np.ndarray) -> None:
        self.picture = self.rng.integers(0, 256, CAMERA.shape, np.uint8)


def world(controller: str, seed: int) -> LinearEnv | Film:
    """What the controller looks at; equal seeds are equal worlds."""
    return Film(seed) if "images" in controller else LinearEnv(seed)


def live(policy: Any, env: LinearEnv | Film, ticks: int) -> tuple[np.ndarray, np.ndarray]:
    """Actions [ticks, A], and the plan being followed at each [ticks, M, ...]."""
    actions, plans = [], []
    for _ in range(ticks):
        actions.append(policy.act(env.observe()))
        (plan,) = policy.plan().values()
        plans.append(plan)
        env.step(actions[-1])
    return np.stack(actions), np.stack(plans)
