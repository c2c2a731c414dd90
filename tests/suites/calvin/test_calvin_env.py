"""CALVIN's environment around a fake calvin_env: contract, action laws, episodes, and what is missing."""

from __future__ import annotations

import ctypes.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_calvin import ORACLE_TASKS, write_config

pytest.importorskip("gymnasium")
pytest.importorskip("yaml")

import gymnasium

import keystep
from keystep.suites import suite_named
from keystep.suites.calvin import ENV_ID, layout
from keystep.suites.calvin.starts import start_state
from keystep.suites.calvin.tasks import TASKS
from keystep.suites.states import end_state, start_from

START = {"robot_obs": np.zeros(15), "scene_obs": np.zeros(24)}


def made(options: dict[str, Any], **more: Any) -> Any:
    return gymnasium.make(ENV_ID, disable_env_checker=True, **(options | more))


def command(**parts: float) -> np.ndarray:
    action = np.zeros(7, np.float32)
    for name, value in parts.items():
        action[layout.ACTION_NAMES["relative"].index(name)] = value
    return action


def test_what_is_seen(calvin: dict[str, Any]) -> None:
    env = made(calvin)
    seen, info = env.reset(seed=1)
    assert {key: (value.dtype.name, value.shape) for key, value in seen.items()} == {
        "observation.state": ("float32", (15,)),
        "observation.scene": ("float32", (24,)),
        "observation.images.static": ("uint8", (200, 200, 3)),
        "observation.images.gripper": ("uint8", (84, 84, 3)),
    }
    assert seen in env.observation_space and env.render() is env.unwrapped._seen["static"]
    assert env.metadata["render_fps"] == 30 and env.unwrapped.max_episode_steps == 360
    assert info["instruction"] == f"unseen of {info['task']}" and not info["success"]
    assert set(made(calvin, obs_mode="state").reset(seed=1)[0]) == {"observation.state", "observation.scene"}
    small = made(calvin, image_size=12).reset(seed=1)[0]
    assert (
        small["observation.images.static"].shape == small["observation.images.gripper"].shape == (12, 12, 3)
    )


def test_relative_actions_move_the_target(calvin: dict[str, Any]) -> None:
    env = made(calvin, obs_mode="state")
    env.reset(seed=1, options=START)
    for _ in range(3):
        seen = env.step(command(dx=0.5, dy=-2.0))[0]["observation.state"]  # clipped to -1
    np.testing.assert_allclose(seen[:3], [0.03, -0.06, 0], atol=1e-7)
    still = env.step(command())[0]["observation.state"]
    np.testing.assert_array_equal(still, seen)
    assert layout.ACTION_LAW["relative"] == ("relative",) * 6 + ("absolute",)


def test_the_gripper_obeys_signs_and_keeps_its_command_at_zero(calvin: dict[str, Any]) -> None:
    env = made(calvin, obs_mode="state")
    env.reset(seed=1, options={**START, "robot_obs": np.append(np.zeros(14), -1.0)})
    told = [env.step(command(gripper=value))[0]["observation.state"][14] for value in (0, 0.2, 0, -0.1, 0)]
    assert told == [-1, 1, 1, -1, -1]
    seen = env.reset(options=START | {"robot_obs": np.append(np.zeros(14), 1.0)})[0]
    assert seen["observation.state"][14] == 1  # not that of the last episode


def test_absolute_actions_are_the_target(calvin: dict[str, Any]) -> None:
    env = made(calvin, obs_mode="state", actions="absolute")
    env.reset(seed=1, options=START)
    seen = env.step(np.array([0.1, 0.2, 0.6, 3, 0, 1.5, 1], np.float32))[0]["observation.state"]
    np.testing.assert_allclose(seen[:3], [0.1, 0.2, 0.6], atol=1e-7)
    assert (
        env.action_space.high[3] == np.float32(np.pi) and layout.ACTION_LAW["absolute"] == ("absolute",) * 7
    )
    with pytest.raises(ValueError, match="action: expected finite values"):
        env.step(np.full(7, np.nan))


def test_success_is_the_oracles_on_start_and_now(calvin: dict[str, Any]) -> None:
    env = made(calvin, obs_mode="state")
    env.reset(seed=1, options=START | {"task": "open_drawer"})
    for step in range(1, 10):
        _, reward, terminated, _, info = env.step(command(dy=-0.9, gripper=-1))
        assert info["success"] == terminated == bool(reward) == (step * 0.018 > 0.12)
        if terminated:
            break
    assert step == 7 and info["elapsed_steps"] == 7
    # The open drawer is the start of the next task: it is not solved again.
    _, info = env.unwrapped.set_task("open_drawer")
    assert (info["elapsed_steps"], info["success"]) == (0, False)
    assert not env.step(command(dy=-0.9, gripper=-1))[4]["success"]
    assert env.unwrapped.set_task("turn_on_led")[1]["task"] == "turn_on_led"


def test_a_limit_truncates(calvin: dict[str, Any]) -> None:
    env = made(calvin, obs_mode="state", max_episode_steps=2)
    env.reset(seed=1)
    assert [env.step(command())[3] for _ in range(2)] == [False, True]


def test_resets_by_seed(calvin: dict[str, Any]) -> None:
    env = made(calvin, obs_mode="state", sentences="training")
    for task in ("move_slider_left", "lift_red_block_slider", "place_in_drawer"):
        first, told = env.reset(seed=3, options={"task": task})
        again, told_again = env.reset(seed=3, options={"task": task})
        assert told == told_again and told["instruction"].startswith("training ")
        for key in first:
            np.testing.assert_array_equal(first[key], again[key])
    for seed in range(8):
        scene = env.reset(seed=seed, options={"task": "move_slider_left"})[0]["observation.scene"]
        assert scene[0] == 0  # where the task makes sense: the slider is right
    scenes = [env.reset(seed=seed)[0]["observation.scene"].tobytes() for seed in range(8)]
    assert len(set(scenes)) > 4


def test_a_state_continues_the_episode(calvin: dict[str, Any]) -> None:
    env, other = made(calvin, obs_mode="state"), made(calvin, obs_mode="state")
    env.reset(seed=1, options=START | {"task": "open_drawer"})
    for _ in range(4):
        env.step(command(dy=-0.9, gripper=-1))
    state = env.unwrapped.get_state()
    other.reset(seed=9)
    seen, info = other.unwrapped.set_state({name: value.tolist() for name, value in state.items()})
    np.testing.assert_array_equal(seen["observation.scene"], env.unwrapped.observation()["observation.scene"])
    assert (info["task"], info["elapsed_steps"]) == ("open_drawer", 4)
    solved = [
        [world.step(command(dy=-0.9, gripper=-1))[4]["success"] for _ in range(3)] for world in (env, other)
    ]
    assert solved == [[False, False, True]] * 2
    with pytest.raises(keystep.ArgumentError, match="state: expected keys robot_obs"):
        other.unwrapped.set_state({})
    with pytest.raises(keystep.ArgumentError, match=r"state\['task'\]: expected a number below 34, got 34"):
        other.unwrapped.set_state(state | {"task": 34})
    for value in ("open", None, [[1], [2, 3]]):
        with pytest.raises(keystep.ArgumentError, match=r"state\['robot_obs'\]: expected finite numbers"):
            other.unwrapped.set_state(state | {"robot_obs": value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "fly"}, "task: expected one of rotate_red_block_right"),
        ({"setting": 0}, "options.setting: expected none without settings=FILE"),
        ({"chain": 0}, "options.chain: expected none without sequences=FILE"),
        ({"robot_obs": np.zeros(15)}, r"options: expected task, and one of: .*, got \['robot_obs'\]"),
        ({"colour": 1}, r"options: .* got \['colour'\]"),
        (START | {"scene_obs": np.zeros(23)}, "scene_obs: expected 24 finite numbers"),
        (START | {"robot_obs": np.full(15, np.inf)}, "robot_obs: expected 15 finite numbers"),
    ],
)
def test_options_that_are_none(calvin: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(keystep.ArgumentError, match=message):
        made(calvin, obs_mode="state").reset(options=options)


def remove(path: Path) -> None:
    path.rename(path.with_name(f"{path.name}.away"))


def rewrite(path: Path, text: str) -> None:
    path.write_text(text)


ORACLE = "conf/tasks/new_playtable_tasks.yaml"
SENTENCES = "../calvin_models/conf/annotations"


@pytest.mark.parametrize(
    ("damage", "options", "message"),
    [
        (None, {"dataset": None}, "dataset: expected a split of CALVIN's data, .* got none"),
        (None, {"dataset": "nowhere"}, r"dataset: expected a folder with .hydra/merged_config.yaml"),
        (None, {"renderer": "egl"}, "renderer: expected cpu, as the dataset's configuration says, got 'egl'"),
        (None, {"renderer": "vulkan"}, "renderer: expected egl or cpu, got 'vulkan'"),
        (None, {"actions": "joint"}, "actions: expected relative or absolute, got 'joint'"),
        (None, {"obs_mode": "depth"}, "obs_mode: expected state or rgb"),
        (None, {"image_size": 0}, "image_size: expected 1 to 1024 pixels, got 0"),
        (None, {"image_size": "96"}, "image_size: expected 1 to 1024 pixels, got '96'"),
        (None, {"expected": "abc"}, "expected: expected hashes by name, got 'abc'"),
        (None, {"task": "fly"}, "task: expected one of"),
        (None, {"settings": "no.json"}, "settings: expected a file .keystep calvin settings makes one"),
        (None, {"sequences": "no.json"}, "sequences: expected a file .keystep calvin sequences makes one"),
        (None, {"oracle": "no.yaml"}, "oracle: expected a file like CALVIN's new_playtable_tasks.yaml"),
        (
            None,
            {"expected": {"oracle": "00"}},
            "expected.oracle: expected '00', got '.*scores would not compare",
        ),
        (None, {"expected": {"weather": "00"}}, "expected: expected some of renderer, actions, calvin_env"),
        (lambda c: remove(c / "data"), {}, "assets: expected calvin_env's data folder"),
        (lambda c: remove(c / ORACLE), {}, "oracle: expected CALVIN's new_playtable_tasks.yaml, in an"),
        (lambda c: rewrite(c / ORACLE, "{"), {}, "new_playtable_tasks.yaml: expected a YAML file"),
        (lambda c: rewrite(c / ORACLE, "tasks: {fly: [x]}"), {}, "tasks: expected CALVIN's 34, got 1"),
        (lambda c: remove(c / SENTENCES), {}, "unseen_sentences: expected CALVIN's new_playtable_validation"),
        (
            lambda c: rewrite(c / f"{SENTENCES}/new_playtable_validation.yaml", "open_drawer: []"),
            {},
            "rotate_red_block_right: expected a list of sentences, got None",
        ),
        (
            lambda c: rewrite(c / "calvin_env/envs/tasks.py", "import no_such_module"),
            {},
            "calvin_env.envs.tasks: expected a module that can be imported, got No module named",
        ),
        (
            lambda c: rewrite(c / "calvin_env/__init__.py", "FAULTS = {'raises': 1}"),
            {},
            "calvin_env: expected an environment of .*RuntimeError: no such mesh",
        ),
        (
            lambda c: rewrite(c / "calvin_env/__init__.py", "FAULTS = {'sorted': 1}"),
            {},
            "calvin_env: doors: expected base__slide, base__drawer in this order .*, got base__drawer",
        ),
        (
            lambda c: rewrite(c / "calvin_env/__init__.py", "FAULTS = {'exits': 1}"),
            {},
            "EGL: expected a graphics driver that PyBullet's EGL plugin loads with",
        ),
    ],
)
def test_what_is_missing_is_named(
    checkout: Path, calvin: dict[str, Any], damage: Any, options: dict[str, Any], message: str
) -> None:
    if damage is not None:
        damage(checkout)
    with pytest.raises(keystep.ArgumentError, match=message) as caught:
        made(calvin, **options)
    assert "\n" not in str(caught.value)


def test_an_observation_that_is_not_there(checkout: Path, calvin: dict[str, Any]) -> None:
    rewrite(checkout / "calvin_env/__init__.py", "FAULTS = {'without': 'scene_obs'}")
    with pytest.raises(keystep.ArgumentError, match="calvin_env: scene_obs: expected among its observations"):
        made(calvin).reset()


def test_no_calvin_env(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "calvin_env" not in path])
    with pytest.raises(
        keystep.ArgumentError, match=r"calvin_env: expected an installed package .*, got none"
    ):
        made({})


def test_no_egl(calvin: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(Path(calvin["dataset"]), egl=True)
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    with pytest.raises(keystep.ArgumentError, match=r"EGL: expected a graphics driver with libEGL"):
        made(calvin | {"renderer": "egl"})
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: "libEGL.so.1")
    assert made(calvin | {"renderer": "egl"}).unwrapped.calvin.hashes()["renderer"] == "egl"
    with pytest.raises(keystep.ArgumentError, match=r"renderer: expected egl, as .*, got 'cpu'"):
        made(calvin)


def test_the_root_of_a_checkout_tells_where_the_sentences_are(
    checkout: Path, calvin: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout.parent / "calvin_models").rename(checkout.parent.parent / "calvin_models")
    monkeypatch.setenv("CALVIN_ROOT", str(checkout.parent.parent))
    assert made(calvin).reset(seed=0)[1]["instruction"].startswith("unseen of ")


def test_hashes_change_with_what_they_are_of(checkout: Path, calvin: dict[str, Any]) -> None:
    before = made(calvin).unwrapped.calvin.hashes()
    rewrite(checkout / "calvin_env/envs/more.py", "")
    rewrite(checkout / ORACLE, json.dumps({"tasks": ORACLE_TASKS, "more": 1}))
    after = made(calvin).unwrapped.calvin.hashes()
    assert {name for name in before if before[name] != after[name]} == {"calvin_env", "oracle"}
    assert set(before) == {
        "renderer", "actions", "calvin_env", "assets", "config", "oracle", "unseen_sentences"
    }  # fmt: skip


@pytest.mark.parametrize("part", ["sources", "assets", "scene"])
def test_a_state_of_another_calvin_is_refused(checkout: Path, calvin: dict[str, Any], part: str) -> None:
    """The states of one world are known by its sources, its assets, and the scene of its configuration."""
    first = made(calvin, obs_mode="state").unwrapped
    first.reset(seed=1)
    kept = json.loads(json.dumps(end_state(first)))
    start_from(made(calvin, obs_mode="state").unwrapped, kept, "open_drawer")
    if part == "sources":
        rewrite(checkout / "calvin_env/envs/more.py", "")
    elif part == "assets":
        rewrite(checkout / "data/plane.urdf", "<robot/>")
    else:
        config = Path(calvin["dataset"]) / ".hydra/merged_config.yaml"
        rewrite(config, json.dumps(json.loads(config.read_text()) | {"scene": {"name": "calvin_scene_A"}}))
    other = made(calvin, obs_mode="state").unwrapped
    with pytest.raises(ValueError, match=r"end_state: expected a state of keystep/CALVIN-v0 \(calvin_env, "):
        start_from(other, kept, "open_drawer")
    recorded = {"world": {name: kept["world"][name] for name in ("env_id", "simulator")}, **kept}
    recorded["world"].pop("source", None)
    if part != "scene":  # frames do not tell which calvin_env recorded them
        start_from(other, recorded, "open_drawer")


def test_the_rest_of_a_configuration_may_differ(calvin: dict[str, Any]) -> None:
    before = made(calvin).unwrapped
    config = Path(calvin["dataset"]) / ".hydra/merged_config.yaml"
    rewrite(config, json.dumps(json.loads(config.read_text()) | {"seed": 3, "cameras": {"static": {}}}))
    assert made(calvin).unwrapped.simulator == before.simulator


def test_nothing_before_a_reset(calvin: dict[str, Any]) -> None:
    env = made(calvin, obs_mode="state").unwrapped
    for call in (env.get_state, lambda: env.set_task("open_drawer"), lambda: env.step(command())):
        with pytest.raises(gymnasium.error.ResetNeeded, match="env: expected a reset before anything else"):
            call()


def test_sentences_are_the_users(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = suite_named("calvin")
    assert suite.phrasings("open_drawer")[0] == suite.instruction("open_drawer") == "open drawer"
    assert len(suite.phrasings("open_drawer")) == 4 and suite.held_out("open_drawer") == (
        "unseen of open_drawer",
    )
    remove(checkout.parent / "calvin_models")
    with pytest.raises(
        keystep.ArgumentError, match=r"training_sentences: expected CALVIN's new_playtable.yaml"
    ):
        suite.phrasings("open_drawer")


def test_families_and_meanings() -> None:
    suite = suite_named("calvin")
    counted = {name: list(suite.families.values()).count(name) for name in suite.families.values()}
    assert counted == {
        "rotate": 6, "push": 6, "slider": 2, "drawer": 2, "lift": 9, "place": 3, "stack": 2, "light": 4
    }  # fmt: skip
    meanings = {tuple(suite.meaning(task).values()) for task in TASKS}
    assert len(meanings) == len(TASKS) == 34
    with pytest.raises(KeyError):
        suite.meaning("fly")


def test_the_start_of_a_chain_is_the_public_ones() -> None:
    """Numbers that calvin_agent's get_env_state_for_initial_condition gives (mees/calvin, fa03f01)."""
    scene = {
        "led": 1, "lightbulb": 1, "slider": "left", "drawer": "open", "red_block": "slider_left",
        "blue_block": "table", "pink_block": "slider_right", "grasped": 0,
    }  # fmt: skip
    robot, obs = start_state(scene)
    assert robot[:3].tolist() == [0.02586889, -0.2313129, 0.5712808]
    np.testing.assert_array_equal(obs[:6], [0.28, 0.22, 0, 0.088, 1, 1])
    assert obs[[6, 12, 18]].tolist() == [-0.240851662, 0.0500000896, 0.070341633]
    assert obs[[11, 17, 23]].tolist() == [1.3345457610943525, 1.8104560851364297, 1.3310484735918147]
