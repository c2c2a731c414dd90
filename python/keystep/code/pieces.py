"""The tokenizer of a language model, in our numbers: pieces that are merged pair by pair (BPE), and bytes.

That of Llama and Phi-3: a space stands before every text, each character is a piece or its bytes, and then
the pair with the lowest rank becomes one piece, again and again. docs/tokenizer.md specifies it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

from keystep.code.prompt import check_format, texts
from keystep.code.tokenizer import FIRST_WORD, MAX_ENTRY, SPECIALS, Tokenizer, check_unique, utf8

FORMAT, VERSION = "keystep-pieces", 1
SPACE_MARK = "\u2581"
"""How tables of others write a space."""


@dataclass(frozen=True)
class PieceTokenizer(Tokenizer):
    """See the module. An entry of `words` is any text of 1 to 64 bytes; spaces are spaces.

    Attributes:
        merges: pairs of numbers that become the entry with the text of both, the first ones first.

    Raises:
        ValueError: an entry is there twice, or no such text; a merge is there twice, or of what is none.
    """

    merges: tuple[tuple[int, int], ...] = ()
    space_before: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for index, word in enumerate(self.words):
            if not isinstance(word, str) or not 1 <= len(utf8(f"words[{index}]", word)) <= MAX_ENTRY:
                raise ValueError(
                    f"words[{index}]: expected text of 1 to {MAX_ENTRY} bytes, got {word!r:.100}"
                )
            if SPACE_MARK in word:
                raise ValueError(f"words[{index}]: expected spaces as spaces, got {word!r:.100}")
        check_unique(self.words)
        numbers = {word: FIRST_WORD + index for index, word in enumerate(self.words)}
        for index, pair in enumerate(self.merges):
            if len(pair) != 2 or not all(_is_number(one, len(self)) for one in pair):
                wanted = f"two numbers in {FIRST_WORD} .. {len(self) - 1}"
                raise ValueError(f"merges[{index}]: expected {wanted}, got {pair!r:.100}")
            if self._joined(pair) not in numbers:
                raise ValueError(
                    f"merges[{index}]: expected two that make an entry, got {self._joined(pair)!r}"
                )
        if len(self._ranks) != len(self.merges):
            raise ValueError("merges: expected each pair once, got one twice")

    def _joined(self, pair: tuple[int, int]) -> str:
        return "".join(self.words[number - FIRST_WORD] for number in pair)

    @cached_property
    def _ranks(self) -> dict[tuple[int, int], int]:
        return {pair: rank for rank, pair in enumerate(self.merges)}

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: FIRST_WORD + index for index, word in enumerate(self.words)}

    def encode(self, text: str) -> list[int]:
        """The numbers of a text, none of them special. Raises ValueError for a lone surrogate."""
        ids: list[int] = []
        for character in f" {text}" if text else "":
            number = self._numbers.get(character)
            spelled = utf8("text", character) if number is None else b""
            ids += [number] if number is not None else [len(SPECIALS) + byte for byte in spelled]
        while len(ids) > 1:
            ranks = [self._ranks.get(pair, len(self.merges)) for pair in pairwise(ids)]
            best = min(ranks)
            if best == len(self.merges):
                break
            at = ranks.index(best)
            ids[at : at + 2] = [self._numbers[self._joined((ids[at], ids[at + 1]))]]
        return ids

    @cached_property
    def _entries(self) -> list[bytes]:
        return [word.encode("utf-8") for word in self.words]

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The text of numbers, exactly, without the space before it. Raises as of Tokenizer."""
        return b"".join(map(self.text_bytes, ids)).removeprefix(b" ")

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {
            "format": FORMAT,
            "version": VERSION,
            "merges": [list(pair) for pair in self.merges],
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> PieceTokenizer:
        check_format(found, FORMAT, VERSION)
        if (specials := found.get("specials")) != list(SPECIALS):
            raise ValueError(f"specials: expected {list(SPECIALS)}, got {specials!r:.100}")
        merges = found.get("merges")
        if not isinstance(merges, list) or not all(isinstance(pair, list) for pair in merges):
            raise ValueError(f"merges: expected a list of pairs, got {merges!r:.100}")
        return cls(texts("words", found.get("words")), tuple(tuple(pair) for pair in merges))


def read_tokenizer(found: Mapping[str, Any]) -> Tokenizer:
    """Of what `to_dict` gives of either kind. Raises ValueError."""
    return (PieceTokenizer if found.get("format") == FORMAT else Tokenizer).from_dict(found)


def _is_number(value: object, count: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and FIRST_WORD <= value < count
