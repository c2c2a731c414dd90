"""What may stand in code text before it is read as Python: size, characters, tokens, depth of brackets.

Allowed characters are printable ASCII and the newline; neither `;` nor operators outside strings and
comments, and a backslash in comments only. Where strings and comments begin and end is what Python's own
tokeniser says. So a line holds one statement, and whatever would make Python's parser warn or run out of
stack does not reach it.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from itertools import accumulate
from typing import NoReturn

MAX_CHARACTERS = 2000
"""Of code. Where all of it is commented out, the marks do not count: what may begin may also go on."""
MAX_LINES = 32
MAX_DEPTH = 6
"""Brackets inside one another."""
MAX_LENGTH = 2 * MAX_CHARACTERS
"""Of any text that may be code, marks included. It is tested before anything else looks at the text."""

_MARKS = re.compile(r"^# ", re.MULTILINE)
_STRANGE = re.compile(r"[^\n -~]")
_NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_OPERATORS = frozenset("()[],=-")
_BLANKS = (
    *(tokenize.NEWLINE, tokenize.NL, tokenize.COMMENT),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
)


class CodeError(ValueError):
    """Text that is not code of the language.

    Attributes:
        line, column: where, counted from 1.
        problem: what was expected there.
    """

    def __init__(self, line: int, column: int, problem: str) -> None:
        super().__init__(f"line {line}, column {column}: {problem}")
        self.line, self.column, self.problem = line, column, problem

    def __reduce__(self) -> tuple[type[CodeError], tuple[int, int, str]]:
        return CodeError, (self.line, self.column, self.problem)  # worker processes send errors home


def python_tree(text: str) -> ast.Module:
    """Python's tree of a text that may be code; CodeError at the first place that cannot belong to any."""
    _check_size(text)
    _check_characters(text)
    complete = _check_tokens(text)
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        _refuse_syntax(text, error)
    except (ValueError, RecursionError, MemoryError) as error:
        raise CodeError(1, 1, f"expected a complete statement, got {error}") from None
    if not complete:
        raise CodeError(1, 1, "expected a complete statement, got text that cannot be parted into tokens")
    return tree


def check_length(text: object) -> None:
    """Raises CodeError unless it is text that is short enough to be looked at."""
    if not isinstance(text, str):
        raise CodeError(1, 1, f"expected text, got {type(text).__name__}")
    if len(text) > MAX_LENGTH:
        raise CodeError(1, 1, f"expected at most {MAX_CHARACTERS} characters, got {len(text)}")


def _check_size(text: str) -> None:
    check_length(text)
    if (characters := len(_without_marks(text))) > MAX_CHARACTERS:
        raise CodeError(1, 1, f"expected at most {MAX_CHARACTERS} characters, got {characters}")
    if (lines := text.count("\n") + 1) > MAX_LINES:
        raise CodeError(MAX_LINES + 1, 1, f"expected at most {MAX_LINES} lines, got {lines}")


def _without_marks(text: str) -> str:
    """Text whose lines all are comments or blank without its first comment marks; other text as it is."""
    if all(line.startswith("#") for line in text.split("\n") if line.strip()):
        return _MARKS.sub("", text)
    return text


def _check_characters(text: str) -> None:
    if strange := _STRANGE.search(text):
        got = f"{strange[0]!a} (U+{ord(strange[0]):04X})"
        _refuse_at(text, strange.start(), f"expected printable ASCII characters and newlines, got {got}")


def _check_tokens(text: str) -> bool:
    """Whether there are tokens up to the end of the text; if not, brackets do not match."""
    starts = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
    check = _TokenCheck(text)
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            begin, end = (min(starts[min(row, len(starts)) - 1] + column, len(text))
                          for row, column in (token.start, token.end))  # fmt: skip
            check.token(token.type, begin, end)
    except (tokenize.TokenError, SyntaxError) as error:
        if isinstance(error, SyntaxError):
            _refuse_syntax(text, error)
        check.rest()
        return False
    return True


class _TokenCheck:
    """Refuses the first token that cannot belong to code. Offsets count from the beginning of the text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._last, self._begin, self._end = tokenize.NL, 0, 0  # type and place of the last token
        self._depth = 0

    def token(self, kind: int, begin: int, end: int) -> None:
        between, token = self._text[self._end : begin], self._text[begin:end]
        if between.strip(" "):  # a backslash at the end of a line is no token
            self._refuse(begin - len(between.lstrip(" ")))
        glued = not between and kind in (tokenize.NAME, tokenize.NUMBER, tokenize.STRING)
        if self._text[self._begin : self._end] == "-" and kind != tokenize.NUMBER:
            self._refuse(self._begin)
        if glued and self._last in (tokenize.NAME, tokenize.NUMBER):  # a prefix, a base, a unit, a keyword
            self._refuse(self._begin)
        if kind == tokenize.OP:
            self._operator(token, begin)
        elif not self._may_be(kind, token):
            self._refuse(begin)
        self._last, self._begin, self._end = kind, begin, end

    def _may_be(self, kind: int, token: str) -> bool:
        if kind == tokenize.STRING:
            return token[0] in "'\"" and not {"\n", "\\"} & set(token)
        if kind == tokenize.NUMBER:
            return _NUMBER.fullmatch(token) is not None
        return kind == tokenize.NAME or kind in _BLANKS

    def _operator(self, token: str, begin: int) -> None:
        if token not in _OPERATORS:
            self._refuse(begin)
        self._depth += (token in "([") - (token in ")]")
        if self._depth > MAX_DEPTH:
            _refuse_at(self._text, begin, f"expected at most {MAX_DEPTH} brackets inside one another")

    def rest(self) -> None:
        """Where the tokeniser could not go on. Of brackets the parser says more."""
        rest = self._text[self._end :].lstrip(" \n")
        if rest and rest[0] not in ")]":
            self._refuse(len(self._text) - len(rest))

    def _refuse(self, begin: int) -> NoReturn:
        _refuse_at(self._text, begin, _token_problem(self._text[begin:].partition("\n")[0]))


def _token_problem(rest: str) -> str:
    """What is wrong with the line that starts with a bad token."""
    start = rest[:12]
    if start[:1] in ("'", '"'):
        return f"expected a string that ends in its line and has no backslash, got {start}"
    if start[:1].isalpha() or start[:1] == "_":
        return f"expected a string without prefix, got {start}"
    if re.match(r"\.?[0-9]", start):
        return f"expected a plain decimal number, got {start}"
    if start[:1] == ";":
        return "expected one statement per line, got ';'"
    if start[:1] == "-":
        return f"expected a number after '-', got {start}"
    return f"expected names, strings, numbers, brackets, ',' and '=', got {start[:1]!r}"


def _refuse_syntax(text: str, error: SyntaxError) -> NoReturn:
    line = min(max(error.lineno or 1, 1), text.count("\n") + 1)
    problem = f"expected a complete statement, got {error.msg}"
    raise CodeError(line, max(error.offset or 1, 1), problem) from None


def _refuse_at(text: str, index: int, problem: str) -> NoReturn:
    raise CodeError(text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index), problem)
