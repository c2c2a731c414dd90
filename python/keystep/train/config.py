"""Settings of a training run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

NORMALIZATIONS = ("min_max", "mean_std", "quantile")


@dataclass(frozen=True)
class TrainConfig:
    """What every training run depends on; the same values on the same machine give the same weights."""

    dataset: Path | tuple[Path, ...]
    """LeRobotDataset v3.0 folder, or its id on the Hugging Face Hub (owner/name or owner/name@revision), or
    several of one world, whose episodes are trained on together."""
    output: Path
    """Checkpoint folder, new or to be continued."""
    preset: str = "small"
    """Size of the network, a key of keystep.models.PRESETS, ACT_PRESETS or PLANNER_PRESETS."""
    steps: int = 20_000
    """Optimiser steps in total."""
    batch_size: int = 256
    """Windows per step."""
    learning_rate: float = 1e-4
    """Peak rate of AdamW."""
    warmup_steps: int = 500
    """Steps of linear warm-up."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after the warm-up; cosine ends at 0 after `steps`."""
    weight_decay: float = 1e-6
    """Of AdamW."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of AdamW; HD-ExpIt's planner has 0.9 and 0.99."""
    gradient_clip: float = 1.0
    """Largest gradient norm."""
    ema_decay: float = 0.999
    """Decay of the averaged weights, the ones exported; warms up as 1 - (1 + step)^-ema_power."""
    ema_power: float = 0.75
    """Exponent of the warm-up of the average; 0: diffusers' rule (1 + t) / (10 + t)."""
    ema_every: int = 1
    """Steps between updates of the average; HD-ExpIt's planner has 10."""
    val_fraction: float = 0.05
    """Share of the episodes held out for the validation loss."""
    val_windows: int = 2048
    """Windows of the held-out episodes used for it."""
    seed: int = 0
    """Of the weights, the split, the batches and the noise."""
    device: Literal["auto", "cpu"] = "auto"
    """`auto` takes a GPU if there is one."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    """Passed to accelerate."""
    threads: int = 0
    """CPU threads of torch; 0 leaves its default. Take fewer than the cores when other programs compute: the
    threads wait for each other in busy loops, and one that is not running stops them all."""
    log_every: int = 100
    """Steps between rows of curves.csv."""
    checkpoint_every: int = 2000
    """Steps between checkpoints, each with the validation loss and a new curves.png."""
    resume: bool = True
    """Continue the run in `output`; when false there must not be one."""
    cache: Path | None = None
    """Folder for the memory-mapped columns; see keystep.data.cache."""
    normalization: tuple[str, ...] = ()
    """Of vectors: min_max, mean_std or quantile (1 % and 99 % to -1 and 1), or KEY=MODE for each, e.g.
    observation.state=quantile action=min_max. Default: min_max of what is sampled (a controller's action, a
    planner's subgoal), mean_std of the rest."""
    weights: Path | None = None
    """Checkpoint folder whose weights, those exported, the run starts from, the raw and the averaged ones;
    optimiser and schedule are new. The statistics are the checkpoint's, too, unless others are given."""
    statistics: Path | None = None
    """Checkpoint or dataset folder from which the statistics and the description of actions are, in place of
    `dataset`."""
    task_weights: tuple[str, ...] = ()
    """TASK=WEIGHT ..: how often an epoch takes each training window of a task; 1 when not given. Of ten equal
    tasks one of 2.5 makes 22 % of the batches. The validation loss is not weighted."""

    symmetries: bool = False
    """Show every example in a random one of its equivalents that the suite declares: in Franka-3Blocks the
    cubes exchange their colours, and sentences with them. Over states only."""

    def __post_init__(self) -> None:
        positive = (
            "steps",
            "batch_size",
            "learning_rate",
            "gradient_clip",
            "val_windows",
            "ema_every",
            "log_every",
            "checkpoint_every",
        )
        for name in positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        for name in ("warmup_steps", "weight_decay", "ema_power", "threads", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected at least 0, got {getattr(self, name)}")
        for name in ("ema_decay", "val_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: expected [0, 1), got {getattr(self, name)}")
        parse_choices(self.normalization)
        parse_weights(self.task_weights)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas: expected two values in [0, 1), got {self.betas}")


@dataclass(frozen=True)
class ControllerTraining(TrainConfig):
    """Training of a controller: a diffusion policy, or ACT with a preset of that name."""

    condition: Literal["task", "goal", "none"] = "task"
    """What the controller is told besides the observation; `goal` makes one for a planner's subgoals."""
    sampler: Literal["preset", "flow_euler"] = "preset"
    """flow_euler: flow matching (as pi0 and SmolVLA) in place of the preset's diffusion; not of ACT."""
    observe: Literal["all", "state", "images"] = "all"
    """What it sees of the dataset's observations, and what its goals are made of."""
    cameras: tuple[str, ...] = ()
    """Names of the cameras it sees of these; all when empty."""
    also: tuple[str, ...] = ()
    """Keys of what it sees besides: other vectors, and depth (columns of shape (height, width), metres)."""
    rtc: int = 0
    """Greatest delay, in actions, at which a chunk may be given the first rows of the one before, which are
    executed while it is made (training-time RTC; docs/merging.md); 0: none. Not of ACT."""
    history: int = 1
    """Frames of each observation that it sees, t - history + 1 .. t; not of ACT."""
    horizon: int = 0
    """H, actions of a chunk; 0: the preset's."""
    chunk_start: int = 0
    """Row of a chunk that belongs to frame t; those before it are past. LeRobot's diffusion policy has
    history - 1."""
    execute: int = 0
    """Actions taken of each chunk, from row chunk_start on; 0: the preset's."""
    chunk_lengths: tuple[int, int] = (4, 8)
    """With goals: shortest and longest number of actions between observation and goal; at most H."""
    goal_frame: Literal["after", "last"] = "after"
    """With goals, which frame that is: the one after the last of these actions, as HD-ExpIt's paper says, or
    the last action's own, as in its repository."""
    goal_noise: float = 0.0
    """Standard deviation of noise on normalised goals, against the imprecision of planned ones."""
    hold: str | None = None
    """What a tick that fails gives: `last`, the last action given, or values, 0,0,1, or a JSON file of them.
    As collected; else last, and of relative actions, which then go on, it must be given."""
    action_bounds: str | None = None
    """Of actions: `data`, the range of the data; `margin=F`, wider by F times that on either side; or a JSON
    file with min and max, and perhaps names, units and rate_limit. As collected; else it must be given."""
    action_law: str | None = None
    """`relative`: 0 is no motion; `absolute`: the last command is repeated. One for all, a list with commas,
    or a JSON file of it; with goals it fills chunks that end before H. As collected; else to be given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in {"history": 1, "horizon": 0, "chunk_start": 0, "execute": 0, "rtc": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True)
class PlannerTraining(TrainConfig):
    """Training of a diffusion planner."""

    subgoal: str = "observation.state"
    """The observation a subgoal is: observation.state, or observation.images.<camera>."""
    subgoals: int = 8
    """M, subgoals of a plan."""
    steps_per_subgoal: int = 8
    """n, actions for which each is held."""
    latest_start: int = 0
    """Greatest frame a plan starts from; 0: the first only, as HD-ExpIt; see keystep.data.PlanWindows."""
    text_encoder: str = "corpus"
    """Frozen text encoder: corpus, clip, t5, minilm, a hub id or a local folder."""
    phrasings: bool = True
    """Tell tasks in all the words of `franka3blocks.instructions`, not only in those of the dataset."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.subgoals < 1 or self.steps_per_subgoal < 1 or self.latest_start < 0:
            values = (self.subgoals, self.steps_per_subgoal, self.latest_start)
            raise ValueError(
                f"subgoals/steps_per_subgoal/latest_start: expected at least 1, 1 and 0, got {values}"
            )


def parse_choices(choices: Sequence[str]) -> dict[str, str]:
    """`MODE` for all vectors (key ""), or `KEY=MODE`. Raises ValueError."""
    found: dict[str, str] = {}
    for choice in choices:
        key, _, mode = choice.rpartition("=")
        if mode not in NORMALIZATIONS:
            wanted = f"MODE or KEY=MODE with a MODE of {', '.join(NORMALIZATIONS)}"
            raise ValueError(f"normalization: expected {wanted}, got {choice!r}")
        if key in found:
            raise ValueError(f"normalization: expected {key or 'a mode for all'} once, got {choice!r} again")
        found[key] = mode
    return found


def parse_weights(weights: Sequence[str]) -> dict[str, float]:
    """`TASK=WEIGHT`, by task. Raises ValueError."""
    found: dict[str, float] = {}
    for text in weights:
        task, _, number = text.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not task or not 0 < weight < math.inf:
            raise ValueError(f"task_weights: expected TASK=WEIGHT with a weight above 0, got {text!r}")
        if task in found:
            raise ValueError(f"task_weights: expected {task} once, got {text!r} again")
        found[task] = weight
    return found


FREE_ON_RESUME = frozenset(
    {
        "output",
        "dataset",
        "weights",
        "statistics",
        "steps",
        "device",
        "threads",
        "log_every",
        "checkpoint_every",
        "resume",
        "cache",
    }
    | {"hold", "action_bounds"}
)
"""Fields that may change when a run is resumed: datasets and checkpoints may move, but their digests, and the
values of the statistics, must not change; hold and bounds are of what is exported, not of what is learned."""


def defaults(config: TrainConfig) -> dict[str, Any]:
    """The defaults as JSON values: a run stored before a field existed was trained with its default."""
    kept = {field.name: field.default for field in fields(config) if field.default is not MISSING}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in kept.items()}


def plain(config: TrainConfig) -> dict[str, Any]:
    """The settings as JSON values."""
    return {key: _plain(value) for key, value in asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return [_plain(part) for part in value] if isinstance(value, tuple) else value
