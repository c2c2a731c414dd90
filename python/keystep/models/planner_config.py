"""What a planner is made of, as plain frozen configuration. Importing this module needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from keystep.features import KINDS, Feature
from keystep.models.checks import check_levels, require
from keystep.models.config import SamplerConfig, build, plain
from keystep.models.observing import Observing, check_observation


@dataclass(frozen=True)
class ResamplerConfig:
    """Perceiver resampler over text tokens (Alayrac et al. 2022, arXiv:2204.14198; sizes of AVDC)."""

    dim: int = 512
    depth: int = 2
    heads: int = 8
    head_dim: int = 64
    latents: int = 64


@dataclass(frozen=True)
class TransformerConfig:
    """A transformer over the parts of a plan's vectors (keystep.models.plan_transformer).

    Attributes:
        width, layers, heads: D, blocks, and attention heads, which divide D.
        parts: of every column of the vector the number of the part, an object, that it belongs to; all one
            part when empty. Parts of one width share their weights.
    """

    width: int = 96
    layers: int = 4
    heads: int = 4
    parts: tuple[int, ...] = ()

    def check(self, columns: int) -> None:
        """Of a vector of so many columns. Raises ConfigError."""
        for name in ("layers", "heads"):
            value = getattr(self, name)
            require(value > 0, f"planner.transformer.{name}", "a positive integer", value)
        fits = self.width >= 4 and self.width % (2 * self.heads) == 0
        require(fits, "planner.transformer.width", f"a multiple of {2 * self.heads}", self.width)
        numbers = set(self.parts)
        fits = not self.parts or (len(self.parts) == columns and numbers == set(range(len(numbers))))
        require(fits, "planner.transformer.parts", f"{columns} numbers 0, 1, .. without gaps", self.parts)


def planner_sampler() -> SamplerConfig:
    """DDIM 10 of 100 steps with the time-step rule of HD-ExpIt's repository.

    That repository clips the predicted subgoals in DDPM only; here the setting holds for both.
    """
    return SamplerConfig(prediction="v_prediction", timestep_rule="hd_expit", guidance=5.0)


@dataclass(frozen=True)
class PlannerConfig(Observing):
    """A diffusion planner: observation and goal text to M subgoals (HD-ExpIt sec. 4.1, App. B; AVDC).

    Attributes:
        observation: the one feature that it sees and imagines, of one frame: a vector or RGB (AVDC's video
            U-Net).
        network: over vectors, a temporal U-Net (unet) or a transformer over their parts (transformer).
        transformer: its sizes.
        subgoals, steps_per_subgoal: M, and n, the actions each subgoal is held for.
        text_tokens, text_width: T and D of the frozen text encoder.
        resampler, embedding: perceiver resampler and width E of the goal embedding.
        down_dims, kernel_size, groups, step_dim, condition_hidden, condition_features: U-Net over vectors, as
            of DiffusionConfig.
        base, multipliers, blocks, head_channels, attention_at: image planner: channels of the first level,
            of each level relative to it, residual blocks per level, channels per attention head, and the
            downsampling factors at which it attends. patch: side of the pixel squares folded into channels.
        text_dropout: share of training samples whose text is zeroed, for guidance.
        observation_noise: standard deviation of noise on subgoals and observation in training, normalised.
        min_snr: gamma of the loss weight min(snr, gamma) / (snr + 1) for v-prediction (Hang et al. 2023,
            arXiv:2303.09556); 0: no weight.
    """

    subgoals: int = 8
    steps_per_subgoal: int = 8
    observation: tuple[Feature, ...] = ()
    network: str = "unet"
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    text_tokens: int = 24
    text_width: int = 64
    resampler: ResamplerConfig = field(default_factory=ResamplerConfig)
    embedding: int = 512
    down_dims: tuple[int, ...] = (64, 128)
    kernel_size: int = 5
    groups: int = 8
    step_dim: int = 64
    condition_hidden: tuple[int, ...] = (512, 512)
    condition_features: int = 256
    base: int = 128
    multipliers: tuple[int, ...] = (1, 2, 3, 4, 5)
    blocks: int = 2
    head_channels: int = 32
    attention_at: tuple[int, ...] = (8, 16)
    patch: int = 1
    text_dropout: float = 0.1
    observation_noise: float = 0.01
    min_snr: float = 5.0
    sampler: SamplerConfig = field(default_factory=planner_sampler)

    def __post_init__(self) -> None:
        for name in ("subgoals", "steps_per_subgoal", "text_tokens", "text_width", "embedding"):
            require(getattr(self, name) > 0, f"planner.{name}", "a positive integer", getattr(self, name))
        check_observation("planner", self.observation)
        keys = [feature.key for feature in self.observation]
        require(len(keys) == 1, "planner.observation", "exactly one feature", keys)
        able = [name for name, kind in KINDS.items() if kind.subgoal]
        require(self.feature.kind in able, "planner.observation", " | ".join(able), self.feature.kind)
        history = self.feature.history
        require(history == 1, f"planner.observation: {keys[0]}.history", "1 (it sees one frame)", history)
        networks = ("unet",) if self.feature.is_image else ("unet", "transformer")
        require(self.network in networks, "planner.network", " | ".join(networks), self.network)
        if self.network == "transformer":
            self.transformer.check(*self.subgoal_shape)
        elif not self.feature.is_image:
            levels = (self.down_dims, self.groups, self.kernel_size, self.step_dim, self.subgoals)
            check_levels("planner", *levels)
        require(0 <= self.text_dropout < 1, "planner.text_dropout", "0 <= p < 1", self.text_dropout)
        for name in ("observation_noise", "min_snr"):
            require(getattr(self, name) >= 0, f"planner.{name}", ">= 0", getattr(self, name))
        require(
            not self.sampler.guidance or self.text_dropout > 0,
            "planner.sampler.guidance",
            "0 for a planner trained without text_dropout",
            self.sampler.guidance,
        )

    @property
    def feature(self) -> Feature:
        """What it sees, and what a subgoal is."""
        return self.observation[0]

    @property
    def subgoal(self) -> str:
        """The observation key of a subgoal."""
        return self.feature.key

    @property
    def subgoal_shape(self) -> tuple[int, ...]:
        """Of one subgoal: (S,) or (3, h, w)."""
        return self.feature.network_shape()[1:]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return plain(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PlannerConfig:
        """Inverse of `to_dict` (through JSON); unknown keys are refused."""
        nested = {"sampler": SamplerConfig, "resampler": ResamplerConfig, "transformer": TransformerConfig}
        return build(cls, values, "planner", **nested)
