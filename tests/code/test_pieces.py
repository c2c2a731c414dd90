"""The tokeniser of pieces: numbers are those of transformers, any text comes back, tables are checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keystep.code.pieces import PieceTokenizer, read_tokenizer
from keystep.code.tokenizer import FIRST_WORD, SPECIALS, Tokenizer

WORDS = (" ", "a", "b", "c", "é", " a", "ab", " ab", "bc", "\n", "abc")
AT = {word: FIRST_WORD + index for index, word in enumerate(WORDS)}
MERGES = tuple((AT[left], AT[right]) for left, right in [("a", "b"), (" ", "a"), (" ", "ab"), ("b", "c")])
TINY = PieceTokenizer(WORDS, MERGES)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=30) | st.text("abc é\n☃", max_size=12)


def byte(value: int) -> int:
    return len(SPECIALS) + value


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        ("ab", [AT[" ab"]]),  # a b first, as it stands first in the table
        ("abc", [AT[" ab"], AT["c"]]),  # and never abc, which no pair makes
        ("a", [AT[" a"]]),
        ("xab", [AT[" "], byte(ord("x")), AT["ab"]]),
        (" ab", [AT[" "], AT[" ab"]]),
        ("☃", [AT[" "], *map(byte, "☃".encode())]),
        ("\u2581", [AT[" "], *map(byte, "\u2581".encode())]),  # is no space
        ("é\nbc", [AT[" "], AT["é"], AT["\n"], AT["bc"]]),
        ("<end>", [AT[" "], *map(byte, b"<end>")]),  # no text is special
    ],
)
def test_by_hand(text: str, wanted: list[int]) -> None:
    assert TINY.encode(text) == wanted
    assert TINY.decode(wanted) == text


@given(TEXTS)
def test_any_text_comes_back(text: str) -> None:
    assert TINY.decode(TINY.encode(text)) == text
    assert not {*TINY.encode(text)} & {*range(len(SPECIALS))}


def test_a_space_is_dropped_once() -> None:
    assert TINY.decode([AT[" "], AT[" a"]]) == " a"
    assert TINY.decode([byte(0x20), AT["a"]]) == "a"
    assert TINY.decode([AT["a"], AT[" a"]]) == "a a"


def test_it_goes_through_json() -> None:
    told = TINY.to_dict()
    assert read_tokenizer(told) == TINY and isinstance(read_tokenizer(told), PieceTokenizer)
    assert read_tokenizer(Tokenizer(("red",)).to_dict()) == Tokenizer(("red",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": ["a", "a"]}, r"words: expected each entry once, got 'a' twice"),
        ({"words": ["é" * 33]}, r"words\[0\]: expected text of 1 to 64 bytes, got "),
        ({"words": ["\u2581a"]}, r"words\[0\]: expected spaces as spaces, got "),
        ({"merges": None}, r"merges: expected a list of pairs, got None"),
        ({"merges": [[261]]}, r"merges\[0\]: expected two numbers in 260 \.\. 270, got "),
        ({"merges": [[1, 261]]}, r"merges\[0\]: expected two numbers in "),
        ({"merges": [[True, 261]]}, r"merges\[0\]: expected two numbers in "),
        ({"merges": [[263, 261]]}, r"merges\[0\]: expected two that make an entry, got 'ca'"),
        ({"merges": [[261, 262]] * 2}, r"merges: expected each pair once, got one twice"),
        ({"specials": []}, r"specials: expected "),
        ({"version": 2}, r"version: expected "),
    ],
)
def test_tables_that_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        read_tokenizer(TINY.to_dict() | change)


# ---- beside transformers

pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny_pieces  # noqa: E402

from keystep.models.code_planner.config import CodePlannerConfig  # noqa: E402
from keystep.models.code_planner.pieces import own_pieces  # noqa: E402
from keystep.models.code_planner.pretrained import LlavaError  # noqa: E402
from keystep.models.observing import camera_feature  # noqa: E402


def config_of(theirs: Any, spare: int = 9) -> CodePlannerConfig:
    ids = {"pad_id": theirs.pad_token_id, "end_id": theirs.convert_tokens_to_ids("<|end|>")}
    ids |= {"image_id": theirs.convert_tokens_to_ids("<image>"), "proprioception_id": len(theirs)}
    seen = (camera_feature("base", 32, 32),)
    return CodePlannerConfig(observation=seen, vocabulary=len(theirs) + spare, **ids)


@given(TEXTS | st.integers(0, 10**6).map(tiny_pieces.random_text))
@settings(deadline=None, max_examples=300)
def test_numbers_are_those_of_transformers(text: str) -> None:
    """Specials are not looked for in texts; a character that others write spaces with is no space here."""
    theirs = tiny_pieces.tokenizer()
    ours, order = own_pieces(theirs, config_of(theirs))
    if "\u2581" in text or any(name in text for name in (*tiny_pieces.CONTROL, *tiny_pieces.ADDED)):
        return
    wanted = theirs(text, add_special_tokens=False)["input_ids"]
    assert [order[number] for number in ours.encode(text)] == wanted
    assert ours.decode(ours.encode(text)) == text


def test_every_row_has_one_place() -> None:
    theirs = tiny_pieces.tokenizer()
    for spare in (0, 9):
        config = config_of(theirs, spare)
        ours, order = own_pieces(theirs, config)
        assert sorted(order) == list(range(config.vocabulary))
        assert order[:3] == [config.pad_id, config.end_id, config.image_id]
        unwritten = [order[number] for number in range(len(ours), config.vocabulary)]
        assert {"<unk>", "<s>", "</s>", "<|user|>"} >= {
            theirs.convert_ids_to_tokens(number) for number in unwritten if number < len(theirs)
        }


def told_as(change: Callable[[dict[str, Any]], object]) -> Any:
    """The tokeniser with a change in its file."""
    from tokenizers import Tokenizer as Theirs
    from transformers import PreTrainedTokenizerFast

    told = json.loads(tiny_pieces.tokenizer().backend_tokenizer.to_str())
    change(told)
    made = Theirs.from_str(json.dumps(told))
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", pad_token="<|endoftext|>")


@cache
def of_llama_s_class() -> Any:
    """As transformers 5 makes it of the file: it marks spaces in a way of its own."""
    from transformers import LlamaTokenizerFast

    with TemporaryDirectory() as folder:
        tiny_pieces.tokenizer().save_pretrained(folder)
        found = LlamaTokenizerFast.from_pretrained(folder)
    return found


@given(TEXTS | st.integers(0, 10**6).map(tiny_pieces.random_text))
@settings(deadline=None, max_examples=100)
def test_numbers_of_the_class_that_phi_3_names(text: str) -> None:
    theirs = of_llama_s_class()
    ours, order = own_pieces(theirs, config_of(theirs))
    if "\u2581" in text or any(name in text for name in (*tiny_pieces.CONTROL, *tiny_pieces.ADDED)):
        return
    text = text.lstrip(" ")  # it would lose one of them
    wanted = theirs(text, add_special_tokens=False)["input_ids"]
    assert [order[number] for number in ours.encode(text)] == wanted


def test_other_kinds_are_refused() -> None:
    from tokenizers import Tokenizer as Theirs
    from tokenizers import models
    from transformers import PreTrainedTokenizerFast

    words = Theirs(models.WordLevel({"<unk>": 0}, "<unk>"))
    with pytest.raises(LlavaError, match=r"^tokenizer: expected BPE with bytes .*, got WordLevel"):
        own_pieces(PreTrainedTokenizerFast(tokenizer_object=words), config_of(tiny_pieces.tokenizer()))


def before(*steps: dict[str, Any]) -> Callable[[dict[str, Any]], object]:
    return lambda told: told.update(
        normalizer={"type": "Sequence", "normalizers": [*steps, told["normalizer"]]}
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (before({"type": "NFC"}), "tokenizer: expected spaces marked as Phi-3's, and nothing else, got "),
        (before({"type": "NFKC"}), "tokenizer: expected spaces marked as Phi-3's, and nothing else, got "),
        (before({"type": "StripAccents"}), "tokenizer: expected spaces marked as Phi-3's, and nothing else"),
        (
            before({"type": "Replace", "pattern": {"Regex": " {3,}"}, "content": " "}),
            "tokenizer: expected spaces marked as Phi-3's, and nothing else, got ",
        ),
        (lambda told: told.update(normalizer=None), "tokenizer: expected spaces marked as Phi-3's, and"),
        (
            lambda told: told.update(pre_tokenizer={"type": "Digits", "individual_digits": True}),
            "tokenizer: expected spaces marked as Phi-3's, and nothing else, got ",
        ),
        (lambda told: told["model"].update(dropout=0.1), r"tokenizer.dropout: expected none, got 0.1"),
        (
            lambda told: told["model"].update(ignore_merges=True),
            "tokenizer.ignore_merges: expected none, got",
        ),
    ],
)
def test_what_changes_texts_is_refused(change: Callable[[dict[str, Any]], object], message: str) -> None:
    """Also where no probe would show it."""
    with pytest.raises(LlavaError) as refused:
        own_pieces(told_as(change), config_of(tiny_pieces.tokenizer()))
    assert str(refused.value).startswith(message)
