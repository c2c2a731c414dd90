"""Franka-3Blocks in PyBullet: what it needs, exact continuations, several worlds at once, commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from simulators import BULLET, V1, needs, run_python

gymnasium = pytest.importorskip("gymnasium", reason="needs the extra 'bullet'")

from keystep import cli  # noqa: E402
from keystep.suites.franka3blocks import layout  # noqa: E402
from keystep.suites.franka3blocks.demonstrations import rollout_expert  # noqa: E402
from keystep.suites.franka3blocks.expert import ScriptedExpert  # noqa: E402
from keystep.suites.franka3blocks.registered import needs_driver  # noqa: E402
from keystep.suites.franka3blocks.simulators import NO_BULLET  # noqa: E402

pytestmark = needs(BULLET)
STATE = "observation.state"
SHIPPED = Path(__file__).parents[3] / "bundles" / "franka3blocks-state.keystep"
SIMULATOR = ("mani_skill", "sapien")
OTHER_EXTRAS = (*SIMULATOR, "torch", "diffusers", "transformers", "accelerate", "safetensors", "onnx")


def made():
    return gymnasium.make(BULLET).unwrapped


@pytest.fixture(scope="module")
def env():
    env = made()
    yield env
    env.close()


# ---- what it needs


def test_neither_maniskill_nor_a_driver_is_needed():
    """An episode of the expert and a picture, and every one of its modules."""
    code = f"""
import gymnasium, numpy, pkgutil, sys
import keystep.suites.franka3blocks
from keystep.suites.franka3blocks.demonstrations import rollout_expert
env = gymnasium.make("{BULLET}", obs_mode="rgb", image_size=32)
frames = rollout_expert(env, "push_red_left", 1)
assert frames["success"].any() and frames["observation.images.static"].shape == (64, 32, 32, 3)
print(sorted(name for name in sys.modules if name.startswith({SIMULATOR}) and sys.modules[name]))
"""
    no_driver = {"VK_ICD_FILENAMES": "/nonexistent.json", "VK_DRIVER_FILES": "/nonexistent.json"}
    result = run_python(code, without=SIMULATOR, **no_driver)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["expert", "--episodes", "1", "--env", BULLET],
        ["collect", "--episodes", "1", "--output", "d", "--env-id", BULLET],
    ],
)
def test_without_pybullet_one_line_names_the_extra(tmp_path, arguments):
    code = (
        f"import os; os.chdir({str(tmp_path)!r})\nfrom keystep import cli; sys.exit(cli.run({arguments!r}))"
    )
    result = run_python(code, without=("pybullet",))
    assert result.returncode != 0
    assert result.stderr.strip() == f"error: {NO_BULLET}" and "keystep[bullet]" in NO_BULLET


def test_pictures_of_maniskill_alone_need_a_driver():
    assert needs_driver(V1) and not needs_driver(BULLET)


@pytest.mark.parametrize("env_id", [V1, BULLET])
def test_an_id_means_one_simulator(env_id):
    with pytest.raises(TypeError, match="simulator"):
        gymnasium.make(env_id, simulator="bullet")


@pytest.mark.parametrize("command", ["eval", "collect", "plans"])
def test_the_extra_has_all_that_its_commands_need(tmp_path, command):
    """Without what only other extras bring."""
    bundle, output = [str(SHIPPED), "--env", BULLET], ["--output", str(tmp_path / "d")]
    short = ["--episodes", "1", "--tasks", "lift_red"]
    arguments = {
        "eval": [*bundle, *short, "--max-episode-steps", "2"],
        "collect": ["--env-id", BULLET, *short, *output],
        "plans": [*bundle, "--task", "lift_red", "--no-video", *output],
    }[command]
    code = f"from keystep import cli; sys.exit(cli.run({[command, *arguments]!r}))"
    result = run_python(code, without=OTHER_EXTRAS)
    assert result.returncode == 0, result.stderr


# ---- exactness


def held_at(env, steps):
    """The state of an episode in which the expert has taken so many steps."""
    env.reset(seed=5, options={"task": "stack"})
    expert = ScriptedExpert(env, seed=5)
    for _ in range(steps):
        env.step(expert.act())
    return env.get_state()


@pytest.mark.parametrize("steps", [5, 17, 30, 60])
def test_what_happened_before_does_not_change_a_continuation(env, steps):
    """Contacts, bounds of bodies and targets of motors that are left over would show in the last bits."""
    saved = held_at(env, steps)
    rng = np.random.default_rng(steps)
    actions = rng.uniform(-1, 1, (30, 7)).astype(np.float32)
    actions[:, 2] -= 0.3  # into the cubes

    def continued(world):
        world.set_state(saved)
        seen = [np.concatenate([world.step(action)[0][STATE], *world.scene().cubes]) for action in actions]
        return np.stack(seen), world.get_state()

    fresh = made()
    expected, ending = continued(fresh)
    for wandered in range(4):
        env.reset(seed=wandered)
        for _ in range(10 * wandered):
            env.step(rng.uniform(-1, 1, 7))
        states, reached = continued(env)
        np.testing.assert_array_equal(states, expected)
        for name, value in ending.items():
            np.testing.assert_array_equal(reached[name], value)
    fresh.close()


def test_a_hand_in_the_air_continues_exactly(env):
    """Contacts are all that a state lacks; the pose of the hand, which lags by a step, is made again."""
    saved = held_at(env, 4)
    action = np.array([0.5, -0.5, 0.3, 0.2, 0.1, -0.3, 1.0], np.float32)
    uninterrupted = [env.observation(), *(env.step(action)[0] for _ in range(6))]
    resumed = [env.set_state(saved)[0], *(env.step(action)[0] for _ in range(6))]
    hands = [[seen[STATE][:7] for seen in run] for run in (uninterrupted, resumed)]
    np.testing.assert_array_equal(*hands)


def test_worlds_of_one_process_do_not_disturb_each_other(env):
    actions = np.random.default_rng(0).uniform(-1, 1, (25, 7)).astype(np.float32)
    actions[:, 2] -= 0.4
    alone = [env.reset(seed=1)[0][STATE], *(env.step(action)[0][STATE] for action in actions)]
    first, second = made(), made()
    states = [first.reset(seed=1)[0][STATE]]
    second.reset(seed=2)
    for number, action in enumerate(actions):
        second.step(-action)
        states.append(first.step(action)[0][STATE])
        if number == 12:
            second.close()
            second = made()
            second.reset(seed=number)
    np.testing.assert_array_equal(states, alone)
    first.close()
    first.close()  # as gymnasium allows
    second.close()


# ---- physics


def test_a_pose_that_was_told_is_the_callers(env):
    env.reset(seed=0)
    told = env.simulation.hand_pose()
    kept = [value.copy() for value in told]
    for value in told:
        value += 0.1
    for value, again in zip(kept, env.simulation.hand_pose(), strict=True):
        np.testing.assert_array_equal(value, again)


def test_forces_and_contacts_are_felt(env):
    env.reset(seed=3, options={"task": "lift_green"})
    expert = ScriptedExpert(env, seed=3)
    assert not env.simulation.finger_forces(1).any() and env.simulation.touching_cubes() == frozenset()
    while not env.success:
        env.step(expert.act())
    assert (env.simulation.finger_forces(1) > 0.5).all()
    assert not env.simulation.finger_forces(0).any() and not env.simulation.finger_forces(2).any()
    env.reset(seed=3, options={"task": "stack"})
    expert = ScriptedExpert(env, seed=3)
    while not env.success:
        env.step(expert.act())
    assert len(env.simulation.touching_cubes()) >= 1


def test_cubes_fall_with_gravity_and_rest_on_the_table(env):
    env.reset(seed=0)
    state = env.get_state()
    state["cubes"][0, :3] = [0.5, 0.3, 0.45]
    state["cubes"][0, 7:] = 0.0
    env.set_state(state)
    env.simulation.advance(24)  # 0.1 s, with damping
    fallen = 0.45 - env.scene().cubes[0, 2]
    assert fallen == pytest.approx(0.5 * 9.81 * 0.1**2, rel=0.08)
    env.simulation.advance(240)
    assert env.scene().cubes[0, 2] == pytest.approx(layout.CUBE_START_Z_M, abs=1e-3)


@pytest.mark.parametrize("task", ["lift_red", "push_green_right", "stack"])
def test_the_expert_makes_demonstrations(env, task):
    """The original's expert: 295 of 300, stack 26 of 30, first success at a median of step 31 to 34."""
    demonstrations = [rollout_expert(env, task, seed) for seed in range(4)]
    solved = [found["success_step"] for found in demonstrations if found is not None]
    assert len(solved) >= 3
    assert 28 <= np.median(solved) <= 42


def test_without_noise_what_the_expert_wants_is_what_is_done(env):
    """So plain `keystep collect` and its preset `paper` make the same demonstrations."""
    both = [rollout_expert(env, "push_blue_left", 2, record=record) for record in ("expert", "executed")]
    assert both[0] is not None and both[1] is not None
    for key in (STATE, "action"):
        np.testing.assert_array_equal(both[0][key], both[1][key])


def test_a_demonstration_ends_on_the_way_home(env):
    """The last actions lead to the neutral place with open fingers; whether it is reached is not asked."""
    found = rollout_expert(env, "push_red_left", 1)
    assert found is not None
    left = layout.NEUTRAL_HAND_M - found[STATE][-1, :3]
    assert found["action"][-1, 6] == 1.0
    far = np.abs(left) > 0.005
    assert far.any() and ((found["action"][-1, :3] * left)[far] >= 0.0).all()


# ---- commands


@pytest.mark.parametrize("subgoals", ["policy", "ground_truth"])
def test_eval_of_the_shipped_bundle(tmp_path, capsys, subgoals):
    """Trained in ManiSkill; three steps, of which the last needs no second plan."""
    path = tmp_path / "r.json"
    options = ["--env", BULLET, "--episodes", "1", "--tasks", "lift_red", "--max-episode-steps", "3"]
    arguments = ["eval", str(SHIPPED), *options, "--subgoals", subgoals, "--json", str(path)]
    assert cli.run(arguments) == 0, capsys.readouterr().err
    report = json.loads(path.read_text())
    assert report["env"] == BULLET
    assert report["tasks"][0]["successes"] == 0


def test_collect_makes_pictures_without_a_driver(tmp_path, capsys):
    pytest.importorskip("pyarrow", reason="needs the extra 'train'")
    from keystep.data import DatasetReader

    options = ["--env-id", BULLET, "--episodes", "1", "--tasks", "lift_red", "--obs-mode", "rgb"]
    arguments = ["collect", "--output", str(tmp_path / "d"), "--image-size", "32", *options]
    assert cli.run(arguments) == 0, capsys.readouterr().err
    reader = DatasetReader(tmp_path / "d")
    assert len(reader) == 1 and reader.features["observation.images.static"].shape == (32, 32, 3)


def test_the_report_of_the_expert(capsys):
    assert cli.run(["expert", "--env", BULLET, "--episodes", "1", "--tasks", "lift_red"]) == 0
    assert "1 / 1" in capsys.readouterr().out
