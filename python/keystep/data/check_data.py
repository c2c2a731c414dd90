"""The data files of a LeRobotDataset v3.0 folder, for `keystep.data.check`; sources are named as there."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

INDEX_DTYPES = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
TIMESTAMP_TOLERANCE_S = 1e-4  # LeRobotDataset's tolerance_s

Problems = Iterator[str]


def check_data(root: Path, info: dict[str, Any], rows: list[dict[str, Any]], tasks: list[str]) -> Problems:
    """Problems of the data files.

    Args:
        rows: the index columns of meta/episodes.
        tasks: instructions by task index.
    """
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
            yield from _check_frames(row, part, info, tasks)
            offset, episode = offset + row["length"], episode + 1
        if offset > table.num_rows or (offset < table.num_rows and episode < len(rows)):
            yield f"{name}: expected {offset} rows as its episodes have, got {table.num_rows}"
        yield from _check_images(name, file, info)
        yield from _check_values(name, file, info)


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
            text = feature["dtype"] == "string"
            value = pa.string() if text else pa.from_numpy_dtype(feature["dtype"])
            expected = value if feature["shape"] == [1] else pa.list_(value, feature["shape"][0])
        if found != expected:
            yield f"{name}: {key}: expected {expected} [features], got {found}"
    extra = set(schema.names) - set(info["features"])
    if extra:
        yield f"{name}: expected only the columns of info.json [io], got also {sorted(extra)}"


def _check_frames(
    row: dict[str, Any], part: dict[str, np.ndarray], info: dict[str, Any], tasks: list[str]
) -> Problems:
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
    numbers = np.unique(part["task_index"])
    if not ((numbers >= 0) & (numbers < info["total_tasks"])).all():
        yield f"{label}: task_index: expected 0..{info['total_tasks'] - 1} [meta]"
    elif (told := {tasks[n] for n in numbers if n < len(tasks)}) != set(row["tasks"]):
        yield f"{label}: tasks: expected {sorted(told)} as task_index says [reader], got {row['tasks']}"


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


def _check_values(name: str, file: pq.ParquetFile, info: dict[str, Any]) -> Problems:
    """Strings and truth values are there in every frame; strings are UTF-8 without NUL."""
    features = info["features"].items()
    keys = [key for key, feature in features if feature["dtype"] in ("string", "bool")]
    for key in set(keys) & set(file.schema_arrow.names):
        column = file.read(columns=[key])[key]
        if column.null_count:
            yield f"{name}: {key}: expected a value in every frame [reader], got {column.null_count} without"
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            yield f"{name}: {key}: expected UTF-8 [features], got {error}"
            continue
        if column.type == pa.string() and any(
            "\0" in value for value in column.unique().to_pylist() if value
        ):
            yield f"{name}: {key}: expected text without NUL, got some"
