"""Demonstrations that stand for tasks without a successful rollout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import toy_dataset

from keystep.data import DatasetReader, DatasetWriter
from keystep.data.check import check_dataset
from keystep.expit.fallback import copy_episodes


def told(path: Path) -> list[tuple[str, int | None]]:
    return [(episode.task, episode.seed) for episode in DatasetReader(path).episodes()]


def test_a_killed_copy_goes_on(tmp_path: Path) -> None:
    toy_dataset.write(tmp_path / "d0", 5)
    whole = copy_episodes(tmp_path / "d0", tmp_path / "whole", ["lift_red"])
    spec = toy_dataset.make_spec(
        copied_from=DatasetReader(tmp_path / "d0").sha256(), copied_tasks=["lift_red"]
    )
    with DatasetWriter(tmp_path / "part", spec) as writer:
        writer.add_episode(toy_dataset.make_frames(0, 10), "lift_red", 100)
    assert copy_episodes(tmp_path / "d0", tmp_path / "part", ["lift_red"]) == whole
    assert told(tmp_path / "part") == [("lift_red", 100), ("lift_red", 102), ("lift_red", 104)]


def test_a_copy_for_other_tasks_is_made_again(tmp_path: Path) -> None:
    """More contexts were allowed after it, and one of its tasks succeeded."""
    toy_dataset.write(tmp_path / "d0", 4)
    copy_episodes(tmp_path / "d0", tmp_path / "r1", ["lift_red", "stack"])
    copy_episodes(tmp_path / "d0", tmp_path / "r1", ["stack"])
    assert told(tmp_path / "r1") == [("stack", 101), ("stack", 103)]


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_episodes_with_videos_are_copied(tmp_path: Path, codec: Literal["h264", "av1"]) -> None:
    toy_dataset.write(tmp_path / "d0", 4, codec)
    copy_episodes(tmp_path / "d0", tmp_path / "r1", ["stack"])
    assert told(tmp_path / "r1") == [("stack", 101), ("stack", 103)]
    assert check_dataset(tmp_path / "r1") == []
    (key,) = DatasetReader(tmp_path / "r1").image_keys
    assert DatasetReader(tmp_path / "r1").info["features"][key]["info"]["video.codec"] == codec
