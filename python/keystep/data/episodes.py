"""meta/episodes as info.json commits to it: what follows the last committed episode is not seen."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from keystep.data import layout
from keystep.data.info import video_keys
from keystep.data.layout import DatasetError, quoted
from keystep.data.stats import Stats
from keystep.data.stats_file import numeric
from keystep.data.video_columns import VideoPlace

FOLDER = "meta/episodes"
_NUMBERS = (
    "episode_index",
    "length",
    "dataset_from_index",
    "dataset_to_index",
    "data/chunk_index",
    "data/file_index",
)
_VIDEO_NUMBERS = ("chunk_index", "file_index")
_VIDEO_TIMES = ("from_timestamp", "to_timestamp")
_OPTIONAL = ("success", "seed", layout.TASK_COLUMN, layout.EXTRAS_COLUMN)


@dataclass(frozen=True)
class EpisodeInfo:
    """One row of meta/episodes.

    Attributes:
        start, stop: its frames are [start, stop) of the `index` column.
        instruction, instructions: the first of its tasks, and all of them.
        data_file: path of the data file relative to the dataset.
        seed, task: of datasets written by keystep; else None and the instruction.
        extras: what the writer was told besides the frames, see DatasetSpec; else empty.
        videos: by camera, of those in mp4 files, where its images are.
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
    instructions: tuple[str, ...] = ()
    videos: dict[str, VideoPlace] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Number of frames."""
        return self.stop - self.start


class EpisodeTable:
    """The rows of meta/episodes, file by file in the order in which LeRobot reads them.

    Raises:
        DatasetError: from every method: fewer rows than `total_episodes`, rows that do not follow each other,
            or that do not have `total_frames` frames together.
    """

    def __init__(self, root: Path, info: Mapping[str, Any]) -> None:
        self._root = root
        self._episodes, self._frames = info["total_episodes"], info["total_frames"]
        self._videos = video_keys(info)
        self._counts: dict[Path, int] = {}

    def _walk(self, count: Callable[[Path], int]) -> Iterator[tuple[Path, int]]:
        """The committed files, in order, and how many committed episodes each has; `count` tells its rows."""
        left = self._episodes
        for path in sorted((self._root / FOLDER).glob("*/*.parquet")) if left else ():
            rows = min(left, count(path))
            yield path, rows
            if not (left := left - rows):
                return
        if left:
            raise DatasetError(
                f"{self._root}: {FOLDER}: expected {self._episodes} rows as total_episodes says, "
                f"got {self._episodes - left}"
            )

    @cached_property
    def parts(self) -> list[tuple[Path, int]]:
        return list(self._walk(self._count))

    def _count(self, path: Path) -> int:
        if path not in self._counts:
            self._counts[path] = layout.open_parquet(path).metadata.num_rows
        return self._counts[path]

    @property
    def files(self) -> list[Path]:
        return [path for path, _ in self.parts]

    def __iter__(self) -> Iterator[EpisodeInfo]:
        """All episodes, checked to be consecutive."""
        table = pa.table({})

        def read(path: Path) -> int:
            nonlocal table
            table = _table(path, self._videos)
            self._counts[path] = len(table)
            return len(table)

        number, start, name = 0, 0, ""
        for path, rows in self._walk(read):
            for row in _rows(path, table.slice(0, rows)):
                episode = _episode(path, row, number, self._videos)
                if episode.start != start or episode.data_file < name:
                    raise DatasetError(
                        f"{path}: episode {number}: dataset_from_index: expected {start}, where the one "
                        f"before ends, in its file or a later one, got {episode.start} in {episode.data_file}"
                    )
                number, start, name = number + 1, episode.stop, episode.data_file
                yield episode
        if start != self._frames:
            raise DatasetError(
                f"{self._root / layout.INFO_PATH}: total_frames: expected {start} as in {FOLDER}, "
                f"got {self._frames}"
            )

    def __getitem__(self, index: int) -> EpisodeInfo:
        """One episode, of whose file alone the index is read."""
        if not self._episodes:
            raise DatasetError(f"{self._root}: expected at least one episode, found none")
        if not 0 <= index < self._episodes:
            raise DatasetError(f"{self._root}: episode: expected 0..{self._episodes - 1}, got {index}")
        stops = list(accumulate(rows for _, rows in self.parts))
        number = bisect_right(stops, index)
        path, rows = self.parts[number]
        row = next(_rows(path, _table(path, self._videos).slice(index - stops[number] + rows, 1)))
        return _episode(path, row, index, self._videos)

    def stats(self) -> Iterator[Stats]:
        """The statistics of every episode; without what is missing or no number."""
        for path, rows in self.parts:
            table = layout.read_parquet(path, lambda name: name.startswith("stats/")).slice(0, rows)
            for row in _rows(path, table):
                found: Stats = {}
                for name, value in row.items():
                    key, _, kind = name.removeprefix("stats/").rpartition("/")
                    array = numeric(value)
                    if array is not None:
                        found.setdefault(key, {})[kind] = array
                yield found


def _video_columns(key: str, names: Sequence[str]) -> list[str]:
    return [f"videos/{key}/{name}" for name in names]


def _table(path: Path, videos: Sequence[str]) -> pa.Table:
    places = [_video_columns(key, (*_VIDEO_NUMBERS, *_VIDEO_TIMES)) for key in videos]
    required = (*_NUMBERS, "tasks", *chain.from_iterable(places))
    table = layout.read_parquet(path, {*required, *_OPTIONAL}.__contains__)
    for name in required:
        if table.column_names.count(name) != 1:
            found = "several" if name in table.column_names else "none"
            raise DatasetError(f"{path}: expected the column {name}, found {found}")
    return table


def _rows(path: Path, table: pa.Table) -> Iterator[dict[str, Any]]:
    try:
        yield from table.to_pylist()
    except (UnicodeError, pa.ArrowException) as error:
        raise layout.unreadable(path, error) from error


def _episode(path: Path, row: dict[str, Any], number: int, videos: Sequence[str]) -> EpisodeInfo:
    places = {key: _video_place(path, number, row, key) for key in videos}
    for name in _NUMBERS:
        value = row[name]
        if not isinstance(value, int) or not 0 <= value < 1 << 62:
            raise DatasetError(f"{path}: {name}: expected integers of at least 0, got {quoted(value)}")
    start, stop = row["dataset_from_index"], row["dataset_to_index"]
    if row["episode_index"] != number:
        raise DatasetError(
            f"{path}: episode_index: expected {number}, as episodes are numbered in order, "
            f"got {row['episode_index']}; sort {FOLDER} by episode_index"
        )
    if stop - start != row["length"] or stop <= start:
        raise DatasetError(
            f"{path}: episode {number}: dataset_to_index: expected dataset_from_index + length "
            f"= {start} + {row['length']}, with at least one frame, got {stop}"
        )
    tasks = row["tasks"]
    if not isinstance(tasks, list) or not tasks or not all(isinstance(text, str) for text in tasks):
        raise DatasetError(f"{path}: episode {number}: tasks: expected a list of texts, got {quoted(tasks)}")
    told = row.get(layout.TASK_COLUMN)
    success, seed = row.get("success"), row.get("seed")
    return EpisodeInfo(
        index=number,
        start=start,
        stop=stop,
        instruction=tasks[0],
        data_file=layout.DATA_PATH.format(
            chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
        ),
        success=success if isinstance(success, bool) else True,  # columns of these names may mean anything
        seed=seed if isinstance(seed, int) else None,
        task=told if isinstance(told, str) and told else tasks[0],
        extras=_extras(path, number, row.get(layout.EXTRAS_COLUMN)),
        instructions=tuple(tasks),
        videos=places,
    )


def _video_place(path: Path, number: int, row: dict[str, Any], key: str) -> VideoPlace:
    for name in _video_columns(key, _VIDEO_NUMBERS):
        if not isinstance(row[name], int) or not 0 <= row[name] < 1 << 31:
            raise DatasetError(
                f"{path}: episode {number}: {name}: expected an integer of at least 0, "
                f"got {quoted(row[name])}"
            )
    start, stop = (row[name] for name in _video_columns(key, _VIDEO_TIMES))
    if (
        not all(isinstance(value, int | float) and 0 <= value < 1e9 for value in (start, stop))
        or stop <= start
    ):
        raise DatasetError(
            f"{path}: episode {number}: videos/{key}: expected from_timestamp before to_timestamp, in "
            f"seconds, got {quoted(start)} and {quoted(stop)}"
        )
    chunk, file = (row[name] for name in _video_columns(key, _VIDEO_NUMBERS))
    return VideoPlace(layout.video_name(key, chunk, file), float(start), float(stop))


def _extras(path: Path, number: int, text: Any) -> dict[str, Any]:
    try:
        extras = json.loads(text or "{}")
    except (TypeError, ValueError, RecursionError):
        extras = None
    if not isinstance(extras, dict):
        raise DatasetError(f"{path}: episode {number}: {layout.EXTRAS_COLUMN}: expected a JSON object")
    return extras
