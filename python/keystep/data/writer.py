"""Append episodes to a LeRobotDataset v3.0 folder, crash-safe.

Every flush writes one new data file and one new episodes file, then stats.json, then tasks.parquet when there
are new instructions, then info.json. Each is flushed to disk under a temporary name before the first is
renamed, and info.json comes last: its `total_episodes` and `total_tasks` are the commit point. A killed
process therefore leaves the dataset of the last flush. The reader ignores files and instructions beyond it;
opening the folder for writing again removes them. A flush that fails removes them itself.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from keystep import files
from keystep.data import layout, stats
from keystep.data.encoding import episodes_table, frames_table, write_row_groups
from keystep.data.layout import DatasetError
from keystep.data.reader import DatasetReader
from keystep.data.settings import check_resumable, merged_tasks
from keystep.data.spec import DatasetSpec
from keystep.data.task_texts import TaskTexts, read_task_texts
from keystep.data.validation import Column, check_text, checked_columns, checked_extras

FLUSH_BYTES = 64 << 20


class DatasetWriter:
    """Creates the dataset at `path`, or resumes the one that is there.

    A context manager: leaving it, also by an error or Ctrl-C, writes the complete episodes still in memory.

    Args:
        path: dataset folder.
        spec: must be the one the folder was created with, but for tasks, which may be other ones, and notes.
            An empty dataset takes any.
        flush_episodes: episodes per data file (a file also ends at 64 MiB of frames in memory).

    Raises:
        DatasetError: the folder holds something else, another spec, or is being written by another process.
    """

    def __init__(self, path: str | Path, spec: DatasetSpec, *, flush_episodes: int = 50) -> None:
        if flush_episodes < 1:
            raise DatasetError(f"flush_episodes: expected at least 1, got {flush_episodes}")
        if not spec.tasks:
            raise DatasetError("tasks: expected at least one, got none")
        self.path = Path(path)
        self.spec = spec
        self._flush_episodes = flush_episodes
        self._features = spec.all_features()
        layout.data_schema(self._features)  # refuses features that no column can hold
        self._info: dict[str, Any] = {}
        self._instructions = TaskTexts()  # those of episodes in memory included
        self._stats: stats.Stats = {}
        self._files = 0
        self._tables: list[pa.Table] = []
        self._rows: list[dict[str, Any]] = []
        self._lock = self._acquire()
        try:
            if self._is_empty():
                self._create()
            self._open()
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            self.flush()  # after a failed flush there is nothing left to write
        finally:
            os.close(self._lock)

    @property
    def episodes(self) -> int:
        """Episodes added so far, flushed or not."""
        return self._info["total_episodes"] + len(self._rows)

    def add_episode(
        self,
        frames: Mapping[str, Column],
        task: str,
        seed: int,
        *,
        success: bool = True,
        instruction: str | None = None,
        extras: Mapping[str, Any] | None = None,
    ) -> None:
        """Append one episode.

        Args:
            frames: for every feature an array (T, *shape) of its dtype; images (T, h, w, 3) uint8; truth
                values bool (T,); strings a list of T or an array of them.
            task: name of the task, one of the spec's.
            seed: of the environment's reset.
            success: whether the task was solved.
            instruction: the task in this episode's words; None for those of the spec, if it has any. Each new
                one gets a task index, so that readers of the layout see it as the episode's `task`.
            extras: a JSON value for every name of the spec's `extras`.
        """
        if task not in self.spec.tasks:
            raise DatasetError(f"task: expected one of {', '.join(self.spec.tasks)}, got {task!r}")
        columns, length = checked_columns(frames, self.spec.features)
        told = checked_extras(extras or {}, self.spec.extras)
        task_index = self._task_index(task, instruction)
        index = self.episodes
        start = self._rows[-1]["dataset_to_index"] if self._rows else self._info["total_frames"]
        frame = np.arange(length, dtype=np.int64)
        columns |= {
            "timestamp": (frame / self.spec.fps).astype(np.float32),
            "frame_index": frame,
            "episode_index": np.full(length, index, dtype=np.int64),
            "index": start + frame,
            "task_index": np.full(length, task_index, dtype=np.int64),
        }
        self._tables.append(frames_table(columns, self._features))
        self._rows.append(
            {
                "episode_index": index,
                "tasks": [self._instructions.texts[task_index]],
                "length": length,
                "dataset_from_index": start,
                "dataset_to_index": start + length,
                "success": success,
                "seed": seed,
                layout.TASK_COLUMN: task,
                **({layout.EXTRAS_COLUMN: told} if self.spec.extras else {}),
                "stats": stats.episode_stats(columns),
            }
        )
        buffered = sum(table.nbytes for table in self._tables)
        if len(self._rows) >= self._flush_episodes or buffered >= FLUSH_BYTES:
            self.flush()

    def _task_index(self, task: str, instruction: str | None) -> int:
        text = self.spec.tasks[task] if instruction is None else instruction
        if text is None:
            raise DatasetError(f"instruction: expected this episode's, as {task} has none, got none")
        check_text("instruction", text)
        if not text.strip():
            raise DatasetError(f"instruction: expected words, got {text!r}")
        return self._instructions.index(text)

    def flush(self) -> None:
        """Write and commit the episodes in memory. After a DatasetError the dataset is as before."""
        if not self._rows:
            return
        rows, tables = self._rows, self._tables
        self._rows, self._tables = [], []
        found = stats.combine_all([self._stats, *(row["stats"] for row in rows)])
        info = dict(self._info)
        info["total_episodes"] += len(rows)
        info["total_frames"] = rows[-1]["dataset_to_index"]
        info["total_tasks"] = len(self._instructions)
        info["splits"] = {"train": f"0:{info['total_episodes']}"}
        try:
            self._publish(tables, rows, found, info)
        except OSError as error:
            self._restore()
            kept = self._info["total_episodes"]
            raise DatasetError(
                f"{self.path}: could not write episodes {kept}..{kept + len(rows) - 1}: {error}; "
                f"the {kept} episodes before them are intact"
            ) from error
        self._info, self._stats, self._files = info, found, self._files + 1

    def _publish(
        self, tables: list[pa.Table], rows: list[dict[str, Any]], found: stats.Stats, info: dict[str, Any]
    ) -> None:
        """Write the files of a flush beside their places, then rename them, info.json last."""
        writes: dict[str, Callable[[Path], object]] = {
            layout.file_name(layout.DATA_PATH, self._files): lambda path: write_row_groups(path, tables),
            layout.file_name(layout.EPISODES_PATH, self._files): (
                lambda path: write_row_groups(path, [episodes_table(rows, self._files)])
            ),
            layout.STATS_PATH: lambda path: path.write_text(
                files.to_json(stats.to_json(found)), encoding="utf-8"
            ),
        }
        if info["total_tasks"] > self._info["total_tasks"]:
            writes[layout.TASKS_PATH] = self._instructions.write
        writes[layout.INFO_PATH] = lambda path: path.write_text(files.to_json(info), encoding="utf-8")
        for name, write in writes.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            write(files.temporary(self.path / name))
        files.publish([self.path / name for name in writes])

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
            raise DatasetError(
                f"{self.path}: expected no other writer, but a process is writing it"
            ) from None
        return descriptor

    def _is_empty(self) -> bool:
        """Nothing is there, or a dataset of ours without episodes; a DatasetError for what is neither."""
        if (self.path / layout.INFO_PATH).exists():
            reader = DatasetReader(self.path)
            return not len(reader) and reader.collection.get("format") == self.spec.side_file()["format"]
        ours = {layout.TASKS_PATH, layout.COLLECTION_PATH, "meta"}
        for path in self.path.rglob("*"):
            if path.relative_to(self.path).as_posix() not in ours and path.suffix != files.TEMPORARY_SUFFIX:
                raise DatasetError(f"{self.path}: expected an empty folder or a dataset, found {path.name}")
        return True

    def _create(self) -> None:
        """Start an empty dataset, also over one whose creation or first flush was killed."""
        self._remove_leftovers()
        (self.path / layout.STATS_PATH).unlink(missing_ok=True)
        texts = TaskTexts(self.spec.instructions())
        info = layout.empty_info(self._features, self.spec.fps, self.spec.robot_type, len(texts))
        files.write_json(self.path / layout.COLLECTION_PATH, self.spec.side_file())
        self._write_texts(texts)
        files.write_json(self.path / layout.INFO_PATH, info)

    def _open(self) -> None:
        reader = DatasetReader(self.path)
        check_resumable(reader, self.spec)
        tasks = merged_tasks(reader, self.spec)
        self._info = reader.info
        self._files = len(reader.episode_files())
        self._stats = stats.combine_all(reader.episode_stats())
        self._instructions = reader.instructions
        if len(read_task_texts(self.path / layout.TASKS_PATH)) > len(self._instructions):
            self._write_texts(self._instructions)
        self._remove_leftovers()
        if tasks != reader.collection.get("tasks"):
            files.write_json(self.path / layout.COLLECTION_PATH, {**reader.collection, "tasks": tasks})

    def _write_texts(self, texts: TaskTexts) -> None:
        with files.replacing(self.path / layout.TASKS_PATH) as (staged,):
            texts.write(staged)

    def _restore(self) -> None:
        """The files of the last commit, after a flush that failed.

        info.json comes first: what it does not name may be removed, and readers leave it out until then. So
        it does no harm when this fails, too.
        """
        self._instructions = self._instructions.first(self._info["total_tasks"])
        with suppress(OSError, DatasetError):
            if layout.load_json(self.path / layout.INFO_PATH) != self._info:
                files.write_json(self.path / layout.INFO_PATH, self._info)
            self._remove_leftovers()
            if len(read_task_texts(self.path / layout.TASKS_PATH)) != len(self._instructions):
                self._write_texts(self._instructions)
            path, found = self.path / layout.STATS_PATH, stats.to_json(self._stats)
            if not found:
                path.unlink(missing_ok=True)
            elif layout.load_json(path) != found:
                files.write_json(path, found)

    def _remove_leftovers(self) -> None:
        keep = {self.path / layout.file_name(t, n) for t in (layout.DATA_PATH, layout.EPISODES_PATH)
                for n in range(self._files)}  # fmt: skip
        for folder in ("data", "meta"):
            for path in (self.path / folder).rglob("*"):
                stray = path.suffix == ".parquet" and path.name.startswith("file-") and path not in keep
                if stray or path.suffix == files.TEMPORARY_SUFFIX:
                    path.unlink(missing_ok=True)
