"""What a plan was chosen from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Candidates:
    """N plans for one observation, in the order of their noise.

    Attributes:
        plans: under the observation key that a subgoal is, as `Runtime.plan` gives it, N of them: states
            float32 (N, M, S), images uint8 (N, M, height, width, 3).
        scores: float32 (N,), the more the better: logits of the learned scorer, or minus the mean distance to
            the others. NaN of a plan that may not be followed (NaN or Inf in it), and of a single one.
        chosen: index of the plan that is followed.
    """

    plans: dict[str, np.ndarray]
    scores: np.ndarray
    chosen: int
