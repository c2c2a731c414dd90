"""Windows with frames of history and past actions, beside a slow and clear reference; depth columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toy_dataset import write

from keystep.data import ChunkWindows, DatasetError, DatasetReader

HORIZON = 8
CASES = [(1, 0), (2, 1), (2, 0), (3, 2), (5, 1), (1, 3), (12, 4)]


def reference(frames: dict, t: int, length: int, history: int, start: int, still: np.ndarray | None) -> dict:
    """One window, value by value. `length` real actions follow frame t; `still` fills the rest with goals."""
    actions, last = frames["action"], len(frames["action"]) - 1
    rows, padding = [], []
    for row in range(HORIZON):
        place = t - start + row
        missing = place < 0 or place > last
        value = actions[min(max(place, 0), t + length - 1, last)].copy()
        if still is not None and place >= t + length:
            value = np.where(np.isnan(still), value, still)
            missing = False
        rows.append(value)
        padding.append(missing)
    seen = {
        key: np.stack([values[max(t - history + 1 + n, 0)] for n in range(history)])
        for key, values in frames.items()
        if key.startswith("observation.")
    }
    return {"action": np.stack(rows), "padding": padding, "seen": seen}


@pytest.mark.parametrize(("history", "start"), CASES)
def test_flat_windows(tmp_path: Path, history: int, start: int) -> None:
    written = write(tmp_path / "d", 4, image=True, length=6)
    settings = {"history": history, "chunk_start": start, "cache": tmp_path / "c"}
    windows = ChunkWindows(DatasetReader(tmp_path / "d"), HORIZON, **settings)  # type: ignore[arg-type]
    batch = windows.batch(np.arange(len(windows)), np.random.default_rng(0))
    row = 0
    for frames in written:
        total = len(frames["action"])
        for t in range(total):
            wanted = reference(frames, t, min(HORIZON - start, total - t), history, start, None)
            np.testing.assert_array_equal(batch["action"][row], wanted["action"])
            assert batch["action_is_pad"][row].tolist() == wanted["padding"]
            for key, values in wanted["seen"].items():
                np.testing.assert_array_equal(batch[key][row], values if history > 1 else values[0])
            row += 1
    assert row == len(windows)


@pytest.mark.parametrize(("history", "start"), CASES)
@pytest.mark.parametrize("still", [(np.nan, np.nan), (0.0, np.nan)])
def test_goal_windows(tmp_path: Path, history: int, start: int, still: tuple[float, float]) -> None:
    """The goal is one frame, `length` ahead; past rows before the episode are padding, nothing else is."""
    written = write(tmp_path / "d", 3)
    windows = ChunkWindows(
        DatasetReader(tmp_path / "d"),
        HORIZON,
        condition="goal",
        history=history,
        chunk_start=start,
        lengths=(2, 4),
        still=np.array(still, np.float32),
        cache=tmp_path / "c",
    )
    places = [(frames, t) for frames in written for t in range(len(frames["action"]) - 2)]
    assert len(places) == len(windows)
    for seed in range(5):
        batch = windows.batch(np.arange(len(windows)), np.random.default_rng(seed))
        for row, (frames, t) in enumerate(places):
            ends = (frames["observation.state"] == batch["goal.state"][row]).all(axis=1)
            length = int(np.flatnonzero(ends)[0]) - t
            assert 2 <= length <= 4
            wanted = reference(frames, t, length, history, start, np.float32(still))
            np.testing.assert_array_equal(batch["action"][row], wanted["action"])
            assert batch["goal.state"][row].shape == (3,)
            if start:
                assert batch["action_is_pad"][row].tolist() == wanted["padding"]
                assert wanted["padding"] == [t - start + n < 0 for n in range(HORIZON)]
        assert ("action_is_pad" in batch) == (start > 0)


@pytest.mark.parametrize(("history", "start"), [(0, 0), (1, -1), (1, HORIZON)])
def test_what_cannot_be_is_refused(tmp_path: Path, history: int, start: int) -> None:
    write(tmp_path / "d", 2)
    with pytest.raises(DatasetError, match=r"history/chunk_start: expected 1 or more and 0\.\.7, got"):
        ChunkWindows(
            DatasetReader(tmp_path / "d"), HORIZON, history=history, chunk_start=start, cache=tmp_path / "c"
        )


def test_past_rows_leave_less_room_for_a_goal(tmp_path: Path) -> None:
    write(tmp_path / "d", 2)
    with pytest.raises(DatasetError, match="lengths: expected 1 <= shortest <= longest <= 7, got"):
        ChunkWindows(
            DatasetReader(tmp_path / "d"), HORIZON, condition="goal", chunk_start=1, cache=tmp_path / "c"
        )
