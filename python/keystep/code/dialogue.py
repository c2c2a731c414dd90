"""What the planner reads and writes: one question and one answer per control step.

The human's text is

    <image>
    Stack the red cube on the blue cube
    Past actions:
    move3d(get_actor('red cube')); pick(get_actor('red cube'))
    Please give a keystep reply

whose last line is there only when a key-step is asked for. Past actions are the memory, parted by "; ". An
action of several lines keeps its lines. Code has no `;` and no backslash outside strings and comments, so a
`;` or backslash of an action itself, which is rare, gets a backslash in front and the text stays readable
in one way only.

At run time a key-step is asked for only when the last one has ended, and what goes on is asked for at every
step; so training texts ask for a key-step at key-steps only, and for the plain reply everywhere.
Source: From Code to Action, section 4.2; the layout of the text is that of ClevrSkills' converter to LLaVA.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from keystep.code.grammar import CodeError, Statement, parse
from keystep.code.trace import check_trace, is_keystep

IMAGE = "<image>"
PAST_ACTIONS = "Past actions:"
KEYSTEP_REQUEST = "Please give a keystep reply"
_SEPARATOR = "; "


@dataclass(frozen=True)
class Example:
    """One training text.

    Attributes:
        step: control step whose picture it goes with.
        human: the question.
        assistant: the code to answer.
        keystep: the answer is a key-step.
    """

    step: int
    human: str
    assistant: str
    keystep: bool


class HumanText(NamedTuple):
    """What a question says."""

    prompt: str
    memory: tuple[str, ...]
    wants_keystep: bool


@dataclass(frozen=True)
class Reply:
    """What an answer says.

    Attributes:
        code: the text as it was given.
        keystep: a line of it is code that is not commented out.
        statements: what it does; () when it only goes on.
    """

    code: str
    keystep: bool
    statements: tuple[Statement, ...]


def human_text(prompt: str, memory: Sequence[str], wants_keystep: bool = False) -> str:
    """The question.

    Raises:
        ValueError: a prompt or memory that could not be read back, has characters that cannot be printed, or
            the mark of a picture, of which a question has one.
    """
    if not prompt:
        raise ValueError(f"prompt: expected one line of text, got {prompt!r}")
    _check_plain("prompt", prompt)
    text = f"{IMAGE}\n{prompt}\n{PAST_ACTIONS}\n{_join(memory)}"
    return f"{text}\n{KEYSTEP_REQUEST}" if wants_keystep else text


def parse_human(text: str) -> HumanText:
    """The inverse of `human_text`. Raises ValueError for other text."""
    lines = text.split("\n", 3)
    if len(lines) < 4 or lines[0] != IMAGE or lines[2] != PAST_ACTIONS:
        raise ValueError(f"text: expected lines {IMAGE!r}, a prompt, {PAST_ACTIONS!r} and more, got {text!r}")
    memory = lines[3].removesuffix(f"\n{KEYSTEP_REQUEST}")
    found = HumanText(lines[1], _split(memory), wants_keystep=memory != lines[3])
    if human_text(*found) != text:  # so that no two texts mean the same
        raise ValueError(f"text: expected {human_text(*found)!r}, got {text!r}")
    return found


def parse_reply(text: str) -> Reply:
    """Raises CodeError for an answer that is not code, and for one without any line."""
    statements = parse(text)
    if not text.strip():
        raise CodeError(1, 1, "expected code, got an empty reply")
    return Reply(text, is_keystep(text), statements)


def planner_examples(
    prompt: str, codes: Sequence[str], keysteps: Sequence[bool], keystep_requests: bool
) -> list[Example]:
    """The training texts of a trace, by control step.

    Args:
        prompt: the task in words.
        codes, keysteps: the trace, one entry per control step.
        keystep_requests: at key-steps, also ask for the key-step and answer the same.

    The memory of a step holds the key-steps before it, not the one that begins there. Raises ValueError for
    what is no trace.
    """
    check_trace(codes, keysteps)
    examples: list[Example] = []
    memory: list[str] = []
    human = human_text(prompt, memory)
    for step, (code, keystep) in enumerate(zip(codes, keysteps, strict=True)):
        examples.append(Example(step, human, code, bool(keystep)))
        if keystep:
            if keystep_requests:
                examples.append(Example(step, human_text(prompt, memory, True), code, True))
            memory.append(code)
            human = human_text(prompt, memory)
    return examples


def _check_plain(name: str, line: str) -> None:
    if not line.isprintable():
        raise ValueError(f"{name}: expected one line of text, all of it printable, got {line!r}")
    if IMAGE in line:
        raise ValueError(f"{name}: expected text without {IMAGE}, got {line!r}")


def _join(memory: Sequence[str]) -> str:
    for index, code in enumerate(memory):
        if not is_keystep(code) or KEYSTEP_REQUEST in code.split("\n"):
            raise ValueError(f"memory[{index}]: expected the code of a key-step, got {code!r}")
        for line in code.split("\n"):
            _check_plain(f"memory[{index}]", line)
    return _SEPARATOR.join(re.sub(r"[\\;]", r"\\\g<0>", code) for code in memory)


def _split(text: str) -> tuple[str, ...]:
    if not text:
        return ()
    actions = [""]
    for part in re.findall(r"\\.|; |[^\\;]+|.", text, re.DOTALL):
        if part == _SEPARATOR:
            actions.append("")
        elif part in ("\\\\", "\\;"):
            actions[-1] += part[1]
        elif part[0] in "\\;":
            raise ValueError(f"text: expected {_SEPARATOR!r} between past actions, got {part!r} in {text!r}")
        else:
            actions[-1] += part
    return tuple(actions)
