"""golden.npz: inputs, noise and the actions torch computes from them, to be compared with on any machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from keystep.export.numpy_sampler import noise_rows
from keystep.models import Checkpoint, DiffusionPolicy, SamplerConfig
from keystep.models.reference import denoise_loop, diffusers_scheduler

CASES = 4
Arrays = dict[str, np.ndarray]


def golden_arrays(
    policy: DiffusionPolicy, checkpoint: Checkpoint, sampler: SamplerConfig, seed: int = 0
) -> Arrays:
    """Observations drawn from the statistics of the dataset, noise [N, K', H, A], and torch's answers.

    `actions` [N, H, A] are in physical units, before the safety gate; `model_output` [N, H, A] is that of the
    first denoise step, of the conditional branch. N = CASES.
    """
    rng = np.random.default_rng(seed)
    arrays = _observations(checkpoint, rng)
    config = policy.config
    shape = (CASES, noise_rows(asdict(sampler)), config.horizon, config.action_dim)
    arrays["noise"] = rng.standard_normal(shape).astype(np.float32)
    answers = [torch_answer(policy, checkpoint, sampler, arrays, case) for case in range(CASES)]
    arrays["actions"] = np.stack([actions for actions, _ in answers])
    arrays["model_output"] = np.stack([output for _, output in answers])
    return arrays


@torch.no_grad()
def torch_answer(
    policy: DiffusionPolicy, checkpoint: Checkpoint, sampler: SamplerConfig, arrays: Arrays, case: int
) -> tuple[np.ndarray, np.ndarray]:
    """Actions [H, A] and first model output [H, A] of one case, by eager torch and diffusers."""
    condition = policy.conditions(_batch(checkpoint, arrays, case), bool(sampler.guidance))

    def predict(sample: Tensor, timestep: int) -> Tensor:
        return policy.denoise(sample, torch.full((len(sample),), timestep), condition)

    rows = [torch.from_numpy(row)[None] for row in arrays["noise"][case]]
    actions = denoise_loop(sampler, predict, rows)
    first = int(diffusers_scheduler(sampler).timesteps[0])
    output = predict(rows[0].expand(len(condition), -1, -1), first)[0]
    return checkpoint.normalizer().unnormalize("action", actions)[0].numpy(), output.numpy()


def write_golden(path: Path, arrays: Arrays) -> None:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)  # type: ignore[arg-type]


def _observations(checkpoint: Checkpoint, rng: np.random.Generator) -> Arrays:
    config = checkpoint.config
    arrays: Arrays = {}
    for view in ("observation", "goal") if config.goal == "observation" else ("observation",):
        if config.state_dim:
            arrays[f"{view}.state"] = _draw(checkpoint.stats["observation.state"], (config.state_dim,), rng)
        for camera in config.cameras:
            seen = checkpoint.stats[f"observation.images.{camera.name}"]
            pixels = _draw(seen, (camera.height, camera.width, 3), rng)
            arrays[f"{view}.images.{camera.name}"] = (pixels.clip(0, 1) * 255).round().astype(np.uint8)
    if config.tasks:
        arrays["task"] = np.arange(CASES, dtype=np.int64) % config.tasks
    return arrays


def _draw(stats: dict[str, Any], shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    normal = rng.standard_normal((CASES, *shape))
    return (np.array(stats["mean"]) + np.array(stats["std"]) * normal).astype(np.float32)


def _batch(checkpoint: Checkpoint, arrays: Arrays, case: int) -> dict[str, Tensor]:
    """Row `case` as a normalised batch of one."""
    normalizer, batch = checkpoint.normalizer(), {}
    for name, values in arrays.items():
        if not name.startswith(("observation.", "goal.")):
            continue
        value = torch.from_numpy(values[case])
        if ".images." in name:
            value = value.permute(2, 0, 1).float() / 255
        batch[name] = normalizer.normalize(name.replace("goal.", "observation.", 1), value)[None]
    if "task" in arrays:
        batch["task"] = torch.from_numpy(arrays["task"][case : case + 1])
    return batch
