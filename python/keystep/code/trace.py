"""Code traces: which code goes with every control step, what the planner remembers, where subtasks meet.

A call's code is plain at its first step, the key-step, and commented out at all later ones.
Source: From Code to Action, sections 4.1 to 4.3, figure 6 and algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from keystep.code.grammar import POSE_ASSIGNMENT

EARLY_STOP_CHARACTERS = 24
MAX_SHIFT_STEPS = 5
_MARK = "# "


def comment(code: str) -> str:
    """Every line behind "# "."""
    return "\n".join(_MARK + line for line in code.split("\n"))


def uncommented(text: str) -> str:
    """What `comment` was given. Raises ValueError when a line is not commented."""
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.startswith(_MARK):
            raise ValueError(f"line {number}: expected a line that starts with {_MARK!r}, got {line!r}")
    return "\n".join(line.removeprefix(_MARK) for line in lines)


def is_keystep(text: str) -> bool:
    """A line of it is neither blank nor commented out."""
    return any(line and not line.startswith("#") for line in map(str.strip, text.split("\n")))


def check_trace(codes: Sequence[str], keysteps: Sequence[bool]) -> None:
    """Raises ValueError unless key-steps are plain and every other step comments out the last key-step."""
    if len(codes) != len(keysteps):
        raise ValueError(f"keysteps: expected {len(codes)} flags, one per code, got {len(keysteps)}")
    expected = None
    for step, (code, keystep) in enumerate(zip(codes, keysteps, strict=True)):
        if keystep:
            _check_keystep(f"codes[{step}]", code)
            expected = comment(code)
        elif expected is None:
            raise ValueError(f"keysteps[{step}]: expected a key-step first, got {code!r}")
        elif code != expected:
            raise ValueError(f"codes[{step}]: expected {expected!r}, got {code!r}")


def _check_keystep(field_name: str, code: str) -> None:
    if not is_keystep(code):
        raise ValueError(f"{field_name}: expected a line that is not commented out, got {code!r}")


class CodeTrace:
    """The trace of an episode while it is recorded.

    Attributes:
        codes: per control step, the code at work.
        keysteps: per control step, whether that code begins here.
    """

    def __init__(self) -> None:
        self.codes: list[str] = []
        self.keysteps: list[bool] = []
        self._plain: str | None = None  # of a key-step whose first control step is still to come
        self._commented: str | None = None

    def begin(self, code: str) -> None:
        """A key-step; its first control step is the next one.

        Raises ValueError for code that is commented out, and when the last key-step has had no control step:
        it would be missing from the trace.
        """
        _check_keystep("code", code)
        if self._plain is not None:
            raise ValueError(f"code: expected a control step of {self._plain!r} first, got {code!r}")
        self._plain, self._commented = code, comment(code)

    def step(self) -> None:
        """A control step. Raises ValueError before the first key-step."""
        if self._commented is None:
            raise ValueError("step: expected a key-step before the first control step, got none")
        self.codes.append(self._commented if self._plain is None else self._plain)
        self.keysteps.append(self._plain is not None)
        self._plain = None


@dataclass
class Memory:
    """The key-steps so far, as the planner wrote them."""

    instructions: list[str] = field(default_factory=list)

    @property
    def last(self) -> str | None:
        return self.instructions[-1] if self.instructions else None

    def update(self, reply: str) -> bool:
        """Keeps a reply that is a key-step; returns whether it is one."""
        keystep = is_keystep(reply)
        if keystep:
            self.instructions.append(reply)
        return keystep


def extract_memory_info(memory: Memory | Iterable[str]) -> str:
    """The cache information for the controller, algorithm 1: every instruction that stores a pose.

    Instructions stay whole: of one that stores a pose and moves, both lines are kept. They follow each other
    on lines of their own; "" when none stores.
    """
    instructions = memory.instructions if isinstance(memory, Memory) else memory
    return "\n".join(code for code in instructions if POSE_ASSIGNMENT.search(code))


def matches_last(reply_prefix: str, memory: Memory, length: int = EARLY_STOP_CHARACTERS) -> bool:
    """Whether decoding may stop: the reply so far says that the last key-step goes on.

    It does when its first `length` characters are those of the last key-step commented out, or all of these
    where they are fewer. Raises ValueError for a length below 1.
    """
    if length < 1:
        raise ValueError(f"length: expected at least 1, got {length}")
    if memory.last is None:
        return False
    beginning = comment(memory.last)[:length]
    return reply_prefix.startswith(beginning)


@dataclass(frozen=True)
class Segment:
    """Control steps start .. stop - 1 of one key-step, whose plain code this is."""

    start: int
    stop: int
    code: str


def segments(codes: Sequence[str], keysteps: Sequence[bool]) -> list[Segment]:
    """A trace by key-steps. Raises ValueError for what is no trace."""
    check_trace(codes, keysteps)
    starts = [step for step, keystep in enumerate(keysteps) if keystep]
    stops = [*starts[1:], len(codes)]
    return [Segment(start, stop, codes[start]) for start, stop in zip(starts, stops, strict=False)]


def codes_from_segments(parts: Sequence[Segment]) -> tuple[list[str], list[bool]]:
    """The trace (codes, keysteps). Raises ValueError unless the segments follow each other from step 0."""
    _check_segments(parts)
    trace = CodeTrace()
    for part in parts:
        trace.begin(part.code)
        for _ in range(part.start, part.stop):
            trace.step()
    return trace.codes, trace.keysteps


def shift_borders(
    parts: Sequence[Segment], rng: np.random.Generator, max_shift: int = MAX_SHIFT_STEPS
) -> list[Segment]:
    """Figure 6: every border between two segments moves by -max_shift .. max_shift steps, all equally likely.

    A border stops where its neighbour's would leave a segment without steps; so order is kept, no segment
    is empty, and none moves further than `max_shift`. Start and end of the episode stay.
    """
    _check_segments(parts)
    if max_shift < 0:
        raise ValueError(f"max_shift: expected at least 0 steps, got {max_shift}")
    borders = [part.stop for part in parts]
    wanted = np.array(borders[:-1], dtype=np.int64)
    wanted += rng.integers(-max_shift, max_shift, size=len(wanted), endpoint=True)
    start, shifted = 0, []
    for index, part in enumerate(parts):
        following = len(parts) - 1 - index
        stop = int(wanted[index]) if following else borders[-1]
        stop = min(max(stop, start + 1), borders[-1] - following)
        shifted.append(Segment(start, stop, part.code))
        start = stop
    return shifted


def _check_segments(parts: Sequence[Segment]) -> None:
    start = 0
    for index, part in enumerate(parts):
        if part.start != start or part.stop <= start:
            got = f"{part.start} .. {part.stop}"
            raise ValueError(f"segments[{index}]: expected at least one step from {start}, got {got}")
        start = part.stop
