"""Controllers whose networks were not made here: what observes is given, the rest is ours.

They go through export, golden data and verification as our own do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from keystep.features import Feature
from keystep.models.checkpoint import Checkpoint
from keystep.models.checks import check_chunk
from keystep.models.config import DiffusionConfig
from keystep.models.diffusion import Batch, DiffusionController
from keystep.models.normalizer import Normalizer
from keystep.models.observing import Observing, check_observation, state_feature
from keystep.models.unet1d import ConditionalUnet1d


@dataclass(frozen=True)
class GivenDiffusionConfig(DiffusionConfig):
    """A diffusion policy with an encoder of its own, which makes a condition of `width` values."""

    width: int = 1

    @property
    def condition_width(self) -> int:
        """C, the width of what the encoder returns."""
        return self.width


class GivenDiffusion(DiffusionController):
    """Our conditional U-Net behind an encoder that is given.

    Args:
        encoder: from the batch of `DiffusionController`, of the observation alone, to the condition [1, C].
    """

    def __init__(self, config: GivenDiffusionConfig, encoder: nn.Module) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.encoder = encoder
        self.unet = ConditionalUnet1d(
            config.action_dim,
            config.down_dims,
            config.width,
            config.step_dim,
            config.kernel_size,
            config.groups,
            config.film_scale,
        )

    def encode(self, batch: Batch, keep: Tensor | None = None) -> Tensor:
        """The condition, [1, C]. There is no task and no goal, so `keep` takes nothing away."""
        return self.encoder(batch)


@dataclass(frozen=True)
class GivenConfig(Observing):
    """A controller whose network is given; the fields are those of `ActConfig`."""

    action_dim: int = 7
    horizon: int = 8
    execute: int = 8
    chunk_start: int = 0
    observation: tuple[Feature, ...] = (state_feature(26),)
    goal: str = "none"
    tasks: int = 0

    def __post_init__(self) -> None:
        check_chunk(self)
        check_observation("policy", self.observation)


class GivenAct(nn.Module):
    """A controller of one step whose network is given.

    Args:
        network: from the batch of `DiffusionController`, of the observation alone, to a chunk [1, H, A].
    """

    def __init__(self, config: GivenConfig, network: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.network = network

    def act(self, batch: Batch) -> Tensor:
        """The chunk, [1, H, A], in the network's units."""
        return self.network(batch)


class GivenSteps(nn.Module):
    """A controller that denoises, whose two networks are given as the methods of one module.

    Args:
        network: `encode`, from the batch of `DiffusionController` to a condition [1, ..]; and `denoise`, from
            noisy rows [1, H, A], the time-step [1] int64 and that condition to its prediction [1, H, A].
    """

    def __init__(self, config: GivenConfig, network: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.network = network

    def conditions(self, batch: Batch, guided: bool) -> Tensor:
        """The condition, once per chunk. It is not guided: there is no task and no goal."""
        return self.network.encode(batch)  # type: ignore[operator]

    def denoise(self, sample: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:
        """[1, H, A], [1] int64, the condition -> the prediction [1, H, A]."""
        return self.network.denoise(sample, timestep, condition)  # type: ignore[operator]


@dataclass(frozen=True)
class GivenCheckpoint(Checkpoint):
    """What is known of a controller that was trained elsewhere.

    Attributes:
        entries: the manifest's "normalization" of every key, as its own code computes it: dimensions that
            never moved are not widened, or actions would not be the same.
    """

    entries: dict[str, Any] = field(default_factory=dict)

    def normalizer(self) -> Normalizer:
        """Of all that the network reads and writes."""
        return Normalizer.of(self.entries, [feature.key for feature in self.config.images])
