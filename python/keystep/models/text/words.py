"""The tokeniser of the corpus encoder: few and plain rules, so that ONNX Runtime's own operators follow them.

Words are runs of ASCII letters and digits, everything else separates them. Upper-case ASCII letters become
lower case. Nothing depends on a locale or on a version of Unicode. No torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

WORD = "[a-z0-9]+"
PADDING, UNKNOWN, START = range(3)
FIRST_WORD = 3

_LOWER = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def split_words(text: str) -> list[str]:
    """
    >>> split_words("Lift the RED block!")
    ['lift', 'the', 'red', 'block']
    """
    return re.findall(WORD, text.translate(_LOWER))


class Vocabulary:
    """Words and their ids: `FIRST_WORD` + position. A sentence begins with `START`, so it is never empty."""

    def __init__(self, words: Sequence[str]) -> None:
        if len(set(words)) != len(words) or any(split_words(word) != [word] for word in words):
            raise ValueError("vocabulary: expected different words of ASCII letters and digits")
        self.words = tuple(words)
        self._ids = {word: FIRST_WORD + position for position, word in enumerate(words)}

    @classmethod
    def of(cls, texts: Iterable[str]) -> Vocabulary:
        return cls(sorted({word for text in texts for word in split_words(text)}))

    def __len__(self) -> int:
        """Number of ids."""
        return FIRST_WORD + len(self.words)

    def ids(self, text: str, tokens: int) -> list[int]:
        """`tokens` ids: a long sentence is cut, a short one padded."""
        ids = [START, *(self._ids.get(word, UNKNOWN) for word in split_words(text))][:tokens]
        return ids + [PADDING] * (tokens - len(ids))
