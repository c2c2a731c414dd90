"""Examples as they would be in a scene that a suite declares to be as good, drawn anew each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from keystep.data import Dataset
from keystep.suites import suite_named
from keystep.suites.base import Symmetry, symmetries
from keystep.train.recipe import Windows


class SymmetricWindows:
    """Windows, each under a random one of some symmetries.

    Args:
        windows: whose batches have vectors, and perhaps `task`.
        chosen: the symmetries.
        vectors: by key of a batch the key of the observation that it is.
        tasks: {"name", "instruction"} by task number.
    """

    def __init__(
        self,
        windows: Windows,
        chosen: Sequence[Symmetry],
        vectors: Mapping[str, str],
        tasks: Sequence[dict[str, str]],
    ) -> None:
        self._windows = windows
        numbers = {task["name"]: number for number, task in enumerate(tasks)}
        self._tasks = np.array([[numbers[each.tasks.get(name, name)] for name in numbers] for each in chosen])
        self._columns = {
            key: np.array([each.columns[vector] for each in chosen]) for key, vector in vectors.items()
        }

    def __len__(self) -> int:
        return len(self._windows)

    def tasks(self) -> np.ndarray:
        """(windows,) int64 numbers of their tasks, as they were recorded."""
        return self._windows.tasks()

    def batch(self, windows: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """As the windows', with columns exchanged and tasks renamed."""
        batch = dict(self._windows.batch(windows, rng))
        drawn = rng.integers(len(self._tasks), size=len(windows))
        for key, columns in self._columns.items():
            value = batch[key]
            order = columns[drawn].reshape(len(windows), *[1] * (value.ndim - 2), -1)
            batch[key] = np.take_along_axis(value, order, axis=-1)
        if "task" in batch:
            batch["task"] = self._tasks[drawn, batch["task"]]
        return batch


def symmetries_of(reader: Dataset, observations: Sequence[str]) -> tuple[Symmetry, ...]:
    """Those of the dataset's suite that rename its tasks among themselves.

    Args:
        observations: keys of what is seen, all of which must be vectors that the symmetries know.

    Raises:
        ValueError: the suite declares none for this, or the dataset's tasks leave none.
    """
    suite = suite_named(reader.collection.get("suite", "franka3blocks"))
    declared = symmetries(suite)
    if not declared:
        raise ValueError(f"symmetries: expected a suite that declares some, got {suite.name!r}")
    known = declared[0].columns
    for key in observations:
        if key not in known:
            raise ValueError(f"symmetries: expected nothing seen but {', '.join(known)}, got {key}")
        _require_width(reader, key, len(known[key]))
    return among(declared, [task["name"] for task in reader.tasks])


def among(declared: Sequence[Symmetry], tasks: Sequence[str]) -> tuple[Symmetry, ...]:
    """Those that rename these tasks among themselves. Raises ValueError if only that of no change does."""
    names = set(tasks)
    kept = tuple(each for each in declared if {each.tasks.get(name, name) for name in names} == names)
    if len(kept) < 2:
        raise ValueError(
            f"symmetries: expected tasks that change into each other, got {', '.join(sorted(names))}"
        )
    return kept


def _require_width(reader: Dataset, key: str, expected: int) -> None:
    width = reader.features[key].shape
    if width != (expected,):
        raise ValueError(f"symmetries: expected {key} of shape {(expected,)}, got {width}")
