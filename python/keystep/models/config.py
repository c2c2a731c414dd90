"""What a policy is made of, as plain frozen configuration. Importing this module needs no torch."""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, field, replace
from typing import Any

from keystep.features import Feature
from keystep.models.checks import check_chunk, check_condition, check_levels, check_type, require
from keystep.models.observing import (
    Observing,
    check_observation,
    read_observation,
    state_feature,
)


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


def flow_sampler(sampler: SamplerConfig) -> SamplerConfig:
    """Flow matching in place of diffusion, with as many steps."""
    return replace(
        sampler,
        kind="flow_euler",
        prediction="velocity",
        timestep_rule="trailing",
        clip_sample=False,
        eta=0.0,
    )


@dataclass(frozen=True)
class DiffusionConfig(Observing):
    """A conditional 1-D U-Net diffusion policy (Chi et al. 2023; sizes of HD-ExpIt, App. B).

    Attributes:
        action_dim: values per action, A.
        horizon: actions per chunk, H; divisible by 2^(len(down_dims) - 1).
        execute: how many of them are executed before the next chunk.
        chunk_start: row of a chunk that belongs to the present observation; those before it are past. Of
            LeRobot's diffusion policy it is history - 1.
        observation: what it observes. Every vector has an MLP of its own; images of one size and kind share
            an encoder. A goal has the encoders of the observation, but for vectors with a history.
        goal: "observation" (goal-conditioned) or "none".
        tasks: number of tasks of a flat policy, 0 for none.
        down_dims: channels per level; kernel_size 3 or 5; groups of the GroupNorm.
        step_dim: width of the embedding of the denoise step.
        state_hidden: widths of the state MLP; state_features: its output.
        task_features: width of the task embedding.
        keypoints, image_features: of the spatial softmax and the linear layer behind it.
        image_width, image_stages: channels of the ResNet-18's first stage, and how many of its four it has.
        condition_hidden, condition_features: widths of a last joint MLP over all the parts, in which the task
            or goal selects what matters of the state; condition_features 0: parts are only concatenated.
        film_scale: FiLM with scale and bias (True) or bias only.
        condition_dropout: share of training samples whose task and goal are zeroed, for guidance.
        max_delay: most rows of a chunk, from chunk_start on, that it may be given of the one before
            (training-time RTC, arXiv:2512.05964); 0: it is given none, and has no input for a mask.
    """

    action_dim: int = 7
    horizon: int = 8
    execute: int = 8
    chunk_start: int = 0
    observation: tuple[Feature, ...] = (state_feature(26),)
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
    image_width: int = 64
    image_stages: int = 4
    condition_hidden: tuple[int, ...] = ()
    condition_features: int = 0
    film_scale: bool = True
    condition_dropout: float = 0.0
    max_delay: int = 0
    sampler: SamplerConfig = field(default_factory=SamplerConfig)

    def __post_init__(self) -> None:
        check_levels("policy", self.down_dims, self.groups, self.kernel_size, self.step_dim, self.horizon)
        check_chunk(self)
        check_observation("policy", self.observation)
        check_condition(self)
        most = self.horizon - self.chunk_start - 1
        wanted = f"0..{most} (a chunk has a new row)"
        require(0 <= self.max_delay <= most, "policy.max_delay", wanted, self.max_delay)

    @property
    def condition_width(self) -> int:
        """C, the width of what `DiffusionController.encode` returns."""
        return self.condition_features or self.parts_width

    @property
    def parts_width(self) -> int:
        """Features of all parts of the condition together."""
        seen = sum(
            self.image_features * frames if feature.is_image else self.state_features
            for feature, frames in self.inputs().values()
        )
        return seen + (self.task_features if self.tasks else 0)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return plain(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DiffusionConfig:
        """Inverse of `to_dict` (through JSON); unknown keys are refused."""
        return build(cls, values, "policy", sampler=SamplerConfig)


@dataclass(frozen=True)
class ActConfig(Observing):
    """Action Chunking Transformer (Zhao et al. 2023, arXiv:2304.13705; sizes of HD-ExpIt, App. B).

    Attributes:
        action_dim, horizon, execute, chunk_start, goal, tasks: as of DiffusionConfig.
        observation: as there, of one frame; images are of one kind, and share an encoder whatever their size.
        width: of the transformer; heads divide it. feedforward: hidden width of its layers.
        encoder_layers, decoder_layers: of the policy; vae_layers: of the encoder used in training only.
        latent: values of the latent; kl_weight: of its divergence from a unit normal in the loss.
        image_width: channels of the ResNet-18's first stage.
    """

    action_dim: int = 7
    horizon: int = 8
    execute: int = 8
    chunk_start: int = 0
    observation: tuple[Feature, ...] = (state_feature(26),)
    goal: str = "observation"
    tasks: int = 0
    width: int = 512
    heads: int = 8
    feedforward: int = 3200
    encoder_layers: int = 4
    decoder_layers: int = 1
    vae_layers: int = 4
    latent: int = 32
    kl_weight: float = 10.0
    dropout: float = 0.1
    image_width: int = 64

    def __post_init__(self) -> None:
        check_chunk(self)
        check_observation("act", self.observation)
        for feature in self.observation:
            place = f"act.observation: {feature.key}.history"
            require(feature.history == 1, place, "1 (ACT sees one frame)", feature.history)
        kinds = sorted({feature.kind for feature in self.images})
        require(len(kinds) <= 1, "act.observation", "images of one kind (they share an encoder)", kinds)
        require(self.width % self.heads == 0, "act.width", f"a multiple of {self.heads} (heads)", self.width)
        for name in (
            "feedforward",
            "encoder_layers",
            "decoder_layers",
            "vae_layers",
            "latent",
            "image_width",
        ):
            require(getattr(self, name) > 0, f"act.{name}", "a positive integer", getattr(self, name))
        require(0 <= self.dropout < 1, "act.dropout", "0 <= p < 1", self.dropout)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return plain(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ActConfig:
        """Inverse of `to_dict` (through JSON); unknown keys are refused."""
        return build(cls, values, "act")


def plain(config: Any) -> dict[str, Any]:
    """A configuration as JSON values."""
    return asdict(config) | {"observation": [feature.to_dict() for feature in config.observation]}


def build(cls: Any, values: dict[str, Any], where: str, **nested: Any) -> Any:
    """A configuration from its JSON values; unknown keys are refused.

    Args:
        nested: classes of the fields that are configurations themselves.
    """
    require(isinstance(values, dict), where, "an object", values)
    known = cls.__dataclass_fields__
    fields: dict[str, Any] = {}
    for key, value in values.items():
        place = f"{where}.{key}"
        require(key in known, place, f"one of {', '.join(known)}", "an unknown key")
        check_type(place, known[key].type, value)
        if key in nested:
            fields[key] = build(nested[key], value, place)
        elif key == "observation":
            fields[key] = read_observation(place, value)
        else:
            fields[key] = tuple(value) if isinstance(value, list) else value
    for key, entry in known.items():
        needed = entry.default is MISSING and entry.default_factory is MISSING
        require(key in fields or not needed, f"{where}.{key}", "a value", "nothing")
    return cls(**fields)
