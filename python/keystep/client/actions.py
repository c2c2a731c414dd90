"""The actions to come, by consumed index, as the asynchronous loop in C++ keeps them.

`cpp/src/loop/async/action_queue.cpp`, `delays.hpp` and `safety_gate.cpp` say the same for a local policy.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np


class ActionQueue:
    """A chunk is installed at the index its observation was seen at: what was executed since is skipped.

    Args:
        rule: replace, blend or temporal_ensemble.
        rows: of a chunk.
        dim: values of an action.
        blend: actions over which the old chunk fades.
        decay: m of the ensemble's weights exp(-m i), i = 0 the oldest.
    """

    def __init__(self, rule: str, rows: int, dim: int, blend: int, decay: float) -> None:
        self._rule, self._rows, self._dim, self._blend, self._decay = rule, rows, dim, blend, decay
        kept = rows if rule == "temporal_ensemble" else 1
        self._chunks: deque[tuple[int, np.ndarray]] = deque(maxlen=kept)  # (start, rows), oldest first
        self.consumed = 0

    def reset(self) -> None:
        self.drop()
        self.consumed = 0

    def drop(self) -> None:
        """Forget the actions; the consumed index stays."""
        self._chunks.clear()

    @property
    def left(self) -> int:
        """Actions that can still be taken."""
        return max(self._chunks[-1][0] + self._rows - self.consumed, 0) if self._chunks else 0

    def rest(self) -> np.ndarray:
        """The newest chunk's rows from the next action on, float32 (left, A)."""
        if self.left == 0:
            return np.empty((0, self._dim), np.float32)
        start, rows = self._chunks[-1]
        return rows[self.consumed - start :]

    def install(self, start: int, rows: np.ndarray, joins: bool) -> bool:
        """Row 0 belongs to index `start`. `joins`: made for the same goal as those before it. False, and
        nothing changes, if all of it is past."""
        if not self.consumed - self._rows < start <= self.consumed:
            return False
        if not joins or self.left == 0 or start < self._chunks[-1][0]:
            self.drop()
        if self._chunks and self._rule == "blend":
            rows = self._blended(start, rows)
        self._chunks.append((start, rows))
        return True

    def take(self) -> np.ndarray | None:
        """The next action, float32 (A,); None: there is none."""
        if self.left == 0:
            return None
        if self._rule == "temporal_ensemble":
            action = self._average()
        else:
            start, rows = self._chunks[-1]
            action = rows[self.consumed - start].copy()
        self.consumed += 1
        return action

    def _blended(self, start: int, rows: np.ndarray) -> np.ndarray:
        """The old chunk's weight falls from B / (B + 1) at the next action to 1 / (B + 1)."""
        fading = min(self._blend, self.left, start + self._rows - self.consumed)
        steps = min(self._blend, self.left)
        weights = (np.arange(steps, 0, -1, dtype=np.float32) / np.float32(steps + 1))[:fading, None]
        rows = rows.copy()
        fresh = rows[self.consumed - start :][:fading]
        fresh += weights * (self.rest()[:fading] - fresh)
        return rows

    def _average(self) -> np.ndarray:
        """ACT's mean of all chunks that know this action."""
        known = [
            rows[self.consumed - at] for at, rows in self._chunks if at <= self.consumed < at + self._rows
        ]
        weights = [math.exp(-self._decay * i) for i in range(len(known))]
        total = sum(w * row.astype(np.float64) for w, row in zip(weights, known, strict=True))
        return np.asarray(total / sum(weights), np.float32)


class Delays:
    """How many ticks the last eight chunks took, at least one."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque([1] * 8, maxlen=8)
        self._count = 0

    def add(self, ticks: int) -> None:
        self._recent.append(max(ticks, 1))
        self._count += 1

    @property
    def expected(self) -> int:
        """The most of them: to be asked for so early."""
        return max(self._recent)

    @property
    def usual(self) -> int:
        """The most but one: what a chunk repeats of the one before."""
        return self.expected if self._count < 2 else sorted(self._recent)[-2]


class Gate:
    """Bounds and rate limits, of the last action given.

    Args:
        action: the manifest's action spec.
    """

    def __init__(self, action: dict[str, Any]) -> None:
        self._low, self._high = (np.array(action[name], np.float32) for name in ("min", "max"))
        rate = action["rate_limit"]
        self._rate = None if rate is None else np.array(rate, np.float32)
        self._last: np.ndarray | None = None

    def reset(self) -> None:
        self._last = None

    def apply(self, action: np.ndarray) -> np.ndarray:
        return self.apply_rows(action[None])[0]

    def apply_rows(self, rows: np.ndarray) -> np.ndarray:
        """Actions given one after the other, float32 (rows, A). Bounds are those of all rows at once: one by
        one they took a server as long as a quarter of a small network's chunk."""
        rows = np.minimum(np.maximum(rows, self._low), self._high)
        if self._rate is None:
            return rows
        for row in rows:
            if self._last is not None:
                row[:] = np.minimum(np.maximum(row, self._last - self._rate), self._last + self._rate)
            self._last = row
        self._last = rows[-1].copy()  # what was returned is the caller's
        return rows

    def held(self, action: np.ndarray) -> None:
        """The robot was given this instead."""
        if self._rate is not None and np.isfinite(action).all():
            self._last = action
