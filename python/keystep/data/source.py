"""Where demonstrations come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keystep.data.spec import DatasetSpec
from keystep.data.workers import Rollout


@dataclass(frozen=True)
class Source:
    """Where demonstrations come from, and what the dataset says about it.

    Attributes:
        spec: of the dataset.
        open_rollout: makes the rollout function, once in every process; picklable.
        first_seeds: of each task.
        seed_stride: distance of consecutive seeds of a task.
    """

    spec: DatasetSpec
    open_rollout: Callable[[], Rollout]
    first_seeds: dict[str, int]
    seed_stride: int
