"""Datasets: the LeRobot v3.0 layout, crash safety, streaming, training windows."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_dataset import TASKS, edit_info, make_frames, make_spec, read_all, write

from keystep.data import (
    DatasetReader,
    DatasetWriter,
    stats,
)
from keystep.data.check import check_dataset, inspect_dataset

# ---- layout -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", [False, True])
def test_what_is_written_conforms_and_is_read_back(tmp_path: Path, image: bool) -> None:
    written = write(tmp_path / "d", 8, image)
    findings = inspect_dataset(tmp_path / "d")
    assert findings.problems == findings.remarks == []
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


@pytest.mark.parametrize("levels", [(0, 256), (7, 8), (200, 203)])
def test_statistics_of_images_are_exact(levels: tuple[int, int]) -> None:
    images = np.random.default_rng(0).integers(*levels, (5, 6, 7, 3), dtype=np.uint8)
    found, flat = stats.feature_stats(images), images.reshape(-1, 3) / 255
    wanted = {name: getattr(flat, name)(axis=0) for name in ("min", "max", "mean", "std")}
    wanted |= {name: np.quantile(flat, share, axis=0) for name, share in stats.QUANTILES.items()}
    assert found.pop("count").tolist() == [5] and found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].shape == (3, 1, 1)
        np.testing.assert_allclose(found[name].reshape(-1), value, rtol=1e-12, atol=1e-12)


def test_statistics_of_images_take_little_memory() -> None:
    """An episode of two minutes is gigabytes: no copy of another type of it fits beside it."""
    images = np.random.default_rng(0).integers(0, 256, (40, 96, 128, 3), dtype=np.uint8)
    tracemalloc.start()
    stats.feature_stats(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < images.nbytes, peak


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


def test_data_does_not_import_torch() -> None:
    code = "import sys, keystep.data.check, keystep.record.collect; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
