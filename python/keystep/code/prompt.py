"""How a question to the planner is laid out, as data: which sections, in which order, with which words.

A layout is plain JSON (`to_dict`), goes into the bundle's manifest, and is rendered by C++ in the same way:

    templates   strings; `{slot}` is replaced, everything else stands for itself
    order       the sections of a prompt, the first one first; those that a prompt does not have are left out
    memory      the key-steps in a row: the template `keystep` each, the template `between` between two

So memory only appends: the memory of m + 1 key-steps begins with that of m. Source: From Code to Action,
section 4.2; the layout `paper` is that of ClevrSkills' converter to LLaVA.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

FORMAT, VERSION = "keystep-prompt", 1
_SLOT = re.compile(r"\{(\w+)\}")


class Special(StrEnum):
    """What is no text: a picture, a proprioception vector, the end of a reply."""

    IMAGE = "<image>"
    PROPRIOCEPTION = "<proprioception>"
    END = "<end>"


Piece = str | Special
_SPECIALS = {"image": Special.IMAGE, "proprioception": Special.PROPRIOCEPTION, "end": Special.END}
SLOTS: dict[str, frozenset[str]] = {
    "task": frozenset({"task"}),
    "keystep": frozenset({"keystep"}),
    "between": frozenset(),
    "proprioception": frozenset({"proprioception"}),
    "image": frozenset({"image"}),
    "request": frozenset(),
    "question": frozenset({"question"}),
    "reply": frozenset({"reply", "end"}),
}
"""By template what it must have, and all that it may have, each once."""
SECTIONS = ("task", "memory", "proprioception", "image", "request", "question", "reply")


@dataclass(frozen=True)
class Prompt:
    """One question.

    Attributes:
        task: in words, one line.
        memory: key-steps so far, as the planner wrote them.
        request: asks for a key-step.
        question: an auxiliary one, instead of what to do; one line.
        image, proprioception: it has them; a layout without the section leaves them out.
    """

    task: str
    memory: tuple[str, ...] = ()
    request: bool = False
    question: str | None = None
    image: bool = True
    proprioception: bool = True


@dataclass(frozen=True)
class PromptLayout:
    """See the module.

    Attributes:
        name: of the layout.
        order: sections of a prompt; "reply" is the last.
        question_order: of one with an auxiliary question.
        templates: by name, see SLOTS.

    Raises:
        ValueError: the field, what was expected and what came.
    """

    name: str
    order: tuple[str, ...]
    question_order: tuple[str, ...]
    templates: Mapping[str, str]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"name: expected text, got {self.name!r:.100}")
        for field in ("order", "question_order"):
            _check_order(field, getattr(self, field))
        if set(self.templates) != set(SLOTS):
            got = ", ".join(map(str, self.templates))
            raise ValueError(f"templates: expected {', '.join(SLOTS)}, got {got}")
        for name, template in self.templates.items():
            _check_template(name, template)

    def sections(self, prompt: Prompt) -> Iterator[tuple[str, tuple[Piece, ...]]]:
        """Those that the prompt has, in order: name and pieces. Of the reply, what stands before its text.

        Of the memory every key-step is a section of its own, named "memory", so that they can be encoded one
        by one. Text next to text is one piece.
        """
        order = self.order if prompt.question is None else self.question_order
        for name in order:
            if name == "memory":
                yield from (("memory", self.keystep(index, code)) for index, code in enumerate(prompt.memory))
            elif pieces := self._section(name, prompt):
                yield name, pieces

    def _section(self, name: str, prompt: Prompt) -> tuple[Piece, ...]:
        if name in ("image", "proprioception", "request") and not getattr(prompt, name):
            return ()
        if name == "reply":
            before = _before_reply(self.templates["reply"])
            return (before,) if before else ()
        if name in ("task", "question"):
            text = getattr(prompt, name)
            if text is None:
                return ()
            check_line(name, text)
            return self._fill(name, text)
        return self._fill(name)

    def keystep(self, index: int, code: str) -> tuple[Piece, ...]:
        """Key-step number `index` (from 0) of a memory."""
        if not code:
            raise ValueError("keystep: expected code, got ''")
        text = "".join(self._fill("keystep", code))
        return (self.templates["between"] + text if index else text,)

    def reply(self, text: str) -> tuple[Piece, ...]:
        """A reply with its end: all that is written. What its template begins with is the prompt's."""
        template = self.templates["reply"]
        return _filled(template.removeprefix(_before_reply(template)), text)

    def pieces(self, prompt: Prompt) -> tuple[Piece, ...]:
        """All sections in a row."""
        return tuple(piece for _, pieces in self.sections(prompt) for piece in pieces)

    def text(self, prompt: Prompt) -> str:
        """To look at; what is no text stands in angle brackets."""
        return "".join(self.pieces(prompt))

    def without(self, section: str) -> PromptLayout:
        """The same layout without a section."""
        order, question_order = (
            tuple(name for name in names if name != section) for names in (self.order, self.question_order)
        )
        return PromptLayout(self.name, order, question_order, self.templates)

    def _fill(self, name: str, text: str = "") -> tuple[Piece, ...]:
        return _filled(self.templates[name], text)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = asdict(self)
        return {"format": FORMAT, "version": VERSION, **found}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> PromptLayout:
        """The inverse of `to_dict`. Raises ValueError."""
        check_format(found, FORMAT, VERSION)
        missing = {"name", "order", "question_order", "templates"} - set(found)
        if missing:
            raise ValueError(f"{min(missing)}: expected one, got none")
        order, question_order = (texts(name, found[name]) for name in ("order", "question_order"))
        templates = found["templates"]
        if not isinstance(templates, Mapping):
            raise ValueError(f"templates: expected an object, got {templates!r:.100}")
        return cls(found["name"], order, question_order, dict(templates))


def _filled(template: str, text: str) -> tuple[Piece, ...]:
    pieces: list[Piece] = []
    for index, part in enumerate(_SLOT.split(template)):  # literals and slots take turns
        special = _SPECIALS.get(part) if index % 2 else None
        new: Piece = special if special is not None else text if index % 2 else part
        if special is None and pieces and not isinstance(pieces[-1], Special):
            pieces[-1] += new
        elif new:
            pieces.append(new)
    return tuple(pieces)


def _before_reply(template: str) -> str:
    return template.partition("{reply}")[0]


def check_format(found: object, name: str, version: int) -> None:
    """ValueError unless it is a JSON object of this format and version."""
    if not isinstance(found, Mapping):
        raise ValueError(f"{name}: expected an object, got {found!r:.100}")
    for field, wanted in {"format": name, "version": version}.items():
        got = found.get(field)
        if got != wanted or isinstance(got, bool):
            raise ValueError(f"{field}: expected {wanted!r}, got {got!r:.100}")


def texts(field: str, found: object) -> tuple[str, ...]:
    """ValueError unless it is a list of texts."""
    if not isinstance(found, list | tuple):
        raise ValueError(f"{field}: expected a list, got {found!r:.100}")
    for index, text in enumerate(found):
        if not isinstance(text, str):
            raise ValueError(f"{field}[{index}]: expected text, got {text!r:.100}")
    return tuple(found)


def check_line(name: str, text: str) -> None:
    """ValueError unless it is one line of text that is not empty."""
    if not text or "\n" in text or "\r" in text:
        raise ValueError(f"{name}: expected one line of text, got {text!r:.200}")


def _check_order(field: str, order: tuple[str, ...]) -> None:
    for name in order:
        if name not in SECTIONS:
            raise ValueError(f"{field}: expected some of {', '.join(SECTIONS)}, got {name!r}")
    if len(set(order)) != len(order):
        raise ValueError(f"{field}: expected each section once, got {', '.join(order)}")
    if not order or order[-1] != "reply":
        raise ValueError(f"{field}: expected the reply last, got {', '.join(order) or 'none'}")


def _check_template(name: str, template: object) -> None:
    if not isinstance(template, str):
        raise ValueError(f"templates.{name}: expected text, got {template!r:.100}")
    slots = _SLOT.findall(template)
    if sorted(slots) != sorted(SLOTS[name]) or "{" in _SLOT.sub("", template):
        wanted = ", ".join(f"{{{slot}}}" for slot in sorted(SLOTS[name])) or "no slot"
        raise ValueError(f"templates.{name}: expected {wanted}, got {template!r}")
    if name == "reply" and (slots != ["reply", "end"] or not template.endswith("{end}")):
        raise ValueError(f"templates.reply: expected {{reply}}, and {{end}} at its end, got {template!r}")


REQUEST = "Please give a keystep reply"
DEFAULT = PromptLayout(
    "default",
    ("task", "memory", "proprioception", "image", "request", "reply"),
    ("task", "memory", "proprioception", "image", "question", "reply"),
    {
        "task": "{task}\n",
        "keystep": "{keystep}\n",
        "between": "",
        "proprioception": "{proprioception}",
        "image": "{image}",
        "request": REQUEST + "\n",
        "question": "{question}\n",
        "reply": "{reply}{end}",
    },
)
"""Ours: what only grows comes first, so that everything before the picture keeps its cache."""
PAPER = PromptLayout(
    "paper",
    ("image", "task", "memory", "request", "reply"),
    ("image", "question", "reply"),
    {
        **DEFAULT.templates,
        "image": "{image}\n",
        "task": "{task}\nPast actions:\n",
        "keystep": "{keystep}",
        "between": "; ",
        "request": "\n" + REQUEST,
        "question": "{question}",
        "reply": "\n{reply}{end}",
    },
)
"""The paper's: the picture first."""
LAYOUTS = {layout.name: layout for layout in (DEFAULT, PAPER)}
