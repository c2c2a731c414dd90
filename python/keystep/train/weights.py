"""How often the windows of a task are taken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keystep.train.config import parse_weights


def window_weights(
    tasks: np.ndarray, known: Sequence[dict[str, str]], choices: Sequence[str]
) -> np.ndarray | None:
    """A weight for every window; None if all weigh the same.

    Args:
        tasks: (windows,) numbers of their tasks.
        known: {"name", "instruction"} by task number.
        choices: see `TrainConfig.task_weights`.

    Raises:
        ValueError: a task that the dataset does not have.
    """
    chosen = parse_weights(choices)
    names = [task["name"] for task in known]
    for name in chosen:
        if name not in names:
            raise ValueError(f"task_weights: expected tasks of {', '.join(names)}, got {name!r}")
    if len({chosen.get(name, 1.0) for name in names}) == 1:
        return None
    return np.array([chosen.get(name, 1.0) for name in names])[tasks]
