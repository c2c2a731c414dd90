"""What happened in an episode of `keystep run`, recorded while it happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from keystep.code.executor import Result
from keystep.code.trace import is_keystep
from keystep.suites.tabletop.layout import CONTROL_RATE_HZ
from keystep.suites.tabletop.oracle.episodes import OracleEpisode
from keystep.suites.tabletop.oracle.replies import Watcher, Written

RUNNING, INTERRUPTED = "running", "interrupted"


@dataclass
class KeyStepRun:
    """A key-step that was run.

    Attributes:
        step: control step at which it was written.
        code: as written.
        ms: that its reply took.
        passes: of the decoder.
        outcome: RUNNING, INTERRUPTED by the next reply, or of the executor: success, failure, timeout.
        reason: why it did not succeed; "" else.
        steps: control steps that it took.
    """

    step: int
    code: str
    ms: float
    passes: int
    outcome: str = RUNNING
    reason: str = ""
    steps: int = 0


@dataclass
class EpisodeRecord(Watcher):
    """An episode so far.

    Attributes:
        reply_ms, reply_passes: of every reply, also of those that are refused; passes where they are known.
        actions: of every control step, float32 (7,).
        poses: keys of those that are stored, in order.
        refused_reply: the text with which it ended; None: with none.
        calls: of the API, without done().
        reason: why it ended; "" where the program came to its own end.
        episode: as it was played; None before its end.
    """

    task: str
    seed: int
    instruction: str = ""
    key_steps: list[KeyStepRun] = field(default_factory=list)
    reply_ms: list[float] = field(default_factory=list)
    reply_passes: list[int] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    poses: list[str] = field(default_factory=list)
    refused_reply: str | None = None
    calls: int = 0
    reason: str = ""
    episode: OracleEpisode | None = None

    def began(self, prompt: str) -> None:
        self.instruction = prompt

    def took(self, ms: float, passes: int | None) -> None:
        self.reply_ms.append(ms)
        if passes is not None:
            self.reply_passes.append(passes)

    def replied(self, reply: Written, ms: float) -> None:
        if is_keystep(reply.text):
            self.key_steps.append(KeyStepRun(self.steps, reply.text, ms, reply.passes))

    def refused(self, text: str, problem: str) -> None:
        self.refused_reply = text

    def stepped(self, action: np.ndarray) -> None:
        self.actions.append(action)

    def ended(self, result: Result) -> None:
        one = next(one for one in self.key_steps if one.outcome == RUNNING)
        one.outcome = INTERRUPTED if result.interrupted else result.outcome.value
        one.reason, one.steps = result.reason, result.steps
        self.poses += [key for key in dict.fromkeys(result.stored) if key not in self.poses]
        self.calls += sum(name != "done" for name in result.calls)

    def end(self, episode: OracleEpisode, reason: str) -> None:
        self.episode, self.reason = episode, reason

    @property
    def success(self) -> bool:
        """The task is solved."""
        return self.episode is not None and self.episode.success

    @property
    def steps(self) -> int:
        """Control steps."""
        return len(self.actions)

    @property
    def seconds(self) -> float:
        """Simulated."""
        return self.steps / CONTROL_RATE_HZ

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "task": self.task,
            "seed": self.seed,
            "instruction": self.instruction,
            "success": self.success,
            "interrupted": self.episode is None,
            "reason": self.reason,
            "refused_reply": self.refused_reply,
            "steps": self.steps,
            "seconds": self.seconds,
            "calls": self.calls,
            "key_steps": [asdict(one) for one in self.key_steps],
            "replies": reply_times(self.reply_ms, self.reply_passes),
        }


def reply_times(ms: Sequence[float], passes: Sequence[int]) -> dict[str, Any]:
    """Median, p99 and maximum of replies' milliseconds, median of their passes; None without any."""
    if not ms:
        return {"count": 0, "median_ms": None, "p99_ms": None, "max_ms": None, "median_passes": None}
    return {
        "count": len(ms),
        "median_ms": float(np.median(ms)),
        "p99_ms": float(np.percentile(ms, 99)),
        "max_ms": float(max(ms)),
        "median_passes": float(np.median(passes)) if passes else None,
    }
