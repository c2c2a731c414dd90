"""The files of a dataset while it is written: every commit is crash-safe.

A commit writes a data file, its videos and its episodes file, then stats.json, then tasks.parquet when there
are new instructions, then info.json. Each is flushed to disk under a temporary name before the first is
renamed, and info.json comes last: its totals are the commit point. The last data file and its videos are open
until they are full: a commit replaces them by ones that have more behind the same frames. Readers take no
more rows than info.json names, so a killed process leaves the dataset of the last commit. A commit that fails
puts back what was there. Opening the folder for writing removes what no commit names.
"""

from __future__ import annotations

import fcntl
import functools
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from keystep import files
from keystep.data import layout, stats
from keystep.data.encoder import join, joinable, split
from keystep.data.encoding import as_written, episodes_table, without_place, write_row_groups
from keystep.data.errors import DatasetBusyError
from keystep.data.layout import DatasetError
from keystep.data.reader import DatasetReader
from keystep.data.settings import check_resumable, merged_tasks
from keystep.data.spec import DatasetSpec
from keystep.data.task_texts import TaskTexts, read_task_texts

FILE_BYTES = 64 << 20
"""Of frames in memory, with which a file is full. A commit writes all of the open file again."""


@dataclass(frozen=True)
class Episode:
    """An episode in the form of its files, which nothing can keep it from being written in.

    Attributes:
        frames: its rows of the data file.
        row: its row of meta/episodes but for the place of its frames.
        stats: of its frames.
        stop: index of the frame after its last one.
        videos: its images by camera, of those in mp4 files, as one file each.
    """

    frames: pa.Table
    row: pa.Table
    stats: stats.Stats
    stop: int
    videos: dict[str, bytes] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """In memory."""
        return self.frames.nbytes + sum(map(len, self.videos.values()))


class Store:
    """The dataset at `path`, as of the last commit. For one thread at a time.

    Args:
        file_episodes: episodes with which a file is full.

    Attributes:
        lock: descriptor of the folder, locked against other writers.
        info: info.json.
        texts: instructions by task index.

    Raises:
        DatasetError: see DatasetWriter.
    """

    def __init__(self, path: Path, spec: DatasetSpec, file_episodes: int) -> None:
        self.path = path
        self.info: dict[str, Any] = {}
        self.texts = TaskTexts()
        self._spec = spec
        self._file_episodes = file_episodes
        self._videos = [key for key, feature in spec.features.items() if feature.is_video]
        self._stats: stats.Stats = {}
        self._number = 0  # of the open file, which is there when it has episodes
        self._open_file: tuple[Episode, ...] = ()
        self.lock = self._acquire()
        try:
            if self._is_empty():
                self._create()
            self._open()
        except BaseException:
            os.close(self.lock)
            raise

    def is_full(self, episodes: Sequence[Episode]) -> bool:
        """Whether the open file is when the episodes are added."""
        held = [*self._open_file, *episodes]
        return len(held) >= self._file_episodes or sum(part.nbytes for part in held) >= FILE_BYTES

    def commit(self, episodes: Sequence[Episode], texts: TaskTexts) -> None:
        """Write at least one more episode.

        Args:
            texts: the instructions of the dataset, those of the episodes included.

        Raises:
            DatasetError: it cannot be written. Whatever is raised, Ctrl-C included, the dataset is as before.
        """
        if self._open_file and not _of_one_file(self._open_file[0], episodes[0]):
            self._number, self._open_file = self._number + 1, ()
        held = (*self._open_file, *episodes)
        found = stats.combine_all([self._stats, *(episode.stats for episode in episodes)])
        info = dict(self.info)
        info["total_episodes"] += len(episodes)
        info["total_frames"] = episodes[-1].stop
        info["total_tasks"] = len(texts)
        info["splits"] = {"train": f"0:{info['total_episodes']}"}
        try:
            self._require_folder()
            self._publish(held, found, texts, info)
        except BaseException as error:
            self._restore()
            if not isinstance(error, Exception):
                raise
            kept = self.info["total_episodes"]
            raise DatasetError(
                f"{self.path}: could not write episodes {kept}..{kept + len(episodes) - 1}: {error}; "
                f"the {kept} episodes before them are intact"
            ) from error
        full = self.is_full(episodes)
        self._number, self._open_file = (self._number + 1, ()) if full else (self._number, held)
        self.info, self.texts, self._stats = info, texts.first(len(texts)), found

    def _require_folder(self) -> None:
        """The folder that was locked is still the one at the path; OSError when not."""
        if not os.path.samestat(os.fstat(self.lock), self.path.stat()):
            raise OSError("expected the folder that was opened, found another one")

    def _publish(
        self, held: Sequence[Episode], found: stats.Stats, texts: TaskTexts, info: dict[str, Any]
    ) -> None:
        """Write the files of a commit beside their places, then rename them, info.json last."""
        writes: dict[str, Callable[[Path], object]] = {
            **self._pair(held),
            layout.STATS_PATH: lambda path: path.write_text(
                files.to_json(stats.to_json(found)), encoding="utf-8"
            ),
        }
        if len(texts) > len(self.texts):
            writes[layout.TASKS_PATH] = texts.write
        writes[layout.INFO_PATH] = lambda path: path.write_text(files.to_json(info), encoding="utf-8")
        for name, write in writes.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            write(files.temporary(self.path / name))
        files.publish([self.path / name for name in writes])

    def _pair(self, held: Sequence[Episode]) -> dict[str, Callable[[Path], object]]:
        """What writes the open data file, its videos and its episodes file."""
        rows, fps = [episode.row for episode in held], self._spec.fps
        table = episodes_table(rows, self._number, self._videos, fps)
        frames = [episode.frames for episode in held]
        videos = {
            self._video_name(key, self._number): functools.partial(
                join, parts=[episode.videos[key] for episode in held], fps=fps
            )
            for key in self._videos
        }
        return {
            layout.file_name(layout.DATA_PATH, self._number): lambda path: write_row_groups(path, frames),
            **videos,
            layout.file_name(layout.EPISODES_PATH, self._number): (
                lambda path: write_row_groups(path, [table])
            ),
        }

    def _video_name(self, key: str, number: int) -> str:
        return layout.video_name(key, *divmod(number, layout.CHUNKS_SIZE))

    def _acquire(self) -> int:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise DatasetError(f"{self.path}: expected a folder that can be written, got {error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise DatasetBusyError(
                f"{self.path}: expected no other writer, but a process is writing it"
            ) from None
        return descriptor

    def _is_empty(self) -> bool:
        """Nothing is there, or a dataset of ours without episodes; a DatasetError for what is neither."""
        if (self.path / layout.INFO_PATH).exists():
            reader = DatasetReader(self.path)
            return not len(reader) and reader.collection.get("format") == self._spec.side_file()["format"]
        ours = {layout.TASKS_PATH, layout.COLLECTION_PATH, "meta"}
        for path in self.path.rglob("*"):
            if path.relative_to(self.path).as_posix() not in ours and path.suffix != files.TEMPORARY_SUFFIX:
                raise DatasetError(f"{self.path}: expected an empty folder or a dataset, found {path.name}")
        return True

    def _create(self) -> None:
        """Start an empty dataset, also over one whose creation or first commit was killed."""
        self._remove_leftovers()
        (self.path / layout.STATS_PATH).unlink(missing_ok=True)
        spec, texts = self._spec, TaskTexts(self._spec.instructions())
        info = layout.empty_info(spec.all_features(), spec.fps, spec.robot_type, len(texts))
        files.write_json(self.path / layout.COLLECTION_PATH, spec.side_file())
        self._write_texts(texts)
        files.write_json(self.path / layout.INFO_PATH, info)

    def _open(self) -> None:
        reader = DatasetReader(self.path)
        check_resumable(reader, self._spec)
        tasks = merged_tasks(reader, self._spec)
        self.info = reader.info
        self._stats = stats.combine_all(reader.episode_stats())
        self.texts = reader.instructions
        self._number = len(reader.episode_files())
        own = [self.path / layout.file_name(layout.DATA_PATH, number) for number in range(self._number)]
        if reader.data_files() != own:  # their numbers would be given again
            raise DatasetError(f"{self.path}: expected a data file for each file of meta/episodes to resume")
        if self._number:
            self._open_last(reader)
        if len(read_task_texts(self.path / layout.TASKS_PATH)) > len(self.texts):
            self._write_texts(self.texts)
        self._remove_leftovers()
        if tasks != reader.collection.get("tasks"):
            files.write_json(self.path / layout.COLLECTION_PATH, {**reader.collection, "tasks": tasks})

    def _open_last(self, reader: DatasetReader) -> None:
        """Take up the last file where there is room in it; cut what no commit names off its end."""
        rows_path, data_path = reader.episode_files()[-1], reader.data_files()[-1]
        count = len(reader) - sum(_rows(path) for path in reader.episode_files()[:-1])
        rows = layout.read_parquet(rows_path).slice(0, count)
        first = rows["dataset_from_index"][0].as_py()
        ahead = _rows(rows_path) > count or _rows(data_path) > reader.frames - first
        videos = {key: self.path / self._video_name(key, self._number - 1) for key in self._videos}
        size = sum(path.stat().st_size for path in (data_path, *videos.values()) if path.exists())
        full = count >= self._file_episodes or size >= FILE_BYTES
        if full and not ahead:
            return
        frames = as_written(layout.read_parquet(data_path))
        lengths = rows["length"].to_pylist()
        parts = {key: split(path, lengths, self._spec.fps) for key, path in videos.items()}
        self._number, self._open_file = self._number - 1, _episodes(as_written(rows), frames, parts)
        if ahead:
            self._rewind()
        schema = layout.data_schema(self._spec.all_features())
        if self.is_full(()) or not frames.schema.equals(schema, check_metadata=True):
            self._number, self._open_file = self._number + 1, ()

    def _write_texts(self, texts: TaskTexts) -> None:
        with files.replacing(self.path / layout.TASKS_PATH) as (staged,):
            texts.write(staged)

    def _rewind(self) -> None:
        """The open file as of the last commit."""
        writes = self._pair(self._open_file)
        with files.replacing(*(self.path / name for name in writes)) as staged:
            for write, path in zip(writes.values(), staged, strict=True):
                write(path)

    def _restore(self) -> None:
        """The files of the last commit, after one that failed.

        info.json comes first: what it does not name may be removed, and readers leave it out until then. So
        it does no harm when this fails, too.
        """
        with suppress(OSError, DatasetError):
            self._require_folder()
            if layout.load_json(self.path / layout.INFO_PATH) != self.info:
                files.write_json(self.path / layout.INFO_PATH, self.info)
            self._remove_leftovers()
            if self._open_file and self._is_ahead():
                self._rewind()
            if len(read_task_texts(self.path / layout.TASKS_PATH)) != len(self.texts):
                self._write_texts(self.texts)
            path, found = self.path / layout.STATS_PATH, stats.to_json(self._stats)
            if not found:
                path.unlink(missing_ok=True)
            elif layout.load_json(path) != found:
                files.write_json(path, found)

    def _is_ahead(self) -> bool:
        """A file of the open pair has more rows than the last commit names."""
        frames = sum(episode.frames.num_rows for episode in self._open_file)
        data, rows = (
            layout.file_name(path, self._number) for path in (layout.DATA_PATH, layout.EPISODES_PATH)
        )
        return _rows(self.path / data) != frames or _rows(self.path / rows) != len(self._open_file)

    def _remove_leftovers(self) -> None:
        count = self._number + bool(self._open_file)
        keep = {self.path / layout.file_name(t, n) for t in (layout.DATA_PATH, layout.EPISODES_PATH)
                for n in range(count)}  # fmt: skip
        keep |= {self.path / self._video_name(key, n) for key in self._videos for n in range(count)}
        for folder in ("data", "meta", "videos"):
            for path in (self.path / folder).rglob("*"):
                stray = (
                    path.suffix in (".parquet", ".mp4") and path.name.startswith("file-") and path not in keep
                )
                if stray or path.suffix == files.TEMPORARY_SUFFIX:
                    path.unlink(missing_ok=True)


def _of_one_file(one: Episode, other: Episode) -> bool:
    """Not if one is of a version with other columns, or of another encoder."""
    alike = all(joinable(video, other.videos[key]) for key, video in one.videos.items())
    return alike and one.row.schema == other.row.schema


def _rows(path: Path) -> int:
    return layout.open_parquet(path).metadata.num_rows


def _episodes(rows: pa.Table, frames: pa.Table, videos: dict[str, list[bytes]]) -> tuple[Episode, ...]:
    """The episodes of a file of meta/episodes and its data file, which may have more frames.

    Args:
        videos: by camera those of every episode.
    """
    plain = without_place(rows)
    starts, stops = (rows[name].to_pylist() for name in ("dataset_from_index", "dataset_to_index"))
    return tuple(
        Episode(
            frames.slice(start - starts[0], stop - start),
            plain.slice(number, 1),
            {},
            stop,
            {key: parts[number] for key, parts in videos.items()},
        )
        for number, (start, stop) in enumerate(zip(starts, stops, strict=True))
    )
