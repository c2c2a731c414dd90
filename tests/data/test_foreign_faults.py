"""Damaged tables: a DatasetError that names the place, from the reader and from `check`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from foreign_dataset import CAMERA, TASKS, edit_column, edit_episodes, write_foreign, write_tasks
from foreign_faults import ACTION, DATA, patched, raw, refused_by_both, set_array, set_row, set_values


def swap_files(root: Path) -> None:
    first, second = (root / f"data/chunk-000/file-{number:03d}.parquet" for number in (0, 1))
    first.rename(root / "aside")
    second.rename(first)
    (root / "aside").rename(second)


def reorder_rows(root: Path) -> None:
    """The second episode first, in the data file only."""
    table = pq.read_table(root / DATA)
    pq.write_table(pa.concat_tables([table.slice(7), table.slice(0, 7)]), root / DATA)


FLOATS = pa.list_(pa.float32())
TABLE_FAULTS: list[tuple[Callable[[Path], None], str]] = [
    (set_values("index", lambda v: v * 2), "index: expected 1 in frame 1"),
    (set_values("index", lambda v: v + 5, 1), "file-001.parquet: episode 2: index: expected 11"),
    (set_values("episode_index", patched(8, 0)), "episode_index: expected 1 in frame 8"),
    (set_values("frame_index", lambda v: v + 1), "frame_index: expected 0 in frame 0"),
    (set_values("task_index", patched(2, -1)), "episode 0: task_index: expected 0..1"),
    (set_values("task_index", patched(2, 2)), "episode 0: task_index: expected 0..1"),
    (
        set_values("task_index", patched(2, 1)),
        "episode 0: tasks: expected ['öffne die Tür 🚪'] as task_index says",
    ),
    (set_array("task_index", patched(2, None), pa.int64()), "task_index: expected a value in every frame"),
    (reorder_rows, "index: expected 0 in frame 0"),
    (swap_files, "file-000.parquet: expected 11 rows as its episodes have, got 9"),
    (lambda root: edit_episodes(root, lambda rows: rows[::-1]), "episode_index: expected 0"),
    (lambda root: edit_episodes(root, lambda rows: rows[:2]), "meta/episodes: expected 3 rows"),
    (set_row(1, episode_index=0), "episode_index: expected 1"),
    (set_row(1, dataset_from_index=8, length=3), "episode 1: dataset_from_index: expected 7"),
    (set_row(1, length=5), "episode 1: dataset_to_index: expected"),
    (set_row(1, dataset_to_index=7, length=0), "with at least one frame"),
    (set_row(1, dataset_to_index=2**61, length=2**61 - 7), "episode 2: dataset_from_index: expected"),
    (set_row(1, **{"data/file_index": -1}), "data/file_index: expected integers of at least 0"),
    (set_row(1, **{"data/file_index": None}), "data/file_index: expected integers of at least 0"),
    (set_row(2, **{"data/file_index": 7}), "data: expected the files data/chunk-000/file-007.parquet"),
    (set_row(1, tasks=[]), "episode 1: tasks: expected a list of texts"),
    (set_row(1, tasks=["unknown"]), "episode 1: tasks: expected"),
    (lambda root: write_tasks(root, "pandas", TASKS, [1, 0]), "task_index: expected 0..1 in order"),
    (lambda root: write_tasks(root, "pandas", TASKS[:1]), "tasks.parquet: expected 2 instructions, got 1"),
    (
        lambda root: pq.write_table(
            pa.table({"task_index": [0, 1], "task": [b"a", b"b"]}), root / "meta/tasks.parquet"
        ),
        "tasks.parquet: task: expected text, got binary",
    ),
    (
        lambda root: pq.write_table(
            pa.table({"task_index": [0, 1], "words": ["a", "b"]}), root / "meta/tasks.parquet"
        ),
        "tasks.parquet: expected the texts as index or as column task",
    ),
    (raw("meta/tasks.parquet", b"PAR1"), "tasks.parquet: expected a readable parquet file"),
    (
        lambda root: (root / "meta/tasks.parquet").unlink(),
        "tasks.parquet: expected a dataset file, found none",
    ),
    (lambda root: os.truncate(root / DATA, 2000), "file-000.parquet: expected a readable parquet file"),
    (
        lambda root: os.truncate(root / "meta/episodes/chunk-000/file-000.parquet", 100),
        "meta/episodes/chunk-000/file-000.parquet: expected a readable parquet file",
    ),
    (
        lambda root: (
            (root / "data/chunk-000/file-0000.parquet").write_bytes((root / DATA).read_bytes()) and None
        ),
        "file-0000.parquet: expected only files that meta/episodes names",
    ),
    (set_array(ACTION, patched(3, [1.0, 2.0]), FLOATS), "got 2 elements instead of 3"),
    (set_array(ACTION, patched(3, None), FLOATS), "action: expected a value in every frame"),
    (set_array(ACTION, patched(3, [1.0, None, 2.0]), FLOATS), "action: expected a value in every frame"),
    (set_array(ACTION, patched(3, [1.0, float("nan"), 2.0]), FLOATS), "got NaN or infinity in row 3"),
    (
        set_array(ACTION, patched(3, [1.0, 1e300, 2.0]), pa.list_(pa.float64())),
        "action: expected values that float32",
    ),
    (lambda root: edit_column(root, ACTION, lambda a: pa.array(["x"] * len(a))), "action: expected float32"),
    (
        lambda root: edit_column(root, ACTION, lambda a: a.flatten()[:11]),
        "action: expected float32 of shape [3]",
    ),
    (set_array("next.done", patched(3, None), pa.bool_()), "next.done: expected a value in every frame"),
    (set_array("note", patched(3, None), pa.string()), "note: expected a value in every frame"),
    (set_array("note", patched(3, "a\0"), pa.string()), "note: expected text without NUL"),
    (
        set_array(CAMERA, lambda a: [{"path": "x.png"}] * len(a), pa.struct([("path", pa.string())])),
        "struct<bytes",
    ),
    (
        lambda root: edit_column(root, CAMERA, lambda a: pa.array(["x.png"] * len(a))),
        "expected images as struct",
    ),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_foreign(tmp_path / "d", camera=[6, 8, 3])
    return tmp_path / "d"


@pytest.mark.parametrize(("damage", "message"), TABLE_FAULTS)
def test_damaged_tables(root: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(root)
    refused_by_both(root, message)


def test_a_column_that_is_there_twice(root: Path) -> None:
    table = pq.read_table(root / DATA)
    pq.write_table(table.append_column(ACTION, table[ACTION]), root / DATA)
    refused_by_both(root, "file-000.parquet: expected the column action as in info.json, found several")
