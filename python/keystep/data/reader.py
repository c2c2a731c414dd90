"""Read a LeRobotDataset v3.0 folder as a stream: memory does not grow with the number of episodes."""

from __future__ import annotations

import hashlib
import io
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from keystep.data import layout, stats
from keystep.data.encoding import decode_image
from keystep.data.layout import DatasetError, Feature
from keystep.data.stats import Stats
from keystep.data.task_texts import TaskTexts, read_task_texts

_COLUMNS = (
    "episode_index",
    "tasks",
    "length",
    "dataset_from_index",
    "dataset_to_index",
    "data/chunk_index",
    "data/file_index",
)
_PLACE = ("data/chunk_index", "data/file_index", "dataset_from_index")
_OPTIONAL = {"success": True, "seed": None, layout.TASK_COLUMN: None, layout.EXTRAS_COLUMN: None}


@dataclass(frozen=True)
class EpisodeInfo:
    """One row of meta/episodes.

    Attributes:
        start, stop: its frames are [start, stop) of the `index` column.
        data_file: path of the data file relative to the dataset.
        seed, task: of datasets written by keystep; else None and the instruction.
        extras: what the writer was told besides the frames, see DatasetSpec; else empty.
    """

    index: int
    start: int
    stop: int
    instruction: str
    data_file: str
    success: bool
    seed: int | None
    task: str
    extras: dict[str, Any] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Number of frames."""
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
        """Number of frames of the dataset."""
        return self.info["total_frames"]

    @property
    def image_keys(self) -> list[str]:
        """The cameras' features, in the order of info.json."""
        return [key for key, feature in self.features.items() if feature.is_image]

    @cached_property
    def collection(self) -> dict[str, Any]:
        """meta/keystep.json; empty for datasets not written by keystep."""
        path = self.path / layout.COLLECTION_PATH
        return layout.load_json(path) if path.exists() else {}

    @cached_property
    def tasks(self) -> list[dict[str, str]]:
        """{"name", "instruction"} by task index; without names the instruction is the name."""
        known = (task for task in self.collection.get("tasks", []) if "instruction" in task)
        names = {task["instruction"]: task["name"] for task in known}
        return [{"name": names.get(text, text), "instruction": text} for text in self.instructions.texts]

    @cached_property
    def instructions(self) -> TaskTexts:
        """By task index. A crash may leave more in the file than info.json commits to."""
        texts, count = read_task_texts(self.path / layout.TASKS_PATH), self.info["total_tasks"]
        if len(texts) < count:
            raise DatasetError(
                f"{self.path / layout.TASKS_PATH}: expected {count} instructions, got {len(texts)}"
            )
        return texts.first(count)

    @cached_property
    def stats(self) -> Stats:
        """meta/stats.json; recomputed from the episodes when a crash left it ahead of info.json."""
        path = self.path / layout.STATS_PATH
        found = stats.from_json(layout.load_json(path)) if path.exists() else {}
        count = found.get("action", {}).get("count", np.array([-1]))
        if int(np.asarray(count).reshape(-1)[0]) == self.frames:
            return found
        return stats.combine_all(self.episode_stats())

    @cached_property
    def _episode_rows(self) -> list[tuple[Path, int]]:
        """The committed files of meta/episodes, in order, and how many episodes each has."""
        found: list[tuple[Path, int]] = []
        episodes = 0
        while episodes < len(self):
            path = self.path / layout.file_name(layout.EPISODES_PATH, len(found), self.info["chunks_size"])
            rows = layout.open_parquet(path).metadata.num_rows
            found.append((path, rows))
            episodes += rows
        if episodes != len(self):
            raise DatasetError(
                f"{self.path}: total_episodes: expected {episodes} as in meta/episodes, got {len(self)}"
            )
        return found

    @cached_property
    def _first_frames(self) -> dict[str, int]:
        """By data file, in order, the index of its first frame: as long as there are files, not episodes."""
        found: dict[str, int] = {}
        for path in self.episode_files():
            for row in _index_columns(path, _PLACE).to_pylist():
                name = self._data_file(row["data/chunk_index"], row["data/file_index"])
                found.setdefault(name, row["dataset_from_index"])
        return found

    def _data_file(self, chunk: int, file: int) -> str:
        return self.info["data_path"].format(chunk_index=chunk, file_index=file)

    def episode_files(self) -> list[Path]:
        """The committed files of meta/episodes, in order."""
        return [path for path, _ in self._episode_rows]

    def episodes(self) -> Iterator[EpisodeInfo]:
        """All episodes in order, read file by file."""
        for path in self.episode_files():
            yield from map(self._episode, _index_columns(path, _COLUMNS, _OPTIONAL).to_pylist())

    def episode(self, index: int) -> EpisodeInfo:
        """One episode, of whose file alone the index is read; DatasetError if there is none."""
        if not len(self):
            raise DatasetError(f"{self.path}: expected at least one episode, found none")
        if not 0 <= index < len(self):
            raise DatasetError(f"{self.path}: episode: expected 0..{len(self) - 1}, got {index}")
        stops = list(accumulate(rows for _, rows in self._episode_rows))
        number = bisect_right(stops, index)
        path, rows = self._episode_rows[number]
        table = _index_columns(path, _COLUMNS, _OPTIONAL)
        return self._episode(table.slice(index - stops[number] + rows, 1).to_pylist()[0])

    def _episode(self, row: dict[str, Any]) -> EpisodeInfo:
        row = {**_OPTIONAL, **row}
        return EpisodeInfo(
            index=row["episode_index"],
            start=row["dataset_from_index"],
            stop=row["dataset_to_index"],
            instruction=row["tasks"][0],
            data_file=self._data_file(row["data/chunk_index"], row["data/file_index"]),
            success=row["success"],
            seed=row["seed"],
            task=row[layout.TASK_COLUMN] or row["tasks"][0],
            extras=json.loads(row[layout.EXTRAS_COLUMN] or "{}"),
        )

    def episode_stats(self) -> Iterator[Stats]:
        """The per-episode statistics in meta/episodes."""
        for path in self.episode_files():
            for row in layout.read_parquet(path, lambda name: name.startswith("stats/")).to_pylist():
                found: Stats = {}
                for name, value in row.items():
                    _, key, field = name.split("/")
                    found.setdefault(key, {})[field] = np.asarray(value)
                yield found

    def data_files(self) -> list[Path]:
        """The committed data files, in order."""
        return [self.path / name for name in self._first_frames]

    def iter_batches(
        self, columns: Sequence[str] | None = None, batch_size: int = 1024
    ) -> Iterator[dict[str, np.ndarray]]:
        """Frames in order: arrays (B, *shape), (B,) for the index columns; images (B, h, w, 3) uint8.

        Args:
            columns: features to read; all when None.
            batch_size: most frames per batch; batches do not cross files.
        """
        names = self._known(columns)
        for path in self.data_files():
            try:
                for batch in layout.open_parquet(path).iter_batches(batch_size, columns=names):
                    yield {name: self._to_numpy(name, batch[name]) for name in names}
            except (OSError, pa.ArrowException) as error:
                raise DatasetError(f"{path}: expected a readable parquet file, got {error}") from error

    def read_episode(
        self, episode: EpisodeInfo, columns: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """The frames of one episode, as `iter_batches` gives them; other row groups are not read."""
        names = self._known(columns)
        first = self._first_frames[episode.data_file]
        path, start, stop = self.path / episode.data_file, episode.start - first, episode.stop - first
        file = layout.open_parquet(path)
        sizes = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
        ends = np.cumsum(sizes)
        if not len(ends) or ends[-1] < stop:
            raise DatasetError(f"{path}: expected at least {stop} rows, got {sum(sizes)}")
        groups = [n for n, end in enumerate(ends) if end > start and end - sizes[n] < stop]
        try:
            table = file.read_row_groups(groups, columns=names)
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"{path}: expected a readable parquet file, got {error}") from error
        offset = start - int(ends[groups[0]] - sizes[groups[0]])
        table = table.slice(offset, episode.length)
        return {name: self._to_numpy(name, table[name].combine_chunks()) for name in names}

    def _known(self, columns: Sequence[str] | None) -> list[str]:
        names = list(self.features) if columns is None else list(columns)
        for name in names:
            if name not in self.features:
                raise DatasetError(f"columns: expected one of {', '.join(self.features)}, got {name!r}")
        return names

    def _to_numpy(self, name: str, column: pa.Array) -> np.ndarray:
        if self.features[name].is_image:
            return np.stack([decode_image(value) for value in column.field("bytes").to_pylist()])
        feature = self.features[name]
        if feature.frame_shape == () and column.null_count:
            raise DatasetError(f"{self.path}: {name}: expected a value in every frame, found some without")
        if feature.is_string:
            return column.cast(pa.string()).to_numpy(zero_copy_only=False)
        if name in layout.INDEX_FEATURES or feature.frame_shape == ():
            return column.to_numpy(zero_copy_only=False)
        flat = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
        return flat.to_numpy(zero_copy_only=False).reshape(-1, *feature.shape)

    def sha256(self) -> str:
        """Identity of the committed content: digest of info.json, task table, episodes and data files."""
        digest = hashlib.sha256()
        head = [self.path / layout.INFO_PATH, self.path / layout.TASKS_PATH]
        for path in [*head, *self.episode_files(), *self.data_files()]:
            with self._open_committed(path) as file:
                size = file.seek(0, io.SEEK_END)
                digest.update(f"{path.relative_to(self.path).as_posix()}\0{size}\0".encode())
                file.seek(0)
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()

    def _open_committed(self, path: Path) -> BinaryIO:
        """A file as the last commit left it: only the task table may be ahead of that, after a crash."""
        if path == self.path / layout.TASKS_PATH and len(read_task_texts(path)) > len(self.instructions):
            return io.BytesIO(self.instructions.to_bytes())
        return path.open("rb")


def _index_columns(path: Path, required: Iterable[str], optional: Iterable[str] = ()) -> pa.Table:
    """Columns of a file of meta/episodes; DatasetError when a required one is missing."""
    table = layout.read_parquet(path, {*required, *optional}.__contains__)
    for name in required:
        if name not in table.column_names:
            raise DatasetError(f"{path}: expected the column {name}, found none")
    return table
