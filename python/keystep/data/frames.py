"""The data files of a dataset, and whether every row is the frame that meta/episodes says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from keystep.data import layout
from keystep.data.columns import to_numpy
from keystep.data.episodes import EpisodeTable
from keystep.data.layout import Column, DatasetError, quoted
from keystep.data.task_texts import TaskTexts
from keystep.data.video_columns import VideoColumns, VideoPlace

_CHECKED = ("index", "episode_index", "frame_index", "task_index")
_TIME = "timestamp"
_BATCH_BYTES = 64 << 20  # of decoded images


@dataclass(frozen=True)
class DataFile:
    """A committed data file: its rows are the frames [start, stop)."""

    path: Path
    start: int
    stop: int


class Frames:
    """All frames of a dataset.

    Of every episode only its start, its tasks' numbers and the places of its videos are kept.
    """

    def __init__(
        self,
        root: Path,
        features: dict[str, Column],
        episodes: EpisodeTable,
        instructions: TaskTexts,
        fps: float,
    ) -> None:
        self._root, self._features = root, features
        self._episodes, self._instructions = episodes, instructions
        places: dict[str, list[VideoPlace]] = {key: [] for key, column in features.items() if column.is_video}
        self._starts, self._tasks, self._files = self._survey(places)
        self.videos = VideoColumns(root, features, places, fps)

    def _survey(
        self, places: dict[str, list[VideoPlace]]
    ) -> tuple[np.ndarray, list[frozenset[int]], list[DataFile]]:
        starts: list[int] = []
        tasks: list[frozenset[int]] = []
        known: dict[tuple[str, ...], frozenset[int]] = {}
        spans: dict[str, list[int]] = {}
        numbers: dict[str, list[int]] = {}
        for number, text in enumerate(self._instructions.texts):
            numbers.setdefault(text, []).append(number)
        for episode in self._episodes:
            starts.append(episode.start)
            told = episode.instructions
            tasks.append(known.setdefault(told, frozenset(n for text in told for n in numbers.get(text, ()))))
            spans.setdefault(episode.data_file, [episode.start, 0])[1] = episode.stop
            for key, place in episode.videos.items():
                places[key].append(place)
        files = [DataFile(self._root / name, *span) for name, span in spans.items()]
        return np.array(starts, np.int64), tasks, files

    @cached_property
    def files(self) -> list[DataFile]:
        """In order, as LeRobot reads them; DatasetError when one is missing or another comes between."""
        found = sorted((self._root / "data").glob("*/*.parquet"))
        expected, there = [file.path for file in self._files], set(found)
        missing = [path for path in expected if path not in there]
        if missing:
            names = ", ".join(str(path.relative_to(self._root)) for path in missing[:3])
            raise DatasetError(
                f"{self._root}: data: expected the files {names} as in meta/episodes, found none"
            )
        strays = set(found[: len(expected)]) - set(expected)
        if strays:
            raise DatasetError(f"{min(strays)}: expected only files that meta/episodes names; remove it")
        return self._files

    def read(
        self, columns: Sequence[str], batch_size: int, start: int = 0, stop: int | None = None
    ) -> Iterator[dict[str, np.ndarray]]:
        """The frames [start, stop) as `to_numpy` gives them; batches do not cross files."""
        videos = [name for name in columns if self._features[name].is_video]
        stored = [name for name in columns if name not in videos]
        names = list(dict.fromkeys([*stored, *_CHECKED, *([_TIME] if videos else [])]))
        size = max(1, min(batch_size, _BATCH_BYTES // (self._image_bytes(columns) or 1)))
        with self.videos.opened() as opened:
            for file in self.files:
                first, last = max(file.start, start), min(file.stop, file.stop if stop is None else stop)
                if first >= last:
                    continue
                for row, table in self._tables(file, names, size, first, last):
                    batch = {name: self._to_numpy(file.path, name, table, row - file.start) for name in names}
                    self._check(file.path, batch, row)
                    for name in videos:
                        batch[name] = opened.read(name, batch["episode_index"], batch[_TIME])
                    yield {name: batch[name] for name in columns}

    def _image_bytes(self, columns: Sequence[str]) -> int:
        shapes = [self._features[name].shape for name in columns if self._features[name].is_image]
        return sum(math.prod(shape) for shape in shapes)

    def _tables(
        self, file: DataFile, names: list[str], size: int, first: int, last: int
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Batches of the frames [first, last), with the index of their first; of no other row groups."""
        parquet = layout.open_parquet(file.path)
        sizes = [parquet.metadata.row_group(n).num_rows for n in range(parquet.num_row_groups)]
        self._check_file(file, parquet, names, sum(sizes))
        ends = file.start + np.cumsum(sizes, dtype=np.int64)
        groups = [n for n, end in enumerate(ends) if end > first and end - sizes[n] < last]
        row = int(ends[groups[0]]) - sizes[groups[0]]
        try:
            for batch in parquet.iter_batches(size, row_groups=groups, columns=names):
                skip, stop = max(0, first - row), min(len(batch), last - row)
                if skip < stop:
                    yield row + skip, batch.slice(skip, stop - skip)
                row += len(batch)
        except layout.PARQUET_ERRORS as error:
            raise layout.unreadable(file.path, error) from error

    def _check_file(self, file: DataFile, parquet: pq.ParquetFile, names: list[str], rows: int) -> None:
        found = parquet.schema_arrow.names
        for name in names:
            if found.count(name) != 1:
                many = "several" if name in found else "none"
                raise DatasetError(f"{file.path}: expected the column {name} as in info.json, found {many}")
        expected = file.stop - file.start
        if rows < expected or (rows > expected and file != self._files[-1]):
            raise DatasetError(f"{file.path}: expected {expected} rows as its episodes have, got {rows}")

    def _to_numpy(self, path: Path, name: str, table: pa.RecordBatch, row: int) -> np.ndarray:
        values = to_numpy(f"{path}: {name}", self._features[name], table[name], row)
        return values.reshape(-1) if name in layout.INDEX_FEATURES else values

    def _check(self, path: Path, batch: dict[str, np.ndarray], first: int) -> None:
        """Every row is the frame of the episode that meta/episodes says, and of one of its tasks."""
        index = np.arange(first, first + len(batch["index"]))
        number = np.searchsorted(self._starts, index, side="right") - 1
        expected = {"index": index, "episode_index": number, "frame_index": index - self._starts[number]}
        for name, values in expected.items():
            wrong = np.flatnonzero(batch[name] != values)
            if len(wrong):
                at = wrong[0]
                raise DatasetError(
                    f"{path}: episode {number[at]}: {name}: expected {values[at]} in frame {index[at]} as "
                    f"meta/episodes says, got {batch[name][at]}; number the rows anew, in order"
                )
        task, count = batch["task_index"], len(self._instructions)
        for episode, told in np.unique(np.stack([number, task]), axis=1).T.tolist():
            if not 0 <= told < count:
                wanted = f"0..{count - 1}" if count else "none"
                raise DatasetError(
                    f"{path}: episode {episode}: task_index: expected {wanted}, as info.json: total_tasks is "
                    f"{count}, got {told}"
                )
            if told not in self._tasks[episode]:
                text, tasks = self._instructions.texts[told], list(self._episodes[episode].instructions)
                raise DatasetError(
                    f"{path}: episode {episode}: tasks: expected {quoted([text])} as task_index says, got "
                    f"{quoted(tasks)} in meta/episodes; write the same texts into both"
                )
