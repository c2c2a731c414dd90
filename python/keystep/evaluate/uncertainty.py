"""How sure a figure is."""

from __future__ import annotations

import math
from collections.abc import Sequence

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the standard normal."""


def wilson_interval(successes: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927, JASA 22:209): (low, high); (0, 1) when n is 0."""
    if not 0 <= successes <= n:
        raise ValueError(f"successes: expected 0..{n}, got {successes}")
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends the exact bound is 0 or 1; rounding must not move it.
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def mean(values: Sequence[float]) -> float | None:
    """None of no values."""
    return sum(values) / len(values) if values else None


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean, from the sample's own deviation (n - 1); None of fewer than two values."""
    n = len(values)
    if n < 2:
        return None
    centre = sum(values) / n
    return math.sqrt(sum((value - centre) ** 2 for value in values) / (n - 1) / n)
