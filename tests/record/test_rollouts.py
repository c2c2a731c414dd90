"""Collecting rollouts: order, determinism, kills, lost workers. A fake player stands in for policy and
simulator."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fake_player
import numpy as np
import pytest
from fake_player import SETTINGS, TASKS, collect_fake, fake_schedule

from keystep.data import DatasetError, DatasetReader
from keystep.data.check import check_dataset
from keystep.record.rollout_settings import REPLAYED_SEEDS, ROLLOUT_SEEDS
from keystep.record.rollouts import RolloutSettings
from keystep.record.schedule import PROGRESS_PATH, RolloutSchedule


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one uninterrupted process collects."""
    output = tmp_path_factory.mktemp("whole") / "d"
    collect_fake(output)
    return output


def digest(path: Path) -> str:
    assert check_dataset(path) == []
    return DatasetReader(path).sha256()


def test_first_successes_are_kept_in_the_order_of_contexts(whole: Path) -> None:
    episodes = list(DatasetReader(whole).episodes())
    places = [episode.extras["context"] for episode in episodes]
    turns = [(place["number"], place["kind"] == "replayed", TASKS.index(episode.task))
             for place, episode in zip(places, episodes, strict=True)]  # fmt: skip
    assert turns == sorted(turns)
    assert len(episodes) == 2 * (6 + 4)
    for place, episode in zip(places, episodes, strict=True):
        player = fake_player.open_fake_player(whole.parent / "fake.keystep")
        kind, number = place["kind"], place["number"]
        result = player(fake_schedule()._contexts.context(episode.task, kind, number))
        assert [attempt.success for attempt in result.attempts] == [False] * place["trial"] + [True]
        assert episode.seed == place["noise_seed"][0] and place["noise_seed"][1] == place["trial"]
        assert (episode.seed >= ROLLOUT_SEEDS + REPLAYED_SEEDS) == (kind == "replayed")
        assert episode.extras["end_state"]["state"] == {"seed": episode.seed}
        assert (place["source"] is None) == (kind == "reset")
        seen = DatasetReader(whole).read_episode(episode)["observation.state"]
        assert np.array_equal(seen, result.frames["observation.state"])


def test_counts(tmp_path: Path) -> None:
    told = []
    report = collect_fake(tmp_path / "d", on_result=lambda context, result: told.append((context, result)))
    assert not report.interrupted and report.episodes == 20
    assert report.without_success == ["stack"]
    given_up = [(count.task, count.kind, count.contexts) for count in report.given_up]
    assert given_up == [("stack", "reset", SETTINGS.max_contexts), ("stack", "replayed", 12)]
    for count in report.counts:
        results = [r for context, r in told if (context.task, context.kind) == (count.task, count.kind)]
        assert count.contexts == len(results) and count.trials == sum(len(r.attempts) for r in results)
        assert count.left_out == sum(r.solved_at_start for r in results) == (count.contexts > 1)
        assert count.successes == sum(r.frames is not None for r in results) <= count.wanted
    assert report.rollouts == sum(count.trials for count in report.counts)
    again = collect_fake(tmp_path / "d")
    assert again.counts == report.counts and again.rollouts == 0


@pytest.mark.parametrize("processes", [2, 3])
def test_the_number_of_processes_changes_nothing(whole: Path, tmp_path: Path, processes: int) -> None:
    collect_fake(tmp_path / "d", processes, seconds=0.002)
    assert digest(tmp_path / "d") == digest(whole)


def test_killed_at_any_point_it_goes_on_and_loses_one_episode_at_most(whole: Path, tmp_path: Path) -> None:
    rng, output, seconds = random.Random(3), tmp_path / "d", 0.02
    collect = [sys.executable, fake_player.__file__, str(output)]
    fake_player.fake_bundle(tmp_path / "fake.keystep")
    seen = kills = 0
    while True:
        process = subprocess.Popen([*collect, "1", str(seconds)])
        before = seen
        while process.poll() is None and seen == before:  # it has written something new: kill it soon
            time.sleep(0.002)
            seen = committed(output)
        time.sleep(rng.uniform(0, 0.1))
        if process.poll() is not None:
            break
        process.kill()
        process.wait()
        kills += 1
        assert committed(output) >= seen
        assert not (output / "meta/info.json").exists() or check_dataset(output) == []
        seen = committed(output)
    assert process.returncode == 0 and kills >= 3
    assert digest(output) == digest(whole)


def committed(path: Path) -> int:
    return len(DatasetReader(path)) if (path / "meta/info.json").exists() else 0


def test_lost_counts_are_found_again_and_nothing_is_written_twice(whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "d"
    report = collect_fake(output)
    (output / PROGRESS_PATH).write_text("{}")
    assert collect_fake(output).counts == report.counts
    assert digest(output) == digest(whole)


def test_ctrl_c_then_resume(whole: Path, tmp_path: Path) -> None:
    import os
    import signal

    told = []

    def stop(*result: object) -> None:
        told.append(result)
        if len(told) == 17:
            os.kill(os.getpid(), signal.SIGINT)

    report = collect_fake(tmp_path / "d", on_result=stop)
    assert report.interrupted and sum(count.contexts for count in report.counts) == 17
    report = collect_fake(tmp_path / "d")
    assert not report.interrupted
    assert digest(tmp_path / "d") == digest(whole)


def test_a_lost_process_is_replaced_and_its_context_tried_again(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    report = collect_fake(tmp_path / "d", 2, die_at=3, marks=tmp_path / "marks")
    assert report.restarts == 1
    assert digest(tmp_path / "d") == digest(whole)


def test_processes_that_keep_dying_are_an_error_and_lose_nothing(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match="expected simulators to keep running, but one died 4 times in a row"
    ):
        collect_fake(tmp_path / "d", 2, die_at=3)
    assert 0 < len(DatasetReader(tmp_path / "d")) < 20 and check_dataset(tmp_path / "d") == []


def test_two_writers_in_one_folder_are_refused(tmp_path: Path) -> None:
    def second(*_: object) -> None:
        with pytest.raises(DatasetError, match="expected no other writer, but a process is writing it"):
            collect_fake(tmp_path / "d")

    assert collect_fake(tmp_path / "d", on_result=second).episodes == 20


def test_a_full_disk_is_one_error_and_can_be_resumed(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keystep import files

    synced = 0

    def full(path: Path) -> None:
        nonlocal synced
        synced += 1
        if synced > 60:
            raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch, pytest.raises(DatasetError, match="No space left on device"):
        patch.setattr(files, "sync", full)
        collect_fake(tmp_path / "d")
    assert 0 < len(DatasetReader(tmp_path / "d")) < 20
    collect_fake(tmp_path / "d")
    assert digest(tmp_path / "d") == digest(whole)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"planner_candidates": 0}, r"planner_candidates: expected 1\.\.256, got 0"),
        ({"planner_score": "learned"}, r"planner_score: expected none \(planner_candidates is 1\)"),
        ({"planner_score": "best"}, "planner_score: expected bundle, learned or density, got 'best'"),
        ({"trials": 0}, "trials: expected a whole number from 1, got 0"),
        ({"reset_per_task": -1}, "reset_per_task: expected a whole number from 0, got -1"),
        ({"min_steps": 66}, "min_steps: expected at most 65, got 66"),
        ({"success_frames": 65}, r"success_frames: expected fewer than max_steps \(65\), got 65"),
        ({"guidance": -1.0}, "guidance: expected at least 0, or none, got -1.0"),
        ({"restore": "some"}, "restore: expected exact or cubes_only, got 'some'"),
        ({"seed": 10**8}, "seed: expected at most"),
        ({"tasks": ("stack", "stack")}, "tasks: expected each once"),
    ],
)
def test_bad_settings(values: dict, problem: str) -> None:
    with pytest.raises(DatasetError, match=problem):
        RolloutSettings(**values)


def test_counts_of_other_settings_are_not_taken_up(tmp_path: Path) -> None:
    schedule = fake_schedule()
    (tmp_path / "meta").mkdir()
    schedule.counts[0].contexts, schedule.counts[0].trials = 3, 15
    schedule.save(tmp_path, {"trials": 5})
    for collection, contexts in (({"trials": 5}, 3), ({"trials": 2}, 0)):
        other = fake_schedule()
        other.load(tmp_path, collection, [])
        assert other.counts[0].contexts == contexts


def test_what_was_kept_of_results_is_on_disk_before_the_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a kill loses it: contexts that are counted are not tried again."""
    kept: list[tuple] = []
    stored: list[tuple] = []
    save = RolloutSchedule.save

    def checked(schedule: RolloutSchedule, *arguments: Any) -> None:
        assert stored == kept
        save(schedule, *arguments)

    monkeypatch.setattr(RolloutSchedule, "save", checked)
    collect_fake(
        tmp_path / "d",
        on_result=lambda context, _: kept.append(context.key),
        before_counts=lambda: stored.extend(kept[len(stored) :]),
    )
    assert kept and stored == kept
