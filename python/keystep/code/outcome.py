"""How a call of the code language ends. Shared by the executor and by whatever implements the functions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class OracleError(ValueError):
    """A function cannot answer: no such actor, no free place. The executor makes it a FAILURE."""


class Outcome(Enum):
    """How a call ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    TIMEOUT = "timeout"


@dataclass(frozen=True)
class CallResult:
    """What an action function returns.

    Attributes:
        outcome: SUCCESS lets the code go on; anything else ends it.
        reason: one line of plain English; may be empty on success.
        steps: control steps that it took.
        interrupted: it was ended because there is other code to run now; the text that it is of ends, too.
    """

    outcome: Outcome
    reason: str = ""
    steps: int = 0
    interrupted: bool = False
