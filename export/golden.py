"""golden.npz: inputs, noise and the actions torch computes from them, to be compared with on any machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from keystep.export.golden_file import CANDIDATES, CONTINUED, DELAY, PREVIOUS, noise_rows
from keystep.export.levels import Controller, Planning
from keystep.export.relative import anchor_of
from keystep.features import KINDS
from keystep.models import DiffusionController, SamplerConfig
from keystep.models.frames import as_input
from keystep.models.given import GivenSteps
from keystep.models.merging import Continued
from keystep.models.reference import Predict, denoise_loop, diffusers_scheduler
from keystep.models.scorer import pooled

CASES = 4
Arrays = dict[str, np.ndarray]


def golden_arrays(controller: Controller, seed: int = 0) -> Arrays:
    """Observations drawn from the statistics of the dataset, noise [N, K', H, A], and torch's answers.

    `actions` [N, H, A] are in physical units, before the safety gate; `model_output` [N, H, A] is that of the
    first denoise step, of the conditional branch. N = CASES. A controller of one step has neither noise nor
    `model_output`.
    """
    rng = np.random.default_rng(seed)
    arrays = _observations(controller, rng)
    if controller.sampler is not None:
        shape = (controller.config.horizon, controller.config.action_dim)
        rows = noise_rows(asdict(controller.sampler))
        arrays["noise"] = rng.standard_normal((CASES, rows, *shape)).astype(np.float32)
    answers = [torch_answer(controller, arrays, case) for case in range(CASES)]
    arrays["actions"] = np.stack([actions for actions, _ in answers])
    if controller.sampler is not None:
        arrays["model_output"] = np.stack([output for _, output in answers])
    return arrays | continued_arrays(controller, arrays)


def continued_arrays(controller: Controller, arrays: Arrays) -> Arrays:
    """Of a controller with `max_delay` D: `continued.previous` [N, D, A], the next case's actions, of which
    `continued.delay` [N] rows are given, and torch's `continued` [N, H, A]."""
    config = controller.config
    most, start = getattr(config, "max_delay", 0), config.chunk_start
    if not most:
        return {}
    found: Arrays = {
        PREVIOUS: np.roll(arrays["actions"], -1, axis=0)[:, start : start + most].copy(),
        DELAY: most - np.arange(len(arrays["actions"]), dtype=np.int64) % most,
    }
    cases = range(len(arrays["actions"]))
    found[CONTINUED] = np.stack([torch_continued(controller, arrays | found, case) for case in cases])
    return found


@torch.no_grad()
def torch_continued(controller: Controller, arrays: Arrays, case: int) -> np.ndarray:
    """Actions [H, A] of one case whose first rows are given."""
    policy, sampler, normalizer = controller.model, controller.sampler, controller.checkpoint.normalizer()
    assert isinstance(policy, DiffusionController) and sampler is not None
    delay = int(arrays[DELAY][case])
    continued = Continued(arrays[PREVIOUS][case][:delay], delay, delay, "trained")
    anchor = anchored(controller, arrays, case)
    rows = normalizer.normalize("action", torch.from_numpy(continued.previous) - anchor)
    known = continued.known(rows, policy.config)
    condition = policy.conditions(observed(controller, arrays, case), bool(sampler.guidance))

    def predict(sample: Tensor, timestep: int) -> Tensor:
        count = len(sample)
        given = known.given.expand(count, -1)
        return policy.denoise(sample, torch.full((count,), timestep), condition, given)

    noise = [torch.from_numpy(row)[None] for row in arrays["noise"][case]]
    sample = denoise_loop(sampler, predict, noise, known)
    made = normalizer.unnormalize("action", sample)[0] + anchor
    return continued.finished(made.numpy(), policy.config.chunk_start)


def anchored(controller: Controller, arrays: Arrays, case: int) -> Tensor:
    """What is added to the network's actions of a case, [A] or [1]."""
    relative = controller.checkpoint.action.get("relative")
    return torch.from_numpy(anchor_of(relative, controller.config.observation, arrays, case))


@torch.no_grad()
def torch_answer(controller: Controller, arrays: Arrays, case: int) -> tuple[np.ndarray, np.ndarray]:
    """Actions [H, A] and first model output [H, A] of one case, by eager torch and diffusers."""
    sampler, normalizer = controller.sampler, controller.checkpoint.normalizer()
    batch = observed(controller, arrays, case)
    policy = controller.model
    if sampler is None:
        actions = policy.act(batch)  # type: ignore[operator]
        physical = normalizer.unnormalize("action", actions)[0] + anchored(controller, arrays, case)
        return physical.numpy(), actions[0].numpy()
    assert isinstance(policy, DiffusionController | GivenSteps)
    condition = policy.conditions(batch, bool(sampler.guidance))

    def predict(sample: Tensor, timestep: int) -> Tensor:
        return policy.denoise(sample, torch.full((len(sample),), timestep), condition)

    actions, output = _answer(sampler, predict, arrays["noise"][case], len(condition))
    physical = normalizer.unnormalize("action", actions)[0] + anchored(controller, arrays, case)
    return physical.numpy(), output[0].numpy()


def plan_arrays(planning: Planning, arrays: Arrays, seed: int = 0) -> Arrays:
    """`text`, `plan.noise`, torch's `plan` (physical units) and `plan.model_output`; see docs/bundle.md."""
    rng = np.random.default_rng([seed, 1])
    config = planning.config
    texts = [task["instruction"] for task in planning.checkpoint.tasks] or ["Do it."]
    shape = (CASES, noise_rows(asdict(planning.sampler)), config.subgoals, *config.subgoal_shape)
    found: Arrays = {
        "text": np.array([texts[case % len(texts)] for case in range(CASES)]),
        "plan.noise": rng.standard_normal(shape).astype(np.float32),
    }
    answers = [torch_plan(planning, arrays | found, case) for case in range(CASES)]
    found["plan"] = np.stack([plan for plan, _ in answers])
    found["plan.model_output"] = np.stack([output for _, output in answers])
    return found


def score_arrays(planning: Planning, arrays: Arrays, seed: int = 0) -> Arrays:
    """`candidates.noise` [N, K', C, M, S], torch's `candidates` and `scores`; nothing without a scorer."""
    if planning.scoring is None:
        return {}
    rng = np.random.default_rng([seed, 2])
    config = planning.config
    shape = (
        CASES,
        noise_rows(asdict(planning.sampler)),
        CANDIDATES,
        config.subgoals,
        *config.subgoal_shape,
    )
    found = {"candidates.noise": rng.standard_normal(shape).astype(np.float32)}
    answers = [torch_candidates(planning, arrays | found, case) for case in range(CASES)]
    found["candidates"] = np.stack([plans for plans, _ in answers])
    found["scores"] = np.stack([scores for _, scores in answers])
    return found


@torch.no_grad()
def torch_candidates(planning: Planning, arrays: Arrays, case: int) -> tuple[np.ndarray, np.ndarray]:
    """The candidates [C, M, S] of one case in physical units, and their scores [C]."""
    assert planning.scoring is not None
    drawn = np.moveaxis(arrays["candidates.noise"][case], 1, 0)
    plans = np.stack([torch_plan(planning, arrays, case, noise)[0] for noise in drawn])
    normalizer, key = planning.checkpoint.normalizer(), planning.config.subgoal
    told = pooled(planning.text_encoder.encode([str(arrays["text"][case])]))
    seen, count = _seen(planning, arrays, case), len(plans)
    scores = planning.scoring.model(
        seen.expand(count, -1), told.expand(count, -1), normalizer.normalize(key, torch.from_numpy(plans))
    )
    return plans, scores.numpy()


def _seen(planning: Planning, arrays: Arrays, case: int) -> Tensor:
    """What the planner sees, normalised, [1, ...]."""
    config, key = planning.config, planning.config.subgoal
    frames = arrays[key][case]
    newest = frames[-1] if frames.ndim > len(config.feature.shape) else frames
    seen = as_input(config.feature, torch.from_numpy(newest))
    return planning.checkpoint.normalizer().normalize(key, seen)[None]


@torch.no_grad()
def torch_plan(
    planning: Planning, arrays: Arrays, case: int, noise: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A plan [M, ...] in physical units (images in 0..1) and the first model output [M, ...] of one case.

    noise: [K', M, ...]; that of the case by default.
    """
    model, config, guided = planning.model, planning.config, bool(planning.sampler.guidance)
    tokens = planning.text_encoder.encode([str(arrays["text"][case])])
    goal = model.goal(torch.cat([tokens, torch.zeros_like(tokens)]) if guided else tokens)
    normalizer, seen = planning.checkpoint.normalizer(), _seen(planning, arrays, case)

    def predict(sample: Tensor, timestep: int) -> Tensor:
        rows = len(sample)
        steps = torch.full((rows,), timestep)
        return model.denoise(sample, steps, goal, seen.expand(rows, *seen.shape[1:]))

    drawn = arrays["plan.noise"][case] if noise is None else noise
    plan, output = _answer(planning.sampler, predict, drawn, 2 if guided else 1)
    return normalizer.unnormalize(config.subgoal, plan)[0].numpy(), output[0].numpy()


def _answer(sampler: SamplerConfig, predict: Predict, noise: np.ndarray, rows: int) -> tuple[Tensor, Tensor]:
    """The sample, and the output of the first denoise step."""
    drawn = [torch.from_numpy(row)[None] for row in noise]
    sample = denoise_loop(sampler, predict, drawn)
    first = int(diffusers_scheduler(sampler).timesteps[0])
    return sample, predict(drawn[0].expand(rows, *drawn[0].shape[1:]), first)


def write_golden(path: Path, arrays: Arrays) -> None:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)  # type: ignore[arg-type]


def _observations(controller: Controller, rng: np.random.Generator) -> Arrays:
    config, stats = controller.config, controller.checkpoint.stats
    arrays: Arrays = {}
    for name, (feature, frames) in config.inputs().items():
        history = (frames,) if frames > 1 else ()
        drawn = _draw(stats[feature.key], (*history, *feature.shape), rng)
        if feature.dtype == "uint8":
            drawn = (drawn.clip(0, 1) * KINDS[feature.kind].unit).round().astype(np.uint8)
        arrays[name] = drawn.clip(0) if feature.is_image else drawn  # no pixel is negative
    if config.tasks:
        arrays["task"] = np.arange(CASES, dtype=np.int64) % config.tasks
    return arrays


def _draw(stats: dict[str, Any], shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    normal = rng.standard_normal((CASES, *shape))
    return (np.array(stats["mean"]) + np.array(stats["std"]) * normal).astype(np.float32)


def observed(controller: Controller, arrays: Arrays, case: int) -> dict[str, Tensor]:
    """Row `case` as a normalised batch of one."""
    normalizer, batch = controller.checkpoint.normalizer(), {}
    for name, (feature, _) in controller.config.inputs().items():
        value = as_input(feature, torch.from_numpy(arrays[name][case]))
        batch[name] = normalizer.normalize(feature.key, value)[None]
    if "task" in arrays:
        batch["task"] = torch.from_numpy(arrays["task"][case : case + 1])
    return batch
