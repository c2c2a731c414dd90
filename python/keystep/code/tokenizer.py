"""Words and pieces of code as numbers, and back, exactly; any other text byte by byte.

docs/tokenizer.md specifies which text gives which numbers; the C++ twin is written from there. In short:
the longest entry of the table that stands here as whole words is taken, else one byte; a single space between
two entries that are words on their facing sides is implied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from keystep.code.prompt import Piece, Special, check_format, texts

FORMAT, VERSION = "keystep-words", 1
PAD = "<pad>"
SPECIALS: tuple[str, ...] = (PAD, Special.END, Special.IMAGE, Special.PROPRIOCEPTION)
"""By number, from 0. No text is encoded as one of them."""
BYTES = 256
FIRST_WORD = len(SPECIALS) + BYTES
MAX_ENTRY = 64
"""Bytes of an entry."""
_WORD_BYTES = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_SPACE = 0x20


@dataclass(frozen=True)
class Tokenizer:
    """See the module.

    Attributes:
        words: the table; entry i has the number FIRST_WORD + i.

    Raises:
        ValueError: an entry is there twice, is empty or too long, is not ASCII, has a line break, or is a
            single byte that is no letter, digit or underscore.
    """

    words: tuple[str, ...]
    space_before: ClassVar[bool] = False
    """Tokens of a text begin with a space that it has not; else one between two words is implied."""

    def __post_init__(self) -> None:
        for index, word in enumerate(self.words):
            _check_entry(f"words[{index}]", word)
        check_unique(self.words)

    def __len__(self) -> int:
        """How many numbers there are."""
        return FIRST_WORD + len(self.words)

    pad, end, image, proprioception = range(len(SPECIALS))

    def no_text(self, vocabulary: int) -> list[int]:
        """The numbers below `vocabulary` that are no text: the specials, and what is beyond the table.

        A planner that writes text writes none of them but the end.
        """
        return [*range(len(SPECIALS)), *range(len(self), vocabulary)]

    @cached_property
    def _entries(self) -> list[bytes]:
        return [word.encode("ascii") for word in self.words]

    @cached_property
    def _by_start(self) -> dict[int, list[tuple[bytes, int]]]:
        """By first byte the entries and their numbers, the longest first."""
        found: dict[int, list[tuple[bytes, int]]] = {}
        for index, entry in enumerate(self._entries):
            found.setdefault(entry[0], []).append((entry, FIRST_WORD + index))
        for entries in found.values():
            entries.sort(key=lambda one: -len(one[0]))
        return found

    def encode(self, text: str) -> list[int]:
        """The numbers of a text, none of them special. Raises ValueError for a lone surrogate."""
        data = utf8("text", text)
        ids: list[int] = []
        at, after_word = 0, False
        while at < len(data):
            found = None
            if after_word and data[at] == _SPACE and _is_word(data, at + 1):
                found = self._longest(data, at + 1)
                at += found is not None  # the space is implied
            found = found or self._longest(data, at)
            if found is None:
                ids.append(len(SPECIALS) + data[at])
                at, after_word = at + 1, False
            else:
                ids.append(found[1])
                at, after_word = at + len(found[0]), found[0][-1] in _WORD_BYTES
        return ids

    def _longest(self, data: bytes, at: int) -> tuple[bytes, int] | None:
        """The longest entry that stands at `at` and cuts no word in two."""
        for entry, number in self._by_start.get(data[at], ()) if at < len(data) else ():
            stop = at + len(entry)
            if data[at:stop] != entry:
                continue
            cuts_before = entry[0] in _WORD_BYTES and _is_word(data, at - 1)
            cuts_after = entry[-1] in _WORD_BYTES and _is_word(data, stop)
            if not cuts_before and not cuts_after:
                return entry, number
        return None

    def encode_pieces(self, pieces: Iterable[Piece]) -> list[int]:
        """The numbers of text and specials, piece by piece."""
        ids: list[int] = []
        for piece in pieces:
            ids += [SPECIALS.index(piece)] if isinstance(piece, Special) else self.encode(piece)
        return ids

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The text of numbers, exactly. Raises ValueError for a special, or a number that there is not."""
        out = bytearray()
        after_word = False
        for number in ids:
            text = self.text_bytes(number)
            is_entry = number >= FIRST_WORD
            if after_word and is_entry and text[0] in _WORD_BYTES:
                out.append(_SPACE)
            out += text
            after_word = is_entry and text[-1] in _WORD_BYTES
        return bytes(out)

    def text_bytes(self, number: int) -> bytes:
        """What a number has of a text, implied spaces apart. Raises ValueError as `decode_bytes`."""
        if not len(SPECIALS) <= number < len(self):
            raise ValueError(f"ids: expected {len(SPECIALS)} .. {len(self) - 1}, got {number}")
        return bytes([number - len(SPECIALS)]) if number < FIRST_WORD else self._entries[number - FIRST_WORD]

    def decode(self, ids: Iterable[int]) -> str:
        """`decode_bytes` as text; what is no UTF-8 becomes U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"format": FORMAT, "version": VERSION, "specials": list(SPECIALS), "words": list(self.words)}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Tokenizer:
        """The inverse of `to_dict`. Raises ValueError."""
        check_format(found, FORMAT, VERSION)
        if (specials := found.get("specials")) != list(SPECIALS):
            raise ValueError(f"specials: expected {list(SPECIALS)}, got {specials!r:.100}")
        return cls(texts("words", found.get("words")))


def check_unique(words: tuple[str, ...]) -> None:
    if len(set(words)) != len(words):
        twice = next(word for word in words if words.count(word) > 1)
        raise ValueError(f"words: expected each entry once, got {twice!r} twice")


def utf8(field: str, text: str) -> bytes:
    """Raises ValueError for a lone surrogate."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{field}: expected Unicode, got {text[error.start]!r} at {error.start}") from None


def is_word_byte(byte: int) -> bool:
    """A letter, a digit or an underscore."""
    return byte in _WORD_BYTES


def _is_word(data: bytes, at: int) -> bool:
    return 0 <= at < len(data) and data[at] in _WORD_BYTES


def _check_entry(field: str, word: object) -> None:
    if not isinstance(word, str) or not 1 <= len(word) <= MAX_ENTRY:
        raise ValueError(f"{field}: expected text of 1 to {MAX_ENTRY} characters, got {word!r:.100}")
    if not word.isascii() or not word.isprintable():
        raise ValueError(f"{field}: expected printable ASCII, got {word!r}")
    if len(word) == 1 and ord(word) not in _WORD_BYTES:
        raise ValueError(f"{field}: expected a letter, digit or underscore, or more, got {word!r}")
