"""Names, templates and column types of the LeRobotDataset v3.0 layout.

Source: LeRobot (Apache-2.0), docs/source/lerobot-dataset-v3.mdx and the constants, `DatasetInfo` and
`get_hf_features_from_features` of src/lerobot/datasets (release 0.4.4 and main of August 2026).
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from keystep.data.errors import DatasetError

CODEBASE_VERSION = "v3.0"
CHUNKS_SIZE = 1000  # files per chunk folder
DATA_FILES_SIZE_MB = 100
VIDEO_FILES_SIZE_MB = 200
MAX_JSON_BYTES = 16 << 20

INFO_PATH = "meta/info.json"
STATS_PATH = "meta/stats.json"
TASKS_PATH = "meta/tasks.parquet"
COLLECTION_PATH = "meta/keystep.json"  # ours; readers of the layout ignore it
IMAGES = "observation.images."
TASK_COLUMN = "keystep.task"  # of meta/episodes, ours: name of the task
EXTRAS_COLUMN = "keystep.extras"  # of meta/episodes, ours: a JSON object
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


AXES = ("height", "width", "channels")  # of images, in memory


@dataclass(frozen=True)
class Column:
    """One column of the data files.

    Attributes:
        dtype: numpy name ("float32", "int64", "bool"), "string", "image", "video" (images in mp4 files), or
            "language" (annotations).
        shape: of one frame; images are (height, width, 3), strings (1,).
        names: one per element, for images the axes; None if there are none.
        codec: that a writer encodes a video with, a key of `keystep.data.encoder.ENCODERS`; else None.
    """

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] | None = None
    codec: str | None = None

    @property
    def is_image(self) -> bool:
        """Whether it is a camera's."""
        return self.dtype in ("image", "video")

    @property
    def is_video(self) -> bool:
        """Whether it is a camera's whose images are in mp4 files, not in the data files."""
        return self.dtype == "video"

    @property
    def is_depth(self) -> bool:
        """Whether policies take it for a depth image: a number of metres for every pixel, (height, width)."""
        return self.dtype.startswith("float") and len(self.shape) == 2

    @property
    def channels(self) -> int:
        """Of an image; of depth 1."""
        return 1 if self.is_depth else self.shape[2]

    @property
    def is_string(self) -> bool:
        """Whether it is text."""
        return self.dtype == "string"

    @property
    def is_number(self) -> bool:
        """Also truth values; not images."""
        return self.dtype not in ("image", "video", "string", "language")

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Of one frame in memory: strings and truth values are (), where numbers keep `shape`."""
        return () if self.shape == (1,) and self.dtype in ("string", "bool") else self.shape

    def to_json(self) -> dict[str, Any]:
        """Its entry in info.json."""
        return {
            "dtype": self.dtype,
            "shape": list(self.shape),
            "names": list(self.names) if self.names else None,
        }


def image_column(height: int, width: int) -> Column:
    """A camera: uint8 (height, width, 3), stored as PNG."""
    return Column("image", (height, width, 3), AXES)


def video_column(height: int, width: int, codec: str = "h264") -> Column:
    """A camera: uint8 (height, width, 3), stored in mp4 files; `codec` is h264 or av1."""
    return Column("video", (height, width, 3), AXES, codec)


INDEX_FEATURES: dict[str, Column] = {
    "timestamp": Column("float32", (1,)),
    "frame_index": Column("int64", (1,)),
    "episode_index": Column("int64", (1,)),
    "index": Column("int64", (1,)),
    "task_index": Column("int64", (1,)),
}
"""The columns every dataset of the layout has; the writer fills them."""

IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def arrow_type(feature: Column) -> pa.DataType:
    """Column type: `datasets.Image`, `Value` for shape (1,), fixed-size `Sequence` for vectors."""
    if feature.is_image:
        return IMAGE_TYPE
    if feature.is_string and feature.shape != (1,):
        raise DatasetError(f"feature shape: expected (1,) for strings, got {feature.shape}")
    value = pa.string() if feature.is_string else pa.from_numpy_dtype(feature.dtype)
    if feature.shape == (1,):
        return value
    if len(feature.shape) == 1:
        return pa.list_(value, feature.shape[0])
    raise DatasetError(f"feature shape: expected an image or one dimension, got {feature.shape}")


def _hub_type(feature: Column) -> dict[str, Any]:
    if feature.is_image:
        return {"_type": "Image"}
    value = {"dtype": feature.dtype, "_type": "Value"}
    if feature.shape == (1,):
        return value
    return {"feature": value, "length": feature.shape[0], "_type": "Sequence"}


def data_schema(features: Mapping[str, Column]) -> pa.Schema:
    """Schema of a data file, without videos; `huggingface` metadata tells `datasets` what are images."""
    stored = {key: feature for key, feature in features.items() if not feature.is_video}
    hub = {"info": {"features": {key: _hub_type(feature) for key, feature in stored.items()}}}
    fields = [pa.field(key, arrow_type(feature)) for key, feature in stored.items()]
    return pa.schema(fields, metadata={"huggingface": json.dumps(hub)})


def tasks_table(instructions: list[str]) -> pa.Table:
    """meta/tasks.parquet: a pandas frame `task_index` whose index, named `task`, is the instruction."""
    text = {"pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    number = {"pandas_type": "int64", "numpy_type": "int64", "metadata": None}
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [{"name": None, "field_name": None, **text, "metadata": {"encoding": "UTF-8"}}],
        "columns": [
            {"name": "task_index", "field_name": "task_index", **number},
            {"name": "task", "field_name": "task", **text},
        ],
        "pandas_version": "2.0.0",
    }
    schema = pa.schema(
        [("task_index", pa.int64()), ("task", pa.string())], metadata={"pandas": json.dumps(pandas)}
    )
    return pa.table({"task_index": range(len(instructions)), "task": instructions}, schema=schema)


def empty_info(
    features: Mapping[str, Column], fps: int, robot_type: str | None, task_count: int
) -> dict[str, Any]:
    """meta/info.json of a dataset with no episodes. `features` includes INDEX_FEATURES."""
    return {
        "codebase_version": CODEBASE_VERSION,
        "robot_type": robot_type,
        "total_episodes": 0,
        "total_frames": 0,
        "total_tasks": task_count,
        "chunks_size": CHUNKS_SIZE,
        "data_files_size_in_mb": DATA_FILES_SIZE_MB,
        "video_files_size_in_mb": VIDEO_FILES_SIZE_MB,
        "fps": fps,
        "splits": {},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if any(feature.is_video for feature in features.values()) else None,
        "features": {key: feature_json(feature, fps) for key, feature in features.items()},
    }


def feature_json(feature: Column, fps: int) -> dict[str, Any]:
    """Its entry in info.json as the writer writes it: of a video also what LeRobot tells of the stream."""
    entry = feature.to_json()
    if feature.is_video:
        height, width, channels = feature.shape
        told = {"height": height, "width": width, "codec": feature.codec, "pix_fmt": "yuv420p", "fps": fps,
                "channels": channels, "is_depth_map": False}  # fmt: skip
        entry["info"] = {**{f"video.{name}": value for name, value in told.items()}, "has_audio": False}
    return entry


def video_name(key: str, chunk: int, number: int) -> str:
    """Path of a file of a video column."""
    return VIDEO_PATH.format(video_key=key, chunk_index=chunk, file_index=number)


def file_name(template: str, number: int, chunks_size: int = CHUNKS_SIZE) -> str:
    """Path of the `number`-th file (from 0) of a template with chunk and file index."""
    return template.format(chunk_index=number // chunks_size, file_index=number % chunks_size)


def load_json(path: Path) -> Any:
    """Read a JSON file; DatasetError naming it if it is missing, broken or larger than MAX_JSON_BYTES."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_JSON_BYTES + 1)
    except FileNotFoundError:
        raise DatasetError(f"{path}: expected a dataset file, found none") from None
    except OSError as error:
        raise DatasetError(f"{path}: expected a readable file, got {error}") from None
    if len(data) > MAX_JSON_BYTES:
        raise DatasetError(f"{path}: expected at most {MAX_JSON_BYTES >> 20} MiB of JSON, got more")
    try:
        value = json.loads(data.decode("utf-8"))
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # refuses lone surrogates, which \u can spell
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise DatasetError(f"{path}: expected JSON in UTF-8, got {error.reason}") from None
    except ValueError as error:
        raise DatasetError(f"{path}: expected JSON, got {error}") from None
    except RecursionError:
        raise DatasetError(f"{path}: expected JSON, got too many levels") from None
    return value


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a parquet file; DatasetError naming it if it is missing or broken."""
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError:
        raise DatasetError(f"{path}: expected a dataset file, found none") from None
    except PARQUET_ERRORS as error:
        raise unreadable(path, error) from error


def read_parquet(path: Path, wanted: Callable[[str], bool] = lambda name: True) -> pa.Table:
    """Read the wanted columns of a parquet file; DatasetError naming it if it is missing or broken."""
    file = open_parquet(path)
    try:
        return file.read(columns=[name for name in file.schema_arrow.names if wanted(name)])
    except PARQUET_ERRORS as error:
        raise unreadable(path, error) from error


PARQUET_ERRORS = (OSError, pa.ArrowException, UnicodeError, OverflowError)
"""What pyarrow raises for files that are damaged."""


def unreadable(path: Path, error: Exception) -> DatasetError:
    return DatasetError(f"{path}: expected a readable parquet file, got {quoted(str(error))}")


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 120
_SHORT.maxlevel = 3


def quoted(value: Any) -> str:
    """A value from a file for a message: one line, bounded in length and depth."""
    return _SHORT.repr(value)
