"""Finished episodes reach the disk in time, whatever happens then: kills, hangs, full disks, Ctrl-C."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from fake_expert import fake_source
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_dataset import TASKS, make_frames, make_spec, read_all, write

from keystep import files
from keystep.data import DatasetError, DatasetReader, DatasetWriter
from keystep.data.check import check_dataset
from keystep.record.collect import collect_from

HANG_S = 300.0  # of a test that fails; no test waits so long


def committed(path: Path) -> int:
    return len(DatasetReader(path)) if (path / "meta/info.json").exists() else 0


def wait_for(done: Callable[[], bool], process: subprocess.Popen | None = None) -> None:
    deadline = time.monotonic() + HANG_S
    while not done():
        assert time.monotonic() < deadline, "it did not come"
        assert process is None or process.poll() is None, "the process ended"
        time.sleep(0.02)


def seeds(path: Path) -> list[int | None]:
    return [episode.seed for episode in DatasetReader(path).episodes()]


# ---- in time ----------------------------------------------------------------------------------------------


def test_an_episode_is_written_while_nothing_is_added(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, make_spec(), flush_seconds=0.05) as writer:
        for number in range(3):
            writer.add_episode(make_frames(number, 5), "stack", seed=number)
            wait_for(lambda expected=number + 1: committed(tmp_path) == expected)
            assert check_dataset(tmp_path) == []
    assert seeds(tmp_path) == [0, 1, 2]


def test_the_count_bounds_what_waits_and_zero_seconds_write_at_once(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "a", make_spec(), flush_seconds=math.inf, flush_episodes=2) as writer:
        for number in range(5):
            writer.add_episode(make_frames(number, 5), "stack", seed=number)
            assert committed(tmp_path / "a") == (number + 1) // 2 * 2
    with DatasetWriter(tmp_path / "b", make_spec(), flush_seconds=0) as writer:
        for number in range(3):
            writer.add_episode(make_frames(number, 5), "stack", seed=number)
            assert committed(tmp_path / "b") == number + 1


@pytest.mark.parametrize("image", [True, "h264", "av1"])
@settings(max_examples=10, deadline=None)
@given(st.lists(st.sampled_from(["add", "add", "flush", "reopen"]), max_size=14))
def test_files_do_not_depend_on_when_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, image: Any, events: list[str]
) -> None:
    path, number = tmp_path_factory.mktemp("d"), 0
    writer = DatasetWriter(path / "parts", make_spec(image=image), flush_episodes=3)
    for event in events:
        if event == "add":
            writer.add_episode(make_frames(number, 10 + number, image), list(TASKS)[number % 2], 100 + number)
            number += 1
        elif event == "flush":
            writer.flush()
        else:
            writer.close()
            writer = DatasetWriter(path / "parts", make_spec(image=image), flush_episodes=3)
    writer.close()
    write(path / "whole", number, image=image, flush_episodes=3)
    parts, whole = DatasetReader(path / "parts"), DatasetReader(path / "whole")
    assert parts.sha256() == whole.sha256() and check_dataset(path / "parts") == []
    assert len(list((path / "parts/data").rglob("*.parquet"))) == -(-number // 3)
    videos = len(list((path / "parts").rglob("*.mp4")))
    assert videos == (0 if image is True else -(-number // 3))
    shutil.rmtree(path)


@pytest.mark.parametrize("image", [True, "h264"])
def test_a_reader_that_was_open_before_sees_what_it_saw(tmp_path: Path, image: Any) -> None:
    """The last file grows under it, and is replaced."""
    with DatasetWriter(tmp_path, make_spec(image), flush_seconds=0) as writer:
        for number in range(2):
            writer.add_episode(make_frames(number, 5, image), "stack", seed=number)
        reader = DatasetReader(tmp_path)
        before = read_all(tmp_path)
        for number in range(2, 4):
            writer.add_episode(make_frames(number, 5, image), "stack", seed=number)
        after = [batch for batch in reader.iter_batches()]
        for key in ("action", "observation.images.static"):
            np.testing.assert_array_equal(np.concatenate([b[key] for b in after]), before[key])
        assert [episode.seed for episode in reader.episodes()] == [0, 1]
        np.testing.assert_array_equal(reader.read_episode(reader.episode(1))["index"], np.arange(5, 10))


def test_a_last_file_of_another_version_is_not_continued(tmp_path: Path) -> None:
    write(tmp_path, 2)
    file = tmp_path / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    pq.write_table(table.drop_columns([n for n in table.column_names if n.endswith("/q50")]), file)
    with DatasetWriter(tmp_path, make_spec()) as writer:
        writer.add_episode(make_frames(2, 5), "stack", seed=2)
    assert seeds(tmp_path) == [100, 101, 2] and check_dataset(tmp_path) == []
    assert len(list((tmp_path / "data").rglob("*.parquet"))) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flush_seconds": -1}, "flush_seconds: expected a number from 0 to 1000000000, or infinity, got -1"),
        ({"flush_seconds": 10**400}, "flush_seconds: expected a number from .* got 1000"),
        ({"flush_seconds": 1e10}, "flush_seconds: expected a number from .* got 10000000000.0"),
        ({"flush_seconds": -math.inf}, "flush_seconds: .* got -inf"),
        ({"flush_seconds": math.nan}, "flush_seconds: .* got nan"),
        ({"flush_seconds": "10"}, "flush_seconds: .* got '10'"),
        ({"flush_episodes": 0}, "flush_episodes: expected a whole number of at least 1, got 0"),
        ({"flush_episodes": 2.5}, "flush_episodes: .* got 2.5"),
    ],
)
def test_bad_limits(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        DatasetWriter(tmp_path / "d", make_spec(), **options)
    with pytest.raises(DatasetError, match=message):
        collect_from(fake_source(), tmp_path / "d", 1, **options)
    assert not (tmp_path / "d").exists()


# ---- collections that are killed --------------------------------------------------------------------------


def start_collection(path: Path, processes: int, hang_at: int) -> subprocess.Popen:
    """Of the fake expert, which never comes back from the seed `hang_at`."""
    script = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        from fake_expert import collect_from, fake_source
        if __name__ == "__main__":
            path, processes, hang_at = Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
            collect_from(fake_source(hang_at=hang_at), path, 10**6, processes, flush_seconds=0.1)
        """
    )
    arguments = [sys.executable, "-c", script, __file__, str(path), str(processes), str(hang_at)]
    return subprocess.Popen(arguments, start_new_session=True)


def kill(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_job_has_its_finished_episodes_and_goes_on(tmp_path: Path, processes: int) -> None:
    """Three times, while an episode hangs."""
    for hang_at, finished in ((20, 6), (30, 10), (40, 13)):  # even seeds that are not divisible by 3
        process = start_collection(tmp_path, processes, hang_at)
        try:
            wait_for(lambda expected=finished: committed(tmp_path) == expected, process)
        finally:
            kill(process)
        assert seeds(tmp_path) == [seed for seed in range(0, hang_at, 2) if seed % 3]
        assert check_dataset(tmp_path) == []
    assert len(list((tmp_path / "data").rglob("*.parquet"))) == 1


# ---- flushes that fail ------------------------------------------------------------------------------------


def full(path: Path) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_keeps_what_waits_and_refuses_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DatasetWriter(tmp_path, make_spec(), flush_episodes=3) as writer:
        for number in range(2):
            writer.add_episode(make_frames(number, 5), "stack", seed=number, instruction=f"words {number}")
        with monkeypatch.context() as patch:
            patch.setattr(files, "sync", full)
            for _ in range(3):
                with pytest.raises(DatasetError, match=r"could not write episodes 0\.\.2: .*No space left"):
                    writer.add_episode(make_frames(2, 5), "stack", seed=2, instruction="words 2")
                assert writer.episodes == 2
            with pytest.raises(DatasetError, match=r"could not write episodes 0\.\.1"):
                writer.flush()
        writer.add_episode(make_frames(2, 5), "stack", seed=2, instruction="words 2")
        assert committed(tmp_path) == 3
    assert seeds(tmp_path) == [0, 1, 2] and check_dataset(tmp_path) == []
    assert DatasetReader(tmp_path).instructions.texts[2:] == ["words 0", "words 1", "words 2"]


def test_the_timer_tries_again_and_the_next_episode_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DatasetWriter(tmp_path, make_spec(), flush_seconds=0.05) as writer:
        with monkeypatch.context() as patch:
            tried = []
            patch.setattr(files, "sync", lambda path: tried.append(path) or full(path))
            writer.add_episode(make_frames(0, 5), "stack", seed=0)
            wait_for(lambda: bool(tried))
            with pytest.raises(DatasetError, match=r"could not write episodes 0\.\.1"):
                writer.add_episode(make_frames(1, 5), "stack", seed=1)
            assert writer.episodes == 1
        wait_for(lambda: committed(tmp_path) == 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("renames", range(5))
def test_any_exception_leaves_dataset_and_memory_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int, error: type[BaseException]
) -> None:
    real, done = os.replace, []

    def replace(source: Path, target: Path) -> None:
        done.append(target)
        if len(done) == renames + 1:
            raise error("now")
        real(source, target)

    write(tmp_path, 2)
    digest = DatasetReader(tmp_path).sha256()
    with DatasetWriter(tmp_path, make_spec()) as writer:
        writer.add_episode(make_frames(2, 5), "stack", seed=2, instruction="new words")
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace)
            with pytest.raises(DatasetError if error is MemoryError else error):
                writer.flush()
        assert DatasetReader(tmp_path).sha256() == digest and check_dataset(tmp_path) == []
        assert writer.episodes == 3
    assert seeds(tmp_path) == [100, 101, 2] and check_dataset(tmp_path) == []


def test_a_folder_that_was_replaced_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "d"
    writer = DatasetWriter(path, make_spec())
    writer.add_episode(make_frames(0, 5), "stack", seed=0)
    path.rename(tmp_path / "moved")
    write(path, 3)
    with pytest.raises(DatasetError, match="expected the folder that was opened, found another one"):
        writer.flush()
    assert seeds(path) == [100, 101, 102] and check_dataset(path) == []
    shutil.rmtree(path)
    (tmp_path / "moved").rename(path)
    writer.close()
    assert seeds(path) == [0]


def test_a_closed_writer_says_so(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path, make_spec())
    writer.close()
    writer.close()
    with pytest.raises(DatasetError, match="expected an open writer, got one that was closed"):
        writer.add_episode(make_frames(0, 5), "stack", seed=0)
    with pytest.raises(DatasetError, match="expected an open writer"):
        writer.flush()
