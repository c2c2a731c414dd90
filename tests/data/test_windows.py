"""Training windows and their cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toy_dataset import write

from keystep.data import (
    ChunkWindows,
    DatasetError,
    DatasetReader,
    split_episodes,
)


def test_flat_windows_are_the_next_actions_then_the_last_again(tmp_path: Path) -> None:
    written = write(tmp_path / "d", 3)
    still = np.array([0.0, 7.0], np.float32)  # of no use without goals
    windows = ChunkWindows(DatasetReader(tmp_path / "d"), 8, still=still, cache=tmp_path / "c")
    assert len(windows) == 10 + 11 + 12
    batch = windows.batch(np.arange(len(windows)), np.random.default_rng(0))
    row = 0
    for number, frames in enumerate(written):
        for t in range(len(frames["action"])):
            real = frames["action"][t : t + 8]
            np.testing.assert_array_equal(
                batch["action"][row], np.concatenate([real, np.tile(real[-1], (8 - len(real), 1))])
            )
            assert batch["action_is_pad"][row].tolist() == [False] * len(real) + [True] * (8 - len(real))
            np.testing.assert_array_equal(batch["observation.state"][row], frames["observation.state"][t])
            assert batch["task"][row] == number % 2
            row += 1


@pytest.mark.parametrize("still", [None, (0.0, np.nan), (np.nan, 3.0), (0.0, 0.0)])
def test_goal_windows_end_on_their_goal(tmp_path: Path, still: tuple[float, float] | None) -> None:
    written = write(tmp_path / "d", 3, image=True)
    windows = ChunkWindows(
        DatasetReader(tmp_path / "d"),
        8,
        condition="goal",
        lengths=(4, 8),
        still=None if still is None else np.array(still, np.float32),
        cache=tmp_path / "c",
    )
    assert len(windows) == 6 + 7 + 8
    where = {frames["observation.state"][t].tobytes(): (n, t) for n, frames in enumerate(written)
             for t in range(len(frames["action"]))}  # fmt: skip
    lengths = set()
    for repeat in range(40):
        batch = windows.batch(np.arange(len(windows)), np.random.default_rng(repeat))
        for row in range(len(windows)):
            episode, start = where[batch["observation.state"][row].tobytes()]
            same, end = where[batch["goal.state"][row].tobytes()]
            length = end - start
            assert episode == same and 4 <= length <= 8
            frames = written[episode]
            np.testing.assert_array_equal(
                batch["goal.images.static"][row], frames["observation.images.static"][end]
            )
            np.testing.assert_array_equal(batch["action"][row, :length], frames["action"][start:end])
            last = frames["action"][end - 1]
            standing = last if still is None else np.where(np.isnan(still), last, np.float32(still))
            assert (batch["action"][row, length:] == standing).all()
            lengths.add(length)
    assert lengths == {4, 5, 6, 7, 8}
    assert "task" not in batch and "action_is_pad" not in batch  # all rows are targets


def test_the_cache_is_keyed_by_the_content(tmp_path: Path) -> None:
    write(tmp_path / "a", 3)
    first = ChunkWindows(DatasetReader(tmp_path / "a"), cache=tmp_path / "c")
    assert isinstance(first._columns["action"], np.memmap)
    folders = set((tmp_path / "c").iterdir())
    ChunkWindows(DatasetReader(tmp_path / "a"), cache=tmp_path / "c")
    assert set((tmp_path / "c").iterdir()) == folders
    write(tmp_path / "b", 4)
    assert len(ChunkWindows(DatasetReader(tmp_path / "b"), cache=tmp_path / "c")) == len(first) + 13
    assert len(set((tmp_path / "c").iterdir())) == 2
    assert not list((tmp_path / "c").rglob(".converting-*"))


def test_windows_of_some_episodes_only(tmp_path: Path) -> None:
    write(tmp_path / "d", 4)
    reader = DatasetReader(tmp_path / "d")
    kept, held_out = split_episodes(4, 0.25, seed=1)
    assert sorted(kept + held_out) == [0, 1, 2, 3] and len(held_out) == 1
    windows = ChunkWindows(reader, episodes=held_out, cache=tmp_path / "c")
    assert len(windows) == 10 + held_out[0]
    with pytest.raises(DatasetError, match="condition: expected one of task, goal, none, got 'language'"):
        ChunkWindows(reader, condition="language", cache=tmp_path / "c")
    with pytest.raises(DatasetError, match="lengths: expected"):
        ChunkWindows(reader, 8, condition="goal", lengths=(4, 9), cache=tmp_path / "c")
