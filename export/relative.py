"""Actions that a network makes relative to what is observed: the law of the manifest's `action.relative`.

An action is the network's, un-normalised, plus the value that was observed when its chunk was made; all rows
of a chunk have the same one. The C++ twin is cpp/src/policy/action_map.cpp.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keystep.features import Feature


def anchor_of(
    relative: Mapping[str, Any] | None,
    features: Iterable[Feature],
    arrays: Mapping[str, np.ndarray],
    case: int,
) -> np.ndarray:
    """What is added to every row of a chunk, float32 [A], or [1] where all actions are absolute.

    Args:
        relative: the manifest's entry; None: actions are absolute.
        arrays: of golden.npz, of which row `case` counts: its newest frame.
    """
    if relative is None:
        return np.zeros(1, np.float32)
    key = relative["feature"]
    (feature,) = (feature for feature in features if feature.key == key)
    frames = arrays[key][case]
    seen = frames[-1] if feature.history > 1 else frames
    return np.array([0.0 if place is None else seen[place] for place in relative["values"]], np.float32)
