"""Datasets survive kills, full disks and bad input."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_dataset import TASKS, die_in_flush, edit_info, make_frames, make_spec, read_all, write

from keystep import files
from keystep.data import (
    DatasetError,
    DatasetReader,
    DatasetWriter,
)
from keystep.data.check import check_dataset, inspect_dataset


def test_resuming_appends(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "parts", make_spec(), flush_episodes=2) as writer:
        for number in range(4):
            writer.add_episode(make_frames(number, 10 + number), list(TASKS)[number % 2], seed=100 + number)
    with DatasetWriter(tmp_path / "parts", make_spec(), flush_episodes=2) as writer:
        assert writer.episodes == 4
        for number in range(4, 8):
            writer.add_episode(make_frames(number, 10 + number), list(TASKS)[number % 2], seed=100 + number)
    write(tmp_path / "whole", 8, flush_episodes=2)
    assert check_dataset(tmp_path / "parts") == []
    assert DatasetReader(tmp_path / "parts").sha256() == DatasetReader(tmp_path / "whole").sha256()
    parts, whole = DatasetReader(tmp_path / "parts").stats, DatasetReader(tmp_path / "whole").stats
    for key in whole:
        np.testing.assert_allclose(parts[key]["std"], whole[key]["std"], rtol=1e-12)


@pytest.mark.parametrize("flush", [2, 3])
@pytest.mark.parametrize(
    ("image", "renames"), [*((False, n) for n in range(4)), *(("h264", n) for n in range(5))]
)
def test_a_kill_between_any_two_renames_leaves_the_last_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Any, renames: int, flush: int
) -> None:
    """A flush renames data, videos, episodes, stats, info: of a new file, or of the last one, which grows."""
    write(tmp_path, 4, image, flush_episodes=flush)
    before, digest = read_all(tmp_path), DatasetReader(tmp_path).sha256()
    episodes = list(DatasetReader(tmp_path).episodes())
    stats_before = DatasetReader(tmp_path).stats
    writer = DatasetWriter(tmp_path, make_spec(image), flush_episodes=flush)
    writer.add_episode(make_frames(9, 5, image), "stack", seed=9)
    name = "file-002" if flush == 2 else "file-001"
    video = [f"{name}.mp4"] if image else []
    expected = [f"{name}.parquet", *video, f"{name}.parquet", "stats.json"]
    assert die_in_flush(writer, renames, monkeypatch) == expected[:renames]

    after, reader = read_all(tmp_path), DatasetReader(tmp_path)
    for key in before:
        np.testing.assert_array_equal(after[key], before[key])
    assert list(reader.episodes()) == episodes and len(list(reader.episode_stats())) == 4
    assert reader.sha256() == digest
    assert reader.stats["action"]["count"] == stats_before["action"]["count"]
    findings = inspect_dataset(tmp_path)
    assert findings.problems == []
    files_left = [line.partition(":")[0] for line in findings.remarks]
    new = ["data/chunk-000/file-002.parquet", "meta/episodes/chunk-000/file-002.parquet"]
    new[1:1] = ["videos/observation.images.static/chunk-000/file-002.mp4"] if image else []
    assert sorted(files_left) == (sorted(new[:renames]) if flush == 2 else [])

    with DatasetWriter(tmp_path, make_spec(image), flush_episodes=flush) as again:
        assert again.episodes == 4
        assert check_dataset(tmp_path) == [] and DatasetReader(tmp_path).sha256() == digest
        again.add_episode(make_frames(9, 5, image), "stack", seed=9)
    assert check_dataset(tmp_path) == []
    assert len(read_all(tmp_path)["index"]) == len(before["index"]) + 5


def test_a_killed_process_leaves_a_dataset_that_opens_and_resumes(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, signal, sys
        from toy_dataset import TASKS, DatasetWriter, make_frames, make_spec
        writer = DatasetWriter(sys.argv[1], make_spec(), flush_episodes=3)
        for number in range(8):
            writer.add_episode(make_frames(number, 10), "stack", seed=number)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "d"), __file__])
    assert done.returncode == -9
    assert len(DatasetReader(tmp_path / "d")) == 6
    assert check_dataset(tmp_path / "d") == []
    with DatasetWriter(tmp_path / "d", make_spec(), flush_episodes=3) as writer:
        assert writer.episodes == 6


def test_a_full_disk_is_one_clear_error_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 4, flush_episodes=2)
    digest = DatasetReader(tmp_path).sha256()

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    message = r"could not write episodes 4\.\.4: .*No space left.*the 4 episodes"
    with pytest.raises(DatasetError, match=message), DatasetWriter(tmp_path, make_spec()) as writer:
        writer.add_episode(make_frames(4, 5), "stack", seed=4)
        monkeypatch.setattr(files, "sync", full)
        writer.flush()
    monkeypatch.undo()
    assert DatasetReader(tmp_path).sha256() == digest
    assert check_dataset(tmp_path) == []


def contents(path: Path) -> dict[str, bytes]:
    return {
        file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()
    }


def failing(monkeypatch: pytest.MonkeyPatch, first: int, last: int) -> list[str]:
    """From now on operations `first` .. `last` fail, counting renames and flushes to disk; what was done."""
    done: list[str] = []

    def counted(name: str, real: Callable) -> Callable:
        def operation(*arguments: object) -> object:
            done.append(name)
            if first <= len(done) - 1 <= last:
                raise OSError(5, "Input/output error")
            return real(*arguments)

        return operation

    monkeypatch.setattr(os, "replace", counted("rename", os.replace))
    monkeypatch.setattr(files, "sync", counted("sync", files.sync))
    return done


FLUSH = 5 * ["sync"] + 5 * ["rename", "sync"]  # data, episodes, stats, tasks, info


VIDEO_FLUSH = 6 * ["sync"] + 6 * ["rename", "sync"]  # with a video after the data


@pytest.mark.parametrize("kept", [0, 2, 4])
@pytest.mark.parametrize(
    ("image", "operation"),
    [*((False, n) for n in range(len(FLUSH))), *(("h264", n) for n in range(5, len(VIDEO_FLUSH)))],
)
def test_a_flush_that_fails_anywhere_leaves_the_dataset_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Any, operation: int, kept: int
) -> None:
    """It is the first one, one into the last file, or one into a new file."""
    with DatasetWriter(tmp_path, make_spec(image), flush_episodes=4) as writer:
        for number in range(kept):
            frames = make_frames(number, 5, image)
            writer.add_episode(frames, "stack", seed=number, instruction=f"words {number}")
        writer.flush()
        before = contents(tmp_path)
        writer.add_episode(make_frames(7, 5, image), "stack", seed=7, instruction="words 7")
        with monkeypatch.context() as patch:
            done = failing(patch, operation, operation)
            with pytest.raises(
                DatasetError, match=rf"could not write episodes {kept}\.\.{kept}: .*Input/output"
            ):
                writer.flush()
        assert done[: operation + 1] == (VIDEO_FLUSH if image else FLUSH)[: operation + 1]
        assert contents(tmp_path) == before and writer.episodes == kept + 1
        writer.add_episode(make_frames(8, 5, image), "stack", seed=8, instruction="words 8")
        assert len(DatasetReader(tmp_path)) == kept + 2  # at once: the last flush failed
    assert [episode.seed for episode in DatasetReader(tmp_path).episodes()] == [*range(kept), 7, 8]
    assert DatasetReader(tmp_path).instructions.texts[-2:] == ["words 7", "words 8"]
    assert check_dataset(tmp_path) == []


@pytest.mark.parametrize("operation", range(len(FLUSH)))
def test_a_disk_that_stays_broken_leaves_a_dataset_that_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: int
) -> None:
    """Where it broke after the commit, the new episode may be there."""
    write(tmp_path, 3)
    writer = DatasetWriter(tmp_path, make_spec())
    writer.add_episode(make_frames(7, 5), "stack", seed=7, instruction="new words")
    with monkeypatch.context() as patch:
        failing(patch, operation, 10**6)
        with pytest.raises(DatasetError, match="could not write episodes 3"):
            writer.flush()
    writer._stop_timer()
    os.close(writer._lock)
    committed = operation == len(FLUSH) - 1
    for _ in range(2):
        reader = DatasetReader(tmp_path)
        assert len(reader) == 3 + committed and reader.frames == sum(
            len(b["index"]) for b in reader.iter_batches()
        )
        with DatasetWriter(tmp_path, make_spec()):
            pass
        assert check_dataset(tmp_path) == []


def test_a_write_that_fails_in_the_middle(tmp_path: Path) -> None:
    """The system refuses files beyond 80 kB: three short episodes fit in one, a long one does not."""
    script = textwrap.dedent(
        """
        import os, resource, sys
        from keystep.data import DatasetError
        from toy_dataset import DatasetWriter, make_frames, make_spec
        resource.setrlimit(resource.RLIMIT_FSIZE, (80_000, 80_000))
        try:
            with DatasetWriter(sys.argv[1], make_spec(), flush_episodes=3) as writer:
                for number, length in enumerate((5, 5, 5, 5, 5, 5000)):
                    writer.add_episode(make_frames(number, length), "stack", seed=number)
        except DatasetError as error:
            sys.exit(str(error))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "d"), __file__], capture_output=True, text=True
    )
    assert done.returncode == 1 and "could not write episodes 3..5" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert len(DatasetReader(tmp_path / "d")) == 5  # all but the one that does not fit
    assert check_dataset(tmp_path / "d") == []


def test_ctrl_c_writes_the_complete_episodes(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), DatasetWriter(tmp_path, make_spec(), flush_episodes=50) as writer:
        writer.add_episode(make_frames(0, 5), "stack", seed=0)
        raise KeyboardInterrupt
    assert len(DatasetReader(tmp_path)) == 1
    assert check_dataset(tmp_path) == []


# ---- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"action": np.zeros((5, 3), np.float32)},
            r"action: expected float32 \(5, 2\), got float32 \(5, 3\)",
        ),
        ({"action": np.zeros((5, 2))}, r"action: expected float32 \(5, 2\), got float64"),
        ({"action": np.full((5, 2), np.nan, np.float32)}, "action: expected finite"),
        ({"surprise": np.zeros(5)}, "frames: expected .* got .*surprise"),
    ],
)
def test_bad_frames_are_refused_and_change_nothing(tmp_path: Path, change: dict, message: str) -> None:
    with DatasetWriter(tmp_path, make_spec()) as writer:
        with pytest.raises(DatasetError, match=message):
            writer.add_episode({**make_frames(0, 5), **change}, "stack", seed=0)
        with pytest.raises(DatasetError, match="task: expected one of lift_red, stack, got 'fly'"):
            writer.add_episode(make_frames(0, 5), "fly", seed=0)
        writer.add_episode(make_frames(0, 5), "stack", seed=0)
    assert len(DatasetReader(tmp_path)) == 1


def test_two_writers_are_refused(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, make_spec()), pytest.raises(DatasetError, match="expected no other writer"):
        DatasetWriter(tmp_path, make_spec())


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(DatasetError, match=r"found thesis.txt"):
        DatasetWriter(tmp_path, make_spec())
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_reading_what_is_not_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"info.json: expected a dataset file, found none"):
        DatasetReader(tmp_path)
    write(tmp_path / "d", 2)
    os.truncate(tmp_path / "d/data/chunk-000/file-000.parquet", 50)
    with pytest.raises(DatasetError, match=r"file-000.parquet: expected a readable parquet file"):
        list(DatasetReader(tmp_path / "d").iter_batches())
    edit_info(tmp_path / "d", codebase_version="v9.0")
    with pytest.raises(DatasetError, match=r"codebase_version: expected v3.0, got v9.0"):
        DatasetReader(tmp_path / "d")
