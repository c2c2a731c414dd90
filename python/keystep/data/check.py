"""Check a folder against the LeRobotDataset v3.0 layout: `python -m keystep.data.check FOLDER`.

Each rule restates what LeRobot (Apache-2.0) documents or relies on, and names where:
[doc] docs/source/lerobot-dataset-v3.mdx; [info] DatasetInfo in src/lerobot/datasets/utils.py; [io] load_* and
load_nested_dataset in io_utils.py; [meta] dataset_metadata.py; [writer] dataset_writer.py; [stats]
compute_stats.py; [features] get_hf_features_from_features in feature_utils.py. It shares no code with our
writer beyond opening files.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

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
INDEX_DTYPES = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
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
TIMESTAMP_TOLERANCE_S = 1e-4  # LeRobotDataset's tolerance_s

Problems = Iterator[str]


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
        rows = _episode_rows(root)
        problems += [*_check_tasks(root, info), *_check_episodes(info, rows), *_check_names(root)]
        problems += [*_check_stats(root, info), *_check_data(root, info, rows)]
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


def _check_tasks(root: Path, info: dict[str, Any]) -> Problems:
    table = pq.read_table(root / "meta/tasks.parquet")
    pandas = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))
    index = pandas.get("index_columns")
    if not index or index[0] not in table.column_names:
        yield f"tasks.parquet: expected the task text as pandas index [io], got index {index}"
        return
    if (
        table.schema.field("task_index").type != pa.int64()
        or table.schema.field(index[0]).type != pa.string()
    ):
        yield f"tasks.parquet: expected task_index int64 and text string [io], got {table.schema.types}"
    if table["task_index"].to_pylist() != list(range(info["total_tasks"])):
        yield f"tasks.parquet: task_index: expected 0..{info['total_tasks'] - 1} [meta]"
    if len(set(table[index[0]].to_pylist())) != table.num_rows:
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
    stats = json.loads((root / "meta/stats.json").read_text(encoding="utf-8"))
    for key, feature in info["features"].items():
        if feature["dtype"] == "string":
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


def _check_data(root: Path, info: dict[str, Any], rows: list[dict[str, Any]]) -> Problems:
    expected_files = [
        info["data_path"].format(chunk_index=r["data/chunk_index"], file_index=r["data/file_index"])
        for r in rows
    ]
    found = [path.relative_to(root).as_posix() for path in sorted((root / "data").glob("*/*.parquet"))]
    if found != list(dict.fromkeys(expected_files)):
        yield f"data: expected the files {list(dict.fromkeys(expected_files))} [io], got {found}"
        return
    episode = 0
    for name in found:
        file = pq.ParquetFile(root / name)
        yield from _check_schema(name, file.schema_arrow, info)
        table = file.read(columns=list(INDEX_DTYPES))
        columns = {key: table[key].to_numpy() for key in INDEX_DTYPES}
        offset = 0
        while episode < len(rows) and expected_files[episode] == name:
            row = rows[episode]
            part = {key: value[offset : offset + row["length"]] for key, value in columns.items()}
            yield from _check_frames(row, part, info)
            offset, episode = offset + row["length"], episode + 1
        if offset != table.num_rows:
            yield f"{name}: expected {offset} rows as its episodes have, got {table.num_rows}"
        yield from _check_images(name, file, info)


def _check_schema(name: str, schema: pa.Schema, info: dict[str, Any]) -> Problems:
    hub = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    for key, feature in info["features"].items():
        if feature["dtype"] == "video":
            continue
        found = schema.field(key).type if key in schema.names else None
        if feature["dtype"] == "image":
            expected: pa.DataType = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
            if hub.get(key) != {"_type": "Image"}:
                yield f"{name}: {key}: expected Image in huggingface metadata [features], got {hub.get(key)}"
        else:
            value = pa.from_numpy_dtype(feature["dtype"])
            expected = value if feature["shape"] == [1] else pa.list_(value, feature["shape"][0])
        if found != expected:
            yield f"{name}: {key}: expected {expected} [features], got {found}"
    extra = set(schema.names) - set(info["features"])
    if extra:
        yield f"{name}: expected only the columns of info.json [io], got also {sorted(extra)}"


def _check_frames(row: dict[str, Any], part: dict[str, np.ndarray], info: dict[str, Any]) -> Problems:
    length, label = row["length"], f"episode {row['episode_index']}"
    if not np.array_equal(part["index"], np.arange(row["dataset_from_index"], row["dataset_to_index"])):
        yield f"{label}: index: expected {row['dataset_from_index']}..{row['dataset_to_index'] - 1} [writer]"
    if not np.array_equal(part["frame_index"], np.arange(length)):
        yield f"{label}: frame_index: expected 0..{length - 1} [writer]"
    if not (part["episode_index"] == row["episode_index"]).all():
        yield f"{label}: episode_index: expected {row['episode_index']} in every frame [writer]"
    if len(part["timestamp"]) == length:
        error = np.abs(part["timestamp"] - np.arange(length) / info["fps"])
        if error.max(initial=0.0) > TIMESTAMP_TOLERANCE_S:
            yield f"{label}: timestamp: expected frame_index / fps within {TIMESTAMP_TOLERANCE_S} s [doc]"
    if not ((part["task_index"] >= 0) & (part["task_index"] < info["total_tasks"])).all():
        yield f"{label}: task_index: expected 0..{info['total_tasks'] - 1} [meta]"


def _check_images(name: str, file: pq.ParquetFile, info: dict[str, Any]) -> Problems:
    """The first image of every file decodes to the declared size."""
    keys = [key for key, feature in info["features"].items() if feature["dtype"] == "image"]
    if not keys or file.num_row_groups == 0:
        return
    first = next(file.iter_batches(1, columns=keys)).to_pylist()[0]
    for key in keys:
        height, width, _ = info["features"][key]["shape"]
        with Image.open(io.BytesIO(first[key]["bytes"])) as image:
            if (image.format, image.size) != ("PNG", (width, height)):
                found = f"{image.format} {image.size}"
                yield f"{name}: {key}: expected PNG {(width, height)} [features], got {found}"


def main() -> None:
    """Print the problems of the dataset named on the command line; exit 1 if there are any."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m keystep.data.check FOLDER")
    problems = check_dataset(sys.argv[1])
    print("\n".join(problems) or "conforms to LeRobotDataset v3.0")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
