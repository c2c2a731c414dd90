"""What makes a step and a reset fast changes no bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("mani_skill", reason="needs the extra 'sim'")

from keystep.suites.arm import ArmSimulation
from keystep.suites.franka3blocks.environment import Franka3BlocksEnv
from keystep.suites.franka3blocks.simulation import Franka3BlocksSimulation
from keystep.suites.turns import turned


@pytest.fixture(scope="module")
def env() -> Iterator[Franka3BlocksEnv]:
    made = Franka3BlocksEnv(task="stack", terminate_on_success=False)
    yield made
    made.close()


def play(env: Franka3BlocksEnv, seed: int, steps: int = 60) -> list[dict[str, np.ndarray]]:
    """States of an episode that goes down among the cubes and pushes them about."""
    rng = np.random.default_rng(seed)
    env.reset(seed=seed)
    states = []
    for step in range(steps):
        action = rng.uniform(-1, 1, 7)
        action[2] -= 0.4 * (step < 30)
        env.step(action)
        states.append(env.get_state())
    return states


def test_a_quick_scene_goes_on_as_one_of_maniskill(
    env: Franka3BlocksEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = [play(env, seed) for seed in range(4)]
    moved = max(
        float(np.abs(states[-1]["cubes"][:, :3] - states[0]["cubes"][:, :3]).max()) for states in quick
    )
    assert moved > 0.01, "no cube was touched"
    with monkeypatch.context() as patch:
        patch.setattr(Franka3BlocksSimulation, "rebuild", ArmSimulation.rebuild)
        slow = [play(env, seed) for seed in range(4)]
    for one, other in zip(quick, slow, strict=True):
        for left, right in zip(one, other, strict=True):
            assert all(np.array_equal(left[name], right[name]) for name in left)


def test_scenes_are_freed(env: Franka3BlocksEnv) -> None:
    def resident() -> int:
        with Path("/proc/self/statm").open() as file:
            return int(file.read().split()[1]) * 4096

    for _ in range(50):
        env.simulation.rebuild()
    before = resident()
    for _ in range(200):
        env.simulation.rebuild()
    assert resident() - before < 20e6  # 0.3 MB each, if they stayed


def test_turns_are_scipys() -> None:
    rng = np.random.default_rng(0)
    for _ in range(2000):
        angles = rng.uniform(-0.1, 0.1, 3) * (rng.random(3) < 0.8)
        raw: Any = rng.normal(size=4).astype(np.float32).astype(np.float64)
        quaternion = raw / np.linalg.norm(raw)
        expected = Rotation.from_quat(quaternion) * Rotation.from_euler("xyz", angles)
        assert turned(quaternion, angles) == tuple(expected.as_quat())
