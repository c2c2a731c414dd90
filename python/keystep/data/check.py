"""Check a folder against the LeRobotDataset v3.0 layout: `python -m keystep.data.check FOLDER`.

Each rule restates what LeRobot (Apache-2.0) documents or relies on, and names where:
[doc] docs/source/lerobot-dataset-v3.mdx; [info] DatasetInfo in src/lerobot/datasets/utils.py; [io] load_* and
load_nested_dataset in io_utils.py; [meta] dataset_metadata.py; [writer] dataset_writer.py; [stats]
compute_stats.py; [features] get_hf_features_from_features in feature_utils.py; [reader] dataset_reader.py. It
shares no code with our writer beyond opening files.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from keystep.data.check_data import INDEX_DTYPES, Problems, check_data

INFO_TYPES: dict[str, tuple[type, ...]] = {
    "codebase_version": (str,),
    "robot_type": (str, type(None)),
    "total_episodes": (int,),
    "total_frames": (int,),
    "total_tasks": (int,),
    "chunks_size": (int,),
    "data_files_size_in_mb": (int,),
    "video_files_size_in_mb": (int,),
    "fps": (int,),
    "splits": (dict,),
    "data_path": (str,),
    "video_path": (str, type(None)),
    "features": (dict,),
}
EPISODE_TYPES = {
    "episode_index": pa.int64(),
    "tasks": pa.list_(pa.string()),
    "length": pa.int64(),
    "dataset_from_index": pa.int64(),
    "dataset_to_index": pa.int64(),
    "data/chunk_index": pa.int64(),
    "data/file_index": pa.int64(),
    "meta/episodes/chunk_index": pa.int64(),
    "meta/episodes/file_index": pa.int64(),
}
STATISTICS = ("min", "max", "mean", "std", "count")
FILE_PATTERN = re.compile(r"chunk-\d{3}/file-\d{3}\.parquet")


def check_dataset(path: str | Path) -> list[str]:
    """What is wrong with the dataset at `path`, one line each; empty when it conforms.

    Data files are read one at a time; of the episodes only the index columns are kept.
    """
    root = Path(path)
    try:
        info = json.loads((root / "meta/info.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return [f"meta/info.json: expected JSON [doc], got {error}"]
    problems = list(_check_info(info))
    if problems:
        return problems
    try:
        rows = _episode_rows(root)[: info["total_episodes"]]  # a crash may leave more of them, and of frames
        tasks = pq.read_table(root / "meta/tasks.parquet")
        texts = [str(text) for text in tasks[_text_column(tasks)].to_pylist()]
        problems += [*_check_tasks(tasks, info), *_check_episodes(info, rows), *_check_names(root)]
        problems += [*_check_stats(root, info), *check_data(root, info, rows, texts)]
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        problems.append(f"{type(error).__name__}: {error}")
    return problems


def _check_info(info: dict[str, Any]) -> Problems:
    for key, types in INFO_TYPES.items():
        if not isinstance(info.get(key, ...), types):
            names = " or ".join(kind.__name__ for kind in types)
            yield f"info.json: {key}: expected {names} [info], got {info.get(key, 'nothing')!r}"
    for key in sorted(set(info) - set(INFO_TYPES) - {"tools"}):
        yield f"info.json: {key}: expected no such key [info]"
    if info.get("codebase_version") != "v3.0":
        yield f"info.json: codebase_version: expected 'v3.0' [meta], got {info.get('codebase_version')!r}"
    for key in ("fps", "chunks_size", "data_files_size_in_mb", "video_files_size_in_mb"):
        if isinstance(info.get(key), int) and info[key] <= 0:
            yield f"info.json: {key}: expected a positive number [info], got {info[key]}"
    template = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    if info.get("data_path") != template:
        yield f"info.json: data_path: expected {template} [info], got {info.get('data_path')}"
    features = info.get("features") or {}
    for key, dtype in INDEX_DTYPES.items():
        found = features.get(key, {})
        if found.get("dtype") != dtype or found.get("shape") != [1]:
            yield f"info.json: features.{key}: expected dtype {dtype}, shape [1] [meta], got {found}"
    for key, feature in features.items():
        if "/" in key:
            yield f"info.json: features.{key}: expected a name without '/' [features]"
        if not {"dtype", "shape", "names"} <= set(feature):
            yield f"info.json: features.{key}: expected dtype, shape and names [doc], got {sorted(feature)}"
        elif feature["dtype"] == "string" and feature["shape"] != [1]:
            yield f"info.json: features.{key}.shape: expected [1] [features], got {feature['shape']}"
        elif feature["dtype"] in ("image", "video") and len(feature["shape"]) != 3:
            yield f"info.json: features.{key}.shape: expected 3 numbers [features], got {feature['shape']}"
    total = info.get("total_episodes")
    if total and info.get("splits") != {"train": f"0:{total}"}:
        yield f"info.json: splits: expected {{'train': '0:{total}'}} [meta], got {info.get('splits')}"


def _episode_rows(root: Path) -> list[dict[str, Any]]:
    """The index columns of meta/episodes, sorted as LeRobot's loader sorts files [io]."""
    rows: list[dict[str, Any]] = []
    for file in sorted((root / "meta/episodes").glob("*/*.parquet")):
        schema = pq.read_schema(file)
        for key, expected in EPISODE_TYPES.items():
            found = schema.field(key).type if key in schema.names else None
            if found != expected:
                raise ValueError(
                    f"{file.relative_to(root)}: {key}: expected {expected} [writer], got {found}"
                )
        place = file.relative_to(root / "meta/episodes").as_posix()
        rows += [
            {**row, "place": place} for row in pq.read_table(file, columns=list(EPISODE_TYPES)).to_pylist()
        ]
    return rows


def _text_column(table: pa.Table) -> str:
    """The column of tasks.parquet that pandas takes for the index: the text."""
    pandas = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))
    index = pandas.get("index_columns")
    if not index or index[0] not in table.column_names:
        raise ValueError(f"tasks.parquet: expected the task text as pandas index [io], got index {index}")
    return index[0]


def _check_tasks(table: pa.Table, info: dict[str, Any]) -> Problems:
    text = _text_column(table)
    if table.schema.field("task_index").type != pa.int64() or table.schema.field(text).type != pa.string():
        yield f"tasks.parquet: expected task_index int64 and text string [io], got {table.schema.types}"
    if table["task_index"].to_pylist() != list(range(info["total_tasks"])):
        yield f"tasks.parquet: task_index: expected {info['total_tasks']} numbers from 0 [meta]"
    if len(set(table[text].to_pylist())) != table.num_rows:
        yield "tasks.parquet: expected distinct texts [meta]"


def _check_episodes(info: dict[str, Any], rows: list[dict[str, Any]]) -> Problems:
    if len(rows) != info["total_episodes"]:
        yield f"meta/episodes: expected {info['total_episodes']} rows [meta], got {len(rows)}"
    start = 0
    for number, row in enumerate(rows):
        if row["episode_index"] != number:
            yield f"meta/episodes: episode_index: expected {number} [meta], got {row['episode_index']}"
        stop = start + row["length"]
        if (row["dataset_from_index"], row["dataset_to_index"]) != (start, stop):
            yield f"episode {number}: dataset_from_index, dataset_to_index: expected {start}, {stop} [writer]"
        place = (
            f"chunk-{row['meta/episodes/chunk_index']:03d}/file-{row['meta/episodes/file_index']:03d}.parquet"
        )
        if place != row["place"]:
            yield f"episode {number}: expected to be in {place} [writer], found in {row['place']}"
        start = stop
    if start != info["total_frames"]:
        yield f"info.json: total_frames: expected {start} [meta], got {info['total_frames']}"


def _check_names(root: Path) -> Problems:
    """LeRobot's loader reads every parquet file two levels down [io]: a stray one would add frames."""
    for folder in ("data", "meta/episodes"):
        for file in (root / folder).rglob("*.parquet"):
            if not FILE_PATTERN.fullmatch(file.relative_to(root / folder).as_posix()):
                yield f"{file.relative_to(root)}: expected a name like chunk-000/file-000.parquet [doc]"


def _check_stats(root: Path, info: dict[str, Any]) -> Problems:
    if not info["total_episodes"] and not (root / "meta/stats.json").exists():
        return  # LeRobot's loader takes a missing file for no statistics [io]
    stats = json.loads((root / "meta/stats.json").read_text(encoding="utf-8"))
    for key, feature in info["features"].items():
        if feature["dtype"] == "string":
            if key in stats:
                yield f"stats.json: {key}: expected no statistics of strings [stats]"
            continue
        shape = [3, 1, 1] if feature["dtype"] in ("image", "video") else feature["shape"]
        for name in STATISTICS:
            value = np.asarray(stats.get(key, {}).get(name, np.nan))
            expected = [1] if name == "count" else shape
            if list(value.shape) != expected or not np.isfinite(value).all():
                found = value.tolist()
                yield f"stats.json: {key}.{name}: expected finite, shape {expected} [stats], got {found}"
        if feature["dtype"] == "image" and np.max(stats.get(key, {}).get("max", 0)) > 1:
            yield f"stats.json: {key}.max: expected at most 1 [stats]"


def main() -> None:
    """Print the problems of the dataset named on the command line; exit 1 if there are any."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m keystep.data.check FOLDER")
    problems = check_dataset(sys.argv[1])
    print("\n".join(problems) or "conforms to LeRobotDataset v3.0")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
