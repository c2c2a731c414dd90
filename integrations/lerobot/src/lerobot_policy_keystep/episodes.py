"""A bundle that acts in a batch of environments: a session for each, on shared weights."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

import keystep
from lerobot_policy_keystep.inputs import wrong
from lerobot_policy_keystep.tasks import Tasks

FIRST_ACTION_S = 30.0


class Episodes:
    """Environment b has session b. Episodes are numbered through, in the order of the environments: the noise
    of an episode, which (seed, its number) says, does not depend on how many run at once.

    Args:
        runtime: closed with this.
        tasks: what a text means.
        seed, guidance: as of `Runtime.reset`.
    """

    def __init__(
        self, runtime: keystep.Runtime, tasks: Tasks, seed: int = 0, guidance: float | None = None
    ) -> None:
        self._sessions = [runtime]
        self._tasks, self._seed, self._guidance = tasks, seed, guidance
        self._action = runtime.manifest["action"]
        self._execute: int = runtime.manifest["chunk"]["execute"]
        self._begun: list[_Episode] = []  # of the sessions, since `begin`
        self._next = 0

    def begin(self) -> None:
        """All environments start anew with their next observation."""
        self._begun = []

    def interrupt(self) -> None:
        """What was computed for later is dropped; the episodes go on."""
        for session in self._sessions:
            session.interrupt()

    def close(self) -> None:
        for session in self._sessions:
            session.close()

    def act(self, observations: Sequence[dict[str, np.ndarray]], texts: Sequence[str | None]) -> np.ndarray:
        """The next action of each, float32 (B, A).

        Raises:
            keystep.ArgumentError, keystep.PolicyError: as `Runtime.act`.
        """
        episodes = self._follow(texts, "select_action")
        return np.stack([each.act(seen) for each, seen in zip(episodes, observations, strict=True)])

    def chunks(
        self,
        observations: Sequence[dict[str, np.ndarray]],
        texts: Sequence[str | None],
        previous: np.ndarray | None = None,
        ahead: int = 0,
    ) -> np.ndarray:
        """A chunk of each, float32 (B, rows, A), within the bounds; rate limits are left to who executes it.

        Of each chunk `chunk.execute` rows are taken to be executed before the next is asked for: only a
        planner's goals depend on it.

        Args:
            previous: what the chunk before still has, (rows, A) or (B, rows, A); see `Runtime.serve_chunk`.
            ahead: actions that will be taken until the chunk can begin to act.
        """
        episodes = self._follow(texts, "predict_action_chunk")
        olds = _per_episode(previous, len(episodes), len(self._action["names"]))
        found = [
            each.chunk(seen, old, ahead, self._execute)
            for each, seen, old in zip(episodes, observations, olds, strict=True)
        ]
        least, most = (np.asarray(self._action[name], np.float32) for name in ("min", "max"))
        return np.stack(found).clip(least, most)

    def _follow(self, texts: Sequence[str | None], way: str) -> list[_Episode]:
        """The episodes, those begun that are not: at the first observation, and where a text is another."""
        wanted = [self._tasks.meant(text) for text in texts]
        if self._begun and len(self._begun) != len(wanted):
            raise wrong("environments", f"{len(self._begun)}, as since reset", len(wanted))
        if self._begun and self._begun[0].way != way:
            raise wrong(way, f"{self._begun[0].way}, as since reset", way)
        if not self._begun:
            while len(self._sessions) < len(wanted):
                self._sessions.append(self._sessions[0].session())
            self._begun = [self._start(place, about, way, place) for place, about in enumerate(wanted)]
            self._next += len(wanted)
        for place, about in enumerate(wanted):
            if self._begun[place].about != about:
                self._begun[place] = self._start(place, about, way)
                self._next += 1
        return self._begun

    def _start(self, place: int, about: dict[str, Any], way: str, after: int = 0) -> _Episode:
        """The episode `after` the next number, in one environment."""
        session = self._sessions[place]
        session.reset(seed=self._seed, episode=self._next + after, guidance=self._guidance, **about)
        return _Episode(session, about, way)


class _Episode:
    """Of one environment."""

    def __init__(self, session: keystep.Runtime, about: dict[str, Any], way: str) -> None:
        self.about, self.way = about, way
        self._session = session
        self._consumed = 0
        self._acted = False

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """Where nothing can be held yet (`mode` async, the first chunk), it waits for an action, as LeRobot's
        own loop does."""
        until = time.monotonic() + FIRST_ACTION_S
        while True:
            try:
                action = self._session.act(observation)
            except keystep.PolicyError as error:
                if self._acted or error.status != "underrun" or time.monotonic() > until:
                    raise
                time.sleep(0.001)
            else:
                self._acted = True
                return action

    def chunk(
        self, observation: dict[str, np.ndarray], previous: np.ndarray | None, ahead: int, execute: int
    ) -> np.ndarray:
        served = self._session.serve_chunk(
            [observation], consumed=self._consumed, ahead=ahead, previous=previous
        )
        self._consumed += execute
        return served.rows


def _per_episode(previous: np.ndarray | None, count: int, width: int) -> list[Any]:
    """Rows of zeros at the end are LeRobot's filling, and no actions."""
    if previous is None:
        return [None] * count
    many = previous[None] if previous.ndim == 2 else previous
    if many.ndim != 3 or many.shape[0] != count or many.shape[2] != width:
        raise wrong("prev_chunk_left_over", f"({count}, rows, {width})", str(previous.shape))
    found = []
    for rows in many:
        moved = np.flatnonzero(rows.any(axis=1))
        kept = rows[: moved[-1] + 1] if len(moved) else rows[:0]
        found.append(np.ascontiguousarray(kept, np.float32) if len(kept) else None)
    return found
