"""The scripted expert: success, grasps beside neighbours, demonstrations, the report."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium", reason="needs the extra 'sim'")
pytest.importorskip("mani_skill", reason="needs the extra 'sim'")

from keystep.suites.franka3blocks import layout  # noqa: E402
from keystep.suites.franka3blocks.demonstrations import rollout_expert  # noqa: E402
from keystep.suites.franka3blocks.expert import ScriptedExpert  # noqa: E402
from keystep.suites.franka3blocks.expert_report import evaluate_expert  # noqa: E402
from keystep.suites.franka3blocks.grasps import HandOffset, clear_grasp  # noqa: E402

STATE = "observation.state"


@pytest.fixture(scope="module")
def env():
    env = gymnasium.make("keystep/Franka3Blocks-v1")
    yield env.unwrapped
    env.close()


@pytest.mark.parametrize("task", ["lift_green", "push_blue_left", "push_red_right", "stack"])
def test_the_expert_succeeds(env, task):
    for seed in range(1000, 1004):
        env.reset(seed=seed, options={"task": task})
        expert = ScriptedExpert(env, seed=seed)
        while not env.success and env.elapsed_steps < 360:
            env.step(expert.act())
        assert env.success, f"seed {seed}"


def test_the_grasp_avoids_a_neighbour():
    cubes = np.array([[0.5, 0.0, 0.274], [0.525, 0.06, 0.274], [0.42, -0.09, 0.274]])
    shifted = clear_grasp(0, cubes)
    assert shifted.yaw_rad == 0.0 and shifted.offset_m[0] < 0.0
    assert clear_grasp(2, cubes) == HandOffset()
    cubes[1] = [0.5, 0.055, 0.274]
    assert clear_grasp(0, cubes).yaw_rad != 0.0


def test_a_demonstration_has_every_frame_and_ends_at_home(env):
    demonstration = rollout_expert(env, "lift_blue", seed=1)
    assert demonstration is not None
    assert demonstration[STATE].shape == (64, 26) and demonstration["action"].shape == (64, 7)
    assert demonstration["action"].dtype == np.float32 and np.abs(demonstration["action"]).max() <= 1.0
    step = demonstration["success_step"]
    assert demonstration["success"][step] and not demonstration["success"][:step].any()
    np.testing.assert_allclose(demonstration[STATE][-1, :3], layout.NEUTRAL_HAND_M, atol=0.03)
    replayed = [env.reset(seed=1)[0][STATE]]
    replayed += [env.step(action)[0][STATE] for action in demonstration["action"][:-1]]
    np.testing.assert_array_equal(replayed, demonstration[STATE])
    assert rollout_expert(env, "lift_blue", seed=1, max_frames=10) is None


def test_the_report_counts_tasks_and_families():
    rows = evaluate_expert(("lift_red", "lift_blue"), episodes=2, seed=7)
    assert [row["name"] for row in rows] == ["lift_red", "lift_blue", "all lift"]
    assert [row["episodes"] for row in rows] == [2, 2, 4]
    assert all(row["low"] <= row["success_rate"] <= row["high"] for row in rows)
    with pytest.raises(ValueError, match="episodes: expected at least 1, got 0"):
        evaluate_expert(episodes=0)


def test_a_chained_demonstration_begins_where_another_task_was_just_solved(env: gymnasium.Env) -> None:
    found = {}
    how: dict[str, Any] = {"wander_frames": 12, "record": "executed", "after": "another"}
    for seed in range(40):
        made = rollout_expert(env, "push_red_left", seed, **how)
        if made is None:
            continue
        first = made["observation.state"][0]
        cubes_z = first[[layout.STATE_NAMES.index(f"{color}_z_m") for color in ("red", "green", "blue")]]
        found[seed] = cubes_z.max() > cubes_z.min() + 0.03
        env.reset(seed=seed, options={"task": "push_red_left"})
        assert np.abs(first - env.unwrapped.observation()["observation.state"]).max() > 0.01
        assert len(made["action"]) == 64 and sum(made["success"]) > 5
        if any(found.values()):
            break
    assert any(found.values())  # one began with a cube in the air
    seed = next(seed for seed, held in found.items() if held)
    again = rollout_expert(env, "push_red_left", seed, **how)
    assert again is not None
    held = [again["observation.state"][0], made["observation.state"][0]]
    np.testing.assert_array_equal(*held)


def test_a_held_cube_is_pushed_through_the_air(env: gymnasium.Env) -> None:
    """A push keeps its cube level with where it was: whoever lets go of it has failed."""
    made = [rollout_expert(env, "push_green_right", seed, after="lift_green") for seed in range(6)]
    kept = [episode for episode in made if episode is not None]
    assert kept
    height, side = (layout.STATE_NAMES.index(f"green_{axis}_m") for axis in "zy")
    for episode in kept:
        state = episode["observation.state"]
        assert state[0, height] > layout.CUBE_EDGE_M + 0.08
        solved = state[episode["success_step"] + 1]
        assert abs(solved[height] - state[0, height]) < 0.03 and solved[side] < state[0, side] - 0.06
