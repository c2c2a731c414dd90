"""The language of a planner that writes code: its words, the layout of its prompts, and the grid.

A checkpoint has it in a file of its own, and a bundle in its manifest, as weights mean nothing without it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from keystep.code.grid import check_grid
from keystep.code.pieces import PieceTokenizer, read_tokenizer
from keystep.code.prompt import PromptLayout
from keystep.code.samples import SampleMaker
from keystep.code.tokenizer import Tokenizer


class Sees(Protocol):
    """What of a network's configuration the prompts depend on."""

    @property
    def image_tokens(self) -> int: ...

    @property
    def context(self) -> int: ...

    @property
    def objects(self) -> object | None: ...

    @property
    def proprioception(self) -> object | None: ...


class Language:
    """The words and the layout of a source.

    Attributes:
        tokenizer, layout, grid: see there.
        language: all three, as JSON values.
        vocabulary, ids: of the tokenizer.
    """

    def __init__(self, words: Tokenizer, layout: PromptLayout, grid: int) -> None:
        self.tokenizer, self.layout, self.grid = words, layout, grid
        self.language = self._with(layout)
        self.vocabulary = len(words)
        self.ids = {
            "pad_id": words.pad,
            "end_id": words.end,
            "image_id": words.image,
            "proprioception_id": words.proprioception,
        }

    def told_to(self, network: Sees) -> dict[str, Any]:
        """`language` with the layout that a network is trained with, see `maker`."""
        return self._with(self._layout(network))

    def maker(self, network: Sees) -> SampleMaker:
        """Samples as a network takes them: one without proprioception has no such section."""
        return SampleMaker(self.tokenizer, self._layout(network), network.image_tokens)

    def _layout(self, network: Sees) -> PromptLayout:
        return self.layout if network.proprioception else self.layout.without("proprioception")

    def _with(self, layout: PromptLayout) -> dict[str, Any]:
        found = {"tokenizer": self.tokenizer.to_dict(), "prompt": layout.to_dict(), "grid": self.grid}
        return json.loads(json.dumps(found))  # lists in place of tuples

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Language:
        """Of what `told_to` gives. Raises ValueError: which field."""
        words = _told("tokenizer", read_tokenizer, found.get("tokenizer"))
        layout = _told("prompt", PromptLayout.from_dict, found.get("prompt"))
        return cls(words, layout, check_grid(found.get("grid")))  # type: ignore[arg-type]

    def check_ids(self, network: Mapping[str, Any]) -> None:
        """ValueError unless a network's configuration has this vocabulary, and these special tokens.

        One with a tokeniser of pieces may have more numbers, which it never writes.
        """
        spare = isinstance(self.tokenizer, PieceTokenizer)
        for name, value in {"vocabulary": self.vocabulary, **self.ids}.items():
            got = network.get(name)
            fits = got == value or (spare and name == "vocabulary" and isinstance(got, int) and got > value)
            if not fits:
                wanted = f"{name} {network.get(name)}, the network's"
                raise ValueError(f"tokenizer: expected {wanted}, got {value}")


PartT = TypeVar("PartT")


def _told(field: str, read: Callable[[Any], PartT], found: object) -> PartT:
    """With the field before what is wrong in it."""
    if not isinstance(found, Mapping):
        raise ValueError(f"{field}: expected an object, got {found!r:.100}")
    try:
        return read(found)
    except ValueError as error:
        raise ValueError(f"{field}.{error}") from None
