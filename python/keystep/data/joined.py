"""Several datasets of one world as one: demonstrations and rollouts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import numpy as np

from keystep.code.grid import PAPER_GRID
from keystep.data.action_law import with_law
from keystep.data.episodes import EpisodeInfo
from keystep.data.hub import local_folder
from keystep.data.layout import Column, DatasetError, quoted
from keystep.data.reader import DatasetReader
from keystep.data.stats import Stats
from keystep.data.stats_file import combine_episodes, measure, usable

WORLD = ("suite", "env_id", "world_version", "grid")
"""Of meta/keystep.json: what must be the same where both datasets tell it."""
ACTION = ("names", "units", "min", "max", "rate_limit", "hold", "law")


class JoinedDatasets:
    """Frames and episodes of several datasets, one after the other; training sees it as a `DatasetReader`.

    Task numbers and everything that is told only once (names of tasks, meta/keystep.json) are the first's.

    Args:
        paths: two or more dataset folders.

    Raises:
        DatasetError: one is no dataset, or differs from the first: "FOLDER: field: expected .., got ..".
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.readers = [DatasetReader(path) for path in paths]
        first = self.readers[0]
        if len({path.resolve() for path in paths}) < len(paths):
            raise DatasetError("dataset: expected each folder once, got one twice")
        for reader in self.readers[1:]:
            check_same_world(first, reader)
        self.path = first.path
        self.info, self.features, self.collection = first.info, first.features, first.collection
        self.tasks, self.instructions = first.tasks, first.instructions
        self.image_keys, self.cameras, self.vector = first.image_keys, first.cameras, first.vector
        self._starts = list(accumulate((reader.frames for reader in self.readers), initial=0))

    def __len__(self) -> int:
        """Episodes."""
        return sum(map(len, self.readers))

    @property
    def frames(self) -> int:
        """Number of frames of all."""
        return self._starts[-1]

    def episodes(self) -> Iterator[EpisodeInfo]:
        """All episodes in order, numbered through."""
        index = 0
        for start, reader in zip(self._starts, self.readers, strict=False):
            for episode in reader.episodes():
                changes = {"index": index, "start": episode.start + start, "stop": episode.stop + start}
                yield EpisodeInfo(**{**vars(episode), **changes})
                index += 1

    @cached_property
    def stats(self) -> Stats:
        """Of all frames, from the episodes' own."""
        found = chain.from_iterable(reader.episode_stats() for reader in self.readers)
        combined = combine_episodes(found, self.features)
        if usable(combined, self.features, self.frames):
            return combined
        measured = [key for key, feature in self.features.items() if feature.is_number or feature.is_image]
        return measure(self.iter_batches([key for key in measured if key not in ("index", "episode_index")]))

    def iter_batches(
        self, columns: Sequence[str] | None = None, batch_size: int = 1024
    ) -> Iterator[dict[str, np.ndarray]]:
        """See `DatasetReader.iter_batches`; the numbers of tasks are the first's.

        Raises:
            DatasetError: a number of frames or episodes, which start anew in every dataset.
        """
        names = [name for name in self.features if name not in ("index", "episode_index")]
        for name in columns or ():
            if name not in names:
                raise DatasetError(f"columns: expected one of {', '.join(names)}, got {name!r}")
        for reader in self.readers:
            numbers = _task_numbers(self.readers[0], reader)
            for batch in reader.iter_batches(columns or names, batch_size):
                if "task_index" in batch:
                    batch["task_index"] = numbers[batch["task_index"]]
                yield batch

    def sha256(self) -> str:
        """Identity of the content of all, in this order."""
        return hashlib.sha256("\n".join(reader.sha256() for reader in self.readers).encode()).hexdigest()


Dataset = DatasetReader | JoinedDatasets


def open_datasets(paths: Path | Sequence[Path]) -> Dataset:
    """One dataset, or several as one: folders, or ids of the Hub. Raises DatasetError."""
    folders = [local_folder(path) for path in ([paths] if isinstance(paths, Path) else paths)]
    if not folders:
        raise DatasetError("dataset: expected at least one folder, got none")
    return DatasetReader(folders[0]) if len(folders) == 1 else JoinedDatasets(folders)


def check_same_world(first: Dataset, other: Dataset) -> None:
    """Whether frames of both mean the same.

    Raises:
        DatasetError: the field that differs, features, fps, tasks, action or the world, and both values.
    """
    for key in dict.fromkeys([*first.features, *other.features]):
        _require(
            other.path, f"features.{key}", _told(first.features.get(key)), _told(other.features.get(key))
        )
    _require(other.path, "fps", first.info["fps"], other.info["fps"])
    known = {task["instruction"]: task["name"] for task in first.tasks}
    for task in other.tasks:
        if known.get(task["instruction"]) != task["name"]:
            wanted = f"tasks of {', '.join(known.values())}, told as in {first.path}"
            raise DatasetError(f"{other.path}: tasks: expected {wanted}, got {quoted(task)}")
    collections = [_with_grid(with_law(reader.collection)) for reader in (first, other)]
    for name in WORLD:
        _same_where_told(other.path, name, *(collection.get(name) for collection in collections))
    actions = [collection.get("action") or {} for collection in collections]
    for name in ACTION:
        _same_where_told(other.path, f"action.{name}", *(action.get(name) for action in actions))


def _with_grid(collection: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"grid": PAPER_GRID, **collection} if collection.get("suite") == "tabletop" else collection


def _task_numbers(first: DatasetReader, other: DatasetReader) -> np.ndarray:
    """By task number of `other` that of the first."""
    texts = [task["instruction"] for task in first.tasks]
    return np.array([texts.index(task["instruction"]) for task in other.tasks], np.int64)


def _told(column: Column | None) -> Any:
    if column is None:
        return None
    names = list(column.names) if column.names else None
    dtype = "image" if column.is_image else column.dtype  # PNG and mp4 are the same to whoever reads
    return {"dtype": dtype, "shape": list(column.shape), "names": names}


def _same_where_told(path: Path, field: str, expected: Any, got: Any) -> None:
    if expected is not None and got is not None:
        _require(path, field, expected, got)


def _require(path: Path, field: str, expected: Any, got: Any) -> None:
    if expected != got:
        raise DatasetError(f"{path}: {field}: expected {expected!r:.200} as in the first, got {got!r:.200}")
