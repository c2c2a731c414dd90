"""Fuzz of the code language: nothing but CodeError escapes, and what passes is in the language."""

from __future__ import annotations

import re
import warnings
from itertools import product

from code_programs import Program, programs
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from keystep.code.grammar import CodeError, Statement, format_statements, parse

PIECES = """pick get_actor pose_dict ( ) [ ] , = ' " - 1 . # ; lambda : := * ** { } @ if else not in f' e9
    _ é True None 'x' done() 0x 1j ... -1 (1,2) 'left' '''"""
SNIPPETS = st.sampled_from([*PIECES.split(), "\n", " ", "\\", "\t", "\x00", "import os"])


def outcome(text: str) -> tuple[Statement, ...] | CodeError:
    try:
        return parse(text)
    except CodeError as error:
        return error


def check(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = outcome(text)
    if isinstance(found, CodeError):
        assert str(found) == f"line {found.line}, column {found.column}: {found.problem}"
        assert 1 <= found.line <= text.count("\n") + 1 and found.column >= 1
    else:
        assert parse(format_statements(found)) == found


@given(st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_text_is_code_or_refused(text: str) -> None:
    check(text)


@given(st.lists(SNIPPETS, max_size=30))
@settings(max_examples=500, deadline=None)
def test_any_pile_of_tokens_is_code_or_refused(parts: list[str]) -> None:
    check("".join(parts))


@given(programs(3), st.data())
@settings(max_examples=500, deadline=None)
def test_damaged_programs_are_code_or_refused(program: Program, data: st.DataObject) -> None:
    tokens = re.findall(r"\w+|'[^'\n]*'|\"[^\"\n]*\"|\s+|.", program.text)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(tokens)))
        removed = data.draw(st.integers(0, 2))
        tokens[at : at + removed] = data.draw(st.lists(SNIPPETS, max_size=2))
    check("".join(tokens))


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=3), programs(2), st.data())
@settings(max_examples=200, deadline=None)
def test_foreign_characters_are_found_where_they_are(
    strange: str, program: Program, data: st.DataObject
) -> None:
    assume(all(not (char == "\n" or " " <= char <= "~") for char in strange))
    at = data.draw(st.integers(0, len(program.text)))
    error = outcome(program.text[:at] + strange + program.text[at:])
    assert isinstance(error, CodeError)
    before = program.text[:at].split("\n")
    assert (error.line, error.column) == (len(before), len(before[-1]) + 1)


def test_every_pair_of_tokens_passes_without_a_warning() -> None:
    """Python's parser warns of some neighbours, such as 1if; these must be refused before it sees them."""
    parts = [
        "1",
        "1.",
        ".5",
        "1e5",
        "x",
        "if",
        "or",
        "in",
        "is",
        "'a'",
        "f",
        "0",
        "b",
        "(",
        "[",
        "-",
        "=",
        ",",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pair in product(parts, repeat=3):
            outcome("x = " + "".join(pair))
            outcome(f"pick({''.join(pair)})")
