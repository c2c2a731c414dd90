"""How sure a figure is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

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


def means_by(pairs: Iterable[tuple[int, float]]) -> dict[int, float]:
    """The mean value of each key, in order of appearance."""
    values: dict[int, list[float]] = {}
    for key, value in pairs:
        values.setdefault(key, []).append(value)
    return {key: sum(found) / len(found) for key, found in values.items()}


def deviation(values: Sequence[float]) -> float | None:
    """The sample's standard deviation (n - 1); None of fewer than two values."""
    n = len(values)
    if n < 2:
        return None
    centre = sum(values) / n
    return math.sqrt(sum((value - centre) ** 2 for value in values) / (n - 1))


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean of independent values; None of fewer than two."""
    spread = deviation(values)
    return None if spread is None else spread / math.sqrt(len(values))


def clustered_error(groups: Sequence[Mapping[int, float]]) -> float | None:
    """Standard error of the mean of the groups' means, where values of one key are not independent.

    Of a single group the same as `standard_error`. Cluster-robust (Cameron and Miller 2015, JHR 50:317): each
    key's deviations are added up before they are squared. None of fewer than two keys.
    """
    groups = [group for group in groups if group]
    scores: dict[int, float] = {}
    for group in groups:
        centre = sum(group.values()) / len(group)
        for key, value in group.items():
            scores[key] = scores.get(key, 0.0) + (value - centre) / (len(group) * len(groups))
    n = len(scores)
    return math.sqrt(n / (n - 1) * sum(score**2 for score in scores.values())) if n > 1 else None


def paired_interval(first: Sequence[bool], second: Sequence[bool]) -> tuple[float, float]:
    """95 % of the difference second - first of two proportions from the same n cases.

    Newcombe's method 10 (1998, Statistics in Medicine 17:2635): Wilson intervals, and how the pairs agree.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"second: expected as many as first, 1 or more, got {len(second)} of {len(first)}")
    n = len(first)
    both = sum(one and other for one, other in zip(first, second, strict=True))
    ones, others = sum(first), sum(second)
    agreement = _phi(both, others - both, ones - both, n - ones - others + both)
    share, other_share = ones / n, others / n
    (low, high), (other_low, other_high) = wilson_interval(ones, n), wilson_interval(others, n)
    change = other_share - share

    def distance(one: float, other: float) -> float:
        return math.sqrt(max(one * one - 2 * agreement * one * other + other * other, 0.0))

    down = distance(high - share, other_share - other_low)
    up = distance(share - low, other_high - other_share)
    return change - down, change + up


def _phi(both: int, second: int, first: int, neither: int) -> float:
    """Correlation of the pairs, corrected for continuity as Newcombe does."""
    product = (both + first) * (second + neither) * (both + second) * (first + neither)
    if product == 0:
        return 0.0
    value = both * neither - first * second
    n = both + first + second + neither
    return (max(value - n / 2, 0.0) if value > 0 else float(value)) / math.sqrt(product)
