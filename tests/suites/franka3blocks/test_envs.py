"""Franka-3Blocks in both simulators: actions, determinism, saving and restoring, bad input, no driver."""

from __future__ import annotations

import numpy as np
import pytest
from simulators import BOTH, V1, needs, run_python

gymnasium = pytest.importorskip("gymnasium", reason="needs the extra 'sim' or 'bullet'")

from keystep.suites.franka3blocks import ACTION_HOLD, STATE_NAMES, layout  # noqa: E402
from keystep.suites.franka3blocks.environment import start_body_state  # noqa: E402
from keystep.suites.franka3blocks.expert import ScriptedExpert  # noqa: E402
from keystep.suites.headless import missing_driver  # noqa: E402

STATE = "observation.state"


@pytest.fixture(scope="module", params=BOTH)
def env_id(request):
    return request.param


@pytest.fixture(scope="module")
def env(env_id):
    env = gymnasium.make(env_id)
    yield env.unwrapped
    env.close()


def play(env, seed, actions):
    states = [env.reset(seed=seed)[0][STATE]]
    states += [env.step(action)[0][STATE] for action in actions]
    return np.stack(states)


def unit(index, sign=1.0):
    action = np.zeros(7, dtype=np.float32)
    action[index] = sign
    return action


# ---- episodes


def test_gymnasium_accepts_the_environment(env):
    from gymnasium.utils.env_checker import check_env

    check_env(env, skip_render_check=True)


def test_reset_describes_the_episode(env):
    observation, info = env.reset(seed=1, options={"task": "push_red_left"})
    assert info["task"] == "push_red_left" and info["success"] is False
    assert info["instruction"] == "Push the red block to the left."
    state = observation[STATE]
    assert state.dtype == np.float32 and state.shape == (len(STATE_NAMES),)
    np.testing.assert_allclose(state[layout.HAND_POSITION], layout.NEUTRAL_HAND_M, atol=1e-3)
    np.testing.assert_allclose(state[layout.HAND_QUATERNION], [1, 0, 0, 0], atol=5e-3)
    np.testing.assert_allclose(state[layout.ARM_JOINTS], layout.START_JOINTS_RAD[:7], atol=1e-3)
    np.testing.assert_array_equal(state[layout.ARM_JOINTS.stop :], [0, 0])
    np.testing.assert_allclose(state[layout.CUBE_POSITIONS][2::3], layout.CUBE_START_Z_M, atol=1e-3)


def test_cubes_start_inside_the_patch_and_apart():
    rng = np.random.default_rng(0)
    for _ in range(200):
        cubes = start_body_state(rng)["cubes"][:, :3]
        gaps = np.linalg.norm(cubes - np.roll(cubes, 1, axis=0), axis=1)
        assert gaps.min() >= layout.CUBE_MIN_DISTANCE_M
        assert (
            (cubes[:, 0] >= 0.41).all() and (cubes[:, 0] <= 0.59).all() and (abs(cubes[:, 1]) <= 0.09).all()
        )


def test_the_same_seed_is_the_same_episode_bit_for_bit(env, env_id):
    actions = np.random.default_rng(0).uniform(-1, 1, (80, 7)).astype(np.float32)
    actions[:, 2] -= 0.4  # into the cubes
    first = play(env, 3, actions)
    play(env, 4, actions[:20])
    other = gymnasium.make(env_id).unwrapped
    np.testing.assert_array_equal(first, play(env, 3, actions))
    np.testing.assert_array_equal(first, play(other, 3, actions))
    assert not np.array_equal(first[0], play(env, 5, [])[0])
    other.close()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_translation_moves_the_hand_along_its_axis(env, axis, sign):
    states = play(env, 0, [unit(axis, sign)] * 6)
    travel = (states[-1] - states[0])[layout.HAND_POSITION]
    assert sign * travel[axis] > 0.08
    assert np.abs(np.delete(travel, axis)).max() < 0.01


@pytest.mark.parametrize(("index", "vector"), [(3, (1, 0, 0)), (4, (0, -1, 0)), (5, (0, 0, -1))])
def test_rotation_turns_the_hand(env, index, vector):
    from scipy.spatial.transform import Rotation

    states = play(env, 0, [unit(index)] * 6)
    start, end = (Rotation.from_quat(state[layout.HAND_QUATERNION]) for state in states[[0, -1]])
    turn = (end * start.inv()).as_rotvec()
    np.testing.assert_allclose(turn, np.array(vector) * np.linalg.norm(turn), atol=0.02)
    assert np.linalg.norm(turn) > 0.15


def test_gripper_plus_one_opens_and_minus_one_closes(env):
    states = play(env, 0, [unit(6)] * 12 + [unit(6, -1.0)] * 12)
    fingers = states[:, layout.FINGER].ravel()
    assert fingers[12] == pytest.approx(layout.FINGER_OPEN_M, abs=1e-3)
    assert fingers[24] == pytest.approx(0.0, abs=1e-3)


def test_the_static_action_holds_still_and_actions_are_clipped(env):
    held = play(env, 0, [ACTION_HOLD] * 30)
    np.testing.assert_allclose(held[-1][layout.HAND_POSITION], held[0][layout.HAND_POSITION], atol=2e-4)
    np.testing.assert_array_equal(play(env, 0, [unit(1)] * 3), play(env, 0, [unit(1, 50.0)] * 3))


def test_truncated_at_the_limit_given_to_make(env_id):
    env = gymnasium.make(env_id, max_episode_steps=4)
    env.reset(seed=0)
    assert [env.step(ACTION_HOLD)[3] for _ in range(4)] == [False, False, False, True]
    env.close()


def test_success_ends_the_episode_or_not_as_asked(env, env_id):
    env.reset(seed=0, options={"task": "lift_red"})
    expert = ScriptedExpert(env)
    terminated = False
    while not terminated:
        _, reward, terminated, truncated, info = env.step(expert.act())
        assert reward == float(info["success"]) == float(terminated) and not truncated
    patient = gymnasium.make(env_id, terminate_on_success=False).unwrapped
    patient.set_state(env.get_state() | {"success": np.array(False)})
    _, reward, terminated, _, info = patient.step(expert.act())
    assert info["success"] and reward == 1.0 and not terminated
    patient.close()


# ---- state


@pytest.mark.parametrize("saved_at", [5, 14, 25])
def test_a_restored_state_continues(env, saved_at):
    env.reset(seed=5, options={"task": "lift_red"})
    expert, actions, states = ScriptedExpert(env), [], []
    for step in range(40):
        if step == saved_at:
            saved = env.get_state()
        actions.append(expert.act())
        states.append(env.step(actions[-1])[0][STATE])
    assert env.success

    def resume():
        env.reset(seed=9, options={"task": "stack"})
        _, info = env.set_state(saved)
        assert info["task"] == "lift_red" and info["elapsed_steps"] == saved_at
        return np.stack([env.step(action)[0][STATE] for action in actions[saved_at:]])

    resumed = resume()
    positions = [*range(3), *range(7, 16)]
    np.testing.assert_allclose(resumed[:, positions], np.stack(states)[saved_at:, positions], atol=4e-4)
    assert env.success, "the start of the episode is part of the state"
    np.testing.assert_array_equal(resumed, resume())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joints": np.zeros(7)}, r"state\['joints'\]: expected shape \(9,\), got \(7,\)"),
        ({"cubes": np.full((3, 13), np.nan)}, r"state\['cubes'\]: expected finite values"),
        ({"task": np.array(10)}, r"state\['task'\]: expected an index below 10, got 10"),
        ({"elapsed_steps": None}, r"state\['elapsed_steps'\]: expected numbers, got None"),
        ({"joints": ["a"] * 9}, r"state\['joints'\]: expected numbers, got \['a'"),
        ({"cubes": [[0.0], [0.0, 1.0]]}, r"state\['cubes'\]: expected shape \(3, 13\), got"),
        ({"cubes": np.zeros((3, 13))}, r"state\['cubes'\]: expected quaternions that are not 0, got"),
    ],
)
def test_bad_states_are_refused(env, change, message):
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.set_state(env.get_state() | change)
    with pytest.raises(ValueError, match="expected keys"):
        env.set_state({"joints": np.zeros(9)})


@pytest.mark.parametrize(
    ("place", "intact"), [((0.5, 0.0, 0.3), True), ((0.5, 0.4, 0.3), False), ((0.9, 0, 0.02), False)]
)
def test_a_cube_that_was_flung_away_is_seen(env, place, intact):
    env.reset(seed=0)
    assert env.intact
    state = env.get_state()
    state["cubes"][1, :3] = place
    env.set_state(state)
    assert env.intact is intact


# ---- bad input


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros(6), r"action: expected shape \(7,\), got \(6,\)"),
        (np.zeros((1, 7)), r"action: expected shape \(7,\), got \(1, 7\)"),
        (np.full(7, np.nan), "action: expected finite values, got"),
        (np.full(7, np.inf), "action: expected finite values, got"),
    ],
)
def test_bad_actions_are_refused_and_change_nothing(env, action, message):
    before = env.reset(seed=0)[0][STATE]
    with pytest.raises(ValueError, match=message):
        env.step(action)
    np.testing.assert_array_equal(env.observation()[STATE], before)
    assert env.elapsed_steps == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "fly"}, "task: expected one of lift_red, .*stack, got 'fly'"),
        ({"obs_mode": "depth"}, "obs_mode: expected one of state, rgb, state\\+rgb, got 'depth'"),
        ({"image_size": 0}, "image_size: expected at least 1, got 0"),
    ],
)
def test_bad_construction_is_refused(env_id, arguments, message):
    with pytest.raises(ValueError, match=message):
        gymnasium.make(env_id, **arguments)


def test_bad_reset_options_are_refused(env):
    with pytest.raises(ValueError, match=r"task: expected one of lift_red, .*got 'fly'"):
        env.reset(options={"task": "fly"})
    with pytest.raises(ValueError, match=r"options: expected only 'task', got \['colour'\]"):
        env.reset(options={"colour": "red"})


def test_after_close_nothing_goes_on(env_id):
    env = gymnasium.make(env_id).unwrapped
    env.reset(seed=0)
    state = env.get_state()
    env.close()
    env.close()
    calls = (
        env.reset,
        lambda: env.step(ACTION_HOLD),
        env.get_state,
        lambda: env.set_state(state),
        env.observation,
    )
    for call in calls:
        with pytest.raises(gymnasium.error.ClosedEnvironmentError, match="env: expected an open one"):
            call()


# ---- rendering, and doing without


def test_without_pictures_there_is_none_to_render(env):
    env.reset(seed=0)
    with pytest.raises(ValueError, match="render_mode: expected rgb_array"):
        env.render()


def test_importing_the_package_loads_no_simulator():
    loaded = "sorted({'torch', 'mani_skill', 'sapien', 'pybullet'} & set(sys.modules))"
    code = f"import sys, keystep.suites.franka3blocks; print({loaded})"
    assert run_python(code).stdout.strip() == "[]"


def test_state_mode_needs_no_driver(env, env_id):
    code = f"""
import gymnasium, numpy, keystep.suites.franka3blocks
env = gymnasium.make("{env_id}")
env.reset(seed=3)
print(env.step(numpy.ones(7, dtype=numpy.float32))[0]["{STATE}"].tobytes().hex())
"""
    result = run_python(code, VK_ICD_FILENAMES="/nonexistent.json", VK_DRIVER_FILES="/nonexistent.json")
    assert result.returncode == 0, result.stderr
    env.reset(seed=3)
    expected = env.step(np.ones(7, dtype=np.float32))[0][STATE]
    np.testing.assert_array_equal(np.frombuffer(bytes.fromhex(result.stdout), dtype=np.float32), expected)


@needs(V1)
def test_rgb_mode_says_what_it_lacks():
    code = f"""
import gymnasium, keystep.suites.franka3blocks
try:
    gymnasium.make("{V1}", obs_mode="rgb")
except RuntimeError as error:
    print(error)
"""
    result = run_python(code, VK_ICD_FILENAMES="/nonexistent.json", VK_DRIVER_FILES="/nonexistent.json")
    assert "expected a Vulkan driver" in result.stdout and "scripts/install-vulkan.sh" in result.stdout


def test_rgb_mode_shows_the_scene(env, env_id):
    reason = missing_driver() if env_id == V1 else None
    if reason is not None:
        pytest.skip(f"no Vulkan driver: {reason}")
    rgb = gymnasium.make(env_id, obs_mode="rgb", image_size=64).unwrapped
    observation, _ = rgb.reset(seed=3)
    image = observation["observation.images.static"]
    assert image.shape == (64, 64, 3) and image.dtype == np.uint8 and image.flags.c_contiguous
    assert rgb.observation_space.contains(observation)
    pixels = image.reshape(-1, 3).astype(int)
    for channel in range(3):
        others = np.delete(pixels, channel, axis=1).max(axis=1)
        assert (pixels[:, channel] > others + 40).sum() >= 5, (
            f"the {layout.CUBES[channel]} cube is not visible"
        )
    np.testing.assert_array_equal(observation[STATE], env.reset(seed=3)[0][STATE])
    np.testing.assert_array_equal(rgb.reset(seed=3)[0]["observation.images.static"], image)
    assert (rgb.step(unit(2))[0]["observation.images.static"] != image).any()
    rgb.close()
