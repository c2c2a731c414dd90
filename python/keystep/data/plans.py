"""Training windows of a planner: an observation and the M subgoals that follow it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keystep.data.cache import mapped_columns
from keystep.data.joined import Dataset
from keystep.data.layout import DatasetError

Batch = dict[str, np.ndarray]


class PlanWindows:
    """Random access to all plans of some episodes.

    A plan starts at frame t of an episode of T frames; its subgoals are the frames t + n, t + 2n, .. t + Mn,
    and the last frame where the episode has ended. From the first frame of a 64-frame demonstration with
    M = n = 8 these are HD-ExpIt's, linspace(0, T - 1, 9), to within one frame.

    Args:
        reader: the dataset.
        key: the observation that a subgoal is.
        subgoals, steps_per_subgoal: M and n.
        latest_start: greatest t; 0 takes plans from the first frame only, as HD-ExpIt does. Later starts show
            how to go on from the middle of a task, which replanning asks for.
        episodes: indices to use; all when None.
        cache: folder of the memory-mapped columns; `keystep.data.cache.cache_folder()` when None.
    """

    def __init__(
        self,
        reader: Dataset,
        key: str,
        subgoals: int = 8,
        steps_per_subgoal: int = 8,
        *,
        latest_start: int = 0,
        episodes: Sequence[int] | None = None,
        cache: Path | None = None,
    ) -> None:
        for name, value, least in (
            ("subgoals", subgoals, 1),
            ("steps_per_subgoal", steps_per_subgoal, 1),
            ("latest_start", latest_start, 0),
        ):
            if value < least:
                raise DatasetError(f"{name}: expected at least {least}, got {value}")
        if key not in reader.features:
            raise DatasetError(f"subgoal: expected one of {', '.join(reader.features)}, got {key!r}")
        columns = mapped_columns(reader, [key, "task_index"], cache)
        self._frames, self._tasks = columns[key], columns["task_index"]
        self._ahead = steps_per_subgoal * np.arange(1, subgoals + 1)
        chosen = None if episodes is None else set(episodes)
        kept = [entry for entry in reader.episodes() if chosen is None or entry.index in chosen]
        if not kept:
            raise DatasetError(f"{reader.path}: expected at least one episode, found none")
        counts = [min(latest_start + 1, entry.length) for entry in kept]
        pairs = list(zip(kept, counts, strict=True))
        self._starts = np.concatenate([np.arange(entry.start, entry.start + n) for entry, n in pairs])
        self._last = np.repeat([entry.stop - 1 for entry in kept], counts)

    def __len__(self) -> int:
        return len(self._starts)

    def tasks(self) -> np.ndarray:
        """(windows,) int64 numbers of their tasks."""
        return np.asarray(self._tasks[self._starts])

    def batch(self, windows: np.ndarray, rng: np.random.Generator | None = None) -> Batch:
        """The windows of the given indices. Nothing is drawn: `rng` is that of training windows in general.

        Returns:
            "observation" (B, *shape), "subgoals" (B, M, *shape): float32 states or uint8 images (h, w, 3);
            "task" (B,) int64.
        """
        start = self._starts[windows]
        rows = np.minimum(start[:, None] + self._ahead, self._last[windows][:, None])
        return {
            "observation": self._frames[start],
            "subgoals": self._frames[rows],
            "task": self._tasks[start],
        }
