"""The part of `keystep.Runtime` that makes chunks for somebody who executes them elsewhere."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keystep import _core
from keystep.continuation import continuation_arguments
from keystep.observations import Observation


@dataclass(frozen=True)
class ServedChunk:
    """Attributes:
    rows: float32 (H - start, A), physical units before the gate; the first belongs to the consumed index
        that was asked for.
    goal: number of its goal: 1 is the first key-step, 0 that of a policy without any.
    begins: the consumed index from which on that goal counts; it may be to come.
    until: that of the next key-step, where it is known beforehand.
    planned: whether a plan was made for it.
    """

    rows: np.ndarray
    goal: int
    begins: int
    until: int | None
    planned: bool


class RuntimeServing:
    """See `keystep.Runtime`."""

    _core: _core.Runtime
    _manifest: dict[str, Any]

    @abstractmethod
    def _check_task(self, observation: Observation) -> None: ...

    def serve_chunk(
        self,
        frames: Sequence[Observation],
        *,
        consumed: int,
        ahead: int = 0,
        previous: np.ndarray | None = None,
        continues: int = 0,
        rule: str | None = None,
        overlap: int | None = None,
        decay: str = "exponential",
    ) -> ServedChunk:
        """The next chunk of the episode, for somebody who executes it elsewhere and counts there.

        A tick without its last step: it plans where that is due, and draws the episode's next noise. In
        lockstep alone.

        Args:
            frames: the newest observation, or with those before it, oldest first, which then are all that is
                remembered.
            consumed: actions of the episode taken before the newest frame, never fewer than the last time.
            ahead: actions that will be taken until the chunk can begin to act. Its goal is that of then.
            previous: what the chunk before still has, float32 (rows, A), from the next action on; its rows
                below `ahead` stay as they are (docs/merging.md). None: a chunk of its own.
            continues: `goal` of that chunk. Of another goal it has no say beyond `ahead`.
            rule, overlap, decay: as of `predict_chunk`. Beyond `chunk.max_delay` trained becomes x0blend.

        Raises:
            ArgumentError, PolicyError: as `act`; nothing of the episode has changed after an ArgumentError
                or "bad_observation".
        """
        if not frames:
            raise _core.ArgumentError("frames: expected 1 or more observations, got 0")
        self._check_task(frames[-1])
        delay = 0 if previous is None else min(ahead, len(previous))
        continued = continuation_arguments(self._manifest, previous, delay, overlap, rule, decay)
        previous, delay, overlap_row, rule, decay = continued
        if rule == "trained" and delay > self._manifest["chunk"].get("max_delay", 0):
            rule = "x0blend"
        untold = [{key: value for key, value in frame.items() if key != "task"} for frame in frames]
        served = self._core.serve_chunk(
            untold, consumed, ahead, continues, previous, delay, overlap_row, rule, decay
        )
        return ServedChunk(*served)
