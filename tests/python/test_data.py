"""Datasets: the LeRobot v3.0 layout, crash safety, streaming, training windows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from keystep import files
from keystep.data import (
    ChunkWindows,
    DatasetError,
    DatasetReader,
    DatasetSpec,
    DatasetWriter,
    Feature,
    image_feature,
    split_episodes,
    stats,
)
from keystep.data.check import check_dataset

TASKS = {"lift_red": "Lift the red block.", "stack": "Stack one block on top of another block."}


def make_spec(image: bool = False, **collection: object) -> DatasetSpec:
    features = {
        "observation.state": Feature("float32", (3,), ("x", "y", "z")),
        "action": Feature("float32", (2,), ("dx", "gripper")),
    }
    if image:
        features["observation.images.static"] = image_feature(12, 16)
    return DatasetSpec(60, features, TASKS, "panda", collection)


def make_frames(seed: int, length: int, image: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    frames = {
        "observation.state": rng.normal(size=(length, 3)).astype(np.float32),
        "action": rng.uniform(-1, 1, size=(length, 2)).astype(np.float32),
    }
    if image:
        frames["observation.images.static"] = rng.integers(0, 256, (length, 12, 16, 3), dtype=np.uint8)
    return frames


def write(
    path: Path, episodes: int, image: bool = False, flush_episodes: int = 3, length: int = 10
) -> list[dict]:
    written = [make_frames(number, length + number, image) for number in range(episodes)]
    with DatasetWriter(path, make_spec(image), flush_episodes=flush_episodes) as writer:
        for number, frames in enumerate(written):
            writer.add_episode(frames, list(TASKS)[number % 2], seed=100 + number)
    return written


def read_all(path: Path) -> dict[str, np.ndarray]:
    batches = list(DatasetReader(path).iter_batches(batch_size=7))
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


# ---- layout -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", [False, True])
def test_what_is_written_conforms_and_is_read_back(tmp_path: Path, image: bool) -> None:
    written = write(tmp_path / "d", 8, image)
    assert check_dataset(tmp_path / "d") == []
    found = read_all(tmp_path / "d")
    for key in written[0]:
        np.testing.assert_array_equal(found[key], np.concatenate([frames[key] for frames in written]))
    reader = DatasetReader(tmp_path / "d")
    assert [(e.index, e.length, e.seed, e.task, e.success) for e in reader.episodes()] == [
        (n, 10 + n, 100 + n, list(TASKS)[n % 2], True) for n in range(8)
    ]
    assert reader.tasks == [{"name": name, "instruction": text} for name, text in TASKS.items()]
    np.testing.assert_array_equal(found["task_index"], np.repeat(np.arange(8) % 2, 10 + np.arange(8)))
    np.testing.assert_allclose(found["timestamp"], found["frame_index"] / 60, atol=1e-6)


def test_the_layout_has_the_documented_files(tmp_path: Path) -> None:
    write(tmp_path, 7)
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    chunks = {
        f"{folder}/chunk-000/file-00{n}.parquet" for folder in ("data", "meta/episodes") for n in range(3)
    }
    meta = {"meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/keystep.json"}
    assert names == chunks | meta


def test_one_row_group_per_episode(tmp_path: Path) -> None:
    write(tmp_path, 3)
    assert pq.ParquetFile(tmp_path / "data/chunk-000/file-000.parquet").num_row_groups == 3


def test_file_numbers_roll_over_into_the_next_chunk() -> None:
    from keystep.data.layout import DATA_PATH, file_name

    assert file_name(DATA_PATH, 999) == "data/chunk-000/file-999.parquet"
    assert file_name(DATA_PATH, 1000) == "data/chunk-001/file-000.parquet"


def edit_info(path: Path, **changes: object) -> None:
    info = json.loads((path / "meta/info.json").read_text())
    (path / "meta/info.json").write_text(json.dumps({**info, **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: edit_info(d, codebase_version="v2.1"), "codebase_version"),
        (lambda d: edit_info(d, total_frames=5), "total_frames"),
        (lambda d: edit_info(d, total_episodes=9, splits={"train": "0:9"}), "meta/episodes: expected 9 rows"),
        (lambda d: edit_info(d, splits={}), "splits"),
        (lambda d: edit_info(d, fps="60"), "fps"),
        (lambda d: edit_info(d, surprise=1), "surprise"),
        (lambda d: (d / "meta/stats.json").unlink(), "stats.json"),
        (lambda d: (d / "meta/tasks.parquet").unlink(), "tasks.parquet"),
        (lambda d: (d / "data/chunk-000/file-001.parquet").unlink(), "data: expected the files"),
        (lambda d: os.truncate(d / "data/chunk-000/file-001.parquet", 100), "arquet"),
        (lambda d: replace_column(d, "frame_index"), "frame_index"),
        (lambda d: replace_column(d, "index"), "index"),
        (lambda d: replace_column(d, "timestamp"), "timestamp"),
    ],
)
def test_the_checker_sees_damage(tmp_path: Path, damage, message: str) -> None:
    write(tmp_path, 5)
    damage(tmp_path)
    problems = check_dataset(tmp_path)
    assert problems and any(message in problem for problem in problems), problems


def replace_column(path: Path, column: str) -> None:
    file = path / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    number = table.schema.get_field_index(column)
    wrong = pa.array(table[column].to_numpy() + 1, table.schema.field(column).type)
    pq.write_table(table.set_column(number, table.schema.field(column), wrong), file)


def test_lerobot_itself_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lerobot = pytest.importorskip("lerobot.datasets.lerobot_dataset", reason="LeRobot is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    written = write(tmp_path / "d", 8, image=True)
    dataset = lerobot.LeRobotDataset(
        "keystep/test", root=tmp_path / "d", delta_timestamps={"action": [n / 60 for n in range(4)]}
    )
    assert (len(dataset), dataset.num_episodes, dataset.fps) == (sum(range(10, 18)), 8, 60)
    assert list(dataset.meta.tasks.index) == list(TASKS.values())
    assert dataset.meta.stats["observation.images.static"]["mean"].shape == (3, 1, 1)
    item = dataset[10]  # the first frame of episode 1
    assert item["task"] == TASKS["stack"]
    np.testing.assert_array_equal(item["observation.state"].numpy(), written[1]["observation.state"][0])
    np.testing.assert_array_equal(item["action"].numpy(), written[1]["action"][:4])
    image = item["observation.images.static"].numpy().transpose(1, 2, 0)
    np.testing.assert_allclose(image, written[1]["observation.images.static"][0] / 255.0, atol=1e-6)


# ---- statistics -------------------------------------------------------------------------------------------


def test_combined_statistics_are_those_of_all_frames(tmp_path: Path) -> None:
    written = write(tmp_path, 8, image=True)
    found = DatasetReader(tmp_path).stats
    for key, scale, axes in (
        ("observation.state", 1, 0),
        ("action", 1, 0),
        ("observation.images.static", 255, (0, 1, 2)),
    ):
        values = np.concatenate([frames[key] for frames in written]).astype(np.float64) / scale
        for name in ("min", "max", "mean", "std"):
            expected = getattr(values, name)(axis=axes)
            np.testing.assert_allclose(found[key][name].reshape(-1), expected, rtol=1e-6, atol=1e-9)
        assert found[key]["count"].tolist() == [len(values)]
    assert found["observation.images.static"]["mean"].shape == (3, 1, 1)


def test_quantiles_of_one_episode_are_exact() -> None:
    values = np.random.default_rng(0).normal(size=(101, 2)).astype(np.float32)
    found = stats.feature_stats(values)
    np.testing.assert_allclose(found["q50"], np.median(values.astype(np.float64), axis=0))
    np.testing.assert_allclose(found["q10"], np.sort(values.astype(np.float64), axis=0)[10])


# ---- crash safety -----------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("renames", [0, 1, 2, 3])
def test_a_kill_between_any_two_renames_leaves_the_last_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    """A flush renames data, episodes, stats, info; the process dies before rename number `renames`."""
    write(tmp_path, 4, flush_episodes=2)
    before, digest = read_all(tmp_path), DatasetReader(tmp_path).sha256()
    stats_before = DatasetReader(tmp_path).stats
    real, done = os.replace, []

    def replace(source: Path, target: Path) -> None:
        if len(done) == renames:
            raise SystemExit("killed")
        done.append(target)
        real(source, target)

    writer = DatasetWriter(tmp_path, make_spec(), flush_episodes=2)
    writer.add_episode(make_frames(9, 5), "stack", seed=9)
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(SystemExit):
        writer.flush()
    os.close(writer._lock)  # as the death of the process does
    monkeypatch.undo()

    after = read_all(tmp_path)
    for key in before:
        np.testing.assert_array_equal(after[key], before[key])
    assert DatasetReader(tmp_path).sha256() == digest
    assert DatasetReader(tmp_path).stats["action"]["count"] == stats_before["action"]["count"]

    with DatasetWriter(tmp_path, make_spec(), flush_episodes=2) as again:
        assert again.episodes == 4
        again.add_episode(make_frames(9, 5), "stack", seed=9)
    assert check_dataset(tmp_path) == []
    assert len(read_all(tmp_path)["index"]) == len(before["index"]) + 5


def test_a_killed_process_leaves_a_dataset_that_opens_and_resumes(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, signal, sys
        sys.path.insert(0, os.path.dirname(sys.argv[2]))
        from test_data import TASKS, DatasetWriter, make_frames, make_spec
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


def test_a_write_that_fails_in_the_middle(tmp_path: Path) -> None:
    """The system refuses files beyond 80 kB: three short episodes fit in one, a long one does not."""
    script = textwrap.dedent(
        """
        import os, resource, sys
        sys.path.insert(0, os.path.dirname(sys.argv[2]))
        from test_data import DatasetError, DatasetWriter, make_frames, make_spec
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
    assert len(DatasetReader(tmp_path / "d")) == 3
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


def test_other_settings_cannot_resume(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, make_spec(noise=0.0)) as writer:
        writer.add_episode(make_frames(0, 5), "stack", seed=0)
    with pytest.raises(DatasetError, match=r"noise: expected 0.5 to resume, got 0.0"):
        DatasetWriter(tmp_path, make_spec(noise=0.5))
    with pytest.raises(DatasetError, match="features: expected"):
        DatasetWriter(tmp_path, make_spec(image=True, noise=0.0))


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


# ---- streaming --------------------------------------------------------------------------------------------


def peak_memory(path: Path) -> int:
    """Python and numpy bytes held at most while all frames and all statistics are read."""
    reader = DatasetReader(path)
    tracemalloc.start()
    rows = sum(len(batch["index"]) for batch in reader.iter_batches(batch_size=64))
    for _ in reader.episode_stats():
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == reader.frames
    return peak


def test_reading_memory_does_not_grow_with_the_episodes(tmp_path: Path) -> None:
    for name, episodes in (("small", 10), ("large", 120)):
        with DatasetWriter(tmp_path / name, make_spec(image=True), flush_episodes=5) as writer:
            for number in range(episodes):
                writer.add_episode(make_frames(number, 16, image=True), "stack", seed=number)
    peak_memory(tmp_path / "small")  # imports and caches
    small, large = peak_memory(tmp_path / "small"), peak_memory(tmp_path / "large")
    frames = 120 * 16 * 12 * 16 * 3
    assert large - small < 0.1 * frames, (small, large)


# ---- windows ----------------------------------------------------------------------------------------------


def test_flat_windows_are_the_next_actions_padded_with_hold(tmp_path: Path) -> None:
    written = write(tmp_path / "d", 3)
    hold = np.array([0.0, 7.0], np.float32)
    windows = ChunkWindows(DatasetReader(tmp_path / "d"), 8, hold=hold, cache=tmp_path / "c")
    assert len(windows) == 10 + 11 + 12
    batch = windows.batch(np.arange(len(windows)), np.random.default_rng(0))
    row = 0
    for number, frames in enumerate(written):
        for t in range(len(frames["action"])):
            real = frames["action"][t : t + 8]
            np.testing.assert_array_equal(
                batch["action"][row], np.concatenate([real, np.tile(hold, (8 - len(real), 1))])
            )
            np.testing.assert_array_equal(batch["observation.state"][row], frames["observation.state"][t])
            assert batch["task"][row] == number % 2
            row += 1


def test_goal_windows_end_on_their_goal(tmp_path: Path) -> None:
    written = write(tmp_path / "d", 3, image=True)
    windows = ChunkWindows(
        DatasetReader(tmp_path / "d"), 8, condition="goal", lengths=(4, 8), cache=tmp_path / "c"
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
            assert (batch["action"][row, length:] == 0).all()
            lengths.add(length)
    assert lengths == {4, 5, 6, 7, 8}
    assert "task" not in batch


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
        ChunkWindows(reader, 8, lengths=(4, 9), cache=tmp_path / "c")


def test_data_does_not_import_torch() -> None:
    code = (
        "import sys, keystep.data, keystep.data.check, keystep.data.collect; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
