"""Reads a bundle of the family `code`: manifest and files, checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keystep
from keystep import _core
from keystep.code.tokenizer import Tokenizer


def read_code_bundle(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The manifest, and the files that it names, by name.

    Raises:
        BundleError: "field: expected X, got Y".
    """
    manifest = keystep.read_manifest(path)
    if manifest["family"] != "code":
        raise keystep.BundleError(f"family: expected code, got {manifest['family']}")
    return manifest, _core.read_files(path)


def shortest_reply(words: Tokenizer, api: list[dict[str, Any]], grid: int) -> int:
    """Tokens of the shortest reply that is code, its end included, as the runtime finds it."""
    return _core.ConstrainedReply(json.dumps(words.to_dict()), json.dumps(api), grid).shortest
