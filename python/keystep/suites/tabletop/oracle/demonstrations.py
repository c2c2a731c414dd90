"""Demonstrations: successful episodes of the oracle in the form the recorder wants."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from keystep.code.grid import GRID
from keystep.suites.tabletop.oracle.episodes import play


@dataclass(frozen=True)
class Demonstration:
    """One episode.

    Attributes:
        frames: with an entry for each of T control steps, what was there before its action:
            `observation.*` as the environment gives them; `action` float32 (T, 7); `objects.poses` float32
            (T, 56) and `objects.boxes` float32 (T, 32), eight slots each; `code`, T texts, and `keystep` bool
            (T,), the code trace.
        prompt: the task in words.
        names: of the bodies, in the order of the slots.
    """

    frames: dict[str, Any]
    prompt: str
    names: list[str]


def demonstrate(env: Any, task: str, seed: int, grid: int = GRID) -> Demonstration | None:
    """The oracle's episode from a seed; None when it does not solve the task, or stops before its end.

    Args:
        env: a tabletop environment, wrapped or not.
        task: its task.
        seed: of the reset.
        grid: in whose cells the code says places.

    Raises:
        ValueError: the environment is of another task.
    """
    env = env.unwrapped
    if env.task.name != task:
        raise ValueError(f"task: expected {env.task.name} as the environment's, got {task!r}")
    rows: dict[str, list[np.ndarray]] = defaultdict(list)

    def note(seen: dict[str, np.ndarray], action: np.ndarray) -> None:
        row = {**seen, "action": action, "objects.poses": env.poses(), "objects.boxes": env.boxes()}
        for key, value in row.items():
            rows[key].append(value)

    episode = play(env, seed, note, grid)
    if not episode.success or episode.reason:
        return None
    frames: dict[str, Any] = {key: np.stack(values) for key, values in rows.items()}
    for key in ("objects.poses", "objects.boxes"):
        frames[key] = frames[key].reshape(len(frames[key]), -1)
    frames["code"] = list(episode.trace.codes)
    frames["keystep"] = np.array(episode.trace.keysteps, dtype=bool)
    return Demonstration(frames, episode.prompt, episode.names)
