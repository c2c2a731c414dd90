"""The slow, clear PyTorch policy that the C++ runtime is compared with: eager, diffusers' schedulers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from keystep.features import Feature
from keystep.models.act import ActController
from keystep.models.checkpoint import CheckpointError, load_model
from keystep.models.config import SamplerConfig
from keystep.models.diffusion import DiffusionController
from keystep.models.frames import as_input
from keystep.models.merging import Continued, Known, merged, step_of, write_given

Predict = Callable[[Tensor, int], Tensor]


def diffusers_scheduler(sampler: SamplerConfig) -> Any:
    """diffusers' scheduler for `sampler`, its inference time-steps set."""
    if sampler.kind == "flow_euler":
        return _flow_scheduler(sampler)
    common = {
        "num_train_timesteps": sampler.train_steps,
        "beta_schedule": "linear" if sampler.betas else sampler.beta_schedule,
        "beta_start": sampler.beta_start,
        "beta_end": sampler.beta_end,
        "trained_betas": list(sampler.betas) or None,
        "prediction_type": sampler.prediction,
        "clip_sample": sampler.clip_sample,
        "clip_sample_range": sampler.clip_range,
        "timestep_spacing": "leading" if sampler.timestep_rule == "hd_expit" else sampler.timestep_rule,
        "steps_offset": sampler.steps_offset,
    }
    scheduler: Any
    if sampler.kind == "ddim":
        scheduler = DDIMScheduler(**common, set_alpha_to_one=sampler.set_alpha_to_one)
    else:
        scheduler = DDPMScheduler(**common, variance_type="fixed_small")
    if sampler.timestep_rule == "hd_expit":  # a rule that diffusers does not have
        count = sampler.inference_steps
        steps = [(i + 1) * sampler.train_steps // count - 1 for i in reversed(range(count))]
        scheduler.timesteps, scheduler.num_inference_steps = torch.tensor(steps), count
    else:
        scheduler.set_timesteps(sampler.inference_steps)
    return scheduler


def _flow_scheduler(sampler: SamplerConfig) -> Any:
    """From t = 1 in equal steps; diffusers' own rule ends at 1 / T. `timesteps` are the network's."""
    count, train = sampler.inference_steps, sampler.train_steps
    visited = np.round(np.arange(train, 0, -train / count)) - 1
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=train)
    scheduler.set_timesteps(sigmas=((visited + 1) / train).tolist())
    scheduler.timesteps = torch.tensor(visited)
    return scheduler


def denoise_loop(
    sampler: SamplerConfig, predict: Predict, noise: Sequence[Tensor], known: Known | None = None
) -> Tensor:
    """Noise to sample.

    Args:
        predict: (sample [1, ...], or [2, ...] with guidance, and a training time-step) -> prediction of the
            same shape.
        noise: the initial sample [1, ...], then the noise of every step that adds some.
        known: of a chunk that continues another.
    """
    scheduler = diffusers_scheduler(sampler)
    sample, *step_noise = noise
    # diffusers takes noise in a last step whose variance is zero, too: what it is then makes no difference.
    step_noise.append(torch.zeros_like(sample))
    steps = [int(step) for step in scheduler.timesteps]
    for timestep, following in zip(steps, [*steps[1:], -1], strict=True):
        before = sample = write_given(sample, known)
        known_step = step_of(sampler, scheduler, timestep, following, step_noise[0])
        if sampler.guidance:
            conditional, null = predict(torch.cat([sample, sample]), timestep).chunk(2)
            prediction = (1 + sampler.guidance) * conditional - sampler.guidance * null
        else:
            prediction = predict(sample, timestep)
        if sampler.kind == "flow_euler":
            sample = scheduler.step(prediction, float(timestep), sample).prev_sample
        elif sampler.kind == "ddpm":
            sample = _ddpm_step(scheduler, prediction, timestep, sample, step_noise)
        elif sampler.timestep_rule == "hd_expit":
            sample = _hd_expit_step(scheduler, sampler, prediction, timestep, following, sample, step_noise)
        else:
            extra = {"eta": sampler.eta, "variance_noise": step_noise.pop(0) if sampler.eta else None}
            sample = scheduler.step(prediction, timestep, sample, **extra).prev_sample
        sample = merged(known, sample, before, known_step)
    return write_given(sample, known)


def _ddpm_step(
    scheduler: Any, prediction: Tensor, timestep: int, sample: Tensor, step_noise: list[Tensor]
) -> Tensor:
    """diffusers draws the noise of a DDPM step itself: take what it drew out again and add ours."""
    if timestep == 0:
        return scheduler.step(prediction, timestep, sample).prev_sample
    drawn = torch.randn(prediction.shape, generator=torch.Generator().manual_seed(0))
    deviation = scheduler._get_variance(timestep).sqrt()
    generator = torch.Generator().manual_seed(0)
    previous = scheduler.step(prediction, timestep, sample, generator=generator).prev_sample
    return previous + deviation * (step_noise.pop(0) - drawn)


def _hd_expit_step(
    scheduler: Any,
    sampler: SamplerConfig,
    prediction: Tensor,
    timestep: int,
    following: int,
    sample: Tensor,
    step_noise: list[Tensor],
) -> Tensor:
    """DDIM (Song et al. 2021, eq. 12, 16) from `timestep` to `following`, -1 being the clean end."""
    bar = scheduler.alphas_cumprod
    now, after = bar[timestep], bar[following] if following >= 0 else torch.tensor(1.0)
    if sampler.prediction == "epsilon":
        clean, direction = (sample - (1 - now).sqrt() * prediction) / now.sqrt(), prediction
    elif sampler.prediction == "sample":
        clean, direction = prediction, (sample - now.sqrt() * prediction) / (1 - now).sqrt()
    else:
        clean = now.sqrt() * sample - (1 - now).sqrt() * prediction
        direction = now.sqrt() * prediction + (1 - now).sqrt() * sample
    if sampler.clip_sample:
        clean = clean.clamp(-sampler.clip_range, sampler.clip_range)
    variance = (1 - after) / (1 - now) * (1 - now / after)
    mean = after.sqrt() * clean + (1 - after - sampler.eta**2 * variance).clamp(min=0).sqrt() * direction
    if sampler.eta == 0 or variance <= 0:
        return mean
    return mean + sampler.eta * variance.sqrt() * step_noise.pop(0)


def drawn_noise(
    sampler: SamplerConfig, shape: tuple[int, ...], seed: int, episode: int, chunk: int, first: int = 0
) -> list[Tensor]:
    """The core's generator: the noise the runtime would draw from step `first` on, each [1, *shape]."""
    import keystep

    noisy = sampler.eta > 0 or sampler.kind == "ddpm"
    steps = range(1 + (sampler.inference_steps if noisy else 0))
    key = {"seed": seed, "episode": episode, "chunk": chunk}
    return [torch.from_numpy(keystep.noise(shape, **key, step=first + step))[None] for step in steps]


class ReferencePolicy:
    """A trained controller with the surface of `keystep.Runtime`; equal noise gives equal actions to 1e-4.

    Args:
        checkpoint: folder written by training: a diffusion controller or ACT.
        execute: actions executed per chunk; by default as trained.
        sampler: fields of SamplerConfig to change, e.g. inference_steps=10.
    """

    def __init__(self, checkpoint: Path | str, *, execute: int | None = None, **sampler: Any) -> None:
        model, self.checkpoint = load_model(Path(checkpoint))
        if not isinstance(model, DiffusionController | ActController):
            raise CheckpointError(
                f"{checkpoint}: kind: expected diffusion or act, got {self.checkpoint.kind}"
            )
        self.policy = model
        self.execute = execute or model.config.execute
        self.sampler = (
            replace(model.config.sampler, **sampler) if isinstance(model, DiffusionController) else None
        )
        self.normalizer = self.checkpoint.normalizer()
        self.task_names = [task["name"] for task in self.checkpoint.tasks]
        self._context: dict[str, Tensor] | None = None
        self._frames: dict[str, deque[Tensor]] = {}
        self._pending: list[np.ndarray] = []
        self._previous: np.ndarray | None = None

    def reset(
        self,
        task: str | None = None,
        goal: dict[str, np.ndarray] | None = None,
        seed: int = 0,
        episode: int = 0,
    ) -> None:
        """Starts an episode; a goal may come later, by `set_goal`. Raises ValueError for an unknown task."""
        config = self.policy.config
        self._context = {}
        if config.tasks:
            names = {text: i for i, entry in enumerate(self.checkpoint.tasks) for text in entry.values()}
            if task not in names:
                raise ValueError(f"task: expected one of {', '.join(self.task_names)}, got {task!r}")
            self._context["task"] = torch.tensor([names[task]])
        if goal is not None:
            self._context |= self._goal(goal)
        self._frames = {}
        self._seed, self._episode, self._chunk = seed, episode, 0
        self._pending, self._previous = [], None

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """The next action, float32 (A,), within the bounds and the rate limit of the action spec."""
        if self._context is None:
            raise RuntimeError("reference: expected reset before act, got act")
        self._note(observation)
        if not self._pending:
            chunk = self._predict_chunk(None)
            self._chunk += 1
            start = self.policy.config.chunk_start
            self._pending = list(chunk[start : start + self.execute])
        self._previous = self._gate(self._pending.pop(0))
        return self._previous

    def predict_chunk(
        self,
        observation: dict[str, np.ndarray],
        noise: np.ndarray | None = None,
        continued: Continued | None = None,
    ) -> np.ndarray:
        """A whole chunk, float32 (H, A), physical units. noise: (K, H, A), initial sample and step noises."""
        if self._context is None:
            raise RuntimeError("reference: expected reset before act")
        self._note(observation)
        if continued is None:
            return self._predict_chunk(noise)
        rows = self.normalizer.normalize("action", torch.from_numpy(continued.previous))
        chunk = self._predict_chunk(noise, continued.known(rows, self.policy.config))
        return continued.finished(chunk, self.policy.config.chunk_start)

    @torch.no_grad()
    def _predict_chunk(self, noise: np.ndarray | None, known: Known | None = None) -> np.ndarray:
        assert self._context is not None
        if self.policy.config.goal == "observation" and not any(k.startswith("goal.") for k in self._context):
            raise ValueError("goal: expected an observation, got none")
        batch = self._seen() | self._context
        return self.normalizer.unnormalize("action", self._sample(batch, noise, known))[0].numpy()

    def set_goal(self, goal: dict[str, Tensor]) -> None:
        """Replaces the goal by normalised tensors `goal.*` [1, ...] and drops the rest of the chunk."""
        if self._context is None:
            raise RuntimeError("reference: expected reset before set_goal")
        self._context |= goal
        self._pending = []

    def _sample(
        self, batch: dict[str, Tensor], noise: np.ndarray | None, known: Known | None = None
    ) -> Tensor:
        if isinstance(self.policy, ActController) or self.sampler is None:
            return self.policy.act(batch)  # type: ignore[operator]
        policy, sampler = self.policy, self.sampler
        shape = (policy.config.horizon, policy.config.action_dim)
        condition = policy.conditions(batch, bool(sampler.guidance))

        def predict(sample: Tensor, timestep: int) -> Tensor:
            given = None if known is None else known.given.expand(len(sample), -1)
            return policy.denoise(sample, torch.full((len(sample),), timestep), condition, given)

        if noise is None:
            rows = drawn_noise(sampler, shape, self._seed, self._episode, self._chunk)
        else:
            rows = [torch.from_numpy(row)[None] for row in np.asarray(noise, np.float32).reshape(-1, *shape)]
        return denoise_loop(sampler, predict, rows, known)

    def close(self) -> None:
        """Nothing to free; here for the common surface."""

    def _gate(self, action: np.ndarray) -> np.ndarray:
        spec = self.checkpoint.action
        action = np.clip(action, np.float32(spec["min"]), np.float32(spec["max"]))
        if spec["rate_limit"] is None or self._previous is None:
            return action
        limit = np.float32(spec["rate_limit"])
        return np.clip(action, self._previous - limit, self._previous + limit)

    def _note(self, observation: dict[str, np.ndarray]) -> None:
        """Keeps the frames that the network sees; the first after a reset stands for those before it."""
        for feature in self.policy.config.observation:
            frame = self._normalized(feature, observation[feature.key])
            if feature.key not in self._frames:
                self._frames[feature.key] = deque([frame] * feature.history, feature.history)
            self._frames[feature.key].append(frame)

    def _seen(self) -> dict[str, Tensor]:
        """The inputs with a batch of one: [1, ..], or [1, n, ..], the oldest frame first."""
        return {
            key: torch.stack([*frames])[None] if len(frames) > 1 else frames[0][None]
            for key, frames in self._frames.items()
        }

    def _goal(self, goal: dict[str, np.ndarray]) -> dict[str, Tensor]:
        """One frame, with the statistics of its observation."""
        seen = self.policy.config.observation
        return {f"goal.{f.name}": self._normalized(f, goal[f.key])[None] for f in seen}

    def _normalized(self, feature: Feature, frame: np.ndarray) -> Tensor:
        value = as_input(feature, torch.from_numpy(np.ascontiguousarray(frame)))
        return self.normalizer.normalize(feature.key, value)
