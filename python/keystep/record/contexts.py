"""Where rollouts start: environment resets, and states of episodes that are there already.

Source: HD-ExpIt, section 4 and Algorithm 3. Every task has a stream of contexts of each kind. Their order is
fixed: the first context of every stream, then the second ones, and so on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keystep.data.errors import DatasetError
from keystep.data.reader import DatasetReader
from keystep.record.rollout_settings import MAX_COLLECTION, REPLAYED_SEEDS, ROLLOUT_SEEDS, ContextKind
from keystep.suites.base import Suite, numbered
from keystep.suites.states import END_STATE, told_world


@dataclass(frozen=True)
class StartContext:
    """An initial state and a task.

    Attributes:
        task: name.
        kind: where the state is from.
        number: of the context in the stream of its task and kind, from 0.
        seed: of the reset, and of the policy's noise.
        source: of a replayed one: the `dataset` (digest) and its `episode`.
        state: of a replayed one, see `keystep.suites.states`.
    """

    task: str
    kind: ContextKind
    number: int
    seed: int
    source: Mapping[str, Any] | None = None
    state: Mapping[str, Any] | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        """Which one it is in its collection."""
        return self.task, self.kind, self.number


@dataclass(frozen=True)
class KeptState:
    """A state of an episode of a dataset."""

    dataset: str
    episode: int
    state: Mapping[str, Any]


def kept_states(paths: Sequence[Path], env_id: str, name: str = END_STATE) -> list[KeptState]:
    """The states of this name, the last ones by default, of all episodes of the datasets.

    Raises:
        DatasetError: a dataset keeps none, or those of another environment than `env_id`, or of two worlds.
    """
    which = "last" if name == END_STATE else "first solved"
    found: list[KeptState] = []
    for path in paths:
        reader = DatasetReader(path)
        digest = reader.sha256()
        for episode in reader.episodes():
            kept = episode.extras.get(name)
            if not isinstance(kept, Mapping) or not isinstance(kept.get("world"), Mapping):
                raise DatasetError(
                    f"{path}: episode {episode.index}: {name}: expected the episode's {which} state, which "
                    f"replayed contexts start from, found none; collect the dataset again"
                )
            if (world := kept["world"].get("env_id")) != env_id:
                raise DatasetError(
                    f"{path}: episode {episode.index}: {name}: expected a state of {env_id}, got one of "
                    f"{world}; replay only datasets of the same world"
                )
            if found and found[0].state["world"] != kept["world"]:
                wanted, got = (told_world(state["world"]) for state in (found[0].state, kept))
                raise DatasetError(
                    f"{path}: episode {episode.index}: {name}: expected a state of {wanted}, as of the "
                    f"first, got one of {got}; replay only datasets of the same world"
                )
            found.append(KeptState(digest, episode.index, kept))
    return found


class Contexts:
    """All contexts of one collection.

    Args:
        tasks: those collected.
        seed: of the collection.
        kept: states to start from, in an order of its own for every task.
        not_replayed: tasks that have no replayed contexts.

    Raises:
        DatasetError: a task or seed that there is not.
    """

    def __init__(
        self,
        suite: Suite,
        tasks: Sequence[str],
        seed: int,
        kept: Sequence[KeptState],
        not_replayed: Sequence[str] = (),
    ) -> None:
        if not 0 <= seed <= MAX_COLLECTION:
            raise DatasetError(f"seed: expected 0 to {MAX_COLLECTION}, got {seed}")
        self._first = numbered(suite, tasks, (seed + 1) * ROLLOUT_SEEDS)
        self._stride = suite.seed_stride
        self._kept = list(kept)
        self._not_replayed = frozenset(not_replayed)
        self._orders = {
            task: np.random.default_rng((seed, suite.tasks[task])).permutation(len(kept)) for task in tasks
        }

    def available(self, task: str, kind: ContextKind, most: int) -> int:
        """Contexts of a stream, at most `most`."""
        if kind == "reset":
            return most
        return 0 if task in self._not_replayed else min(most, len(self._kept))

    def context(self, task: str, kind: ContextKind, number: int) -> StartContext:
        """Of this number, one of those that are available."""
        seed = self._first[task] + self._stride * number
        if kind == "reset":
            return StartContext(task, kind, number, seed)
        kept = self._kept[self._orders[task][number]]
        source = {"dataset": kept.dataset, "episode": kept.episode}
        return StartContext(task, kind, number, seed + REPLAYED_SEEDS, source, kept.state)
