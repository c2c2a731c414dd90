"""CALVIN's recordings to a dataset: exact, resumable, and refused by file and field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_calvin import frame, write_annotations, write_split

from keystep import cli
from keystep.data import DatasetError, DatasetReader
from keystep.data.check import check_dataset
from keystep.suites.calvin import layout
from keystep.suites.calvin.convert import convert_calvin

FRAMES = {0: range(3, 9), 1: range(6, 12), 2: range(20, 24)}
"""Of each episode, see conftest."""


def test_segments_become_episodes(split: Path, tmp_path: Path) -> None:
    report = convert_calvin(split, tmp_path / "d")
    assert (report.episodes, report.written) == (3, 3)
    found = {task: count for task, count in report.per_task.items() if count}
    assert found == {"open_drawer": 2, "turn_on_led": 1} and len(report.per_task) == 34
    reader = DatasetReader(tmp_path / "d")
    assert reader.info["fps"] == 30
    told = [(e.task, e.instruction, e.extras["sentence"], e.extras["frames"]) for e in reader.episodes()]
    assert told == [
        ("open_drawer", "open drawer", "words 0 for open_drawer", [3, 9]),
        ("turn_on_led", "turn on led", "words 1 for turn_on_led", [6, 12]),
        ("open_drawer", "open drawer", "words 2 for open_drawer", [20, 24]),
    ]
    names = {"observation.state": "robot_obs", "observation.scene": "scene_obs", "action": "rel_actions"}
    names |= {f"observation.images.{camera}": f"rgb_{camera}" for camera in layout.CAMERAS}
    assert set(names) == {key for key in reader.features if key.startswith(("observation", "action"))}
    for episode, numbers in FRAMES.items():
        columns = reader.read_episode(reader.episode(episode))
        for key, name in names.items():
            wanted = np.stack([frame(number)[name] for number in numbers])
            np.testing.assert_array_equal(columns[key], wanted.astype(columns[key].dtype), err_msg=key)


def test_the_dataset_is_sound_and_says_the_law(split: Path, tmp_path: Path) -> None:
    convert_calvin(split, tmp_path / "d", images=False)
    assert check_dataset(tmp_path / "d") == []
    reader = DatasetReader(tmp_path / "d")
    assert reader.collection["suite"] == "calvin" and not reader.image_keys
    action = reader.collection["action"]
    assert action["law"] == ["relative"] * 6 + ["absolute"] and action["hold"] == [0] * 7
    assert (action["min"], action["max"]) == ([-1] * 7, [1] * 7)
    assert action["units"][3] == "0.05 rad" and action["units"][6] == "+1 opens, -1 closes"


def test_absolute_actions_and_other_sizes(split: Path, tmp_path: Path) -> None:
    convert_calvin(split, tmp_path / "d", "absolute", image_size=9, tasks=["open_drawer"], per_task=1)
    reader = DatasetReader(tmp_path / "d")
    assert [episode.task for episode in reader.episodes()] == [
        "open_drawer"
    ] and "action" not in reader.collection
    columns = reader.read_episode(reader.episode(0))
    np.testing.assert_array_equal(columns["action"], np.float32([frame(n)["actions"] for n in FRAMES[0]]))
    for camera in layout.CAMERAS:
        assert columns[f"observation.images.{camera}"].shape == (6, 9, 9, 3)
        assert set(columns[f"observation.images.{camera}"][:, 4, 4, 0]) == set(FRAMES[0])


@pytest.mark.parametrize(
    ("actions", "hold", "law"),
    [
        ("relative", {"mode": "values", "values": [0] * 7}, ["relative"] * 6 + ["absolute"]),
        ("absolute", {"mode": "last"}, ["absolute"] * 7),
    ],
)
def test_training_takes_its_actions(split: Path, tmp_path: Path, actions: Any, hold: Any, law: Any) -> None:
    choices = pytest.importorskip("keystep.train.actions").ActionChoices
    convert_calvin(split, tmp_path / "d", actions, images=False)
    spec = choices(DatasetReader(tmp_path / "d")).spec
    assert (spec["hold"], spec["law"]) == (hold, law)


def test_an_end_state_is_where_an_environment_goes_on(
    checkout: Path, calvin: dict[str, Any], split: Path, tmp_path: Path
) -> None:
    gymnasium = pytest.importorskip("gymnasium")
    from keystep.suites.calvin import ENV_ID

    convert_calvin(split, tmp_path / "d", images=False)
    kept = DatasetReader(tmp_path / "d").episode(1).extras["end_state"]
    env = gymnasium.make(ENV_ID, obs_mode="state", **calvin).unwrapped
    assert kept["world"] == {"env_id": env.spec.id, "simulator": env.simulator}
    seen, info = env.set_state(kept["state"])
    np.testing.assert_array_equal(seen["observation.scene"], np.float32(frame(11)["scene_obs"]))
    np.testing.assert_array_equal(seen["observation.state"][:14], np.float32(frame(11)["robot_obs"])[:14])
    assert info["task"] == "turn_on_led" and info["success"]
    assert set(kept["state"]) == set(env.get_state())


def test_it_goes_on_where_it_stopped(split: Path, tmp_path: Path) -> None:
    lost = split / "episode_0000022.npz"
    content = lost.read_bytes()
    lost.unlink()
    with pytest.raises(DatasetError, match=r"episode_0000022.npz: expected a frame, found none"):
        convert_calvin(split, tmp_path / "d")
    assert len(DatasetReader(tmp_path / "d")) == 2
    lost.write_bytes(content)
    report = convert_calvin(split, tmp_path / "d")
    assert (report.episodes, report.written) == (3, 1)
    assert convert_calvin(split, tmp_path / "d").written == 0
    convert_calvin(split, tmp_path / "whole")
    both = [DatasetReader(tmp_path / name) for name in ("d", "whole")]
    assert both[0].sha256() == both[1].sha256()


def test_another_split_is_not_continued(split: Path, tmp_path: Path) -> None:
    convert_calvin(split, tmp_path / "d", images=False)
    with pytest.raises(
        DatasetError, match=r"features.action.names: expected .*'x', .* to resume, got .*'dx'"
    ):
        convert_calvin(split, tmp_path / "d", "absolute", images=False)
    with pytest.raises(DatasetError, match="to resume"):
        convert_calvin(split, tmp_path / "d", images=False, per_task=1)
    write_annotations(split, [("turn_on_led", 6, 12)])
    with pytest.raises(DatasetError, match=r"auto_lang_ann: expected .* to resume"):
        convert_calvin(split, tmp_path / "d", images=False)
    assert len(DatasetReader(tmp_path / "d")) == 3


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "robot_obs",
            np.zeros(16),
            r"robot_obs: expected float32 of shape \(15,\), found float64 of shape \(16,\)",
        ),
        ("scene_obs", None, r"scene_obs: expected float32 of shape \(24,\), found none"),
        ("scene_obs", np.full(24, np.nan), r"scene_obs\[0\]: expected a finite number, found nan"),
        ("rel_actions", np.array([0, 0, np.inf, 0, 0, 0, 1]), r"rel_actions\[2\]: expected a finite number"),
        ("rel_actions", np.full(7, 1e300), r"rel_actions\[0\]: expected a finite number"),
        ("rel_actions", np.array(["a"] * 7), r"rel_actions: expected float32 of shape \(7,\), found <U1"),
        (
            "rgb_static",
            np.zeros((200, 200, 3)),
            r"rgb_static: expected uint8 of shape \(200, 200, 3\), found float64",
        ),
        (
            "rgb_gripper",
            np.zeros((84, 83, 3), np.uint8),
            r"rgb_gripper: expected uint8 of shape \(84, 84, 3\)",
        ),
        (
            "scene_obs",
            np.array([{}] * 24),
            r"episode_0000008.npz: expected a file of numpy.savez, got Object",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_bad_fields_are_named(split: Path, tmp_path: Path, field: str, value: Any, message: str) -> None:
    values = frame(8) | {field: value}
    path = split / "episode_0000008.npz"
    np.savez(path, **{name: array for name, array in values.items() if array is not None})
    with pytest.raises(DatasetError, match=message) as caught:
        convert_calvin(split, tmp_path / "d")
    assert "episode_0000008.npz" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"words", b"\x93NUMPY"])
def test_damaged_frames_are_named(split: Path, tmp_path: Path, content: bytes) -> None:
    (split / "episode_0000003.npz").write_bytes(content)
    with pytest.raises(DatasetError, match=r"episode_0000003.npz: expected a file of numpy.savez"):
        convert_calvin(split, tmp_path / "d")


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.9])
def test_a_frame_that_was_cut(split: Path, tmp_path: Path, cut: float) -> None:
    path = split / "episode_0000003.npz"
    path.write_bytes(path.read_bytes()[: int(cut * path.stat().st_size)])
    with pytest.raises(DatasetError, match=r"episode_0000003.npz: "):
        convert_calvin(split, tmp_path / "d")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ["fly"]}, "tasks: expected some of .*, got 'fly'"),
        ({"tasks": ["stack_block"]}, "expected segments of stack_block, got none"),
        ({"actions": "joint"}, "actions: expected relative or absolute, got 'joint'"),
        ({"per_task": 0}, "per_task: expected at least 1, got 0"),
        ({"image_size": 5000}, "image_size: expected at most 1024 pixels, got 5000"),
        ({"max_frames": 5}, r"info.indx\[0\]: expected at most 5 frames \(max_frames\), got 6"),
    ],
)
def test_options_that_are_none(split: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        convert_calvin(split, tmp_path / "d", **options)
    assert not (tmp_path / "d").exists()


def test_folders_that_are_no_split(split: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected a split .* found none \(give one of them\)"):
        convert_calvin(tmp_path, tmp_path / "d")
    with pytest.raises(DatasetError, match="expected a split of CALVIN's data, got"):
        convert_calvin(tmp_path / "nowhere", tmp_path / "d")
    (split / "lang_annotations/auto_lang_ann.npy").unlink()
    with pytest.raises(DatasetError, match=r"expected lang_annotations/auto_lang_ann.npy, found none"):
        convert_calvin(split, tmp_path / "d")
    write_annotations(split, [("fly", 3, 9)])
    with pytest.raises(DatasetError, match=r"language.task\[0\]: expected a task of CALVIN, got 'fly'"):
        convert_calvin(split, tmp_path / "d")


def test_the_command(split: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.run(["calvin", "convert", str(split), str(tmp_path / "d"), "--no-images"]) == 0
    assert "3 episodes in the dataset, 3 of them new" in capsys.readouterr().out
    assert cli.run(["calvin", "convert", str(tmp_path), str(tmp_path / "e")]) == 2
    assert "expected a split of CALVIN's data" in capsys.readouterr().err


def test_five_digits_and_annotations_beside_the_frames(tmp_path: Path) -> None:
    split = write_split(tmp_path / "s", [("open_drawer", 0, 2)])
    for path in split.glob("episode_*.npz"):
        path.rename(path.with_name(path.name.replace("episode_00", "episode_")))
    (split / "lang_annotations/auto_lang_ann.npy").rename(split / "auto_lang_ann.npy")
    assert convert_calvin(split, tmp_path / "d", images=False).episodes == 1
