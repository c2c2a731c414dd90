"""The tokenizer: any text comes back, encoded as docs/tokenizer.md specifies; no text is special."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keystep.code.prompt import Special
from keystep.code.tokenizer import FIRST_WORD, SPECIALS, Tokenizer

WORDS = (
    "red",
    "cube",
    "cubes",
    "get_actor('",
    "'))",
    "')",
    "', ",
    ", ",
    "# ",
    " = ",
    "anti-clockwise",
    "3",
    "32",
    "A",
)
TOKENIZER = Tokenizer(WORDS)
_PARTS = st.sampled_from(
    [*WORDS, "redo", " ", "  ", "\n", "\t", "_", "é", "☃", "'", "<image>", "<end>", "bytes"]
)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=30) | st.lists(_PARTS, max_size=12).map("".join)


def is_word(character: str) -> bool:
    return character.isascii() and (character.isalnum() or character == "_")


def slow_encode(text: str) -> list[int]:
    """As docs/tokenizer.md has it, on characters: ASCII entries cannot begin inside of another character."""
    ids: list[int] = []
    place, last = 0, ""

    def candidates(start: int) -> list[str]:
        found = []
        for word in WORDS:
            stop = start + len(word)
            before, after = text[start - 1 : start] if start else "", text[stop : stop + 1]
            fits = text.startswith(word, start)
            fits = fits and not (is_word(word[0]) and before and is_word(before))
            if fits and not (is_word(word[-1]) and after and is_word(after)):
                found.append(word)
        return sorted(found, key=len)

    while place < len(text):
        joined = bool(last) and is_word(last[-1]) and text[place] == " "
        after_space = [word for word in candidates(place + 1) if is_word(word[0])] if joined else []
        found = after_space or candidates(place)
        if found:
            last = found[-1]
            ids.append(FIRST_WORD + WORDS.index(last))
            place += len(last) + bool(after_space)
        else:
            ids += [len(SPECIALS) + byte for byte in text[place].encode()]
            place, last = place + 1, ""
    return ids


@given(TEXTS)
@settings(max_examples=300, deadline=None)
def test_any_text_comes_back_and_is_encoded_as_specified(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode(ids) == text and TOKENIZER.decode_bytes(ids) == text.encode()
    assert ids == TOKENIZER.encode(text) == slow_encode(text)
    assert all(number >= len(SPECIALS) for number in ids)


@given(TEXTS, TEXTS)
@settings(max_examples=200, deadline=None)
def test_a_line_break_parts_a_text(first: str, second: str) -> None:
    """So texts can be encoded section by section, and a cache of the first sections stays valid."""
    whole = TOKENIZER.encode(f"{first}\n{second}")
    assert whole == TOKENIZER.encode(f"{first}\n") + TOKENIZER.encode(second)


@given(st.lists(st.integers(len(SPECIALS), len(TOKENIZER) - 1), max_size=12))
@settings(max_examples=200, deadline=None)
def test_any_numbers_give_a_text_that_only_grows(ids: list[int]) -> None:
    """What a model has written is never taken back by what it writes next."""
    texts = [TOKENIZER.decode_bytes(ids[:count]) for count in range(len(ids) + 1)]
    assert all(longer.startswith(shorter) for shorter, longer in itertools.pairwise(texts))
    assert isinstance(TOKENIZER.decode(ids), str)


def test_a_single_space_between_words_is_implied() -> None:
    red, cube = (FIRST_WORD + WORDS.index(word) for word in ("red", "cube"))
    space = len(SPECIALS) + 0x20
    assert TOKENIZER.encode("red cube") == [red, cube]
    assert TOKENIZER.encode("red  cube") == [red, space, space, cube]
    assert TOKENIZER.encode("red (") == [red, space, len(SPECIALS) + ord("(")]
    assert len(TOKENIZER.encode("redcube")) == 7  # bytes: no entry cuts a word
    assert TOKENIZER.decode([red, cube]) == "red cube"


def test_specials_are_pieces_never_text() -> None:
    pieces = ["red\n", Special.IMAGE, "<image>", Special.END]
    ids = TOKENIZER.encode_pieces(pieces)
    assert [number for number in ids if number < len(SPECIALS)] == [Tokenizer.image, Tokenizer.end]
    assert (Tokenizer.pad, Tokenizer.end, Tokenizer.image, Tokenizer.proprioception) == (0, 1, 2, 3)
    for number in (0, 3, -1, len(TOKENIZER)):
        with pytest.raises(ValueError, match=f"ids: expected 4 .. {len(TOKENIZER) - 1}, got {number}"):
            TOKENIZER.decode([number])


def test_what_is_no_text_is_known_beforehand() -> None:
    none = set(TOKENIZER.no_text(len(TOKENIZER) + 2))
    assert none == {0, 1, 2, 3, len(TOKENIZER), len(TOKENIZER) + 1}
    for number in range(len(TOKENIZER) + 2):
        if number in none:
            with pytest.raises(ValueError, match="ids: expected"):
                TOKENIZER.decode([number])
        else:
            TOKENIZER.decode([number])


def test_bytes_that_are_no_text_are_marked() -> None:
    assert TOKENIZER.decode([len(SPECIALS) + 0xC3]) == "\ufffd"
    with pytest.raises(ValueError, match=r"text: expected Unicode, got '\\ud800' at 1"):
        TOKENIZER.encode("a\ud800")


def test_a_table_comes_back_from_its_json() -> None:
    found = Tokenizer.from_dict(json.loads(json.dumps(TOKENIZER.to_dict())))
    assert found == TOKENIZER and len(found) == 4 + 256 + len(WORDS)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("a", "a"), "words: expected each entry once, got 'a' twice"),
        (("",), r"words\[0\]: expected text of 1 to 64 characters"),
        (("a" * 65,), r"words\[0\]: expected text of 1 to 64 characters"),
        (("a\nb",), r"words\[0\]: expected printable ASCII"),
        (("é",), r"words\[0\]: expected printable ASCII"),
        ((" ",), r"words\[0\]: expected a letter, digit or underscore, or more, got ' '"),
        ((3,), r"words\[0\]: expected text"),
    ],
)
def test_a_bad_table_is_refused(words: tuple, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Tokenizer(words)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"version": 2}, "version: expected 1, got 2"),
        ({"specials": []}, r"specials: expected \['<pad>'"),
        ({"version": True}, "version: expected 1, got True"),
        ({"words": "abc"}, "words: expected a list, got 'abc'"),
        ({"words": None}, "words: expected a list, got None"),
        ({"words": ["a", 1]}, r"words\[1\]: expected text, got 1"),
    ],
)
def test_another_format_is_refused(change: dict, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Tokenizer.from_dict({**TOKENIZER.to_dict(), **change})
    with pytest.raises(ValueError, match=r"keystep-words: expected an object, got \[\]"):
        Tokenizer.from_dict([])  # type: ignore[arg-type]
