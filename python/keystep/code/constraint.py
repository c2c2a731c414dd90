"""What a reply may say, token by token: code of the API as `format_statements` writes it, plain or commented.

Slow and clear: docs/constrained.md has the rules, cpp/src/code/constraint.hpp the same for the runtime. What
may still come is a set of stacks; on each lie parts of text, the next one on top.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from keystep.code.characters import MAX_CHARACTERS, MAX_DEPTH, MAX_LINES
from keystep.code.grammar import MAX_STRING
from keystep.code.grid import check_grid
from keystep.code.language import API, POSE_DICT, Function, Parameter, Type
from keystep.code.tokenizer import FIRST_WORD, SPECIALS, Tokenizer, is_word_byte

MARK = "# "
_NUMBER = re.compile(r"0|-?[1-9]\d{0,5}|-?(?:0|[1-9]\d{0,5})\.(?:0|\d{0,2}[1-9])")
_IN_STRINGS = "".join(chr(code) for code in range(ord(" "), ord("~") + 1) if chr(code) != "\\")
_BEGUN = re.compile(r"-?(?:(?:0|[1-9]\d{0,5})(?:\.(?:\d{0,2}|\d\d[1-9]))?)?")
"""What a number may begin with."""


@dataclass(frozen=True)
class _Line:
    """A statement."""


@dataclass(frozen=True)
class _Value:
    """Of a parameter, with so many brackets inside one another."""

    of: Parameter
    brackets: int


@dataclass(frozen=True)
class _Arguments:
    """From the parameter with this number on; `some`: there was one before."""

    function: Function
    at: int
    some: bool
    brackets: int


@dataclass(frozen=True)
class _Items:
    """What follows an item of a list of actors."""

    brackets: int


@dataclass(frozen=True)
class _String:
    """Behind its opening quote and so many characters. Double quotes are for text with an apostrophe."""

    quote: str
    length: int = 0
    apostrophe: bool = False

    @property
    def may_end(self) -> bool:
        return self.length > 0 and self.apostrophe == (self.quote == '"')


@dataclass(frozen=True)
class _Number:
    """Behind this beginning, or one like it."""

    text: str = ""


@dataclass(frozen=True)
class _Cell:
    """A column or row of the grid."""


_Part = str | _Line | _Cell | _Value | _Arguments | _Items | _String | _Number
_Stack = tuple[_Part, ...]
_ACTOR, _POSE, _STRING = (Parameter("value", (kind,)) for kind in (Type.ACTOR, Type.POSE, Type.STRING))
_Stacks = frozenset[_Stack]


@dataclass(frozen=True)
class ReplyPlace:
    """Where a reply stands.

    Attributes:
        rest: what may come; an empty stack: the line is complete.
        bytes: written; lines: begun.
        commented: every line is.
        after_word: the last token is an entry that ends with a word byte.
    """

    rest: _Stacks
    bytes: int = 0
    lines: int = 1
    commented: bool = False
    after_word: bool = False

    @property
    def complete(self) -> bool:
        """The reply may end here."""
        return () in self.rest

    @property
    def most_bytes(self) -> int:
        """Marks do not count."""
        return MAX_CHARACTERS + self.lines * len(MARK) * self.commented


class Constraint:
    """Which tokens a reply may go on with, so that it can become code in the tokens that are left.

    Args:
        tokenizer: of the planner.
        grid: cells (c, r) are 0 .. grid, or (-1, -1).
        api: functions by name; optional parameters come last.

    Raises:
        ValueError: a grid that is none; an optional parameter before a required one.
    """

    def __init__(self, tokenizer: Tokenizer, grid: int, api: Mapping[str, Function] = API) -> None:
        self._tokenizer, self._api = tokenizer, dict(api)
        self._cells = [*map(str, range(check_grid(grid) + 1))]
        for name, function in api.items():
            required = [parameter.required for parameter in function.parameters]
            if required != sorted(required, reverse=True):
                raise ValueError(f"api.{name}: expected optional parameters last, got {required}")
        self._texts = [tokenizer.text_bytes(token) for token in range(len(SPECIALS), len(tokenizer))]
        self._starting: dict[int, list[int]] = {}
        for token, text in enumerate(self._texts, len(SPECIALS)):
            self._starting.setdefault(text[0], []).append(token)
        self._known: dict[tuple[_Stacks, bool], dict[int, _Stacks]] = {}
        self._costs: dict[tuple[_Stacks, bool], tuple[int, int] | None] = {}
        self.shortest = min(self._costs_behind(range(len(SPECIALS), len(tokenizer))))
        """Tokens of the shortest reply, its end included; a reply needs room for them."""

    start = ReplyPlace(frozenset({(_Line(),), (MARK, _Line())}))

    def after(self, place: ReplyPlace, token: int) -> ReplyPlace | None:
        """Where a reply stands behind a token, not the end; None where it is no beginning of a reply."""
        if not len(SPECIALS) <= token < len(self._tokenizer):
            return None
        text = self._text(token)
        if place.after_word and self._begins_word(token):
            text = b" " + text
        if self._tokenizer.space_before and place.bytes == 0:
            text = text.removeprefix(b" ")
            if not text:  # nothing is written by it
                return None
        for byte in text:
            rest = self._next_line(place) if byte == ord("\n") else self._steps(place.rest).get(byte)
            if not rest:
                return None
            commented = place.commented or (place.bytes == 0 and byte == ord("#"))
            lines = place.lines + (byte == ord("\n"))
            place = ReplyPlace(rest, place.bytes + 1, lines, commented)
            if place.bytes > place.most_bytes:
                return None
        return replace(place, after_word=self._ends_word(token))

    def allows(self, place: ReplyPlace, token: int, left: int) -> bool:
        """Whether a reply may go on with a token, where `left` are left, it and the end included."""
        if token == self._tokenizer.end:
            return place.complete and left > 0
        found = self.after(place, token)
        if found is None or (cost := self._cost(found.rest, found.after_word)) is None:
            return False
        return cost[0] < left and found.bytes + cost[1] <= found.most_bytes

    def allowed(self, place: ReplyPlace, left: int) -> list[int]:
        """All such tokens, ascending."""
        return [token for token in range(len(self._tokenizer)) if self.allows(place, token, left)]

    def likeliest(self, logits: Sequence[float], place: ReplyPlace, left: int) -> int:
        """The one of them with the highest logit, of equals the lowest."""
        order = sorted(range(len(logits)), key=lambda token: (-logits[token], token))
        return next(token for token in order if self.allows(place, token, left))

    def accepts(self, text: str) -> bool:
        """Whether a text is a reply, however many tokens it has."""
        place: ReplyPlace | None = self.start
        for byte in text.encode():
            place = place and self.after(place, len(SPECIALS) + byte)
        return place is not None and place.complete

    def _costs_behind(self, tokens: Iterable[int]) -> Iterator[int]:
        """Tokens of the shortest reply that begins with each of these that may begin one."""
        for token in tokens:
            found = self.after(self.start, token)
            if found and (cost := self._cost(found.rest, found.after_word)):
                yield 1 + cost[0]

    def _cost(self, rest: _Stacks, after_word: bool) -> tuple[int, int] | None:
        """Fewest tokens to the end, it included, and bytes. Strings and lists are as short as can be."""
        if () in rest:
            return 1, 0
        if (rest, after_word) not in self._costs:
            self._costs[rest, after_word] = min(self._costs_by_token(rest, after_word), default=None)
        return self._costs[rest, after_word]

    def _costs_by_token(self, rest: _Stacks, after_word: bool) -> Iterator[tuple[int, int]]:
        for byte, behind in self._steps(rest, True).items():
            for token in self._starting.get(byte, ()):
                if not (after_word and self._begins_word(token)):  # else a space is implied
                    yield from self._cost_with(token, 1, behind)
        spaced = self._steps(rest, True).get(ord(" ")) if after_word else None
        for token in range(FIRST_WORD, len(self._tokenizer)) if spaced else ():
            if self._begins_word(token):
                yield from self._cost_with(token, 0, spaced)

    def _cost_with(self, token: int, at: int, behind: _Stacks | None) -> Iterator[tuple[int, int]]:
        """Of a token whose bytes from `at` on are still to come."""
        text = self._text(token)
        for byte in text[at:]:
            behind = self._steps(behind, True).get(byte) if behind else None
        cost = self._cost(behind, self._ends_word(token)) if behind else None
        if cost:
            yield 1 + cost[0], len(text) + (at == 0) + cost[1]

    def _text(self, token: int) -> bytes:
        return self._texts[token - len(SPECIALS)]

    def _begins_word(self, token: int) -> bool:
        """Then a space is implied behind the end of one."""
        return self._is_entry(token) and is_word_byte(self._text(token)[0])

    def _ends_word(self, token: int) -> bool:
        return self._is_entry(token) and is_word_byte(self._text(token)[-1])

    def _is_entry(self, token: int) -> bool:
        return token >= FIRST_WORD and not self._tokenizer.space_before

    def _next_line(self, place: ReplyPlace) -> _Stacks:
        if not place.complete or place.lines == MAX_LINES:
            return frozenset()
        return frozenset({(MARK, _Line()) if place.commented else (_Line(),)})

    def _steps(self, stacks: _Stacks, short: bool = False) -> dict[int, _Stacks]:
        """What may come behind each byte. `short`: without what makes strings and lists longer."""
        if (stacks, short) not in self._known:
            found: dict[int, set[_Stack]] = {}
            todo = [stack for stack in stacks if stack]
            while todo:
                top, *rest = todo.pop()
                for character, parts in _consumed(top, short):
                    found.setdefault(ord(character), set()).add((*parts, *rest))
                todo += [(*(one for one in parts if one), *rest) for parts in self._alternatives(top, short)]
            self._known[stacks, short] = {byte: frozenset(behind) for byte, behind in found.items()}
        return self._known[stacks, short]

    def _alternatives(self, part: _Part, short: bool) -> Iterator[_Stack]:
        match part:
            case _Line():
                yield f"{POSE_DICT}[", _Value(_STRING, 0), "] = ", _Value(_POSE, MAX_DEPTH)
                yield from self._calls(None, MAX_DEPTH)
            case _Number(text):
                if _NUMBER.fullmatch(text):
                    yield ()
            case _Cell():
                yield from ((cell,) for cell in self._cells)
            case _Items(brackets):
                yield ("]",)
                if not short:
                    yield ", ", _Value(_ACTOR, brackets), part
            case _Arguments(function, at, some, brackets):
                yield from self._arguments(function, at, some, brackets)
            case _Value(of, brackets) if of.choices:
                yield from ((repr(choice),) for choice in of.choices)
            case _Value(of, brackets):
                for kind in of.types:
                    yield from self._literals(kind, brackets)
                    yield from self._calls(kind, brackets)

    def _calls(self, result: Type | None, brackets: int) -> Iterator[_Stack]:
        for function in self._api.values() if brackets else ():
            if function.result == result:
                yield f"{function.name}(", _Arguments(function, 0, False, brackets - 1)

    def _arguments(self, function: Function, at: int, some: bool, brackets: int) -> Iterator[_Stack]:
        if at == len(function.parameters):
            yield (")",)
            return
        of = function.parameters[at]
        name = "" if of.required else f"{of.name}="
        others = _Arguments(function, at + 1, True, brackets)
        yield ", " * some + name, _Value(of, brackets), others
        if not of.required:
            yield (_Arguments(function, at + 1, some, brackets),)

    def _literals(self, kind: Type, brackets: int) -> Iterator[_Stack]:
        if kind is Type.STRING:
            yield from ((quote, _String(quote)) for quote in "'\"")
        elif kind is Type.NUMBER:
            yield (_Number(),)
        elif kind is Type.BOOL:
            yield from (("True",), ("False",))
        elif kind is Type.POSE and brackets:
            yield f"{POSE_DICT}[", _Value(_STRING, 0), "]"
        elif kind is Type.POSITION and brackets:
            yield ("(-1, -1)",)
            yield "(", _Cell(), ", ", _Cell(), ")"
        elif kind is Type.ACTORS and brackets:
            yield "[", _Value(_ACTOR, brackets - 1), _Items(brackets - 1)


def _consumed(part: _Part, short: bool) -> Iterator[tuple[str, _Stack]]:
    """Characters that a part may go on with, and what is then left of it."""
    match part:
        case str():
            yield part[0], (part[1:],) if part[1:] else ()
        case _Number(text):
            for character in "-.0123456789":
                if _BEGUN.fullmatch(text + character):
                    yield character, (_Number(_like(text + character)),)
        case _String():
            if part.may_end:
                yield part.quote, ()
            yield from _in_string(part, short)


def _like(number: str) -> str:
    """A number that goes on as this one does: what matters of a digit is where a zero is."""
    whole, point, fraction = number.partition(".")
    return re.sub(r"(?<=\d)\d|[2-9]", "1", whole) + point + re.sub("[2-9]", "1", fraction)


def _in_string(at: _String, short: bool) -> Iterator[tuple[str, _Stack]]:
    for character in _IN_STRINGS.replace(at.quote, ""):
        apostrophe = at.apostrophe or character == "'"
        needed = at.quote == '"' and not apostrophe  # one must still come
        longer = at.may_end or (at.length and needed)
        if at.length + 1 + needed <= MAX_STRING and not (short and longer):
            yield character, (_String(at.quote, at.length + 1, apostrophe),)
