"""The words of the tabletop suite: the table of its planner's tokenizer."""

from __future__ import annotations

import re
from collections.abc import Iterator

from keystep.code.grid import GRID, check_grid
from keystep.code.language import API, DIRECTIONS, POSE_DICT
from keystep.code.prompt import LAYOUTS
from keystep.code.tokenizer import Tokenizer
from keystep.suites.tabletop.objects import COLOURS, SHAPES
from keystep.suites.tabletop.prompts import PHRASINGS
from keystep.suites.tabletop.tasks.common import DIRECTION_WORDS
from keystep.suites.tabletop.tasks.l1 import ADJECTIVES, NOUNS

ANGLES = (45, 60, 90, 120, 150, 180)
"""Degrees, beyond the numbers of cells."""
KEYS = ("A", "B", "T")
"""Of `pose_dict` in the oracle's programs."""
QUESTIONS = (
    "Where is the What is at Is a an visible How many are visible The Nothing nothing A An Yes No no and"
    " plate plates"
)
_CALLS_END = (
    ")",
    "))",
    ")))",
    "),",
    "), ",
    ")), ",
    "), '",
    ")), '",
    "), -",
    ")), -",
    ")])",
    "))])",
    "), near=(",
)
_STRING_ENDS = (*_CALLS_END, ", ", ", actor_pos=(", "]", "]) ", "])", "] = ", "], ", "], -")
_FLAGS = ("push=True)", "topple=True)")


def tabletop_tokenizer(grid: int = GRID) -> Tokenizer:
    """The tokenizer for code with this grid; the same for equal grids."""
    return Tokenizer(tuple(dict.fromkeys([*_code(), *_numbers(check_grid(grid)), *_names(), *_prose()])))


def _code() -> Iterator[str]:
    """Whole pieces of calls, so that a reply is short."""
    yield from (f"{name}(" for name in API)
    yield from (f"{name}('" for name in ("get_actor",))
    yield from ("[get_actor('", f"{POSE_DICT}['", "done()", "# ", "', ", ", ", " = ", " =")
    for end in _STRING_ENDS:
        yield f"'{end}"
    yield from (end for end in _CALLS_END if len(end) > 1)
    yield from (f"{start}), {flag}" for flag in _FLAGS for start in ("'", ")"))
    yield from API
    yield from (parameter.name for function in API.values() for parameter in function.parameters)
    yield from (POSE_DICT, "True", "False", *KEYS, *DIRECTIONS)


def _numbers(grid: int) -> Iterator[str]:
    yield from (str(number) for number in range(grid + 1))
    yield from map(str, ANGLES)


def _names() -> Iterator[str]:
    """Singular, plural, and at the beginning of a sentence."""
    for colour in COLOURS:
        yield from (colour, colour.capitalize())
    for shape in (*SHAPES, "area", "plate"):
        yield from (shape, f"{shape}es" if shape.endswith("x") else f"{shape}s")


def _prose() -> Iterator[str]:
    texts = [phrase for phrases in PHRASINGS.values() for phrase in phrases]
    texts += [word for pair in DIRECTION_WORDS.values() for word in pair]
    texts += [template for layout in LAYOUTS.values() for template in layout.templates.values()]
    texts += [*NOUNS, *ADJECTIVES, QUESTIONS, "large small clockwise"]
    yield "anti-clockwise"
    for text in texts:
        yield from re.findall(r"[A-Za-z]+", re.sub(r"\{.*?\}", " ", text))
