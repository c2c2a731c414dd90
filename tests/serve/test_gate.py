"""Bounds and rate limits of a robot and of a server: one after the other, whatever is given at once."""

from __future__ import annotations

import numpy as np
import pytest

from keystep.client.actions import Gate

LOW, HIGH = np.float32([-1, -0.5, 0]), np.float32([1, 0.5, 0])


def one_by_one(actions, rate, last):
    """The slow law: cpp/src/loop/safety_gate.cpp."""
    given = []
    for action in actions:
        values = []
        for i, value in enumerate(action):
            value = min(max(value, LOW[i]), HIGH[i])
            if rate is not None and last is not None:
                value = min(max(value, last[i] - rate[i]), last[i] + rate[i])
            values.append(np.float32(value))
        last = np.float32(values)
        given.append(last)
    return np.stack(given)


@pytest.mark.parametrize("rate", [None, np.float32([0.25, 0.01, 1])])
def test_rows_are_as_each_alone(rate):
    random = np.random.default_rng(0)
    spec = {"min": LOW.tolist(), "max": HIGH.tolist(), "rate_limit": None if rate is None else rate.tolist()}
    together, alone, last = Gate(spec), Gate(spec), None
    for _ in range(50):
        rows = random.normal(size=(random.integers(1, 9), 3)).astype(np.float32)
        before, wanted = rows.copy(), one_by_one(rows, rate, last)
        got = together.apply_rows(rows)
        assert got.dtype == np.float32 and np.array_equal(got, wanted) and np.array_equal(rows, before)
        assert np.array_equal(np.stack([alone.apply(row) for row in rows]), wanted)
        last = wanted[-1]
        got[:] = 9  # the caller's
    taken = wanted[0]
    together.held(taken)
    assert np.array_equal(together.apply_rows(rows), one_by_one(rows, rate, taken))
