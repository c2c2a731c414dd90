"""The diffusion policy: encoders, conditional U-Net and the training loss. Everything here is in normalised space."""

from __future__ import annotations

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from keystep.models.config import PolicyConfig, SamplerConfig
from keystep.models.encoders import ImageEncoder, state_encoder
from keystep.models.unet1d import ConditionalUnet1d

Batch = dict[str, Tensor]


def training_scheduler(sampler: SamplerConfig) -> DDPMScheduler:
    """The forward process of `sampler` (diffusers)."""
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


class DiffusionPolicy(nn.Module):
    """A chunk of actions from an observation, and a task or a goal observation (HD-ExpIt sec. 4.1; Chi et al. 2023).

    Batches are dictionaries: `observation.state` [B, S], `observation.images.<camera>` [B, 3, h, w], `task` [B] int64,
    `goal.state`, `goal.images.<camera>` as configured, and `action` [B, H, A] for `loss`.
    """

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        if config.state_dim:
            self.state_encoder = state_encoder(config.state_dim, config.state_hidden, config.state_features)
        sizes = {(camera.height, camera.width) for camera in config.cameras}
        if len(sizes) > 1:
            raise ValueError(
                f"policy.cameras: expected one size (the encoder is shared), got {sorted(sizes)}"
            )
        for height, width in sizes:
            self.image_encoder = ImageEncoder(height, width, config.keypoints, config.image_features)
        if config.tasks:
            self.task_embedding = nn.Embedding(config.tasks, config.task_features)
        if config.condition_features:
            self.join = nn.Sequential(
                nn.Linear(config.parts_width, 2 * config.condition_features),
                nn.Mish(),
                nn.Linear(2 * config.condition_features, config.condition_features),
            )
        self.unet = ConditionalUnet1d(
            config.action_dim,
            config.down_dims,
            config.condition_width,
            config.step_dim,
            config.kernel_size,
            config.groups,
            config.film_scale,
        )
        self.scheduler = training_scheduler(config.sampler)

    def encode(self, batch: Batch) -> Tensor:
        """The condition, [B, C]: what the policy knows about the scene and what it is to do."""
        views = ("observation", "goal") if self.config.goal == "observation" else ("observation",)
        parts = [part for view in views for part in self._encode_view(batch, view)]
        if self.config.tasks:
            parts.append(self.task_embedding(batch["task"]))
        condition = torch.cat(parts, dim=-1)
        return self.join(condition) if self.config.condition_features else condition

    def _encode_view(self, batch: Batch, view: str) -> list[Tensor]:
        parts = [self.state_encoder(batch[f"{view}.state"])] if self.config.state_dim else []
        return parts + [
            self.image_encoder(batch[f"{view}.images.{camera.name}"]) for camera in self.config.cameras
        ]

    def denoise(self, sample: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:
        """[B, H, A], [B] int64, [B, C] -> the network's prediction [B, H, A]."""
        return self.unet(sample, timestep, condition)

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """Mean squared error of the prediction at random denoise steps (Ho et al. 2020, eq. 14)."""
        action = batch["action"]
        size, device = action.shape[0], action.device
        noise = torch.randn(action.shape, generator=generator, device=device)
        timestep = torch.randint(self.config.sampler.train_steps, (size,), generator=generator, device=device)
        condition = self.encode(batch)
        if self.config.condition_dropout:
            keep = torch.rand((size, 1), generator=generator, device=device) >= self.config.condition_dropout
            condition = condition * keep
        predicted = self.denoise(self.scheduler.add_noise(action, noise, timestep), timestep, condition)
        return nn.functional.mse_loss(predicted, self._target(action, noise, timestep))

    def _target(self, action: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        prediction = self.config.sampler.prediction
        if prediction == "epsilon":
            return noise
        return action if prediction == "sample" else self.scheduler.get_velocity(action, noise, timestep)
