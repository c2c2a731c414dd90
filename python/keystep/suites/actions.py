"""What an environment is given to do."""

from __future__ import annotations

import numpy as np


def checked_action(action: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The action as float64, clipped; ValueError for another shape than the bounds' or non-finite values."""
    action = np.asarray(action, dtype=np.float64)
    if action.shape != low.shape:
        raise ValueError(f"action: expected shape {low.shape}, got {action.shape}")
    if not np.isfinite(action).all():
        raise ValueError(f"action: expected finite values, got {action.tolist()}")
    return np.minimum(np.maximum(action, low), high)  # np.clip, in a third of its time
