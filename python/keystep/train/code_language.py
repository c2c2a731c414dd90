"""The language of a training of planners that write code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from keystep.code.spoken import Language, Sees
from keystep.data import DatasetError
from keystep.export.code_language import LANGUAGE, load_language, read_language
from keystep.files import to_json

__all__ = ["LANGUAGE", "Language", "Sees", "check_language", "load_language"]


def check_language(folder: Path, language: dict[str, Any]) -> None:
    """That a checkpoint, from whose weights a training is to start, has this language.

    Raises:
        CheckpointError: its language is missing or damaged.
        DatasetError: the first field that differs.
    """
    _require("weights.language", json.loads(to_json(language)), read_language(folder))


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
