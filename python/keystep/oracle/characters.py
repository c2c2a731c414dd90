"""What may stand in code text before it is read as Python: size, characters, tokens, depth of brackets.

Allowed characters are printable ASCII and the newline; neither `;` nor operators outside strings and
comments. So a line holds one statement, and backslashes, tabs, look-alike letters and control characters
have no place. Whatever would make Python's parser warn or run out of stack does not reach it.
"""

from __future__ import annotations

import re
from typing import NoReturn

MAX_CHARACTERS = 2000
"""Of code. Where all of it is commented out, the marks do not count: what may begin may also go on."""
MAX_LINES = 32
MAX_DEPTH = 6
"""Brackets inside one another."""

_MARKS = re.compile(r"^# ", re.MULTILINE)
_STRANGE = re.compile(r"[^\n -~]")
# Possessive and atomic throughout: no backtracking, and the match ends where the first bad token starts.
# A name before a quote would be a prefixed string; letters after a number its base, unit or a keyword.
_TOKENS = re.compile(
    r"""(?>
        [ \n]+
      | \#[ -~]*+
      | '[ -&(-\[\]-~]*+'
      | "[ !#-\[\]-~]*+"
      | [A-Za-z_][A-Za-z0-9_]*+ (?!['"])
      | (?>\d+(?:\.\d*+)?+ | \.\d+) (?:[eE][+-]?\d++)?+ (?![\w.])
      | - (?=\ *[\d.])
      | [()\[\],=]
    )*+""",
    re.VERBOSE | re.ASCII,
)
_BRACKETS = re.compile(r"""'[^'\n]*'|"[^"\n]*"|\#[^\n]*|[()\[\]]""")


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


def check_text(text: str) -> None:
    """Raises CodeError at the first character that cannot belong to code."""
    _check_size(text)
    _check_characters(text)
    _check_depth(text)


def _check_size(text: object) -> None:
    if not isinstance(text, str):
        raise CodeError(1, 1, f"expected text, got {type(text).__name__}")
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
    tokens = _TOKENS.match(text)
    end = tokens.end() if tokens else 0
    if end < len(text):
        _refuse_at(text, end, _token_problem(text[end:].partition("\n")[0]))


def _token_problem(rest: str) -> str:
    """What is wrong with the line that starts with a bad token."""
    start = rest[:12]
    if start[0] in "'\"":
        return f"expected a string that ends in its line and has no backslash, got {start}"
    if start[0].isalpha() or start[0] == "_":
        return f"expected a string without prefix, got {start}"
    if start[0].isdigit():
        return f"expected a plain decimal number, got {start}"
    if start[0] == ";":
        return "expected one statement per line, got ';'"
    if start[0] == "-":
        return f"expected a number after '-', got {start}"
    return f"expected names, strings, numbers, brackets, ',' and '=', got {start[0]!r}"


def _check_depth(text: str) -> None:
    depth = 0
    for found in _BRACKETS.finditer(text):
        if found[0] in "([":
            depth += 1
        elif found[0] in ")]":
            depth -= 1
        if depth > MAX_DEPTH:
            _refuse_at(text, found.start(), f"expected at most {MAX_DEPTH} brackets inside one another")


def _refuse_at(text: str, index: int, problem: str) -> NoReturn:
    raise CodeError(text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index), problem)
