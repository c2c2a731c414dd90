"""A client's message, read: what is an observation, and what is said to the server beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import keystep
from keystep.continuation import RULES

ASIDE = ("consumed", "ahead", "goal", "previous", "rule", "history", "replan", "reset")
RESET = ("task", "goal", "seed", "episode", "instruction", "guidance", "subgoals")
LARGEST = 2**53


@dataclass
class Request:
    """Attributes:
    observation: by the manifest's keys; empty for a reset alone.
    prompt: a task or an instruction; None: as before.
    consumed: None: from a client that does not count, as openpi's.
    reset: arguments of `Runtime.reset`; None: the episode goes on.
    """

    observation: dict[str, Any]
    prompt: str | None = None
    consumed: int | None = None
    ahead: int = 0
    goal: int = 0
    previous: np.ndarray | None = None
    rule: str | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    replan: bool = False
    reset: dict[str, Any] | None = None

    @classmethod
    def read(cls, message: Any, frames: int) -> Request:
        """Args:
        frames: that the policy sees at most.

        Raises:
            ArgumentError: "field: expected X, got Y". Features are left to the runtime's own check.
        """
        if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
            raise keystep.ArgumentError(f"request: expected a map with text keys, got {kind(message)}")
        aside = taken(message.get("keystep", {}), "keystep", ASIDE)
        request = cls(_observation(message))
        prompts = [message[key] for key in ("prompt", "task") if message.get(key) is not None]
        if prompts:
            request.prompt = text("prompt", prompts[0])
        for name in ("consumed", "ahead", "goal"):
            if name in aside:
                setattr(request, name, count(f"keystep.{name}", aside[name]))
        request._read_continuation(aside)
        request.history = _history(aside.get("history", []), frames)
        request.replan = aside.get("replan") is True
        if aside.get("reset") is not None:
            request.reset = _reset(aside["reset"])
        return request

    def _read_continuation(self, aside: dict[str, Any]) -> None:
        self.previous, self.rule = aside.get("previous"), aside.get("rule")
        if self.previous is not None and not isinstance(self.previous, np.ndarray):
            raise keystep.ArgumentError(f"keystep.previous: expected an array, got {kind(self.previous)}")
        if self.rule is not None and not (isinstance(self.rule, str) and self.rule in RULES):
            raise keystep.ArgumentError(
                f"keystep.rule: expected {' | '.join(RULES)}, got {str(self.rule)[:40]!r}"
            )


def _observation(message: dict[str, Any]) -> dict[str, Any]:
    """openpi's environments write observation/state."""
    known = ("keystep", "prompt", "task")
    return {key.replace("/", "."): value for key, value in message.items() if key not in known}


def _history(frames: Any, most: int) -> list[dict[str, Any]]:
    if not isinstance(frames, list) or len(frames) >= most:
        got = f"{len(frames)} frames" if isinstance(frames, list) else kind(frames)
        raise keystep.ArgumentError(f"keystep.history: expected at most {most - 1} earlier frames, got {got}")
    for frame in frames:
        if not isinstance(frame, dict) or not all(isinstance(key, str) for key in frame):
            raise keystep.ArgumentError(f"keystep.history: expected maps with text keys, got {kind(frame)}")
    return [_observation(frame) for frame in frames]


def _reset(given: Any) -> dict[str, Any]:
    reset = {k: v for k, v in taken(given, "keystep.reset", RESET).items() if v is not None}
    for name in ("seed", "episode"):
        if name in reset:
            reset[name] = count(f"keystep.reset.{name}", reset[name], 2**64 if name == "seed" else 2**32)
    for name in ("task", "instruction"):
        if name in reset:
            reset[name] = text(f"keystep.reset.{name}", reset[name])
    guidance = reset.get("guidance", 0.0)
    if isinstance(guidance, bool) or not isinstance(guidance, int | float):
        raise keystep.ArgumentError(f"keystep.reset.guidance: expected a number, got {kind(guidance)}")
    return reset


def taken(given: Any, field_name: str, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise keystep.ArgumentError(f"{field_name}: expected a map, got {kind(given)}")
    for key in given:
        if key not in known:
            raise keystep.ArgumentError(
                f"{field_name}: expected only {', '.join(known)}, got {str(key)[:40]!r}"
            )
    return given


def count(field_name: str, value: Any, below: int = LARGEST) -> int:
    if isinstance(value, np.integer):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < below:
        raise keystep.ArgumentError(
            f"{field_name}: expected a whole number, 0 or more, got {str(value)[:40]}"
        )
    return value


def text(field_name: str, value: Any) -> str:
    if not isinstance(value, str) or not value or len(value) > 4096:
        raise keystep.ArgumentError(f"{field_name}: expected a text of 1..4096 characters, got {kind(value)}")
    return str(value)


def kind(value: Any) -> str:
    """For messages: what comes from a client is not repeated at length."""
    if isinstance(value, str | bytes | list | dict):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
