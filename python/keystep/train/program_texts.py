"""Programs as text, kept beside a checkpoint: a run goes on with those it began with, made in minutes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from keystep.bars import tracked
from keystep.code.samples import TextEpisode
from keystep.data import DatasetError
from keystep.files import parse_json, write_json
from keystep.suites.base import Suite, texts

PROGRAMS = "programs.json"
"""Beside a checkpoint of stage 1."""
FORMAT, VERSION = "keystep-programs", 2
"""Version 2 has names and boxes of the objects."""
TEXT = {"task": str, "seed": int, "prompt": str}
THOUSANDTHS = 1000
"""In which boxes are written, as whole numbers; -1000 where nothing is in view."""


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
    return [_rounded(episode) for episode in tracked(endless, "programs", programs)]


def keep_programs(path: Path, suite: str, grid: int, episodes: Sequence[TextEpisode]) -> None:
    """Writes them where there is no such file. Raises OSError."""
    if not path.exists():
        told = [_told(episode) for episode in episodes]
        write_json(path, {**_about(suite, grid, len(episodes)), "episodes": told})


def _rounded(episode: TextEpisode) -> TextEpisode:
    """As it will be read: a run that goes on has the same."""
    if episode.boxes is None:
        return episode
    return replace(episode, boxes=(_whole(episode.boxes) / THOUSANDTHS).astype(np.float32))


def _whole(boxes: np.ndarray) -> np.ndarray:
    return np.rint(THOUSANDTHS * boxes.astype(np.float64)).astype(np.int64)


def _told(episode: TextEpisode) -> dict[str, Any]:
    boxes = None if episode.boxes is None else _whole(episode.boxes).tolist()
    return {**asdict(replace(episode, boxes=None)), "boxes": boxes}


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
    names, boxes = _scenes(path, number, one, len(keysteps))
    return TextEpisode(one["task"], one["seed"], one["prompt"], tuple(keysteps), names, boxes)


def _scenes(
    path: Path, number: int, one: Mapping[str, Any], keysteps: int
) -> tuple[tuple[str, ...], np.ndarray | None]:
    names, boxes = one.get("names"), one.get("boxes")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DatasetError(f"{path}: episodes[{number}].names: expected texts, got {names!r:.100}")
    if boxes is None:
        return tuple(names), None
    try:
        found = (np.array(boxes, dtype=np.float64) / THOUSANDTHS).astype(np.float32)
    except (TypeError, ValueError, OverflowError):
        found = np.zeros(0, np.float32)
    wanted = (keysteps, len(names), 4)
    if found.shape != wanted or not np.isfinite(found).all() or (np.abs(found) > 1).any():
        told = f"numbers of the shape {wanted}, at most {THOUSANDTHS}"
        raise DatasetError(f"{path}: episodes[{number}].boxes: expected {told}, got {boxes!r:.100}")
    return tuple(names), found


def distinct(episodes: Sequence[TextEpisode]) -> int:
    """How many have another prompt or other code than all before them."""
    return len({(episode.prompt, episode.keysteps) for episode in episodes})
