"""Collecting code: the tabletop suite as a source. A fake oracle stands in for simulator and oracle."""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fake_tabletop
import numpy as np
import pytest

from keystep import cli
from keystep.code.grid import grid_of
from keystep.data import DatasetError, DatasetReader, JoinedDatasets
from keystep.data.check import check_dataset
from keystep.record.collect import collect, collect_from
from keystep.suites import headless
from keystep.suites.tabletop import TASKS, env_id, layout, source
from keystep.suites.tabletop.suite import SUITE


@pytest.fixture(autouse=True)
def fake_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "ENV_ID", fake_tabletop.ENV_ID)
    monkeypatch.setattr(fake_tabletop.FakeTabletop, "opened", {})
    module = fake_tabletop.demonstrations_module()
    monkeypatch.setitem(sys.modules, "keystep.suites.tabletop.oracle.demonstrations", module)
    monkeypatch.setattr(headless, "missing_driver", lambda: None)


def gather(path: Path, *tasks: str, episodes: int = 1, **options: Any) -> DatasetReader:
    """Collects and reads."""
    collect(path, suite="tabletop", tasks=list(tasks), episodes=episodes, **options)
    return DatasetReader(path)


def collected(path: Path) -> Counter[str]:
    return Counter(episode.task for episode in DatasetReader(path).episodes())


def side_file(path: Path, **changes: Any) -> None:
    file = path / "meta/keystep.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def seeds(task: str, first: int, count: int) -> list[int]:
    """Reference: seed + n k + j, those that the fake oracle solves."""
    numbers = range(first + list(TASKS).index(task), 10**6, len(TASKS))
    return [seed for seed in numbers if seed % 3][:count]


@pytest.mark.parametrize("obs_mode", ["state", "rgb"])
def test_what_is_collected_is_what_the_oracle_showed(tmp_path: Path, obs_mode: Any) -> None:
    report = collect(
        tmp_path,
        suite="tabletop",
        tasks=["Swap", "Pick"],
        episodes=3,
        seed=5,
        obs_mode=obs_mode,
        image_size=16,
    )
    assert report.episodes == 6 and check_dataset(tmp_path) == []
    reader = DatasetReader(tmp_path)
    found = [(episode.task, episode.seed) for episode in reader.episodes()]
    assert found == [(task, seed) for task in ("Swap", "Pick") for seed in seeds(task, 5, 3)]
    pictures = {f"observation.images.{camera}" for camera in layout.CAMERAS if obs_mode == "rgb"}
    for episode in reader.episodes():
        env = fake_tabletop.FakeTabletop(episode.task, obs_mode, 16)
        shown = fake_tabletop.demonstrate(env, episode.task, episode.seed or 0)
        assert shown is not None
        assert (episode.instruction, episode.extras) == (shown.prompt, {"names": shown.names})
        frames = reader.read_episode(episode)
        assert set(shown.frames) == set(reader.features) - {
            "timestamp", "frame_index", "episode_index", "index", "task_index"
        }  # fmt: skip
        assert pictures <= set(frames)
        for key, values in shown.frames.items():
            np.testing.assert_array_equal(frames[key], values)


def test_the_side_file_says_how_it_was_collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = gather(tmp_path, "Pick", "Swap", seed=7)
    found = reader.collection
    assert (found["suite"], found["world_version"], found["seed"]) == ("tabletop", layout.VERSION, 7)
    assert (found["obs_mode"], found["extras"]) == ("state", ["names"])
    assert found["tasks"] == [{"name": "Pick"}, {"name": "Swap"}]
    assert found["versions"] == {name: version(name) for name in ("mani_skill", "sapien")}
    assert found["other_versions"] == {name: version(name) for name in ("keystep", "numpy", "scipy")}
    assert found["action"]["names"] == list(layout.ACTION_NAMES)
    assert {len(found["action"][key]) for key in ("units", "min", "max", "hold")} == {7}
    assert reader.info["fps"] == layout.CONTROL_RATE_HZ
    monkeypatch.undo()
    assert all(source.ENV_ID.replace("<Task>", task) == env_id(task) for task in TASKS)


def test_every_row_of_the_task_table_has_frames(tmp_path: Path) -> None:
    reader = gather(tmp_path, "Pick", "Swap", episodes=4)
    prompts = list(dict.fromkeys(episode.instruction for episode in reader.episodes()))
    assert [task["instruction"] for task in reader.tasks] == prompts and len(prompts) > 2
    used = {int(n) for batch in reader.iter_batches(["task_index"]) for n in batch["task_index"]}
    assert used == set(range(len(prompts)))


def test_a_controller_is_told_of_no_task_without_frames(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    from keystep.train.config import ControllerTraining
    from keystep.train.controller import ControllerRecipe

    reader = gather(tmp_path, "Pick", "Swap", episodes=4)
    plan = ControllerRecipe(ControllerTraining(tmp_path, tmp_path / "out", preset="tiny"), reader).draft
    assert {task["instruction"] for task in plan.tasks} == {e.instruction for e in reader.episodes()}


def test_slots_are_named(tmp_path: Path) -> None:
    found = source.features("rgb", 32)
    assert found["objects.poses"].shape == (56,) and found["objects.boxes"].shape == (32,)
    assert found["objects.poses"].names is not None
    assert found["objects.poses"].names[7:9] == ("object_1_x_m", "object_1_y_m")
    assert found["observation.images.wrist"].shape == (32, 32, 3)


def test_it_stops_and_resumes_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    for name, counts in (("parts", (1, 3)), ("whole", (3,))):
        for episodes in counts:
            collect(tmp_path / name, suite="tabletop", tasks=["Pick", "Swap"], episodes=episodes)

    def contents(path: Path) -> dict:
        reader = DatasetReader(path)
        found = {}
        for episode in reader.episodes():
            frames = reader.read_episode(episode, ["observation.state", "action"])
            arrays = [values.tobytes() for values in frames.values()]
            found[episode.task, episode.seed] = (episode.instruction, *arrays)
        return found

    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert check_dataset(tmp_path / "parts") == []


def test_the_number_of_processes_changes_nothing(tmp_path: Path) -> None:
    made = SUITE.source(["Pick", "Swap"], 0, "state", 16)
    for processes in (1, 2):
        opener = functools.partial(fake_tabletop.open_fake_oracle, "state", 16)
        collect_from(
            dataclasses.replace(made, open_rollout=opener), tmp_path / str(processes), 3, processes=processes
        )
    assert DatasetReader(tmp_path / "1").sha256() == DatasetReader(tmp_path / "2").sha256()


def test_one_environment_is_open_at_a_time_and_made_once_for_each_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import gymnasium

    made: list[str] = []
    make = gymnasium.make
    monkeypatch.setattr(gymnasium, "make", lambda name, **options: made.append(name) or make(name, **options))
    rollout = source.open_oracle("state", 16)
    opened = fake_tabletop.FakeTabletop.opened
    for task, seed in (("Pick", 1), ("Pick", 2), ("Swap", 1), ("Swap", 3), ("Pick", 4)):
        rollout(task, seed)
        assert {name: count for name, count in opened.items() if count} == {task: 1}
    assert made == [fake_tabletop.ENV_ID.replace("<Task>", task) for task in ("Pick", "Swap", "Pick")]


def test_unknown_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"tasks: expected some of Pick, .*Swap.*, got 'lift_red'"):
        collect(tmp_path / "d", suite="tabletop", tasks=["Pick", "lift_red"])
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    "option",
    [
        {"env_id": "keystep/Other-v0"},
        {"expert_noise": (0.0, 0.1)},
        {"frames_after_success": 3},
        {"wander_frames": 2},
        {"record": "executed"},
    ],
)
def test_options_of_the_other_suite_are_refused(tmp_path: Path, option: dict) -> None:
    name = next(iter(option))
    with pytest.raises(
        DatasetError, match=f"{name}: expected none, as suite tabletop has no such option, got"
    ):
        collect(tmp_path / "d", suite="tabletop", tasks=["Pick"], **option)
    assert not (tmp_path / "d").exists()


def test_bad_settings(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"suite: expected calvin or .* or tabletop, .* got 'moon'"):
        collect(tmp_path / "d", suite="moon")  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match=r"obs_mode: expected state, rgb or state\+rgb, got 'depth'"):
        collect(tmp_path / "d", suite="tabletop", obs_mode="depth")  # type: ignore[arg-type]


# ---- resuming ---------------------------------------------------------------------------------------------


def test_another_suite_or_version_cannot_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gather(tmp_path, "Pick")
    with pytest.raises(DatasetError, match=r"fps: expected 60 to resume, got 20; use another output folder"):
        collect(tmp_path, tasks=["lift_red"], episodes=1)
    old = layout.VERSION
    monkeypatch.setattr(layout, "VERSION", old + 1)
    with pytest.raises(DatasetError, match=f"world_version: expected {old + 1} to resume, got {old}"):
        gather(tmp_path, "Pick", episodes=2)


@pytest.mark.parametrize("package", ["mani_skill", "sapien"])
def test_another_simulator_cannot_resume(tmp_path: Path, package: str) -> None:
    versions = gather(tmp_path, "Pick").collection["versions"]
    side_file(tmp_path, versions={**versions, package: "1.2.3"})
    with pytest.raises(
        DatasetError, match=rf"versions: expected .*{version(package)}.* to resume, got .*1\.2"
    ):
        gather(tmp_path, "Pick", episodes=2)


def test_other_versions_of_the_rest_can_resume(tmp_path: Path) -> None:
    gather(tmp_path, "Pick")
    side_file(tmp_path, other_versions={"keystep": "0.0.1", "numpy": "1.0"})
    found = gather(tmp_path, "Pick", episodes=2)
    assert len(found) == 2 and found.collection["other_versions"] == {"keystep": "0.0.1", "numpy": "1.0"}


def test_the_order_of_the_tasks_does_not_matter(tmp_path: Path) -> None:
    gather(tmp_path, "Pick", "Swap")
    assert len(gather(tmp_path, "Swap", "Pick", episodes=3)) == 6
    assert collected(tmp_path) == {"Pick": 3, "Swap": 3} and check_dataset(tmp_path) == []


def test_tasks_can_be_added_and_left_out(tmp_path: Path) -> None:
    gather(tmp_path, "Pick", "Swap", episodes=2)
    found = gather(tmp_path, "Touch", "Pick", episodes=3)
    assert collected(tmp_path) == {"Pick": 3, "Swap": 2, "Touch": 3}
    assert [task["name"] for task in found.collection["tasks"]] == ["Pick", "Swap", "Touch"]
    found_seeds = [episode.seed for episode in found.episodes() if episode.task == "Touch"]
    assert found_seeds == seeds("Touch", 0, 3) and check_dataset(tmp_path) == []


def test_the_size_of_images_counts_only_where_there_are_any(tmp_path: Path) -> None:
    assert "image_size" not in gather(tmp_path / "state", "Pick", image_size=64).collection
    assert len(gather(tmp_path / "state", "Pick", episodes=2, image_size=96)) == 2
    assert gather(tmp_path / "rgb", "Pick", obs_mode="rgb", image_size=16).collection["image_size"] == 16
    message = r"features.observation.images.base.shape: expected \[32, 32, 3\] to resume, got \[16, 16, 3\];"
    with pytest.raises(DatasetError, match=message):
        gather(tmp_path / "rgb", "Pick", obs_mode="rgb", image_size=32)


# ---- the grid of the code's cells -------------------------------------------------------------------------


def test_a_dataset_says_its_grid(tmp_path: Path) -> None:
    assert gather(tmp_path / "ours", "Pick").collection["grid"] == 32
    assert gather(tmp_path / "paper", "Pick", grid=10).collection["grid"] == 10
    with pytest.raises(DatasetError, match="paper: grid: expected 32 as in the first, got 10"):
        JoinedDatasets([tmp_path / "ours", tmp_path / "paper"])
    assert len(gather(tmp_path / "paper", "Pick", grid=10, episodes=2)) == 2
    with pytest.raises(DatasetError, match="grid: expected 32 to resume, got 10"):
        gather(tmp_path / "paper", "Pick", episodes=3)


def test_a_dataset_that_does_not_say_its_grid_has_the_papers(tmp_path: Path) -> None:
    """And its code names fewer cells, so nothing is added to it."""
    for name in ("old", "ours", "paper"):
        gather(tmp_path / name, "Pick", grid=10 if name == "paper" else 32)
    file = tmp_path / "old/meta/keystep.json"
    found = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in found.items() if key != "grid"}))
    assert grid_of(DatasetReader(tmp_path / "old").collection) == 10
    assert check_dataset(tmp_path / "old") == []
    assert len(JoinedDatasets([tmp_path / "old", tmp_path / "paper"])) == 2
    with pytest.raises(DatasetError, match="ours: grid: expected 10 as in the first, got 32"):
        JoinedDatasets([tmp_path / "old", tmp_path / "ours"])
    with pytest.raises(DatasetError, match="grid: expected 10 to resume, got"):
        gather(tmp_path / "old", "Pick", grid=10, episodes=2)


def test_a_grid_that_cannot_be_is_refused(tmp_path: Path) -> None:
    for grid in (0, -1, 101):
        with pytest.raises(DatasetError, match=f"grid: expected 1 to 100 cells, got {grid}"):
            gather(tmp_path / "d", "Pick", grid=grid)
    with pytest.raises(DatasetError, match="grid: expected none, as suite franka3blocks has no such option"):
        collect(tmp_path / "d", grid=10, episodes=1)
    assert not (tmp_path / "d").exists()


# ---- bad settings leave nothing behind --------------------------------------------------------------------


@pytest.mark.parametrize("suite", ["tabletop", "franka3blocks"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -40}, r"seed: expected 0 to 2\^63 - 1, got -40"),
        ({"image_size": 0}, r"image_size: expected \d+ to \d+ pixels, got 0"),
        ({"image_size": 20_000}, r"image_size: expected \d+ to \d+ pixels, got 20000"),
        ({"tasks": []}, "tasks: expected at least one, got none"),
    ],
)
def test_settings_out_of_range(tmp_path: Path, suite: Any, options: dict, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        collect(tmp_path / "d", suite=suite, episodes=1, **options)
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("suite", ["tabletop", "franka3blocks"])
def test_pictures_without_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suite: Any) -> None:
    monkeypatch.setattr(headless, "missing_driver", lambda: "no ICD")
    with pytest.raises(RuntimeError, match=r"rendering: expected a Vulkan driver, got none \(no ICD\)"):
        collect(tmp_path / "d", suite=suite, obs_mode="rgb", episodes=1)
    assert not (tmp_path / "d").exists()


def test_the_sizes_of_images_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from keystep.suites.tabletop import environment

    def reached(module: str) -> None:
        raise LookupError(module)

    monkeypatch.setattr(environment, "load_simulation", reached)
    for size, error in ((15, ValueError), (16, LookupError), (1024, LookupError), (1025, ValueError)):
        with pytest.raises(error):
            environment.TabletopEnv("Pick", image_size=size)
        assert (size in source.IMAGE_SIZES) == (error is LookupError)


def test_an_environment_that_cannot_be_made_does_not_bind_the_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(source, "ENV_ID", "keystep-test/Nowhere-<Task>-v0")
        with pytest.raises(Exception, match="Nowhere"):
            gather(tmp_path, "Pick", seed=3)
    assert len(gather(tmp_path, "Swap", seed=4)) == 1
    assert DatasetReader(tmp_path).collection["tasks"] == [{"name": "Swap"}]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--output", str(tmp_path / "d"), "--suite", "tabletop", "--tasks", "Pick", "Swap"]
    assert cli.run(["collect", *arguments, "--episodes", "2"]) == 0
    assert "4 episodes in the dataset; 4 of" in capsys.readouterr().out
    assert cli.run(["collect", *arguments, "--wander-frames", "2"]) == 2
    assert "error: wander_frames: expected none" in capsys.readouterr().err
