"""Collecting: order, determinism, resuming, Ctrl-C, failing simulators. A fake expert stands in for the
simulator."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_cameras import CAMERA, camera_source
from fake_expert import collect_forever, fake_source

import keystep
from keystep.data import DatasetError, DatasetReader
from keystep.data.check import check_dataset
from keystep.record.collect import collect, collect_from
from keystep.record.video import with_video


def contents(path: Path) -> list[tuple]:
    reader = DatasetReader(path)
    columns = [batch for batch in reader.iter_batches()]
    state = np.concatenate([batch["observation.state"] for batch in columns])
    return [(e.task, e.seed, e.instruction, state[e.start : e.stop].tobytes()) for e in reader.episodes()]


def test_episodes_are_the_successes_in_order_of_task_and_seed(tmp_path: Path) -> None:
    report = collect_from(fake_source(), tmp_path, 5)
    assert report.attempts == {"lift": 8, "push": 7} and report.successes == {"lift": 5, "push": 5}
    assert [(task, seed) for task, seed, *_ in contents(tmp_path)] == [
        *(("lift", seed) for seed in (2, 4, 8, 10, 14)),
        *(("push", seed) for seed in (1, 5, 7, 11, 13)),
    ]
    assert check_dataset(tmp_path) == []


def test_the_number_of_processes_changes_nothing(tmp_path: Path) -> None:
    collect_from(fake_source(), tmp_path / "one", 6, processes=1)
    collect_from(fake_source(), tmp_path / "three", 6, processes=3)
    assert DatasetReader(tmp_path / "one").sha256() == DatasetReader(tmp_path / "three").sha256()


def test_ctrl_c_then_resume_gives_what_an_uninterrupted_run_gives(tmp_path: Path) -> None:
    report = collect_from(fake_source(signal_at=5), tmp_path / "parts", 5)
    assert report.interrupted and report.episodes == 7
    assert check_dataset(tmp_path / "parts") == []
    report = collect_from(fake_source(), tmp_path / "parts", 5)
    assert not report.interrupted and report.episodes == 10
    collect_from(fake_source(), tmp_path / "whole", 5)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert check_dataset(tmp_path / "parts") == []


def test_ctrl_c_with_several_processes(tmp_path: Path) -> None:
    report = collect_from(fake_source(signal_at=200), tmp_path, 10**6, processes=2)
    assert report.interrupted and report.episodes == len(DatasetReader(tmp_path)) > 50
    assert check_dataset(tmp_path) == []


def test_more_episodes_can_be_added(tmp_path: Path) -> None:
    collect_from(fake_source(), tmp_path, 2)
    report = collect_from(fake_source(), tmp_path, 3)
    assert report.successes == {"lift": 1, "push": 1}
    assert [(task, seed) for task, seed, *_ in contents(tmp_path)] == [
        ("lift", 2), ("lift", 4), ("push", 1), ("push", 5), ("lift", 8), ("push", 7)
    ]  # fmt: skip
    assert collect_from(fake_source(), tmp_path, 3).attempts == {}


def test_images_may_be_videos(tmp_path: Path) -> None:
    source = with_video(camera_source(), "h264")
    collect_from(source, tmp_path / "d", 2, flush_episodes=3)
    collect_from(source, tmp_path / "d", 4, flush_episodes=3)
    collect_from(source, tmp_path / "more", 4, processes=2, flush_episodes=3)
    assert check_dataset(tmp_path / "d") == []
    reader = DatasetReader(tmp_path / "d")
    assert len(reader.video_files()) == 3 and reader.features[CAMERA].is_video
    for name in ("lift", "push"):
        kept = {e.seed: reader.read_episode(e, [CAMERA])[CAMERA] for e in reader.episodes() if e.task == name}
        others = DatasetReader(tmp_path / "more")
        for episode in others.episodes():
            if episode.task == name:  # the order of tasks is another one: two were added later
                found = others.read_episode(episode, [CAMERA])[CAMERA]
                np.testing.assert_array_equal(found, kept[episode.seed])
    with pytest.raises(DatasetError, match=r"features\.observation\.images\.top.*to resume"):
        collect_from(camera_source(), tmp_path / "d", 5)
    with pytest.raises(DatasetError, match="video: expected none, as there are no images"):
        with_video(fake_source(), "h264")
    with pytest.raises(DatasetError, match="codec: expected one of h264, av1, got 'mjpeg'"):
        with_video(camera_source(), "mjpeg")


def test_a_dead_simulator_is_an_error_and_loses_nothing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="push: expected simulators to keep running, but one died"):
        collect_from(fake_source(die_at=7), tmp_path, 4, processes=2)
    assert len(contents(tmp_path)) >= 4
    assert check_dataset(tmp_path) == []


def test_an_expert_that_never_succeeds_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="push: expected a success, got 4 failures in a row"):
        collect_from(fake_source(failing="push"), tmp_path, 3, max_failures=4)
    assert [task for task, *_ in contents(tmp_path)] == ["lift"] * 3


def test_bad_settings(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="episodes: expected at least 1, got 0"):
        collect_from(fake_source(), tmp_path / "d", 0)
    with pytest.raises(DatasetError, match=r"obs_mode: expected state, rgb or state\+rgb, got 'depth'"):
        collect(tmp_path / "d", obs_mode="depth")
    with pytest.raises(DatasetError, match=r"tasks: expected some of lift_red.* got 'fly'"):
        collect(tmp_path / "d", tasks=["fly"])
    collect_from(fake_source(), tmp_path / "d", 1)
    with pytest.raises(DatasetError, match="expected no dataset, found one"):
        collect_from(fake_source(), tmp_path / "d", 1, resume=False)


def test_the_scripted_expert(tmp_path: Path) -> None:
    pytest.importorskip("mani_skill", reason="ManiSkill is not installed")
    report = collect(tmp_path / "d", tasks=["lift_red", "push_blue_left"], episodes=2, seed=7)
    assert report.episodes == 4
    assert check_dataset(tmp_path / "d") == []
    reader = DatasetReader(tmp_path / "d")
    assert reader.features["observation.state"].shape == (26,) and reader.info["fps"] == 60
    assert reader.collection["action"]["hold"] == [0.0] * 7
    noisy = collect(tmp_path / "n", tasks=["lift_red"], episodes=1, seed=7, expert_noise=(0.3,))
    assert noisy.episodes == 1
    state = [next(DatasetReader(tmp_path / d).iter_batches())["observation.state"] for d in "dn"]
    assert not np.array_equal(state[0][10], state[1][10])


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    parent = context.Process(target=collect_forever, args=(tmp_path,))
    parent.start()
    deadline = time.monotonic() + 60
    while not (children := child_pids(parent.pid)) or not committed(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    parent.kill()
    parent.join()
    while any(alive(pid) for pid in children):
        assert time.monotonic() < deadline, "the simulators outlived their parent"
        time.sleep(0.1)
    assert len(DatasetReader(tmp_path)) > 0
    assert collect_from(fake_source(), tmp_path, 1).attempts.keys() <= {"push"}


def committed(path: Path) -> int:
    return len(DatasetReader(path)) if (path / "meta/info.json").exists() else 0


def child_pids(pid: int | None) -> list[int]:
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in listing.read_text().split()] if listing.exists() else []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("options", "noise", "wander", "aligned_m", "chained"),
    [
        ({"preset": "paper"}, [0.0], 0, 0.02, 0),
        ({"preset": "shipped"}, [0.0, 0.2, 0.4], 12, 0.006, 0),
        ({"chained": 1, "record": "executed", "frames_after_success": None}, [0.0], 0, 0.02, 1),
    ],
    ids=["paper", "shipped", "chained"],
)
def test_what_is_asked_for_says_how_demonstrations_are_made(
    tmp_path: Path, options: dict[str, Any], noise: list[float], wander: int, aligned_m: float, chained: int
) -> None:
    gymnasium = pytest.importorskip("gymnasium", reason="needs the extra 'sim'")
    pytest.importorskip("mani_skill", reason="needs the extra 'sim'")
    from keystep.suites.franka3blocks.demonstrations import rollout_expert

    collect(tmp_path, tasks=["stack"], episodes=1, **options)
    told = DatasetReader(tmp_path).collection
    assert (told["expert_noise"], told["wander_frames"]) == (noise, wander)
    assert (told["record"], told["frames_after_success"]) == ("executed", None)
    assert (told["stack_aligned_m"], told.get("chained", 0)) == (aligned_m, chained)
    assert told.get("held", 0) == (5 if options.get("preset") == "shipped" else 0)
    (episode,) = DatasetReader(tmp_path).episodes()
    assert episode.length == 64 and episode.seed is not None
    env = gymnasium.make("keystep/Franka3Blocks-v1")
    number = episode.seed // 10
    follows = "another" if chained > 0 and number % chained == chained - 1 else ""
    turn = noise[number % len(noise)]
    same = rollout_expert(env, "stack", episode.seed, 64, turn, None, wander, "executed", aligned_m, follows)
    assert same is not None
    stored = DatasetReader(tmp_path).read_episode(episode, ["action"])["action"]
    np.testing.assert_array_equal(stored, same["action"])
    env.close()


def test_every_so_many_pushes_begin_with_their_cube_in_the_hand(tmp_path: Path) -> None:
    pytest.importorskip("mani_skill", reason="needs the extra 'sim'")
    collect(tmp_path, tasks=["lift_red", "push_red_left"], episodes=3, held=2, record="executed")
    reader = DatasetReader(tmp_path)
    assert reader.collection["held"] == 2
    names = reader.features["observation.state"].names
    assert names is not None
    for episode in reader.episodes():
        assert episode.seed is not None
        number, height = divmod(episode.seed, 10)[0], names.index("red_z_m")
        begun = reader.read_episode(episode, ["observation.state"])["observation.state"][0, height]
        assert (begun > 0.33) == (episode.task == "push_red_left" and number % 2 == 1)
    with pytest.raises(DatasetError, match=r"held: expected 0 \(none\) or more, got -1"):
        collect(tmp_path / "bad", held=-1)


def test_a_preset_leaves_no_option_open(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="wander_frames: expected none, as preset paper chooses it, got 3"):
        collect(tmp_path / "a", preset="paper", wander_frames=3)
    given = {"expert_noise": (0.0,), "wander_frames": 0, "record": "expert", "stack_aligned_m": 0.02}
    for name, value in given.items():  # also where it is what holds without a preset
        with pytest.raises(DatasetError, match=f"{name}: expected none, as preset shipped chooses it, got"):
            collect(tmp_path / "a", preset="shipped", **{name: value})
    with pytest.raises(DatasetError, match="preset: expected none, as suite tabletop has no such option"):
        collect(tmp_path / "a", suite="tabletop", preset="paper")
    with pytest.raises(DatasetError, match="preset: expected one of none, paper, shipped, got 'big'"):
        collect(tmp_path / "b", preset="big")  # type: ignore[arg-type]
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


@pytest.mark.parametrize("env_id", ["Foo-v0", "keystep/CALVIN-v0", "CartPole-v1", ""])
def test_an_environment_of_another_world_is_refused_at_once(tmp_path: Path, env_id: str) -> None:
    pytest.importorskip("gymnasium", reason="needs the extra 'sim'")
    from keystep.suites.franka3blocks.expert_report import evaluate_expert

    wanted = "env_id: expected keystep/Franka3Blocks-v1 or keystep/Franka3Blocks-bullet, got"
    for obs_mode in ("state", "rgb"):  # also where there is no driver
        with pytest.raises(DatasetError, match=f"{wanted} '{env_id}'"):
            collect(tmp_path / "d", env_id=env_id, obs_mode=obs_mode)  # type: ignore[arg-type]
    assert not (tmp_path / "d").exists()
    with pytest.raises(keystep.ArgumentError, match=f"{wanted} '{env_id}'"):
        evaluate_expert(env_id=env_id)
