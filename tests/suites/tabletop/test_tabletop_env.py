"""The tabletop environments: ids, spaces, determinism, bad input, time, rest at the start, kinematics."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium", reason="needs the extra 'sim'")
pytest.importorskip("mani_skill", reason="needs the extra 'sim'")

from scipy.spatial.transform import Rotation  # noqa: E402
from tabletop_scenes import cube, digest, played, set_scene, standing  # noqa: E402

from keystep.suites.tabletop import TASKS, env_id, layout  # noqa: E402
from keystep.suites.tabletop.environment import TabletopEnv  # noqa: E402
from keystep.suites.tabletop.objects import COLOURS, area, block  # noqa: E402
from keystep.suites.tabletop.oracle.episodes import play  # noqa: E402

STATE, OBJECTS = "observation.state", "observation.objects"
VARIED = ("Pick", "ThrowAt", "BalanceScale", "SortByTexture")
"""Few bodies and many, some out of reach, areas, a scale."""
HOLD = np.array([0, 0, 0, 0, 0, 0, 1.0])


def part(observation, prefix):
    """The entries of the state whose names begin so."""
    return observation[STATE][[name.startswith(prefix) for name in layout.STATE_NAMES]]


def rows(observation):
    """One dict for each slot."""
    table = observation[OBJECTS].reshape(layout.MAX_BODIES, -1)
    return [dict(zip(layout.OBJECT_NAMES, row, strict=True)) for row in table]


def unit(index, size=1.0):
    action = HOLD.copy()
    action[index] = size
    return action


# ---- ids and spaces


def test_there_are_31_ids():
    found = {name for name in gymnasium.registry if name.startswith("keystep/Tabletop-")}
    assert found == {f"keystep/Tabletop-{task}-v0" for task in TASKS} and len(found) == 31
    assert {env_id(task) for task in TASKS} == found


@pytest.mark.parametrize("task", TASKS)
def test_every_id_makes_its_task(task):
    env = gymnasium.make(env_id(task))
    assert env.spec.kwargs == {"task": task}
    observation, info = env.reset(seed=4)
    assert env.observation_space.contains(observation)
    assert (info["task"], info["success"], info["elapsed_steps"]) == (task, False, 0)
    assert info["instruction"] == env.unwrapped.scenario.prompt != ""
    assert env.unwrapped.max_episode_steps == TASKS[task].max_steps
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    assert env.observation_space.contains(observation) and info["elapsed_steps"] == 1
    assert (reward, terminated, truncated) == (0.0, False, False)
    env.close()


def test_gymnasium_accepts_the_environment():
    from gymnasium.utils.env_checker import check_env

    env = gymnasium.make(env_id("PlaceNextTo"))
    check_env(env.unwrapped, skip_render_check=True)
    env.close()


def test_the_state_is_that_of_the_arm(env):
    set_scene(env, cube("red", 0.5, 0.2))
    rng = np.random.default_rng(0)
    for _ in range(10):
        seen = env.step(rng.uniform(-0.3, 0.3, 7))[0]
        arm, (position, quaternion) = env.simulation.arm, env.simulation.hand_pose()
        positions, speeds = arm.qpos.astype(np.float32), arm.qvel.astype(np.float32)
        np.testing.assert_array_equal(seen[STATE][:18], np.append(positions, speeds))
        np.testing.assert_allclose(part(seen, "hand_")[:3], position, atol=1e-6)
        turn = (
            Rotation.from_quat(part(seen, "hand_q"), scalar_first=True) * Rotation.from_quat(quaternion).inv()
        )
        assert turn.magnitude() < 1e-5
        np.testing.assert_allclose(seen[STATE][25:], hand_twist(env), atol=5e-3)


def hand_twist(env):
    """(6,) velocity and turning of the hand, by the model of its kinematics."""
    model, arm, hand = env.simulation.model, env.simulation.arm, env.simulation.hand.index
    model.compute_full_jacobian(arm.qpos.astype(np.float64))
    twist = model.get_link_jacobian(hand, False) @ arm.qvel  # of the point at the world's origin
    return np.append(twist[:3] + np.cross(twist[3:], env.simulation.hand_pose()[0]), twist[3:])


def test_objects_have_a_row_each(env):
    things = [block("triangle", "cyan"), area("yellow", 0.12), block("hexagon", "black", 0.05, 0.08)]
    places = [(0.4, 0.2), (0.5, 0.0), (0.45, -0.2)]
    observation = set_scene(
        env, *(standing(thing, *at, 0.5) for thing, at in zip(things, places, strict=True))
    )
    filled, empty = rows(observation)[:3], rows(observation)[3:]
    assert all(set(row.values()) == {0.0} for row in empty) and len(empty) == 5
    for thing, (x, y), row in zip(things, places, filled, strict=True):
        assert row["present"] == 1.0
        np.testing.assert_allclose(
            [row["x_m"], row["y_m"], row["z_m"]], [x, y, thing.height_m / 2], atol=1e-3
        )
        np.testing.assert_allclose([row["qw"], row["qz"]], [np.cos(0.25), np.sin(0.25)], atol=1e-3)
        np.testing.assert_allclose([row[f"size_{axis}_m"] for axis in "xyz"], thing.size_m, atol=1e-6)
        assert {name for name in row if name.startswith("is_") and row[name]} == {f"is_{thing.shape}"}
        np.testing.assert_allclose([row[f"colour_{one}"] for one in "rgb"], COLOURS[thing.colour], atol=1e-6)


# ---- determinism


@pytest.fixture(scope="module")
def in_process():
    """Episodes of the varied tasks, each after episodes of other seeds in the same environment."""
    episodes = {}
    for task in VARIED:
        env = TabletopEnv(task)
        first, other = played(env, 11), played(env, 12)
        episodes[task] = (first, other, played(env, 11))
        env.close()
    return episodes


def run_python(code, **environment):
    """What a fresh process prints that may import from this folder."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("task", VARIED)
def test_the_same_seed_is_the_same_episode_bit_for_bit(task, in_process):
    first, other, again = in_process[task]
    assert first == again
    assert first[0] != other[0] and first[-1] != other[-1]
    assert len(set(first)) == len(first)


def test_a_fresh_process_without_a_driver_plays_the_same_and_says_what_pictures_lack(in_process):
    nowhere = {"VK_ICD_FILENAMES": "/nonexistent.json", "VK_DRIVER_FILES": "/nonexistent.json"}
    code = f"""
from keystep.suites.tabletop.environment import TabletopEnv
from tabletop_scenes import digest, played
for task in {VARIED}:
    print(task, digest(played(TabletopEnv(task), 11)))
try:
    TabletopEnv("Pick", obs_mode="rgb")
except RuntimeError as error:
    print(error)
"""
    *lines, message = run_python(code, **nowhere).splitlines()
    expected = {task: digest(in_process[task][0]) for task in VARIED}
    assert dict(line.split() for line in lines) == expected
    assert "expected a Vulkan driver" in message and "scripts/install-vulkan.sh" in message


def test_importing_the_suite_loads_no_simulator():
    code = (
        "import sys, keystep.suites.tabletop.environment, keystep.suites.tabletop.oracle.episodes\n"
        "print(sorted({'torch', 'mani_skill', 'sapien'} & set(sys.modules)))"
    )
    assert run_python(code).strip() == "[]"


# ---- bad input


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros(6), r"action: expected shape \(7,\), got \(6,\)"),
        (np.zeros((1, 7)), r"action: expected shape \(7,\), got \(1, 7\)"),
        (np.append(np.zeros(6), np.nan), "action: expected finite values, got"),
        (np.append(np.zeros(6), -np.inf), "action: expected finite values, got"),
    ],
)
def test_bad_actions_are_refused_and_change_nothing(fresh, action, message):
    before = fresh.observation()[STATE]
    with pytest.raises(ValueError, match=message):
        fresh.step(action)
    np.testing.assert_array_equal(fresh.observation()[STATE], before)
    assert fresh.elapsed_steps == 0


def test_actions_are_clipped(fresh):
    def after(action):
        fresh.reset(seed=3)
        return fresh.step(action)[0][STATE]

    rng = np.random.default_rng(0)
    for _ in range(5):
        action = rng.uniform(-3, 3, 7)
        np.testing.assert_array_equal(after(action), after(action.clip(-1, 1)))
    assert not np.array_equal(after(unit(0, 0.9)), after(unit(0, 1.0)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "fly"}, "task: expected one of Pick, .*ThrowSort, got 'fly'"),
        ({"task": "PickUp"}, "task: expected .*Pick.*, got 'PickUp'"),
        ({"obs_mode": "depth"}, "obs_mode: expected one of state, rgb, state\\+rgb, got 'depth'"),
        ({"render_mode": "human"}, "render_mode: expected None or 'rgb_array', got 'human'"),
        ({"image_size": 15}, "image_size: expected 16 to 1024 pixels, got 15"),
        ({"image_size": 1025}, "image_size: expected 16 to 1024 pixels, got 1025"),
        ({"max_episode_steps": 0}, "max_episode_steps: expected at least 1, got 0"),
    ],
)
def test_bad_construction_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TabletopEnv(**({"task": "Pick"} | arguments))


def test_there_are_no_options_and_no_picture_unless_asked_for(fresh):
    with pytest.raises(ValueError, match=r"options: expected none, got \['task'\]"):
        fresh.reset(seed=0, options={"task": "Pick"})
    with pytest.raises(RuntimeError, match="render: expected obs_mode 'rgb' or render_mode 'rgb_array'"):
        fresh.render()


# ---- time and success


def test_truncated_at_the_limit_given():
    env = gymnasium.make(env_id("Swap"), max_episode_steps=4)
    for seed in (0, 1):
        env.reset(seed=seed)
        assert [env.step(HOLD)[3] for _ in range(4)] == [False, False, False, True]
    env.close()


def test_truncated_at_the_limit_of_the_task(fresh):
    truncated = [fresh.step(HOLD)[3] for _ in range(TASKS["Pick"].max_steps)]
    assert truncated == [False] * (len(truncated) - 1) + [True]


def test_success_ends_the_episode_or_not_as_asked(fresh):
    actions = []
    assert play(fresh, 0, lambda seen, action: actions.append(action)).success
    hasty = TabletopEnv("Pick", terminate_on_success=True)
    ends = []
    for env in (fresh, hasty):
        env.reset(seed=0)
        results = [env.step(action) for action in actions]
        assert all(reward == float(info["success"]) for _, reward, _, _, info in results)
        ends.append(([result[2] for result in results], [result[4]["success"] for result in results]))
    (patient_ends, successes), (hasty_ends, hasty_successes) = ends
    assert successes == hasty_successes == hasty_ends and True in successes and successes[0] is False
    assert not any(patient_ends)
    hasty.close()


# ---- the start


@pytest.mark.parametrize("task", TASKS)
def test_bodies_rest_where_the_scenario_put_them(env, task):
    env.task = TASKS[task]
    for seed in range(4):
        env.reset(seed=seed)
        wanted = np.array([body.position_m for body in env.scenario.bodies])
        assert np.abs(env.world.positions - wanted).max() < 0.002
        for body, quaternion in zip(env.scenario.bodies, env.world.quaternions, strict=True):
            turn = Rotation.from_quat(quaternion, scalar_first=True).as_rotvec() - [0, 0, body.yaw_rad]
            turn[2] = (turn[2] + np.pi) % (2 * np.pi) - np.pi
            assert np.abs(turn).max() < 0.01
        assert env.world.speeds.max() < layout.STATIC_SPEED_M_S
        assert env.world.turns.max() < layout.STATIC_TURN_RAD_S
        assert not env.success


def test_the_hand_starts_above_the_table_open_and_upright(fresh):
    for seed in range(10):
        seen = fresh.reset(seed=seed)[0]
        np.testing.assert_allclose(part(seen, "joint_")[:7], layout.START_JOINTS_RAD[:7], atol=0.021)
        np.testing.assert_allclose(part(seen, "finger_")[:2], layout.FINGER_OPEN_M, atol=1e-3)
        position, quaternion = fresh.simulation.hand_pose()
        np.testing.assert_allclose(position, layout.HAND_START_M, atol=0.04)
        assert Rotation.from_quat(quaternion).apply([0, 0, 1])[2] < -0.99
