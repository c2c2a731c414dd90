"""Where things are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pose:
    """Where something upright is: position (x, y, z) of its centre in metres, yaw in radians from above."""

    position: tuple[float, float, float]
    yaw: float = 0.0

    def __post_init__(self) -> None:
        if not np.isfinite([*self.position, self.yaw]).all():
            raise ValueError(f"pose: expected finite numbers, got {self.position} and yaw {self.yaw}")

    @property
    def array(self) -> np.ndarray:
        return np.array(self.position)
