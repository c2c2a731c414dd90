"""C++ reads and remembers what Python does of a planner that writes: tokens, prompts, key-steps."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from code_programs import programs
from hypothesis import given, settings
from hypothesis import strategies as st

from keystep import BundleError, _core
from keystep.code.pieces import PieceTokenizer
from keystep.code.prompt import DEFAULT, PAPER, Prompt, PromptLayout
from keystep.code.samples import SampleMaker
from keystep.code.tokenizer import FIRST_WORD, SPECIALS, Tokenizer
from keystep.code.trace import Memory, comment, extract_memory_info, is_keystep, matches_last

WORDS = (
    "red",
    "cube",
    "cubes",
    "get_actor('",
    "'))",
    "')",
    "', ",
    "# ",
    " = ",
    "3",
    "32",
    "A",
    "pick(",
    "done()",
)
TOKENIZER = Tokenizer(WORDS)
IMAGE_TOKENS = 3
_PARTS = st.sampled_from(
    [*WORDS, "redo", " ", "  ", "\n", "_", "é", "☃", "\u3000", "'", "#", "<image>", "{task}"]
)
_CHARACTERS = st.characters(codec="utf-8", exclude_characters="\0")
TEXTS = st.text(_CHARACTERS, max_size=30) | st.lists(_PARTS, max_size=12).map("".join)
CODES = (programs(3).map(lambda program: program.text) | TEXTS).filter(bool)
LINES = TEXTS.map(lambda text: " ".join(text.splitlines())).filter(bool)
BOTH = pytest.mark.parametrize("layout", [DEFAULT, PAPER], ids=lambda layout: layout.name)


def twin(
    layout: PromptLayout = DEFAULT, tokenizer: Tokenizer = TOKENIZER, keysteps: int = 64
) -> _core.CodeText:
    words, prompt = (json.dumps(found.to_dict()) for found in (tokenizer, layout))
    return _core.CodeText(words, prompt, IMAGE_TOKENS, keysteps, True, 1 << 16)


TWIN = twin()
_LETTERS = ("a", "b", "c", " ", "é", "\n", "☃")
PIECES = st.lists(st.text("abc é", min_size=2, max_size=4), max_size=12, unique=True).flatmap(
    lambda longer: st.permutations([*_LETTERS[: 2 + len(longer) % 6], *longer]).map(tuple)
)


def pieces(words: tuple[str, ...], seed: int) -> PieceTokenizer:
    """All pairs that make an entry, in some order."""
    numbers = {word: FIRST_WORD + index for index, word in enumerate(words)}
    pairs = [(numbers[a], numbers[b]) for a in words for b in words if a + b in numbers]
    random.Random(seed).shuffle(pairs)
    return PieceTokenizer(words, tuple(pairs))


@given(PIECES, st.integers(0, 99), st.text("abc é\n☃#", max_size=40) | TEXTS, st.data())
@settings(deadline=None)
def test_tokens_of_any_pieces(words: tuple[str, ...], seed: int, text: str, data: st.DataObject) -> None:
    tokenizer = pieces(words, seed)
    cpp = twin(tokenizer=tokenizer)
    ids = cpp.encode(text)
    assert ids == tokenizer.encode(text)
    assert cpp.decode(ids) == text.encode()
    some = data.draw(st.lists(st.integers(len(SPECIALS), len(tokenizer) - 1), max_size=12))
    assert cpp.decode(some) == tokenizer.decode_bytes(some)


@BOTH
def test_prompts_of_pieces(layout: PromptLayout) -> None:
    tokenizer = pieces(("p", "i", "c", "k", "(", " ", "ck", "pi", "pick", " pick", ")"), 3)
    cpp, maker, memory = twin(layout, tokenizer), SampleMaker(tokenizer, layout, IMAGE_TOKENS), Memory()
    for code in ("pick(1)", "pick(2)\npick(3)", "done()"):
        assert cpp.remember(code) and memory.update(code)
        asked = Prompt("pick it", tuple(memory.instructions), request=True)
        wanted = [token for chunk in maker.question(asked, 0) for token in chunk.tokens]
        assert cpp.prompt("pick it", "", True, True, True, 500) == wanted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": ["a", "a"]}, r"tokenizer\.words\[1\]: expected each entry once"),
        ({"words": ["é" * 33]}, r"tokenizer\.words\[0\]: expected text of 1 to 64 bytes"),
        ({"words": ["\u2581a"]}, r"tokenizer\.words\[0\]: expected spaces as spaces"),
        ({"merges": None}, r"tokenizer\.merges: expected an array, got null"),
        ({"merges": [[261]]}, r"tokenizer\.merges\[0\]: expected two numbers"),
        ({"merges": [[1, 261]]}, r"tokenizer\.merges\[0\]\[0\]: expected an integer in 260\.\.264, got 1"),
        ({"merges": [[260, 265]]}, r"tokenizer\.merges\[0\]\[1\]: expected an integer in 260\.\.264"),
        ({"merges": [[261, 260]]}, r"tokenizer\.merges\[0\]: expected two that make an entry"),
        ({"merges": [[260, 261]] * 2}, r"tokenizer\.merges\[1\]: expected each pair once"),
        ({"format": "keystep-words"}, r"tokenizer\.merges: expected no such key"),
        ({"format": "keystep-bpe"}, r"tokenizer\.format: expected keystep-words \| keystep-pieces"),
    ],
)
def test_pieces_that_are_refused(change: dict[str, Any], message: str) -> None:
    table = pieces(("a", "b", "ab", " ", " a"), 0).to_dict() | change
    with pytest.raises(BundleError, match=message):
        _core.CodeText(json.dumps(table), json.dumps(DEFAULT.to_dict()), IMAGE_TOKENS, 4, True, 1 << 10)


@given(TEXTS | CODES)
@settings(deadline=None)
def test_tokens(text: str) -> None:
    ids = TWIN.encode(text)
    assert ids == TOKENIZER.encode(text)
    assert TWIN.decode(ids) == text.encode()


@given(st.sets(st.text("ab_ '(#", min_size=1, max_size=5), max_size=20), st.text("ab_ '(#\n", max_size=40))
@settings(deadline=None)
def test_tokens_of_any_table(words: set[str], text: str) -> None:
    tokenizer = Tokenizer(tuple(sorted(word for word in words if len(word) > 1 or word in "ab_")))
    assert twin(tokenizer=tokenizer).encode(text) == tokenizer.encode(text)


@given(st.lists(st.integers(0, len(TOKENIZER) + 1), max_size=20))
@settings(deadline=None)
def test_any_tokens_as_text(ids: list[int]) -> None:
    if any(number < len(SPECIALS) or number >= len(TOKENIZER) for number in ids):
        with pytest.raises(ValueError, match="ids: expected text"):
            TWIN.decode(ids)
        return
    written = TWIN.decode(ids)
    assert written == TOKENIZER.decode_bytes(ids)
    assert _core.as_utf8(written) == TOKENIZER.decode(ids)


@given(
    st.binary(max_size=12)
    | st.lists(st.sampled_from([b"\xf0\x9f", b"\x98\x80", b"\xed\xa0", b"a"])).map(b"".join)
)
@settings(deadline=None, max_examples=500)
def test_bytes_that_are_no_text(data: bytes) -> None:
    assert _core.as_utf8(data) == data.decode("utf-8", errors="replace")


def python_prompt(layout: PromptLayout, prompt: Prompt) -> list[int]:
    chunks = SampleMaker(TOKENIZER, layout, IMAGE_TOKENS).question(prompt, None)
    return [token for chunk in chunks for token in chunk.tokens]


@BOTH
@given(
    LINES, st.lists(CODES, max_size=4), st.sampled_from(["", "Where is A?"]), st.tuples(*[st.booleans()] * 3)
)
@settings(deadline=None)
def test_prompts(
    layout: PromptLayout, task: str, memory: list[str], question: str, has: tuple[bool, bool, bool]
) -> None:
    request, image, proprioception = has
    prompt = Prompt(task, tuple(memory), request, question or None, image, proprioception)
    found = twin(layout)
    for code in memory:
        assert found.remember(code)
    ids = found.prompt(task, question, request, image, proprioception, 1 << 15)
    assert ids == python_prompt(layout, prompt)


@BOTH
@given(st.lists(CODES, min_size=1, max_size=6), st.integers(0, 60))
@settings(deadline=None)
def test_a_prompt_shows_the_newest_key_steps_that_fit(
    layout: PromptLayout, codes: list[str], room: int
) -> None:
    found = twin(layout, keysteps=5)
    for code in codes:
        assert found.remember(code)
    assert found.forgotten == max(len(codes) - 5, 0)
    kept = codes[-5:]
    without = len(python_prompt(layout, Prompt("a")))
    fits = (kept[i:] for i in range(len(kept) + 1) if _length(layout, kept[i:]) - without <= room)
    newest = next(fits)
    ids = found.prompt("a", "", False, True, True, room)
    assert ids == python_prompt(layout, Prompt("a", tuple(newest)))
    assert found.shown == len(newest)


def _length(layout: PromptLayout, memory: Sequence[str]) -> int:
    return len(python_prompt(layout, Prompt("a", tuple(memory))))


@given(st.lists(CODES, max_size=5))
@settings(deadline=None)
def test_memory_and_what_a_controller_is_told(codes: list[str]) -> None:
    found, memory = twin(), Memory()
    for code in codes:
        assert _core.is_keystep(code) == is_keystep(code)
        if memory.update(code):
            assert found.remember(code)
    assert [code.decode() for code in found.instructions()] == memory.instructions
    assert found.info().decode() == extract_memory_info(memory)


SPELLINGS = st.lists(
    st.sampled_from(["pose_dict", " ", "[", "'A'", '"B\'"', "]", "=", "==", "\n", "#", "'", "x", "\u2028"]),
    max_size=10,
).map("".join)


@given(SPELLINGS | CODES)
@settings(deadline=None, max_examples=500)
def test_what_stores_a_pose(code: str) -> None:
    assert _core.stores_pose(code) == bool(extract_memory_info([code]))


@given(
    st.lists(
        st.sampled_from([*"\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0", "\u1680", "\u2003", "\u200b", "#", "a"])
    )
)
@settings(deadline=None, max_examples=300)
def test_blank_lines_are_pythons(parts: list[str]) -> None:
    text = "".join(parts)
    assert _core.is_keystep(text) == is_keystep(text)


def test_every_white_character() -> None:
    for point in range(1, 0x11000):
        if not 0xD800 <= point < 0xE000:
            assert _core.is_keystep(chr(point) + "#") == is_keystep(chr(point) + "#"), hex(point)


@given(CODES, st.integers(1, 30), st.data())
@settings(deadline=None)
def test_comments_and_early_stops(code: str, length: int, data: st.DataObject) -> None:
    commented = comment(code)
    assert _core.comment(code).decode() == commented
    begins = commented[: data.draw(st.integers(0, len(commented)))]
    reply = data.draw(st.sampled_from([commented, begins, begins + "x", code, ""]))
    assert _core.goes_on(reply, commented, length) == matches_last(reply, Memory([code]), length)
    assert not _core.goes_on(reply, "", length) and not matches_last(reply, Memory(), length)


@pytest.mark.parametrize(
    ("table", "change"),
    [
        (TOKENIZER.to_dict(), {"version": 2}),
        (TOKENIZER.to_dict(), {"words": ["a", "a"]}),
        (TOKENIZER.to_dict(), {"words": ["\n"]}),
        (TOKENIZER.to_dict(), {"words": [" "]}),
        (TOKENIZER.to_dict(), {"words": [5]}),
        (TOKENIZER.to_dict(), {"specials": []}),
        (DEFAULT.to_dict(), {"order": ["task"]}),
        (DEFAULT.to_dict(), {"order": ["task", "task", "reply"]}),
        (DEFAULT.to_dict(), {"question_order": ["colour", "reply"]}),
        (DEFAULT.to_dict(), {"name": ""}),
        (DEFAULT.to_dict(), {"templates": {**DEFAULT.templates, "request": "{ "}}),
        (DEFAULT.to_dict(), {"templates": {**DEFAULT.templates, "reply": "{end}{reply}"}}),
    ],
)
def test_both_refuse(table: dict, change: dict) -> None:
    of_words = table["format"] == "keystep-words"
    damaged = {**table, **change}
    with pytest.raises(ValueError, match=": expected "):
        (Tokenizer if of_words else PromptLayout).from_dict(damaged)
    words, prompt = (damaged, DEFAULT.to_dict()) if of_words else (TOKENIZER.to_dict(), damaged)
    with pytest.raises(_core.BundleError, match=next(iter(change))):
        _core.CodeText(json.dumps(words), json.dumps(prompt), 1, 8, True, 100)
