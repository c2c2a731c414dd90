"""Read a LeRobotDataset v3.0 folder as a stream: memory does not grow with the frames."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from keystep.data import layout
from keystep.data.encoding import first_rows
from keystep.data.episodes import EpisodeInfo, EpisodeTable
from keystep.data.frames import Frames
from keystep.data.info import read_features, read_info
from keystep.data.layout import Column, DatasetError, quoted
from keystep.data.stats import Stats
from keystep.data.stats_file import combine_episodes, measure, read_stats, usable
from keystep.data.task_texts import TaskTexts, read_task_texts

__all__ = ["DatasetReader", "EpisodeInfo"]


class DatasetReader:
    """A dataset on disk, as of the last commit of meta/info.json: files and rows beyond it are not seen.

    Attributes:
        info: meta/info.json; what readers use of it has been checked.
        features: by column; cameras as (height, width, 3) however they were declared.

    Raises:
        DatasetError: not a v3.0 dataset, a missing or damaged file, features that cannot be read, or video
            without PyAV to decode it. Every method raises it for what it is the first to read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.info: dict[str, Any] = read_info(self.path)
        self.features: dict[str, Column] = read_features(self.path, self.info)
        self._episodes = EpisodeTable(self.path, self.info)

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

    @property
    def cameras(self) -> list[str]:
        """The images that a policy can see; DatasetError for one in `observation.` that names no camera."""
        seen = [key for key in self.image_keys if key.startswith("observation.")]
        for key in seen:
            if not key.startswith(layout.IMAGES) or key == layout.IMAGES:
                raise DatasetError(
                    f"{self.path}: features.{key}: expected a camera's name as in {layout.IMAGES}NAME, which "
                    "training needs; rename the column in info.json and in the data files"
                )
        return seen

    def vector(self, key: str) -> Column:
        """A feature that a policy can take or give as numbers in a row; DatasetError if it is none."""
        feature = self.features.get(key)
        if feature is None or len(feature.shape) != 1 or not feature.is_number:
            found = "none" if feature is None else f"{feature.dtype} of shape {list(feature.shape)}"
            raise DatasetError(
                f"{self.path}: features.{key}: expected numbers of one dimension, found {found}"
            )
        return feature

    @cached_property
    def collection(self) -> dict[str, Any]:
        """meta/keystep.json; empty for datasets not written by keystep."""
        path = self.path / layout.COLLECTION_PATH
        found = layout.load_json(path) if path.exists() else {}
        tasks = found.get("tasks", []) if isinstance(found, dict) else None
        if not isinstance(tasks, list) or not all(_is_task(task) for task in tasks):
            raise DatasetError(f"{path}: expected an object with tasks by name, got {quoted(found)}")
        return found

    @cached_property
    def tasks(self) -> list[dict[str, str]]:
        """{"name", "instruction"} by task index; without names the instruction is the name."""
        known = (task for task in self.collection.get("tasks", []) if "instruction" in task)
        names = {task["instruction"]: task["name"] for task in known}
        return [{"name": names.get(text, text), "instruction": text} for text in self.instructions.texts]

    @cached_property
    def instructions(self) -> TaskTexts:
        """By task index. A crash may leave more in the file than info.json commits to."""
        return read_task_texts(self.path / layout.TASKS_PATH, self.info["total_tasks"])

    @cached_property
    def stats(self) -> Stats:
        """meta/stats.json; computed anew when it is missing, has NaN, or a crash left it ahead of info.json.

        That is from the episodes' statistics, or from all frames where these are missing, too.
        """
        found = read_stats(self.path / layout.STATS_PATH)
        if usable(found, self.features, self.frames):
            return found
        found = combine_episodes(self.episode_stats(), self.features)
        if usable(found, self.features, self.frames):
            return found
        measured = [key for key, feature in self.features.items() if feature.is_number or feature.is_image]
        return measure(self.iter_batches(measured))

    def episode_files(self) -> list[Path]:
        """The committed files of meta/episodes, in order."""
        return self._episodes.files

    def episodes(self) -> Iterator[EpisodeInfo]:
        """All episodes in order, read file by file."""
        return iter(self._episodes)

    def episode(self, index: int) -> EpisodeInfo:
        """One episode, of whose file alone the index is read; DatasetError if there is none."""
        return self._episodes[index]

    def episode_stats(self) -> Iterator[Stats]:
        """The per-episode statistics in meta/episodes."""
        return self._episodes.stats()

    @cached_property
    def _frames(self) -> Frames:
        return Frames(self.path, self.features, self._episodes, self.instructions, self.info["fps"])

    @cached_property
    def _committed_rows(self) -> dict[Path, int]:
        """By file of meta/episodes and data file: a crash may leave more of them."""
        frames = {file.path: file.stop - file.start for file in self._frames.files}
        return {**dict(self._episodes.parts), **frames}

    def data_files(self) -> list[Path]:
        """The committed data files, in order."""
        return [file.path for file in self._frames.files]

    def iter_batches(
        self, columns: Sequence[str] | None = None, batch_size: int = 1024
    ) -> Iterator[dict[str, np.ndarray]]:
        """Frames in order, as declared: (B, *shape), images (B, h, w, 3) uint8.

        (B,) are the index columns, truth values and texts (dtype object; annotations are lists of rows).

        Args:
            columns: features to read; all when None.
            batch_size: most frames per batch; fewer where images would take over 64 MiB. Batches do not cross
                files.
        """
        return self._frames.read(self._known(columns), batch_size)

    def read_episode(
        self, episode: EpisodeInfo, columns: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """The frames of one episode, as `iter_batches` gives them; other row groups are not read."""
        names = self._known(columns)
        if not 0 <= episode.start < episode.stop <= self.frames:
            raise DatasetError(f"episode: expected one of {self.path}, got {episode.start}..{episode.stop}")
        batches = list(self._frames.read(names, episode.length, episode.start, episode.stop))
        return {name: np.concatenate([batch[name] for batch in batches]) for name in names}

    def _known(self, columns: Sequence[str] | None) -> list[str]:
        names = list(self.features) if columns is None else list(columns)
        for name in names:
            if name not in self.features:
                raise DatasetError(f"columns: expected one of {', '.join(self.features)}, got {name!r}")
        return names

    def video_files(self) -> list[Path]:
        """The committed files of videos, in order, camera by camera; DatasetError when one is missing."""
        found = [self.path / name for name in self._frames.videos.files()]
        for path in found:
            if not path.is_file():
                raise DatasetError(f"{path}: expected a video file as in meta/episodes, found none")
        return found

    def sha256(self) -> str:
        """Identity of the committed content: digest of info.json, tasks, episodes, data files and videos."""
        digest = hashlib.sha256()
        head = [self.path / layout.INFO_PATH, self.path / layout.TASKS_PATH]
        for path in [*head, *self.episode_files(), *self.data_files(), *self.video_files()]:
            with self._open_committed(path) as file:
                size = file.seek(0, io.SEEK_END)
                digest.update(f"{path.relative_to(self.path).as_posix()}\0{size}\0".encode())
                file.seek(0)
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()

    def _open_committed(self, path: Path) -> BinaryIO:
        """A file as the last commit left it. After a crash the task table and the last files may be ahead."""
        if path == self.path / layout.TASKS_PATH:
            texts = self.instructions  # first, so that a damaged table is a DatasetError
            if layout.open_parquet(path).metadata.num_rows > len(texts):
                return io.BytesIO(texts.to_bytes())
        if path.suffix == ".mp4":
            return self._frames.videos.open_committed(path, bool(self.collection))
        rows = self._committed_rows.get(path)
        if rows is not None and layout.open_parquet(path).metadata.num_rows > rows:
            return io.BytesIO(first_rows(path, rows))
        return path.open("rb")


def _is_task(task: Any) -> bool:
    return (
        isinstance(task, dict)
        and isinstance(task.get("name"), str)
        and isinstance(task.get("instruction", ""), str)
    )
