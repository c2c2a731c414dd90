"""A remote policy's loop: the asynchronous one (docs/real_time.md) with a server in place of the threads."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .actions import ActionQueue, Delays, Gate
from .errors import ServerError, Unsent
from .observations import checked, told_in
from .replies import checked_reply

UNDERRUNS = ("hold", "fault")
IN_THE_SAMPLER = ("trained", "x0blend")


class Post(Protocol):
    """Takes one request at a time to the server."""

    def post(self, request: dict[str, Any]) -> None: ...
    def collect(self) -> dict[str, Any] | Exception | None: ...


@dataclass
class LoopCounts:
    """Attributes:
    ticks: calls of `act`.
    actions: of the policy, given.
    requests: made.
    chunks: installed.
    outdated: requests in vain: their chunks came too late, or they were from before an interrupt or another
        connection.
    failed: requests that the server refused or lost.
    underruns: ticks without an action of the policy.
    delay: actions executed while the last chunk was on its way; max_delay: the most.
    left: actions that can still be taken.
    """

    ticks: int = 0
    actions: int = 0
    requests: int = 0
    chunks: int = 0
    outdated: int = 0
    failed: int = 0
    underruns: int = 0
    delay: int = 0
    max_delay: int = 0
    left: int = 0


class RemoteLoop:
    """One robot's. One thread ticks; `interrupt` and `replan` from any.

    Args:
        metadata: the server's first message.
        post: takes requests to it.
        merge, request_below, blend_actions, ensemble_decay: as of `keystep.load`.
        underrun: hold or fault.
        max_age_s: of an observation, when its chunk comes.
    """

    def __init__(
        self,
        metadata: dict[str, Any],
        post: Post,
        merge: str,
        request_below: int,
        blend_actions: int,
        ensemble_decay: float | None,
        underrun: str,
        max_age_s: float = 10.0,
    ) -> None:
        chunk, action = metadata["chunk"], metadata["action"]
        rows, dim = chunk["rows"], len(action["names"])
        self._merge = merge_rule(merge, metadata)
        joins = "replace" if self._merge in IN_THE_SAMPLER else self._merge
        _require(underrun in UNDERRUNS, "underrun", " | ".join(UNDERRUNS), underrun)
        _require(0 <= request_below <= rows, "request_below", f"0..{rows}", request_below)
        _require(0 <= blend_actions <= rows, "blend_actions", f"0..{rows}", blend_actions)
        _require(max_age_s > 0, "max_age_s", "more than 0", max_age_s)
        if ensemble_decay is None:
            ensemble_decay = chunk["ensemble_decay"]
        self._features = metadata["observation"]
        self._post = post
        self._queue = ActionQueue(joins, rows, dim, blend_actions or (rows + 1) // 2, ensemble_decay)
        self._rows, self._dim, self._max_age_s = rows, dim, max_age_s
        self._below = request_below or self._usual_below(rows, chunk["execute"])
        self._gate, self._hold, self._faults = Gate(action), action["hold"], underrun == "fault"
        frames = max(feature["history"] for feature in self._features)
        self._recent: deque[dict[str, Any]] = deque(maxlen=frames)
        self.counts = LoopCounts()
        self._interrupted = self._replan = False
        self.reset()

    def reset(self, about: str | None = None) -> None:
        """An episode begins, about this task or instruction."""
        self._queue.reset()
        self._gate.reset()
        self._recent.clear()
        self._delays = Delays()
        self._waiting: dict[str, Any] | None = None
        self._too_old = False  # the last chunk was
        self._about = about  # what was told last
        self.forget()
        self._goal, self._until, self._had_chunk = 0, None, False
        self._failure: Exception | None = None
        self._last: np.ndarray | None = None

    def forget(self) -> None:
        """No reply is on its way any more."""
        self._asked: tuple[int, float] | None = None  # tick and time of the request on its way
        self._stale = False  # that request is from before an interrupt

    def _usual_below(self, rows: int, execute: int) -> int:
        if self._merge == "temporal_ensemble":
            return rows  # the more chunks know an action, the better
        return max(rows - execute + 1, min(rows // 2 + 1, rows))

    def interrupt(self) -> None:
        self._interrupted = True

    def replan(self) -> None:
        self._replan = self._interrupted = True

    def tick(self, observation: dict[str, Any]) -> np.ndarray:
        """One control period: the next action, float32 (A,). It never waits.

        Raises:
            ValueError: what is wrong with the observation, by its key.
            ServerError, ConnectionLost: why there is no action; with underrun "fault" also that there is none
                yet. The robot is to hold.
        """
        self.counts.ticks += 1
        seen = checked(observation, self._features)
        self._recent.append({k: np.array(v) for k, v in seen.items()} if self._recent.maxlen != 1 else seen)
        self._follow(told_in(seen))
        self._absorb_interrupts()
        self._receive()
        if self._needs_chunk():
            self._ask()
        return self._give()

    def _follow(self, about: str | None) -> None:
        """A prompt that is new begins an episode there: what is left is of the old one."""
        if about is not None and about != self._about:
            self._about = about
            if self._had_chunk or self._asked is not None:
                self._interrupted, self._goal = True, 0

    def _absorb_interrupts(self) -> None:
        if not self._interrupted:
            return
        self._interrupted = False
        self._queue.drop()
        self._waiting, self._failure, self._until = None, None, None
        self._stale = self._asked is not None

    def _receive(self) -> None:
        reply = self._post.collect() if self._asked is not None else None
        if reply is not None and self._asked is not None:
            (tick, asked_s), stale = self._asked, self._stale
            self.forget()
            if isinstance(reply, Unsent):  # goals are counted anew there, and nothing is known of the next
                self._goal, self._until = 0, None
                self.counts.outdated += 1
            elif stale:
                self.counts.outdated += 1
            else:
                self._take_in(reply, tick, time.monotonic() - asked_s)
        # A chunk for the next subgoal waits until its time, or until nothing of the old is left.
        waiting = self._waiting
        if waiting is not None and (self._queue.left == 0 or waiting["begins"] <= self._queue.consumed):
            self._waiting = None
            self._install(waiting)

    def _take_in(self, reply: dict[str, Any] | Exception, tick: int, age_s: float) -> None:
        failure = reply if isinstance(reply, Exception) else checked_reply(reply, self._rows, self._dim)
        if failure is not None or isinstance(reply, Exception):
            self._failure = failure
            self.counts.failed += 1
            return
        again, self._too_old = self._too_old, age_s > self._max_age_s
        if self._too_old:
            self.counts.outdated += 1
            if again:  # once it may have been the robot that paused
                self._failure = ServerError(
                    f"server: expected a chunk within {self._max_age_s:g} s, got it after {age_s:.1f} s"
                )
            return
        self._note_delay(reply, tick)
        self._waiting = reply

    def _note_delay(self, reply: dict[str, Any], tick: int) -> None:
        self.counts.delay = self._queue.consumed - reply["start"]
        self.counts.max_delay = max(self.counts.max_delay, self.counts.delay)
        if self._had_chunk:  # the first is a warm-up
            self._delays.add(self.counts.ticks - tick)

    def _install(self, reply: dict[str, Any]) -> None:
        if not self._queue.install(reply["start"], reply["actions"], reply["goal"] == self._goal):
            self.counts.outdated += 1
            return
        self._goal, self._until = reply["goal"], reply["until"]
        self._had_chunk, self._failure = True, None
        self.counts.chunks += 1

    def _needs_chunk(self) -> bool:
        if self._asked is not None or self._waiting is not None:
            return False
        left, delay = self._queue.left, min(self._delays.expected, self._rows)
        if left == 0:
            return True
        if self._until is None:
            return left < self._below
        to_next = self._until - self._queue.consumed
        if to_next <= delay:
            return True
        # A chunk for the goal of now would still be on its way when that for the next has to begin.
        return left < self._below and (to_next > 2 * delay or to_next > left)

    def _ask(self) -> None:
        *history, newest = self._recent
        rest = self._queue.rest()
        told: dict[str, Any] = {"consumed": self._queue.consumed, "goal": self._goal}
        told["ahead"] = min(self._delays.usual, self._rows) if len(rest) else 0
        if self._merge in IN_THE_SAMPLER and len(rest):
            told |= {"previous": rest, "rule": self._merge}
        if history:
            told["history"] = history
        if self._replan:
            self._replan, told["replan"] = False, True
        message = {**newest, "keystep": told}
        if self._about is not None and told_in(newest) is None:  # a new connection would not know it
            message["prompt"] = self._about
        self._post.post(message)
        self._asked = (self.counts.ticks, time.monotonic())
        self.counts.requests += 1

    def _give(self) -> np.ndarray:
        action = self._queue.take()
        self.counts.left = self._queue.left
        if action is None:
            return self._give_without()
        self._last = self._gate.apply(action)
        self.counts.actions += 1
        return self._last

    def _give_without(self) -> np.ndarray:
        """What the bundle holds: its values, or the last action."""
        self.counts.underruns += 1
        held = self._last
        if self._hold["mode"] == "values":
            held = np.array(self._hold["values"], np.float32)
        if held is not None:
            self._gate.held(held)
        if self._failure is not None:
            raise self._failure.with_traceback(None)  # the same one again and again
        if self._faults or held is None:
            raise NoAction("action: expected one of the policy, got none in time")
        self._last = held
        return held.copy()


class NoAction(RuntimeError):
    """There is no action yet, and nothing that could be held: send the robot nothing."""


def merge_rule(merge: str, metadata: dict[str, Any]) -> str:
    """`merge`, or what the bundle says, or the first that the policy allows."""
    chunk = metadata["chunk"]
    if not merge and chunk["merge"] == "temporal_ensemble":
        return "temporal_ensemble"
    allowed = ["trained"] * bool(chunk["max_delay"]) + ["x0blend"] * bool(chunk["continues"])
    allowed += ["blend", "replace", "temporal_ensemble"]
    _require(not merge or merge in allowed, "merge", " | ".join(allowed), merge)
    return merge or allowed[0]


def _require(good: bool, field: str, wanted: str, got: object) -> None:
    if not good:
        raise ValueError(f"{field}: expected {wanted}, got {got!r}")
