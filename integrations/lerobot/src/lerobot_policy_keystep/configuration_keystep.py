"""`--policy.type=keystep` and its options."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from lerobot.configs.policies import PreTrainedConfig

NOT_TRAINED = "policy.type: expected a policy that LeRobot trains, got keystep (a bundle is made already)"
LOADED = (
    *("provider", "threads", "engine", "precision", "inference_steps", "sampler"),
    *("planner_steps", "planner_sampler", "planner_candidates", "replan"),
    *("mode", "underrun", "merge", "request_below", "ensemble_decay", "watchdog_us", "trace"),
)
"""Options that `keystep.load` has by the same name and with the same default."""


@PreTrainedConfig.register_subclass("keystep")
@dataclass
class KeystepConfig(PreTrainedConfig):
    """Features come from the bundle, and are checked against those of the dataset or the environment.

    Attributes:
        bundle: the folder, `NAME.keystep`. A relative path is looked for beside a `config.json` first.
        task: in place of what LeRobot says, for all environments: a task of the bundle by name or
            instruction, with a planner any sentence.
        rename_map: LeRobot's observation key: the bundle's, for those that differ.
        seed: of the noise. Episodes are numbered through, so that a batch of any size has the same ones.
        guidance: of plans, as of `keystep.Runtime.reset`.
        device: where LeRobot puts its tensors. What the bundle computes on is `provider`.

    The others are those of `keystep.load`. `mode=async` is for robots: it never waits for a chunk.
    """

    bundle: str = ""
    task: str | None = None
    rename_map: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    guidance: float | None = None

    provider: str = "cpu"
    threads: int = 0
    engine: str = "auto"
    precision: str | None = None
    inference_steps: int = 0
    sampler: str = ""
    planner_steps: int = 0
    planner_sampler: str = ""
    planner_candidates: int = 1
    replan: bool | None = None
    mode: str = "lockstep"
    underrun: str = ""
    merge: str = ""
    request_below: int = 0
    ensemble_decay: float | None = None
    watchdog_us: int = 2_000_000
    trace: str | None = None

    device: str | None = "cpu"
    push_to_hub: bool = False
    action_feature_names: list[str] | None = None  # LeRobot's: the dataset's names, then the bundle's

    def load_options(self) -> dict[str, Any]:
        """Of `keystep.load`."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name in LOADED}

    @property
    def observation_delta_indices(self) -> None:
        return None

    @property
    def action_delta_indices(self) -> None:
        return None

    @property
    def reward_delta_indices(self) -> None:
        return None

    def get_optimizer_preset(self) -> Any:
        raise NotImplementedError(NOT_TRAINED)

    def get_scheduler_preset(self) -> Any:
        raise NotImplementedError(NOT_TRAINED)

    def validate_features(self) -> None:
        """The policy does it, which has read the bundle."""
