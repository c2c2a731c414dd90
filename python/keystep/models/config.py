"""What a policy is made of, as plain frozen configuration. Importing this module needs no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any


class ConfigError(ValueError):
    """A configuration value is outside what the model accepts: "field: expected X, got Y"."""


def require(condition: bool, field_name: str, expected: str, got: object) -> None:
    if not condition:
        raise ConfigError(f"{field_name}: expected {expected}, got {got!r}")


@dataclass(frozen=True)
class CameraConfig:
    """One camera; its key is `observation.images.<name>`. Sizes in pixels."""

    name: str
    height: int
    width: int


@dataclass(frozen=True)
class SamplerConfig:
    """The manifest's "sampler" object: the fields, names and defaults of the C++ `SamplerSpec`."""

    kind: str = "ddim"
    train_steps: int = 100
    inference_steps: int = 10
    beta_schedule: str = "squaredcos_cap_v2"
    beta_start: float = 1e-4
    beta_end: float = 0.02
    betas: tuple[float, ...] = ()
    prediction: str = "epsilon"
    clip_sample: bool = True
    clip_range: float = 1.0
    # Starts at t = 90 of 100 with 10 steps. `trailing` starts at 99, where the predicted x0 is divided by
    # sqrt(alpha-bar) = 1/2000: float32 chunks then differ from float64 by up to 8e-4, with `leading` by 4e-5.
    timestep_rule: str = "leading"
    steps_offset: int = 0
    set_alpha_to_one: bool = True
    eta: float = 0.0
    guidance: float = 0.0
    noise: str = "philox4x32-10"


@dataclass(frozen=True)
class PolicyConfig:
    """A conditional 1-D U-Net diffusion policy (Chi et al. 2023; sizes of HD-ExpIt, App. B).

    Attributes:
        action_dim: values per action, A.
        horizon: actions per chunk, H; divisible by 2^(len(down_dims) - 1).
        execute: how many of them are executed before the next chunk.
        state_dim: values of `observation.state`, S; 0 for a policy without state.
        cameras: cameras the policy looks through; one image encoder is shared by all and by the goal.
        goal: "observation" (goal-conditioned) or "none".
        tasks: number of tasks of a flat policy, 0 for none.
        down_dims: channels per level; kernel_size 3 or 5; groups of the GroupNorm.
        step_dim: width of the embedding of the denoise step.
        state_hidden: widths of the state MLP; state_features: its output.
        task_features: width of the task embedding.
        keypoints, image_features: of the spatial softmax and the linear layer behind it.
        condition_hidden, condition_features: widths of a last joint MLP over all the parts, in which the task
            or goal selects what matters of the state; condition_features 0: parts are only concatenated.
        film_scale: FiLM with scale and bias (True) or bias only.
        condition_dropout: share of training samples whose task and goal are zeroed, for guidance.
    """

    action_dim: int = 7
    horizon: int = 8
    execute: int = 8
    state_dim: int = 26
    cameras: tuple[CameraConfig, ...] = ()
    goal: str = "none"
    tasks: int = 0
    down_dims: tuple[int, ...] = (64, 128)
    kernel_size: int = 5
    groups: int = 8
    step_dim: int = 64
    state_hidden: tuple[int, ...] = (256,)
    state_features: int = 128
    task_features: int = 32
    keypoints: int = 32
    image_features: int = 64
    condition_hidden: tuple[int, ...] = ()
    condition_features: int = 0
    film_scale: bool = True
    condition_dropout: float = 0.0
    sampler: SamplerConfig = field(default_factory=SamplerConfig)

    def __post_init__(self) -> None:
        require(self.action_dim > 0, "policy.action_dim", "a positive integer", self.action_dim)
        require(len(self.down_dims) > 0, "policy.down_dims", "at least one level", self.down_dims)
        stride = 2 ** (len(self.down_dims) - 1)
        require(
            self.horizon > 0 and self.horizon % stride == 0,
            "policy.horizon",
            f"a multiple of {stride} ({len(self.down_dims)} levels)",
            self.horizon,
        )
        require(0 < self.execute <= self.horizon, "policy.execute", f"1..{self.horizon}", self.execute)
        require(self.kernel_size in (3, 5), "policy.kernel_size", "3 or 5", self.kernel_size)
        require(self.goal in ("none", "observation"), "policy.goal", "none or observation", self.goal)
        for width in self.down_dims:
            require(
                width > 0 and width % self.groups == 0,
                "policy.down_dims",
                f"multiples of {self.groups}",
                self.down_dims,
            )
        require(
            self.step_dim >= 4 and self.step_dim % 2 == 0,
            "policy.step_dim",
            "an even number >= 4",
            self.step_dim,
        )
        require(
            self.state_dim >= 0 and self.tasks >= 0,
            "policy.state_dim/tasks",
            ">= 0",
            (self.state_dim, self.tasks),
        )
        require(
            self.state_dim > 0 or bool(self.cameras),
            "policy.state_dim",
            "a state or at least one camera",
            "neither",
        )
        require(
            0.0 <= self.condition_dropout < 1.0,
            "policy.condition_dropout",
            "0 <= p < 1",
            self.condition_dropout,
        )
        require(
            not self.condition_dropout or self.tasks > 0 or self.goal == "observation",
            "policy.condition_dropout",
            "0 for a policy without task or goal",
            self.condition_dropout,
        )

    @property
    def condition_width(self) -> int:
        """C, the width of what `DiffusionPolicy.encode` returns."""
        return self.condition_features or self.parts_width

    @property
    def parts_width(self) -> int:
        views = 2 if self.goal == "observation" else 1
        state = self.state_features if self.state_dim else 0
        images = self.image_features * len(self.cameras)
        return views * (state + images) + (self.task_features if self.tasks else 0)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PolicyConfig:
        """Inverse of `to_dict` (through JSON); unknown keys are refused."""
        values = dict(values)
        cameras = tuple(
            _build(CameraConfig, camera, "policy.cameras") for camera in values.pop("cameras", ())
        )
        sampler = _build(SamplerConfig, values.pop("sampler", {}), "policy.sampler")
        return _build(cls, {**values, "cameras": cameras, "sampler": sampler}, "policy")


def _build(cls: Any, values: dict[str, Any], where: str) -> Any:
    known = cls.__dataclass_fields__
    for key in values:
        require(key in known, f"{where}.{key}", f"one of {', '.join(known)}", "an unknown key")
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


# Predicts the clean chunk. At the noisy steps, which decide where the arm goes, the loss of a predicted
# epsilon hardly depends on the condition (weight alpha-bar): short training never learns what a task means.
_SMALL = PolicyConfig(
    down_dims=(32, 64),
    state_hidden=(),
    condition_hidden=(512, 512),
    condition_features=192,
    sampler=SamplerConfig(prediction="sample"),
)
_WIDE = PolicyConfig(horizon=16, step_dim=256, state_features=512)

PRESETS: dict[str, PolicyConfig] = {
    # For tests: a fraction of a second to export and run.
    "tiny": PolicyConfig(
        down_dims=(16, 32), step_dim=16, state_hidden=(32,), state_features=16, task_features=8
    ),
    # Trains on two CPU cores within the hour; the shipped state policy.
    "small": _SMALL,
    "small-15m": replace(_WIDE, down_dims=(128, 256, 384)),
    "medium": replace(_WIDE, down_dims=(256, 512, 1024)),
    # HD-ExpIt's controller: 263 M parameters with two 96 x 96 views (current and goal image).
    "paper": replace(_WIDE, down_dims=(512, 1024, 2048)),
}
