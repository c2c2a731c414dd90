"""Of a checkpoint of a planner that writes code, its language."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keystep.code.spoken import Language
from keystep.files import parse_json
from keystep.models.checkpoint import CheckpointError, read_checkpoint

LANGUAGE = "language.json"
"""Of a checkpoint: what `Language.told_to` gives."""


def load_language(folder: Path) -> Language:
    """Of a checkpoint of a planner that writes code.

    Raises:
        CheckpointError: missing or damaged, or not the language of this network: which field.
    """
    document, config = read_language(folder), read_checkpoint(folder).config.to_dict()
    try:
        found = Language.from_dict(document)
        found.check_ids(config)
    except ValueError as error:
        raise CheckpointError(f"{folder / LANGUAGE}: {error}") from None
    return found


def read_language(folder: Path) -> dict[str, Any]:
    """The file as it is.

    Raises:
        CheckpointError: it is missing, or no JSON object.
    """
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
