"""A reply as planners that write code give it, for tests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Said:
    text: str
    passes: int = 1
    ended: bool = True
