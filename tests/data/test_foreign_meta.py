"""Damaged meta files: a DatasetError that names file and field, from the reader and from `check`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from foreign_dataset import CAMERA, write_foreign
from foreign_faults import (
    ACTION,
    COLLECTION,
    INFO,
    STATS,
    drop_feature,
    drop_info,
    raw,
    refused_by_both,
    set_feature,
    set_info,
)

NESTED = b"[" * 100_000 + b"]" * 100_000
INFO_FAULTS: list[tuple[Callable[[Path], None], str]] = [
    (set_info(fps=0), "fps: expected a positive number, got 0"),
    (set_info(fps=-30), "fps: expected"),
    (set_info(fps=float("nan")), "fps: expected"),
    (set_info(fps=float("inf")), "fps: expected"),
    (set_info(fps="30"), "fps: expected"),
    (set_info(fps=True), "fps: expected"),
    (drop_info("fps"), "fps: expected"),
    (set_info(chunks_size=0), "chunks_size: expected an integer of at least 1, got 0"),
    (set_info(chunks_size=None), "chunks_size: expected"),
    (set_info(total_episodes=-1), "total_episodes: expected"),
    (set_info(total_episodes=3.0), "total_episodes: expected"),
    (set_info(total_episodes=10**30), "total_episodes: expected"),
    (set_info(total_episodes=10**9), "meta/episodes: expected 1000000000 rows"),
    (set_info(total_frames=[20]), "total_frames: expected"),
    (set_info(total_frames=10**12), "total_frames: expected 20"),
    (set_info(total_frames=0), "total_frames: expected 20"),
    (set_info(total_tasks=10**8), "tasks.parquet: expected 100000000 instructions, got 2"),
    (set_info(total_tasks="2"), "total_tasks: expected"),
    (set_info(total_tasks=1), "task_index: expected 0..0"),
    (set_info(total_tasks=0), "task_index: expected none, as info.json: total_tasks is 0, got 0"),
    (drop_info("total_tasks"), "total_tasks: expected"),
    (set_info(codebase_version=3), "codebase_version: expected v3.0"),
    (set_info(codebase_version="v2.1"), "convert_dataset_v21_to_v30"),
    (set_info(data_path="../../etc/{chunk_index}/{file_index}"), "data_path: expected"),
    (set_info(data_path="data/{chunk_index.__class__}{file_index}"), "data_path: expected"),
    (set_info(data_path="data/{chunk_index:099999999d}{file_index}"), "data_path: expected"),
    (set_info(data_path=None), "data_path: expected"),
    (set_info(features=None), "features: expected"),
    (set_info(features=[]), "features: expected"),
    (set_info(features={}), "features.timestamp: expected float32"),
    (set_info(features={"action": 5}), "features.action: expected an object, got 5"),
    (drop_feature("task_index"), "features.task_index: expected int64, shape [1]"),
    (set_feature("index", shape=[3], dtype="float32"), "features.index: expected int64, shape [1]"),
    (set_feature("timestamp", shape=[2]), "features.timestamp: expected float32, shape [1]"),
    (set_feature(ACTION, shape=None), "features.action.shape: expected one to five positive integers"),
    (set_feature(ACTION, shape=[]), "features.action.shape: expected one to five"),
    (set_feature(ACTION, shape=[0]), "features.action.shape: expected one to five"),
    (set_feature(ACTION, shape=[-3]), "features.action.shape: expected one to five"),
    (set_feature(ACTION, shape=["3"]), "features.action.shape: expected one to five"),
    (set_feature(ACTION, shape=[1 << 40]), "features.action.shape: expected one to five"),
    (set_feature(ACTION, shape=[4]), "action: expected float32 of shape [4], got 3 elements"),
    (set_feature(ACTION, shape=[3, 1]), "action: expected float32 of shape [3, 1], got values of type float"),
    (set_feature("observation.pose", shape=[16]), "observation.pose: expected float32 of shape [16], got 4"),
    (set_feature(ACTION, dtype="object"), "features.action.dtype: expected a number type"),
    (set_feature(ACTION, dtype=["float32"]), "features.action.dtype: expected a number type"),
    (set_feature(ACTION, dtype="datetime64[ns]"), "features.action.dtype: expected a number type"),
    (set_feature(ACTION, dtype="int64"), "action: expected values that int64 can hold"),
    (set_feature("note", dtype="float32"), "note: expected float32 of shape [1], got"),
    (set_feature("counter", dtype="string"), "counter: expected text, got int64"),
    (set_feature("counter", dtype="uint8"), "counter: expected values that uint8 can hold"),
    (set_feature("note", shape=[2]), "features.note.shape: expected [1] for texts"),
    (
        set_feature("a/b", dtype="float32", shape=[1]),
        "features: expected a printable name without '/', got 'a/b'",
    ),
    (set_feature("..\0", dtype="float32", shape=[1]), "expected a printable name"),
    (set_feature("a\n\x1b[31m", dtype="float32", shape=[1]), r"got 'a\n\x1b[31m'"),
    (set_feature("x" * 300, dtype="float32", shape=[1]), "expected a name of at most 200 bytes"),
    (set_feature("more", dtype="float32", shape=[1]), "file-000.parquet: expected the column more"),
    (
        set_feature("observation.images.a", dtype="video", shape=[6, 8, 3]),
        "video_path: expected videos/{video_key}/chunk-",
    ),
    (set_feature(CAMERA, shape=[6, 8, 1]), "features.observation.images.top.shape: expected 3 channels"),
    (set_feature(CAMERA, shape=[6, 8]), "expected height, width and channels"),
    (set_feature(CAMERA, shape=[60000, 60000, 3]), "sides of at most 16384 pixels"),
    (set_feature(CAMERA, shape=[8, 6, 3]), "expected 8 x 6 pixels as declared, got 6 x 8"),
    (raw(INFO, b'{"fps": \xff}'), "info.json: expected JSON in UTF-8"),
    (raw(INFO, b"\xef\xbb\xbf{}"), "info.json: expected JSON"),
    (raw(INFO, b'{"\\ud800": 1}'), "info.json: expected JSON in UTF-8"),
    (raw(INFO, b""), "info.json: expected JSON"),
    (raw(INFO, b"[]"), "info.json: expected a JSON object"),
    (raw(INFO, b"null"), "info.json: expected a JSON object"),
    (raw(INFO, NESTED), "info.json: expected JSON, got too many levels"),
    (raw(INFO, b'{"total_frames": ' + b"9" * 10_000 + b"}"), "info.json: expected JSON"),
    (raw(INFO, b'"' + b"x" * (17 << 20) + b'"'), "info.json: expected at most 16 MiB"),
    (raw(STATS, NESTED), "stats.json: expected JSON"),
    (raw(STATS, b"[1]"), "stats.json: expected an object"),
    (raw(COLLECTION, b"[]"), "keystep.json: expected an object"),
    (raw(COLLECTION, b'{"tasks": [{"name": 1}]}'), "keystep.json: expected an object"),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_foreign(tmp_path / "d", camera=[6, 8, 3])
    return tmp_path / "d"


@pytest.mark.parametrize(("damage", "message"), INFO_FAULTS)
def test_damaged_meta_files(root: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(root)
    refused_by_both(root, message)
