"""The diffusion policy: encoders, conditional U-Net and the training loss, all in normalised space."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from keystep.features import Feature
from keystep.models.config import DiffusionConfig, SamplerConfig
from keystep.models.encoders import ImageEncoder, mlp
from keystep.models.padding import unpadded
from keystep.models.unet1d import ConditionalUnet1d

Batch = dict[str, Tensor]


class FlowMatching:
    """The forward process of flows: x_t = t noise + (1 - t) clean, t = (time-step + 1) / T.

    Lipman et al. 2023 (arXiv:2210.02747), in the convention of pi0 (Black et al. 2024) and SmolVLA, whose
    times lean towards the noise: t ~ Beta(1.5, 1).
    """

    def __init__(self, train_steps: int) -> None:
        self.train_steps = train_steps

    def draw(self, size: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        """[size] int64 time-steps. Beta(1.5, 1) has the distribution function t^1.5."""
        time = torch.rand(size, generator=generator, device=device) ** (1 / 1.5)
        return (time * self.train_steps).long().clamp(max=self.train_steps - 1)

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        time = ((timestep + 1) / self.train_steps).view(-1, *[1] * (clean.ndim - 1))
        return time * noise + (1 - time) * clean

    def get_velocity(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        return noise - clean


def training_scheduler(sampler: SamplerConfig) -> DDPMScheduler | FlowMatching:
    """The forward process of `sampler` (of flows that above, of ddpm and ddim diffusers')."""
    if sampler.prediction == "velocity":
        return FlowMatching(sampler.train_steps)
    return DDPMScheduler(
        num_train_timesteps=sampler.train_steps,
        beta_schedule="linear" if sampler.betas else sampler.beta_schedule,
        beta_start=sampler.beta_start,
        beta_end=sampler.beta_end,
        trained_betas=list(sampler.betas) or None,
        prediction_type=sampler.prediction,
        clip_sample=sampler.clip_sample,
        clip_sample_range=sampler.clip_range,
    )


class DiffusionController(nn.Module):
    """A chunk of actions from an observation, and a task or a goal (HD-ExpIt sec. 4.1; Chi et al. 2023).

    Batches are dictionaries: `observation.<name>` of every feature, vectors [B, S] and images [B, C, h, w], n
    frames of history [B, n, ..], oldest first; `task` [B] int64 and `goal.<name>`, one frame, as configured;
    for `loss` also `action` [B, H, A] and, where some of its rows do not count, `action_is_pad` [B, H] bool.
    """

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.config = config
        self._encoders = self._make_encoders()
        if config.tasks:
            self.task_embedding = nn.Embedding(config.tasks, config.task_features)
        if config.condition_features:
            self.join = mlp(config.parts_width, config.condition_hidden, config.condition_features)
        self.unet = ConditionalUnet1d(
            config.action_dim,
            config.down_dims,
            config.condition_width,
            config.step_dim,
            config.kernel_size,
            config.groups,
            config.film_scale,
            extra=1 if config.max_delay else 0,
        )
        self.scheduler = training_scheduler(config.sampler)

    def encode(self, batch: Batch, keep: Tensor | None = None) -> Tensor:
        """The condition, [B, C]: what the policy knows about the scene and what it is to do.

        Args:
            keep: [B, 1] of ones and zeros; zero takes task and goal away and leaves the scene (the null
                condition of classifier-free guidance, Ho and Salimans 2022). None keeps all.
        """
        told = self._encode_view(batch, "goal") if self.config.goal == "observation" else []
        if self.config.tasks:
            told.append(self.task_embedding(batch["task"]))
        if keep is not None:
            told = [part * keep for part in told]
        condition = torch.cat([*self._encode_view(batch, "observation"), *told], dim=-1)
        return self.join(condition) if self.config.condition_features else condition

    def conditions(self, batch: Batch, guided: bool) -> Tensor:
        """For sampling one chunk: [1, C], or [2, C] with the null condition in row 1 if guided."""
        condition = self.encode(batch)
        if not guided:
            return condition
        return torch.cat([condition, self.encode(batch, torch.zeros(1, 1))])

    def _encode_view(self, batch: Batch, view: str) -> list[Tensor]:
        parts = []
        for feature in self.config.observation:
            value = batch[f"{view}.{feature.name}"]
            if not feature.is_image and value.ndim == 3:
                value = value.flatten(1)  # frames side by side
            parts.append(self.get_submodule(self._encoders[f"{view}.{feature.name}"])(value))
        return parts

    def _make_encoders(self) -> dict[str, str]:
        """Makes `state_encoder`, `image_encoder`, `state_encoder_1`, ..; returns the name of each input's."""
        config, known, counts = self.config, dict[Any, str](), dict[str, int]()
        for feature, frames in config.inputs().values():
            encoder = _encoder_key(feature, frames)
            if encoder in known:
                continue
            what = "image_encoder" if feature.is_image else "state_encoder"
            number = counts[what] = counts.get(what, -1) + 1
            known[encoder] = f"{what}_{number}" if number else what
            self.add_module(known[encoder], self._make_encoder(feature, frames))
        return {name: known[_encoder_key(*entry)] for name, entry in config.inputs().items()}

    def _make_encoder(self, feature: Feature, frames: int) -> nn.Module:
        config = self.config
        if not feature.is_image:
            return mlp(frames * feature.shape[0], config.state_hidden, config.state_features)
        sizes = (config.keypoints, config.image_features, config.image_width, config.image_stages)
        return ImageEncoder(feature.network_shape()[-3:], *sizes)

    def denoise(
        self, sample: Tensor, timestep: Tensor, condition: Tensor, given: Tensor | None = None
    ) -> Tensor:
        """[B, H, A], [B] int64, [B, C] -> the network's prediction [B, H, A].

        Args:
            given: [B, H] bool, the rows of `sample` that are clean, of a network with `max_delay`.
        """
        if self.config.max_delay:
            mask = sample.new_zeros(sample.shape[:2]) if given is None else given.to(sample.dtype)
            sample = torch.cat([sample, mask[..., None]], dim=-1)
        return self.unet(sample, timestep, condition)

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """Mean squared error of the prediction at random denoise steps (Ho et al. 2020, eq. 14).

        Over the rows that count: what follows the end of an episode was never seen, and what is given of the
        chunk before is no question (training-time RTC, arXiv:2512.05964).
        """
        action = batch["action"]
        size, device = action.shape[0], action.device
        noise = torch.randn(action.shape, generator=generator, device=device)
        timestep = self._draw_timesteps(size, generator, device)
        keep = None
        if self.config.condition_dropout:
            drawn = torch.rand((size, 1), generator=generator, device=device)
            keep = (drawn >= self.config.condition_dropout).float()
        condition = self.encode(batch, keep)
        noisy, given = self.scheduler.add_noise(action, noise, timestep), None
        if self.config.max_delay:
            given = self._draw_given(size, generator, device)
            noisy = torch.where(given[..., None], action, noisy)
        predicted = self.denoise(noisy, timestep, condition, given)
        padding, target = batch.get("action_is_pad"), self._target(action, noise, timestep)
        if given is not None:
            padding = given if padding is None else padding | given
        return nn.functional.mse_loss(unpadded(predicted, padding), unpadded(target, padding))

    def _draw_given(self, size: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        """[B, H] bool: of each chunk the rows of a delay, uniform in 0..max_delay, from `chunk_start` on."""
        delay = torch.randint(self.config.max_delay + 1, (size, 1), generator=generator, device=device)
        row = torch.arange(self.config.horizon, device=device) - self.config.chunk_start
        return (row >= 0) & (row < delay)

    def _draw_timesteps(self, size: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        if isinstance(self.scheduler, FlowMatching):
            return self.scheduler.draw(size, generator, device)
        return torch.randint(self.config.sampler.train_steps, (size,), generator=generator, device=device)

    def _target(self, action: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        prediction = self.config.sampler.prediction
        if prediction == "epsilon":
            return noise
        return action if prediction == "sample" else self.scheduler.get_velocity(action, noise, timestep)


def _encoder_key(feature: Feature, frames: int) -> tuple[Any, ...]:
    """Equal for what shares an encoder: frames of a vector with as many, images of one size and kind."""
    return (feature.kind, feature.shape) if feature.is_image else (feature.key, frames)
