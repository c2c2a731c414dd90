"""Whole closed-loop episodes: the runtime and the PyTorch reference, equal noise, equal actions throughout.

Each policy lives in its own copy of the environment and is fed by its own actions: a difference would grow.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keystep

torch = pytest.importorskip("torch")

from keystep.export.bundle import export_bundle  # noqa: E402
from keystep.models import PRESETS, SamplerConfig, load_policy, random_checkpoint, save_checkpoint  # noqa: E402
from keystep.models.reference import ReferencePolicy  # noqa: E402

TOLERANCE = 1e-4
TINY = PRESETS["tiny"]
FAMILIES = {"flat": replace(TINY, tasks=3), "goal": replace(TINY, goal="observation")}
SAMPLERS = {
    "ddim": SamplerConfig(),
    "ddim, eta": SamplerConfig(eta=0.5),
    "ddpm": SamplerConfig(kind="ddpm"),
    # From t = 99 a predicted epsilon is divided by sqrt(alpha-bar) = 1/2000, and its rounding with it.
    "ddim, hd_expit": SamplerConfig(timestep_rule="hd_expit", prediction="sample"),
    "ddpm, hd_expit": SamplerConfig(kind="ddpm", timestep_rule="hd_expit", prediction="sample"),
}


class LinearEnv:
    """A stable linear system: x' = 0.9 x + G u, with a gain G of small random numbers."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.state = rng.standard_normal(TINY.vector_width).astype(np.float32)
        self.gain = (0.1 * rng.standard_normal((TINY.vector_width, TINY.action_dim))).astype(np.float32)

    def observe(self) -> dict[str, np.ndarray]:
        return {"observation.state": self.state}

    def step(self, action: np.ndarray) -> None:
        self.state = np.float32(0.9) * self.state + self.gain @ action


def make_checkpoint(
    folder: Path, family: str, sampler: str = "ddim", rate_limit: float | None = None
) -> Path:
    """A random policy whose actions are in [-1, 1]: the unit of the tolerance."""
    config = replace(FAMILIES[family], sampler=SAMPLERS[sampler])
    checkpoint = random_checkpoint(folder, config, seed=3)
    policy, _ = load_policy(folder)
    unit = {"min": [-1.0] * config.action_dim, "max": [1.0] * config.action_dim}
    stats = checkpoint.stats | {"action": checkpoint.stats["action"] | unit}
    limits = None if rate_limit is None else [rate_limit] * config.action_dim
    action = checkpoint.action | {"rate_limit": limits}
    save_checkpoint(folder, replace(checkpoint, stats=stats, action=action), policy.state_dict())
    return folder


def live(policy: Any, family: str, episode: int, ticks: int) -> np.ndarray:
    """Actions [ticks, A] of one episode, the policy acting on what its own actions brought about."""
    env = LinearEnv(seed=episode)
    goal = LinearEnv(seed=100 + episode).observe() if family == "goal" else None
    task = f"task_{episode}" if family == "flat" else None
    policy.reset(task, goal, seed=17, episode=episode)
    actions = []
    for _ in range(ticks):
        actions.append(policy.act(env.observe()))
        env.step(actions[-1])
    return np.stack(actions)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_equal_actions_at_every_step(family: str, sampler: str, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "run", family, sampler)
    reference = ReferencePolicy(checkpoint)
    bundle = export_bundle(checkpoint, tmp_path / "x.keystep")
    ticks = 4 * TINY.execute + 3
    episodes = []
    with keystep.load(bundle, threads=1) as runtime:
        for episode in range(3):
            got, want = (live(policy, family, episode, ticks) for policy in (runtime, reference))
            np.testing.assert_allclose(got, want, atol=TOLERANCE, rtol=0)
            episodes.append(got)
    assert np.abs(episodes[0] - episodes[1]).max() > 100 * TOLERANCE  # the episodes do differ


def test_rate_limit_and_execute_as_the_runtime_has_them(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "run", "flat", "ddim", rate_limit=0.05)
    bundle = export_bundle(checkpoint, tmp_path / "x.keystep", execute=3)
    with keystep.load(bundle, threads=1) as runtime:
        got = live(runtime, "flat", 0, 20)
    want = live(ReferencePolicy(checkpoint, execute=3), "flat", 0, 20)
    np.testing.assert_allclose(got, want, atol=TOLERANCE, rtol=0)
    assert np.abs(np.diff(got, axis=0)).max() == pytest.approx(0.05, abs=1e-6)


def test_noise_rows_of_the_runtime_serve_the_reference(tmp_path: Path) -> None:
    """A last step without variance takes no noise: the shape that predict_chunk wants is the same in both."""
    checkpoint = make_checkpoint(tmp_path / "run", "flat", "ddpm")
    bundle = export_bundle(checkpoint, tmp_path / "x.keystep")
    reference = ReferencePolicy(checkpoint)
    golden = np.load(bundle / "golden.npz")
    with keystep.load(bundle, threads=1) as runtime:
        for policy in (runtime, reference):
            policy.reset("task_0")
            chunk = policy.predict_chunk(
                {"observation.state": golden["observation.state"][0]}, golden["noise"][0]
            )
            np.testing.assert_allclose(chunk, golden["actions"][0], atol=TOLERANCE, rtol=0)
