"""Read a LeRobotDataset v3.0 folder as a stream: memory does not grow with the number of episodes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from keystep.data import layout, stats
from keystep.data.encoding import decode_image
from keystep.data.layout import DatasetError, Feature
from keystep.data.stats import Stats

_COLUMNS = (
    "episode_index",
    "tasks",
    "length",
    "dataset_from_index",
    "dataset_to_index",
    "data/chunk_index",
    "data/file_index",
)
_OPTIONAL = {"success": True, "seed": None, "keystep.task": None}


@dataclass(frozen=True)
class EpisodeInfo:
    """One row of meta/episodes.

    Attributes:
        start, stop: its frames are [start, stop) of the `index` column.
        data_file: path of the data file relative to the dataset.
        seed, task: of datasets written by keystep; else None and the instruction.
    """

    index: int
    start: int
    stop: int
    instruction: str
    data_file: str
    success: bool
    seed: int | None
    task: str

    @property
    def length(self) -> int:
        return self.stop - self.start


class DatasetReader:
    """A dataset on disk, as of the last commit (files of an unfinished write are not seen).

    Raises:
        DatasetError: not a v3.0 dataset, a missing or truncated file, or images stored as video.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.info: dict[str, Any] = layout.load_json(self.path / layout.INFO_PATH)
        version = self.info.get("codebase_version")
        if version != layout.CODEBASE_VERSION:
            raise DatasetError(
                f"{self.path}: codebase_version: expected {layout.CODEBASE_VERSION}, got {version}"
            )
        self.features = {key: Feature.from_json(value) for key, value in self.info["features"].items()}
        for key, feature in self.features.items():
            if feature.dtype == "video":
                raise DatasetError(f"{self.path}: {key}: expected images as PNG in the data files, got video")

    def __len__(self) -> int:
        """Episodes."""
        return self.info["total_episodes"]

    @property
    def frames(self) -> int:
        return self.info["total_frames"]

    @property
    def image_keys(self) -> list[str]:
        return [key for key, feature in self.features.items() if feature.is_image]

    @cached_property
    def collection(self) -> dict[str, Any]:
        """meta/keystep.json; empty for datasets not written by keystep."""
        path = self.path / layout.COLLECTION_PATH
        return layout.load_json(path) if path.exists() else {}

    @cached_property
    def tasks(self) -> list[dict[str, str]]:
        """{"name", "instruction"} by task index; without names the instruction is the name."""
        table = _read(self.path / layout.TASKS_PATH, None)
        texts = next(name for name in table.column_names if name != "task_index")
        pairs = sorted(zip(table["task_index"].to_pylist(), table[texts].to_pylist(), strict=True))
        names = {task["instruction"]: task["name"] for task in self.collection.get("tasks", [])}
        return [{"name": names.get(text, text), "instruction": text} for _, text in pairs]

    @cached_property
    def stats(self) -> Stats:
        """meta/stats.json; recomputed from the episodes when a crash left it ahead of info.json."""
        path = self.path / layout.STATS_PATH
        found = stats.from_json(layout.load_json(path)) if path.exists() else {}
        count = found.get("action", {}).get("count", np.array([-1]))
        if int(np.asarray(count).reshape(-1)[0]) == self.frames:
            return found
        return stats.combine_all(self.episode_stats())

    def episode_files(self) -> list[Path]:
        """The committed files of meta/episodes, in order."""
        found: list[Path] = []
        episodes = 0
        while episodes < len(self):
            path = self.path / layout.file_name(layout.EPISODES_PATH, len(found), self.info["chunks_size"])
            episodes += _open(path).metadata.num_rows
            found.append(path)
        if episodes != len(self):
            raise DatasetError(
                f"{self.path}: total_episodes: expected {episodes} as in meta/episodes, got {len(self)}"
            )
        return found

    def episodes(self) -> Iterator[EpisodeInfo]:
        """All episodes in order, read file by file."""
        for path in self.episode_files():
            optional = [name for name in _OPTIONAL if name in _open(path).schema_arrow.names]
            for row in _read(path, [*_COLUMNS, *optional]).to_pylist():
                row = {**_OPTIONAL, **row}
                yield EpisodeInfo(
                    index=row["episode_index"],
                    start=row["dataset_from_index"],
                    stop=row["dataset_to_index"],
                    instruction=row["tasks"][0],
                    data_file=self.info["data_path"].format(
                        chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
                    ),
                    success=row["success"],
                    seed=row["seed"],
                    task=row["keystep.task"] or row["tasks"][0],
                )

    def episode_stats(self) -> Iterator[Stats]:
        """The per-episode statistics in meta/episodes."""
        for path in self.episode_files():
            names = [name for name in _open(path).schema_arrow.names if name.startswith("stats/")]
            for row in _read(path, names).to_pylist():
                found: Stats = {}
                for name, value in row.items():
                    _, key, field = name.split("/")
                    found.setdefault(key, {})[field] = np.asarray(value)
                yield found

    def data_files(self) -> list[Path]:
        """The committed data files, in order."""
        return [self.path / name for name in dict.fromkeys(episode.data_file for episode in self.episodes())]

    def iter_batches(
        self, columns: Sequence[str] | None = None, batch_size: int = 1024
    ) -> Iterator[dict[str, np.ndarray]]:
        """Frames in order: arrays (B, *shape), (B,) for the index columns; images (B, h, w, 3) uint8.

        Args:
            columns: features to read; all when None.
            batch_size: most frames per batch; batches do not cross files.
        """
        names = list(self.features) if columns is None else list(columns)
        for name in names:
            if name not in self.features:
                raise DatasetError(f"columns: expected one of {', '.join(self.features)}, got {name!r}")
        for path in self.data_files():
            try:
                for batch in _open(path).iter_batches(batch_size, columns=names):
                    yield {name: self._to_numpy(name, batch[name]) for name in names}
            except (OSError, pa.ArrowException) as error:
                raise DatasetError(f"{path}: expected a readable parquet file, got {error}") from error

    def _to_numpy(self, name: str, column: pa.Array) -> np.ndarray:
        if self.features[name].is_image:
            return np.stack([decode_image(value) for value in column.field("bytes").to_pylist()])
        if name in layout.INDEX_FEATURES:
            return column.to_numpy(zero_copy_only=False)
        flat = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
        return flat.to_numpy(zero_copy_only=False).reshape(-1, *self.features[name].shape)

    def sha256(self) -> str:
        """Identity of the committed content: digest of info.json, task table, episodes and data files."""
        digest = hashlib.sha256()
        head = [self.path / layout.INFO_PATH, self.path / layout.TASKS_PATH]
        for path in [*head, *self.episode_files(), *self.data_files()]:
            digest.update(f"{path.relative_to(self.path).as_posix()}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError:
        raise DatasetError(f"{path}: expected a dataset file, found none") from None
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path}: expected a readable parquet file, got {error}") from error


def _read(path: Path, columns: list[str] | None) -> pa.Table:
    try:
        return _open(path).read(columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path}: expected a readable parquet file, got {error}") from error
