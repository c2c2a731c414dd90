"""Small LeRobotDataset v3.0 folders as other programs write them; needs neither LeRobot nor pandas."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

LENGTHS = (7, 4, 9)
TASKS = ["stack the cups", "öffne die Tür 🚪"]
FPS = 30
SHAPES = {"observation.state": (5,), "action": (3,), "observation.pose": (4, 4), "observation.gripper": (1,)}
CAMERA = "observation.images.top"
INDEX = {
    "timestamp": "float32",
    **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), "int64"),
}
LISTS: dict[str, Callable[[pa.DataType, int], pa.DataType]] = {
    "fixed": lambda value, size: pa.list_(value, size),
    "list": lambda value, size: pa.list_(value),
    "large_list": lambda value, size: pa.large_list(value),
    "list_view": lambda value, size: pa.list_view(value),
    "mixed": lambda value, size: pa.large_list(value) if size == 4 else pa.list_(value, size),
}
STYLES = (*LISTS, "dictionary", "extension", "wider", "pandas", "polars")


class Wrapped(pa.ExtensionType):
    """Stands for `datasets.Array2D` and its kind: an extension type that another program has registered."""

    def __init__(self, storage: pa.DataType) -> None:
        super().__init__(storage, "foreign.wrapped")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> Wrapped:
        return cls(storage)


def frames(dtype: str = "float32", camera: bool = False) -> dict[str, np.ndarray]:
    """All frames of all episodes, as a reader gives them."""
    rng, total = np.random.default_rng(7), sum(LENGTHS)
    found = {key: (50 * rng.normal(size=(total, *shape))).astype(dtype) for key, shape in SHAPES.items()}
    found["next.done"] = rng.random(total) < 0.3
    found["counter"] = rng.integers(-1000, 1000, (total, 1))
    found["note"] = np.array([f"Schritt {n % 3}" for n in range(total)], dtype=object)
    if camera:
        found[CAMERA] = rng.integers(0, 256, (total, 6, 8, 3), dtype=np.uint8)
    local = np.concatenate([np.arange(length) for length in LENGTHS])
    episode = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    found["timestamp"] = (local / FPS).astype(np.float32)
    index = {
        "frame_index": local,
        "episode_index": episode,
        "index": np.arange(total),
        "task_index": episode % 2,
    }
    return found | index


def write_foreign(
    root: Path,
    style: str = "fixed",
    *,
    dtype: str = "float32",
    names: Any = None,
    camera: list[int] | None = None,
    camera_names: Any = None,
    tasks: str = "pandas",
    per_meta_file: int = 3,
    stats: bool = True,
) -> dict[str, np.ndarray]:
    """Writes a dataset whose first data file has two episodes, and returns its frames.

    Args:
        style: how columns are stored, one of STYLES.
        dtype: of the floating-point features.
        names: of the action's elements, as in info.json.
        camera: declared shape of CAMERA; none when None.
        tasks: form of tasks.parquet: "pandas", "pandas3", "level0" (a nameless index) or "column".
        per_meta_file: episodes per file of meta/episodes.
        stats: write meta/stats.json and the episodes' statistics.
    """
    found = frames(dtype, camera is not None)
    features: dict[str, Any] = {key: _entry(found[key], shape) for key, shape in SHAPES.items()}
    features["action"]["names"] = names
    features["next.done"] = {"dtype": "bool", "shape": [1], "names": None}
    features["counter"] = {"dtype": "int64", "shape": [1], "names": None}
    features["note"] = {"dtype": "string", "shape": [1], "names": None}
    if camera is not None:
        features[CAMERA] = {"dtype": "image", "shape": camera, "names": camera_names}
    features |= {key: {"dtype": kind, "shape": [1], "names": None} for key, kind in INDEX.items()}
    splits = [0, sum(LENGTHS[:2]), sum(LENGTHS)]
    for number, (start, stop) in enumerate(pairwise(splits)):
        part = {key: values[start:stop] for key, values in found.items()}
        _write(part, style, _path(root, "data", number))
    _write_episodes(root, found, per_meta_file, stats)
    write_tasks(root, tasks)
    if stats:
        measured = {key: _measure(found[key]) for key in SHAPES}
        (root / "meta/stats.json").write_text(
            json.dumps(measured | ({CAMERA: _image_stats()} if camera else {}))
        )
    info = {
        "codebase_version": "v3.0",
        "robot_type": "so101_follower",
        "total_episodes": len(LENGTHS),
        "total_frames": sum(LENGTHS),
        "total_tasks": len(TASKS),
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 500,
        "fps": FPS,
        "splits": {"train": f"0:{len(LENGTHS)}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": None,
        "features": features,
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    return found


def _entry(values: np.ndarray, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"dtype": str(values.dtype), "shape": list(shape), "names": None}


def _path(root: Path, folder: str, number: int) -> Path:
    path = root / folder / "chunk-000" / f"file-{number:03d}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _write(columns: dict[str, np.ndarray], style: str, path: Path) -> None:
    if style == "pandas":
        import pandas

        pandas.DataFrame({key: _rows(values) for key, values in columns.items()}).to_parquet(path)
    elif style == "polars":
        import polars

        polars.DataFrame({key: _rows(values) for key, values in columns.items()}).write_parquet(path)
    else:
        table = pa.table({key: column(values, style) for key, values in columns.items()})
        pq.write_table(table, path, row_group_size=3)


def _rows(values: np.ndarray) -> list:
    if values.ndim == 4:
        return [{"bytes": encode(image), "path": None} for image in values]
    return list(values.reshape(-1) if values.shape[1:] == (1,) else values.tolist())


def column(values: np.ndarray, style: str) -> pa.Array:
    """One column of a data file in a style of this module."""
    if values.ndim == 4:
        return pa.array(_rows(values), pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    if values.dtype == object:
        array = pa.array(values.tolist(), pa.large_string() if style == "large_list" else pa.string())
        return array.dictionary_encode() if style == "dictionary" else array
    if style == "wider":
        wide = {"f": "float64", "i": "int32"}.get(values.dtype.kind, values.dtype)
        values, style = values.astype(wide), "list"
    kind = pa.from_numpy_dtype(values.dtype)
    if values.ndim == 1 or values.shape[1:] == (1,):
        array = pa.array(values.reshape(-1), kind)
        return array.dictionary_encode() if style == "dictionary" and values.dtype.kind in "if" else array
    for size in reversed(values.shape[1:]):
        kind = LISTS.get(style, LISTS["list"])(kind, size)
    array = pa.array(values.tolist(), kind)
    return pa.ExtensionArray.from_storage(Wrapped(array.type), array) if style == "extension" else array


def encode(image: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, **{"format": "PNG", **options})
    return buffer.getvalue()


def _measure(values: np.ndarray) -> dict[str, list]:
    values = values.astype(np.float64)
    kinds = {kind: getattr(values, kind)(axis=0).tolist() for kind in ("min", "max", "mean", "std")}
    return {**kinds, "count": [len(values)]}


def _image_stats() -> dict[str, list]:
    kinds = {"min": 0.0, "max": 1.0, "mean": 0.5, "std": 0.3}
    return {**{kind: np.full((3, 1, 1), value).tolist() for kind, value in kinds.items()}, "count": [5]}


def _write_episodes(root: Path, found: dict[str, np.ndarray], per_file: int, stats: bool) -> None:
    rows, start = [], 0
    for number, length in enumerate(LENGTHS):
        part = {key: _measure(found[key][start : start + length]) for key in SHAPES} if stats else {}
        rows.append(
            {
                "episode_index": number,
                "tasks": [TASKS[number % 2]],
                "length": length,
                "dataset_from_index": start,
                "dataset_to_index": start + length,
                "data/chunk_index": 0,
                "data/file_index": int(number > 1),
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": number // per_file,
                **{
                    f"stats/{key}/{kind}": value
                    for key, entry in part.items()
                    for kind, value in entry.items()
                },
            }
        )
        start += length
    for first in range(0, len(rows), per_file):
        pq.write_table(
            pa.Table.from_pylist(rows[first : first + per_file]),
            _path(root, "meta/episodes", first // per_file),
        )


def write_tasks(root: Path, form: str, texts: list[str] = TASKS, numbers: list[int] | None = None) -> None:
    """meta/tasks.parquet as pandas 2, pandas 3 (large strings), or polars (a plain column) write it."""
    name = {"level0": "__index_level_0__"}.get(form, "task")
    kind = pa.large_string() if form == "pandas3" else pa.string_view() if form == "column" else pa.string()
    table = pa.table(
        {"task_index": numbers or list(range(len(texts))), name: pa.array(texts, kind)},
        metadata=None if form == "column" else {"pandas": json.dumps(_pandas(name))},
    )
    pq.write_table(table, root / "meta/tasks.parquet")


def _pandas(index: str) -> dict[str, Any]:
    """What pandas says of a table whose index is the texts."""
    text = {"pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    number = {"pandas_type": "int64", "numpy_type": "int64", "metadata": None}
    columns = [
        {"name": "task_index", "field_name": "task_index", **number},
        {"name": None if index.startswith("__") else index, "field_name": index, **text},
    ]
    return {"index_columns": [index], "column_indexes": [], "columns": columns, "pandas_version": "2.3.3"}


def edit_json(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def edit_column(root: Path, name: str, change: Callable[[pa.Array], pa.Array], number: int = 0) -> None:
    """Replaces a column of the `number`-th data file."""
    path = _path(root, "data", number)
    table = pq.read_table(path)
    changed = change(table[name].combine_chunks())
    place = table.schema.get_field_index(name)
    pq.write_table(table.set_column(place, pa.field(name, changed.type), changed), path)


def edit_episodes(root: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    path = _path(root, "meta/episodes", 0)
    pq.write_table(pa.Table.from_pylist(change(pq.read_table(path).to_pylist())), path)
