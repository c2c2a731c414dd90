"""The language of a planner that writes code: its words, the layout of its prompts, and the grid.

A checkpoint has it in a file of its own, as its weights mean nothing without it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

from keystep.code.grid import check_grid
from keystep.code.prompt import PromptLayout
from keystep.code.samples import SampleMaker
from keystep.code.tokenizer import Tokenizer
from keystep.data import DatasetError
from keystep.features import Feature
from keystep.files import parse_json, to_json
from keystep.models.checkpoint import CheckpointError, read_checkpoint

LANGUAGE = "language.json"
"""Of a checkpoint: what `Language.told_to` gives."""


class Sees(Protocol):
    """What of a network's configuration the prompts depend on."""

    @property
    def image_tokens(self) -> int: ...

    @property
    def context(self) -> int: ...

    @property
    def objects(self) -> Feature | None: ...

    @property
    def proprioception(self) -> Feature | None: ...


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
        return json.loads(to_json(found))  # lists in place of tuples


def load_language(folder: Path) -> Language:
    """Of a checkpoint of a planner that writes code.

    Raises:
        CheckpointError: missing or damaged, or not the language of this network: which field.
    """
    document, config = _document(folder), read_checkpoint(folder).config.to_dict()
    try:
        parts = [document.get(name) for name in ("tokenizer", "prompt", "grid")]
        words, layout = Tokenizer.from_dict(parts[0]), PromptLayout.from_dict(parts[1])  # type: ignore[arg-type]
        found = Language(words, layout, check_grid(parts[2]))  # type: ignore[arg-type]
    except ValueError as error:
        raise CheckpointError(f"{folder / LANGUAGE}: {error}") from None
    for name, value in {"vocabulary": found.vocabulary, **found.ids}.items():
        if config.get(name) != value:
            wanted = f"{name} {config.get(name)}, the network's"
            raise CheckpointError(f"{folder / LANGUAGE}: tokenizer: expected {wanted}, got {value}")
    return found


def check_language(folder: Path, language: dict[str, Any]) -> None:
    """That a checkpoint, from whose weights a training is to start, has this language.

    Raises:
        CheckpointError: its language is missing or damaged.
        DatasetError: the first field that differs.
    """
    _require("weights.language", json.loads(to_json(language)), _document(folder))


def _document(folder: Path) -> dict[str, Any]:
    path = folder / LANGUAGE
    try:
        found = parse_json(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"checkpoint: expected {path}, got no such file") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: expected JSON, got {error}") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: expected an object, got {found!r:.100}")
    return found


def _require(field: str, expected: Any, got: Any) -> None:
    """Goes down to the first entry that differs, as tables are long."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for name in [*expected, *(name for name in got if name not in expected)]:
            _require(f"{field}.{name}", expected.get(name), got.get(name))
    elif isinstance(expected, list) and isinstance(got, list):
        for index, pair in enumerate(zip(expected, got, strict=False)):
            _require(f"{field}[{index}]", *pair)
        if len(expected) != len(got):
            raise DatasetError(f"{field}: expected {len(expected)} entries, got {len(got)}")
    elif expected != got:
        raise DatasetError(f"{field}: expected {expected!r:.100}, got {got!r:.100}")
