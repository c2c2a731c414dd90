"""What the LeRobotDataset v3.0 layout asks for besides what reading needs.

Each rule restates what LeRobot (Apache-2.0) documents or relies on, and names where:
[doc] docs/source/lerobot-dataset-v3.mdx; [info] DatasetInfo in src/lerobot/datasets/utils.py; [io] load_* and
load_nested_dataset in io_utils.py; [meta] dataset_metadata.py; [writer] dataset_writer.py; [stats]
compute_stats.py; [features] get_hf_features_from_features in feature_utils.py.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keystep.data import layout
from keystep.data.episodes import FOLDER
from keystep.data.info import element_names
from keystep.data.layout import quoted
from keystep.data.reader import DatasetReader
from keystep.data.stats_file import contradictions, numeric, read_stats

Ranges = dict[str, dict[str, np.ndarray]]
"""`min` and `max` of all frames by column of numbers."""
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
STATISTICS = ("min", "max", "mean", "std", "count")
FILE_PATTERN = re.compile(r"chunk-\d{3,}/file-\d{3,}\.parquet")
TIMESTAMP_TOLERANCE_S = 1e-4  # LeRobotDataset's tolerance_s


def layout_findings(reader: DatasetReader) -> Iterator[str]:
    yield from _check_info(reader.info)
    yield from _check_features(reader)
    yield from _check_stats(reader)
    yield from _check_tables(reader)
    for folder in ("data", FOLDER):
        for file in (reader.path / folder).rglob("*.parquet"):
            name = file.relative_to(reader.path / folder).as_posix()
            if not FILE_PATTERN.fullmatch(name):
                yield f"{folder}/{name}: expected a name like chunk-000/file-000.parquet [doc]"


def _check_info(info: dict[str, Any]) -> Iterator[str]:
    for key, types in INFO_TYPES.items():
        if not isinstance(info.get(key, ...), types):
            names = " or ".join(kind.__name__ for kind in types)
            found = quoted(info[key]) if key in info else "nothing"
            yield f"info.json: {key}: expected {names} [info], got {found}"
    for key in sorted(set(info) - set(INFO_TYPES) - {"tools"}):
        yield f"info.json: {quoted(key)}: expected no such key [info]"
    for key in ("data_files_size_in_mb", "video_files_size_in_mb"):
        if isinstance(info.get(key), int) and info[key] <= 0:
            yield f"info.json: {key}: expected a positive number [info], got {info[key]}"
    total = info["total_episodes"]
    if total and info.get("splits") != {"train": f"0:{total}"}:
        yield f"info.json: splits: expected {{'train': '0:{total}'}} [meta], got {quoted(info.get('splits'))}"


def _check_features(reader: DatasetReader) -> Iterator[str]:
    for key, expected in layout.INDEX_FEATURES.items():
        if (found := reader.features[key].dtype) != expected.dtype:
            yield f"info.json: features.{key}: expected dtype {expected.dtype} [meta], got {found}"
    for key, feature in reader.features.items():
        declared = reader.info["features"][key]
        if not {"dtype", "shape", "names"} <= set(declared):
            found = quoted(sorted(declared))
            yield f"info.json: features.{key}: expected dtype, shape and names [doc], got {found}"
        names = element_names(declared.get("names"))
        if feature.is_number and names and feature.names is None:
            size = math.prod(feature.shape)
            yield f"info.json: features.{key}.names: expected {size}, got {len(names)}; they are not used"


def _check_stats(reader: DatasetReader) -> Iterator[str]:
    path = reader.path / layout.STATS_PATH
    if not path.exists():
        if len(reader):  # LeRobot's loader takes a missing file for no statistics [io]
            yield "stats.json: expected statistics of all frames [stats], found none; they are computed anew"
        return
    stats, missing = layout.load_json(path), []
    for key, feature in reader.features.items():
        entry = stats.get(key, {}) if isinstance(stats, dict) else {}
        if not entry:
            missing += [key] if feature.is_number or feature.is_image else []
            continue
        if not (feature.is_number or feature.is_image):
            yield f"stats.json: {key}: expected no statistics of strings [stats]"
            continue
        shape = [feature.channels, 1, 1] if feature.is_image else list(feature.shape)
        for name in STATISTICS:
            value = numeric(entry.get(name)) if isinstance(entry, dict) else None
            expected = [1] if name == "count" else shape
            if value is None or list(value.shape) != expected or not np.isfinite(value).all():
                found = quoted(entry.get(name) if isinstance(entry, dict) else entry)
                yield f"stats.json: {key}.{name}: expected finite, shape {expected} [stats], got {found}"
            elif feature.is_image and name == "max" and value.max() > 1:
                yield f"stats.json: {key}.max: expected at most 1 [stats]"
    if missing and len(reader):
        yield f"stats.json: expected statistics of {', '.join(missing)} [stats], found none"


def _check_tables(reader: DatasetReader) -> Iterator[str]:
    texts = reader.instructions.texts
    if len(set(texts)) != len(texts):
        yield "tasks.parquet: expected distinct texts [meta]"
    for path in reader.episode_files():
        name = path.relative_to(reader.path / FOLDER).as_posix()
        places = layout.read_parquet(path, lambda column: column.startswith("meta/episodes/")).to_pylist()
        for place in places:
            told = "chunk-{:03d}/file-{:03d}.parquet".format(
                *(place.get(f"meta/episodes/{part}_index") or 0 for part in ("chunk", "file"))
            )
            if told != name:
                yield f"{FOLDER}/{name}: expected its own place in meta/episodes/*_index [writer], got {told}"
                break
    for path in reader.data_files():
        yield from _check_types(reader, path)


def _check_types(reader: DatasetReader, path: Path) -> Iterator[str]:
    """Images are told to `datasets` by metadata; other columns are cast by LeRobot's loader as by ours."""
    name, schema = path.relative_to(reader.path).as_posix(), layout.open_parquet(path).schema_arrow
    try:
        hub = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        hub = {}
    for key in reader.image_keys:
        if reader.features[key].is_video:
            continue
        found = hub.get(key) if isinstance(hub, dict) else None
        if found != {"_type": "Image"}:
            yield f"{name}: {key}: expected Image in huggingface metadata [features], got {quoted(found)}"
    extra = sorted(set(schema.names) - set(reader.features))
    if extra:
        yield f"{name}: expected only the columns of info.json [io], got also {quoted(extra)}"


def timestamp_findings(reader: DatasetReader) -> Iterator[str]:
    """Training takes the frames of an episode for evenly spaced."""
    fps, worst, where = reader.info["fps"], TIMESTAMP_TOLERANCE_S, -1
    for batch in reader.iter_batches(["timestamp", "frame_index", "episode_index"]):
        error = np.abs(batch["timestamp"] - batch["frame_index"] / fps)
        if error.max() > worst:
            worst, where = float(error.max()), int(batch["episode_index"][error.argmax()])
    if where >= 0:
        yield (
            f"episode {where}: timestamp: expected frame_index / fps within {TIMESTAMP_TOLERANCE_S} s [doc], "
            f"got {worst:.3g} s beside it; frames are taken for evenly spaced"
        )


def stats_findings(reader: DatasetReader, ranges: Ranges) -> Iterator[str]:
    """Training measures vectors itself, LeRobot's does not. Statistics ahead of info.json are left out."""
    stats = read_stats(reader.path / layout.STATS_PATH)
    for key, measured in ranges.items():
        told = stats.get(key, {})
        if "count" in told and told["count"].reshape(-1).tolist() == [reader.frames]:
            yield from (f"stats.json: {line}" for line in contradictions(key, told, measured))


def leftovers(reader: DatasetReader) -> Iterator[str]:
    """Of a write that was killed: beyond what info.json commits to, and ignored."""
    found = [(FOLDER, "*/*.parquet", reader.episode_files()), ("data", "*/*.parquet", reader.data_files())]
    if any(feature.is_video for feature in reader.features.values()):
        found.append(("videos", "*/*/*.mp4", reader.video_files()))
    for folder, pattern, committed in found:
        for path in sorted(set((reader.path / folder).glob(pattern)) - set(committed)):
            name = path.relative_to(reader.path).as_posix()
            yield f"{name}: left over beyond the last commit of info.json; ignored"
