"""Programs as text, kept beside a checkpoint: a run goes on with those it began with, made in minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from keystep.bars import tracked
from keystep.code.samples import TextEpisode
from keystep.data import DatasetError
from keystep.files import parse_json, write_json
from keystep.suites.base import Suite, texts

PROGRAMS = "programs.json"
"""Beside a checkpoint of stage 1."""
FORMAT, VERSION = "keystep-programs", 1
TEXT = {"task": str, "seed": int, "prompt": str}


def program_texts(suite: Suite, programs: int, grid: int, kept: Path | None = None) -> list[TextEpisode]:
    """So many programs, all tasks of a suite alike.

    Args:
        kept: file of `keep_programs`; where it does not exist they are made.

    Raises:
        ArgumentError: the suite has no code.
        DatasetError: the file cannot be read, is damaged, or is of other programs: which field.
    """
    if kept is not None and kept.exists():
        return _read(kept, _about(suite.name, grid, programs))
    endless = islice(texts(suite, None, grid), programs)
    return list(tracked(endless, "programs", programs))


def keep_programs(path: Path, suite: str, grid: int, episodes: Sequence[TextEpisode]) -> None:
    """Writes them where there is no such file. Raises OSError."""
    if not path.exists():
        told = [asdict(episode) for episode in episodes]
        write_json(path, {**_about(suite, grid, len(episodes)), "episodes": told})


def _about(suite: str, grid: int, programs: int) -> dict[str, Any]:
    return {"format": FORMAT, "version": VERSION, "suite": suite, "grid": grid, "programs": programs}


def _read(path: Path, about: dict[str, Any]) -> list[TextEpisode]:
    try:
        document = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path}: expected JSON, got {error}; without this file they are made again"
        ) from None
    values = document if isinstance(document, dict) else {}
    for name, value in about.items():
        if values.get(name) != value:
            wanted = f"{name}: expected {value!r}, got {values.get(name)!r:.100}"
            raise DatasetError(f"{path}: {wanted}; without this file they are made again")
    episodes = values.get("episodes")
    if not isinstance(episodes, list) or len(episodes) != values["programs"]:
        told = f"{len(episodes)} of them" if isinstance(episodes, list) else repr(episodes)[:100]
        raise DatasetError(f"{path}: episodes: expected {values['programs']} of them, got {told}")
    return [_episode(path, number, one) for number, one in enumerate(episodes)]


def _episode(path: Path, number: int, one: Any) -> TextEpisode:
    keysteps = one.get("keysteps") if isinstance(one, dict) else None
    if not isinstance(keysteps, list) or not all(isinstance(code, str) for code in keysteps) or not keysteps:
        raise DatasetError(f"{path}: episodes[{number}].keysteps: expected texts, got {keysteps!r:.100}")
    for name, kind in TEXT.items():
        if not isinstance(one.get(name), kind):
            wanted = f"expected {kind.__name__}, got {one.get(name)!r:.100}"
            raise DatasetError(f"{path}: episodes[{number}].{name}: {wanted}")
    return TextEpisode(one["task"], one["seed"], one["prompt"], tuple(keysteps))


def distinct(episodes: Sequence[TextEpisode]) -> int:
    """How many have another prompt or other code than all before them."""
    return len({(episode.prompt, episode.keysteps) for episode in episodes})
