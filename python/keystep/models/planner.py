"""Diffusion planners: what is seen and a goal in words to M subgoals, all in normalised space.

HD-ExpIt's planner imagines images with AVDC's video U-Net (Ko et al. 2023, arXiv:2310.08576); the same
planner over state vectors, with a temporal U-Net, trains on a CPU. Text is encoded by a frozen encoder
(`keystep.models.text`) to tokens [B, T, D].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from keystep.models.diffusion import FlowMatching, training_scheduler
from keystep.models.encoders import mlp
from keystep.models.plan_transformer import PlanTransformer
from keystep.models.planner_config import PlannerConfig, ResamplerConfig
from keystep.models.unet1d import ConditionalUnet1d

Batch = dict[str, Tensor]


class CrossAttention(nn.Module):
    """Latents attend to tokens and to themselves (the attention of a perceiver resampler)."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.latent_norm, self.token_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query = nn.Linear(dim, heads * head_dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * heads * head_dim, bias=False)
        self.output = nn.Linear(heads * head_dim, dim, bias=False)

    def forward(self, latents: Tensor, tokens: Tensor) -> Tensor:
        """[B, L, dim], [B, T, dim] -> [B, L, dim]."""
        latents, tokens = self.latent_norm(latents), self.token_norm(tokens)
        key, value = self.key_value(torch.cat([tokens, latents], dim=1)).chunk(2, dim=-1)
        query, key, value = (self._split(part) for part in (self.query(latents), key, value))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class PerceiverResampler(nn.Module):
    """Tokens of any number to a fixed number of latents (Alayrac et al. 2022, arXiv:2204.14198).

    Args:
        width: D of the tokens, [B, T, D] -> [B, latents, dim].
    """

    def __init__(self, config: ResamplerConfig, width: int) -> None:
        super().__init__()
        dim = config.dim
        self.enter = nn.Linear(width, dim)
        self.latents = nn.Parameter(torch.randn(config.latents, dim))
        self.attentions = nn.ModuleList(
            CrossAttention(dim, config.heads, config.head_dim) for _ in range(config.depth)
        )
        self.feedforwards = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.enter(tokens)
        latents = self.latents.expand(len(tokens), -1, -1)
        for attention, feedforward in zip(self.attentions, self.feedforwards, strict=True):
            latents = latents + attention(latents, tokens)
            latents = latents + feedforward(latents)
        return self.norm(latents)


class Planner(nn.Module):
    """What planners of states and of images have in common.

    Batches for `loss`: `observation` [B, *shape], `subgoals` [B, M, *shape], `text` [U, T, D], and `sentence`
    [B] int64, each plan's row of `text`; without it U is B, in the order of the plans.
    """

    def __init__(self, config: PlannerConfig) -> None:
        super().__init__()
        self.config = config
        self.resampler = PerceiverResampler(config.resampler, config.text_width)
        self.project = nn.Linear(config.resampler.dim, config.embedding)
        self.scheduler = training_scheduler(config.sampler)

    def goal(self, tokens: Tensor) -> Tensor:
        """Text tokens [B, T, D] -> goal embedding [B, E]; zeros are the null text of guidance."""
        return self.project(self.resampler(tokens).mean(dim=1))

    def denoise(self, sample: Tensor, timestep: Tensor, goal: Tensor, observation: Tensor) -> Tensor:
        """[B, M, *shape], [B] int64, [B, E], [B, *shape] -> the network's prediction [B, M, *shape]."""
        raise NotImplementedError

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """Mean squared error weighted by min-SNR (Hang et al. 2023, eq. for v-prediction)."""
        config = self.config

        def normal(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=generator, device=like.device)

        blur = config.observation_noise
        subgoals = batch["subgoals"] + blur * normal(batch["subgoals"])
        observation = batch["observation"] + blur * normal(batch["observation"])
        size, device = len(subgoals), subgoals.device
        noise = normal(subgoals)
        timestep = torch.randint(config.sampler.train_steps, (size,), generator=generator, device=device)
        keep = torch.rand((size,), generator=generator, device=device) >= config.text_dropout
        noisy = self.scheduler.add_noise(subgoals, noise, timestep)
        predicted = self.denoise(noisy, timestep, self._goals(batch, keep), observation)
        error = (predicted - self._target(subgoals, noise, timestep)).square().flatten(1).mean(dim=1)
        return (error * self._weight(timestep)).mean()

    def _goals(self, batch: Batch, keep: Tensor) -> Tensor:
        """[B, E]: each sentence is computed once, and the null text, which plans not in `keep` [B] get."""
        text = batch["text"]
        goals = self.goal(torch.cat([text, torch.zeros_like(text[:1])]))
        told = batch.get("sentence", torch.arange(len(text), device=text.device))
        return goals[torch.where(keep, told, len(text))]

    def _target(self, subgoals: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        prediction = self.config.sampler.prediction
        if prediction == "epsilon":
            return noise
        return subgoals if prediction == "sample" else self.scheduler.get_velocity(subgoals, noise, timestep)

    def _weight(self, timestep: Tensor) -> Tensor:
        """min(snr, gamma) over what each prediction implies: snr + 1 for v, snr for epsilon, 1 for x0."""
        if isinstance(self.scheduler, FlowMatching):
            return torch.ones(len(timestep), device=timestep.device)
        bar = self.scheduler.alphas_cumprod.to(timestep.device)[timestep]
        snr = bar / (1 - bar)
        if not self.config.min_snr:
            return torch.ones_like(snr)
        capped = snr.clamp(max=self.config.min_snr)
        prediction = self.config.sampler.prediction
        if prediction == "sample":
            return capped
        return capped / (snr if prediction == "epsilon" else snr + 1)


class TokenPlanner(Planner):
    """Subgoals are vectors; a transformer over the parts of the observation and of the M subgoals."""

    def __init__(self, config: PlannerConfig) -> None:
        super().__init__(config)
        (width,) = config.subgoal_shape
        self.network = PlanTransformer(config.transformer, width, config.subgoals, config.embedding)

    def denoise(self, sample: Tensor, timestep: Tensor, goal: Tensor, observation: Tensor) -> Tensor:
        return self.network(sample, timestep, goal, observation)


class StatePlanner(Planner):
    """Subgoals are vectors; a temporal U-Net over M rows."""

    def __init__(self, config: PlannerConfig) -> None:
        super().__init__(config)
        (width,) = config.subgoal_shape
        self.join = mlp(width + config.embedding, config.condition_hidden, config.condition_features)
        self.unet = ConditionalUnet1d(
            width,
            config.down_dims,
            config.condition_features,
            config.step_dim,
            config.kernel_size,
            config.groups,
        )

    def condition(self, goal: Tensor, observation: Tensor) -> Tensor:
        """[B, E], [B, S] -> [B, C]."""
        return self.join(torch.cat([observation, goal], dim=-1))

    def denoise(self, sample: Tensor, timestep: Tensor, goal: Tensor, observation: Tensor) -> Tensor:
        return self.unet(sample, timestep, self.condition(goal, observation))


class ImagePlanner(Planner):
    """Subgoals are images; AVDC's video U-Net sees the observation beside every noisy frame."""

    def __init__(self, config: PlannerConfig) -> None:
        from keystep.models.video_unet import VideoUnet

        super().__init__(config)
        self.unet = VideoUnet(
            2 * config.feature.width,
            config.feature.width,
            config.base,
            config.multipliers,
            config.blocks,
            config.head_channels,
            config.attention_at,
            config.embedding,
            patch=config.patch,
        )

    def denoise(self, sample: Tensor, timestep: Tensor, goal: Tensor, observation: Tensor) -> Tensor:
        seen = observation.unsqueeze(1).expand(-1, self.config.subgoals, -1, -1, -1)
        predicted = self.unet(torch.cat([sample, seen], dim=2), timestep, goal)
        # A clean frame is mostly what is seen now: only the difference has to be imagined.
        return predicted + seen if self.config.sampler.prediction == "sample" else predicted


def make_planner(config: PlannerConfig) -> Planner:
    if config.feature.is_image:
        return ImagePlanner(config)
    return TokenPlanner(config) if config.network == "transformer" else StatePlanner(config)
