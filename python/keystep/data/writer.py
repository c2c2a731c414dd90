"""Append episodes to a LeRobotDataset v3.0 folder, so that neither a crash nor a bad episode loses good ones.

An episode is checked and converted when it is added. It waits in memory until `flush_episodes` are there, or
until a timer says that it has waited long enough, whatever the caller is doing then. How a flush reaches the
disk is the matter of `keystep.data.store`.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from keystep.data import layout, stats
from keystep.data.encoder import encode
from keystep.data.encoding import episode_row, frames_table
from keystep.data.flush import FLUSH_EPISODES, FLUSH_SECONDS
from keystep.data.layout import DatasetError
from keystep.data.spec import DatasetSpec
from keystep.data.spec_checks import check_count
from keystep.data.store import Episode, Store
from keystep.data.validation import (
    Values,
    checked_columns,
    checked_extras,
    checked_flag,
    checked_seed,
    checked_words,
    told,
)

FLUSH_SHARE = 0.02
RETRY_SECONDS = 1.0
MAX_SECONDS = 10**9


class DatasetWriter:
    """Creates the dataset at `path`, or resumes the one that is there.

    A context manager: leaving it, also by an error or Ctrl-C, writes the complete episodes still in memory.
    Files do not depend on when a flush comes: the last one is written anew until it is full.

    Args:
        path: dataset folder.
        spec: must be the one the folder was created with, but for tasks, which may be other ones, and notes.
            An empty dataset takes any.
        flush_episodes: episodes per data file (a file also ends at 64 MiB of frames in memory), and so the
            most that wait in memory.
        flush_seconds: after which an episode is on its way to the disk at the latest, also while nothing is
            added; 0 writes each at once, infinity waits for `flush_episodes`.

    Raises:
        DatasetError: the folder holds something else, another spec, or is being written by another process;
            what a dataset cannot have.
    """

    def __init__(
        self,
        path: str | Path,
        spec: DatasetSpec,
        *,
        flush_episodes: int = FLUSH_EPISODES,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        check_flush(flush_episodes, flush_seconds)
        self.path = Path(path)
        self.spec = spec
        self._flush_seconds = flush_seconds
        self._features = spec.all_features()
        layout.data_schema(self._features)  # refuses features that no column can hold
        self._store = Store(self.path, spec, flush_episodes)
        self._lock = self._store.lock
        self._texts = self._store.texts.first(len(self._store.texts))  # those of episodes in memory included
        self._waiting: list[Episode] = []
        self._deadline = math.inf  # of the first one that waits
        self._timer: threading.Timer | None = None
        self._flushed, self._took = -math.inf, 0.0  # when the last flush ended, and its seconds
        self._mutex = threading.RLock()  # of everything above, which the timer's thread flushes, too
        self._closed = False

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write the episodes in memory and let go of the folder, also when that fails (DatasetError)."""
        with self._mutex:
            if self._closed:
                return
            try:
                self.flush()
            finally:
                self._closed = True
                self._stop_timer()
                os.close(self._lock)

    @property
    def episodes(self) -> int:
        """Episodes added so far, flushed or not."""
        with self._mutex:
            return self._store.info["total_episodes"] + len(self._waiting)

    def add_episode(
        self,
        frames: Mapping[str, Values],
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
                values bool (T,); strings a list of T or an array of them. They are copied.
            task: name of the task, one of the spec's.
            seed: of the environment's reset, 0 .. 2**63 - 1.
            success: whether the task was solved.
            instruction: the task in this episode's words; None for those of the spec, if it has any. Each new
                one gets a task index, so that readers of the layout see it as the episode's `task`.
            extras: a JSON value for every name of the spec's `extras`.

        Raises:
            DatasetError: which argument is wrong, or a flush that was due failed. Whatever is raised, Ctrl-C
                included, this episode is not added and those before it are still there.
        """
        with self._mutex:
            self._require_open()
            waited, texts = len(self._waiting), len(self._texts)
            try:
                self._waiting.append(self._episode(frames, task, seed, success, instruction, extras))
                self._flush_or_wait()
            except BaseException:
                del self._waiting[waited:]
                self._texts = self._texts.first(max(texts, len(self._store.texts)))
                if not self._waiting:
                    self._stop_timer()
                raise

    def _episode(
        self,
        frames: Mapping[str, Values],
        task: str,
        seed: int,
        success: bool,
        instruction: str | None,
        extras: Mapping[str, Any] | None,
    ) -> Episode:
        """The next episode, in a form that can be written for sure."""
        if not isinstance(task, str) or task not in self.spec.tasks:
            raise DatasetError(f"task: expected one of {', '.join(self.spec.tasks)}, got {told(task)}")
        seed, success = checked_seed(seed), checked_flag("success", success)
        more = checked_extras({} if extras is None else extras, self.spec.extras)
        text = self._instruction(task, instruction)
        columns, length = checked_columns(frames, self.spec.features)
        start = self._waiting[-1].stop if self._waiting else self._store.info["total_frames"]
        columns |= self._index_columns(length, start, self._texts.index(text))
        table, found = frames_table(columns, self._features), stats.episode_stats(columns)
        row = {
            "episode_index": self.episodes,
            "tasks": [text],
            "length": length,
            "dataset_from_index": start,
            "dataset_to_index": start + length,
            "success": success,
            "seed": seed,
            layout.TASK_COLUMN: task,
            **({layout.EXTRAS_COLUMN: more} if self.spec.extras else {}),
        }
        videos = {
            key: encode(key, columns[key], self.spec.fps, feature.codec or "")
            for key, feature in self.spec.features.items()
            if feature.is_video
        }
        return Episode(table, episode_row(row, found), found, start + length, videos)

    def _index_columns(self, length: int, start: int, task_index: int) -> dict[str, np.ndarray]:
        frame = np.arange(length, dtype=np.int64)
        return {
            "timestamp": (frame / self.spec.fps).astype(np.float32),
            "frame_index": frame,
            "episode_index": np.full(length, self.episodes, dtype=np.int64),
            "index": start + frame,
            "task_index": np.full(length, task_index, dtype=np.int64),
        }

    def _instruction(self, task: str, instruction: str | None) -> str:
        text = self.spec.tasks[task] if instruction is None else instruction
        if text is None:
            raise DatasetError(f"instruction: expected this episode's, as {task} has none, got none")
        return checked_words("instruction", text)

    def flush(self) -> None:
        """Write and commit the episodes in memory.

        Raises:
            DatasetError: they cannot be written. Whatever is raised, Ctrl-C included, the dataset is as
                before and the episodes are still in memory: a later flush may write them.
        """
        with self._mutex:
            self._require_open()
            if not self._waiting:
                return
            self._stop_timer()
            begin = time.monotonic()
            try:
                self._store.commit(self._waiting, self._texts)
            except BaseException:
                self._deadline = -math.inf  # so that the next episode meets what is wrong and tells
                self._start_timer(max(self._flush_seconds, RETRY_SECONDS))
                raise
            self._waiting = []
            self._flushed, self._took = time.monotonic(), time.monotonic() - begin

    def flush_at_leisure(self) -> None:
        """Flush, the first time at once, unless that would take more than FLUSH_SHARE of the time."""
        with self._mutex:
            if self._took <= FLUSH_SHARE * (time.monotonic() - self._flushed):
                self.flush()

    def _flush_or_wait(self) -> None:
        """After an episode was added."""
        now = time.monotonic()
        if len(self._waiting) == 1:
            self._deadline = now + self._flush_seconds
        if now >= self._deadline or self._store.is_full(self._waiting):
            self.flush()
        elif self._timer is None:
            self._start_timer(self._flush_seconds)

    def _start_timer(self, seconds: float) -> None:
        if seconds < threading.TIMEOUT_MAX:
            self._timer = threading.Timer(seconds, self._flush_in_time)
            self._timer.daemon = True
            self._timer.start()

    def _stop_timer(self) -> None:
        self._deadline = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _flush_in_time(self) -> None:
        """On the timer's thread, which has nobody to tell of an error; see `flush`."""
        with suppress(Exception):
            self.flush()

    def _require_open(self) -> None:
        if self._closed:
            raise DatasetError(f"{self.path}: expected an open writer, got one that was closed")


def check_flush(flush_episodes: int, flush_seconds: float) -> None:
    """Raises DatasetError for what DatasetWriter does not take."""
    check_count("flush_episodes", flush_episodes)
    number = isinstance(flush_seconds, int | float) and not isinstance(flush_seconds, bool)
    if not number or (not 0 <= flush_seconds <= MAX_SECONDS and flush_seconds != math.inf):
        wanted = f"a number from 0 to {MAX_SECONDS}, or infinity"
        raise DatasetError(f"flush_seconds: expected {wanted}, got {told(flush_seconds)}")
