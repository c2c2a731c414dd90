"""Pictures of scenes, kept beside a checkpoint: a run goes on with those it began with, made in minutes."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from keystep.bars import tracked
from keystep.code.grid import cell
from keystep.data import DatasetError
from keystep.files import replacing
from keystep.suites.base import SeenScene, Suite, seen_scenes

SCENES = "scenes.npz"
"""Beside a checkpoint of stage `sight`."""
FORMAT, VERSION = "keystep-scenes", 1
REMADE = "without this file they are made again"
DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, NotImplementedError, BadZipFile, zlib.error)
"""What numpy and zipfile raise for files of other bytes."""


@dataclass(frozen=True)
class ScenePictures:
    """N scenes.

    Attributes:
        pictures: uint8 (N, H, W, 3); boxes: float32 (N, objects, 4), see `keystep.code.grid.cell`, -1 where
            there is none; names: of the objects of each, at most as many.
    """

    pictures: np.ndarray
    boxes: np.ndarray
    names: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.pictures)

    @classmethod
    def of(cls, scenes: Sequence[SeenScene]) -> ScenePictures:
        """At least one."""
        most = max(len(scene.names) for scene in scenes)
        boxes = np.full((len(scenes), most, 4), -1.0, np.float32)
        for row, scene in zip(boxes, scenes, strict=True):
            row[: len(scene.names)] = scene.boxes
        return cls(
            np.stack([scene.picture for scene in scenes]), boxes, tuple(scene.names for scene in scenes)
        )

    def named(self, places: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """int64 (places, objects): of each object which of `names` it has; -1: not in view, or none."""
        number = {name: place for place, name in enumerate(names)}
        found = np.full((len(places), self.boxes.shape[1]), -1, np.int64)
        for row, place in zip(found, places, strict=True):
            here = self.names[place]
            row[: len(here)] = [number.get(name, -1) for name in here]
        found[(self.boxes[places] == -1).all(axis=-1)] = -1
        return found


def scene_pictures(suite: Suite, count: int, image_size: int, kept: Path | None = None) -> ScenePictures:
    """So many scenes of a suite, all tasks alike.

    Args:
        image_size: height and width in pixels.
        kept: file of `keep_scenes`; where it does not exist they are drawn.

    Raises:
        ArgumentError: the suite has no code.
        DatasetError: the file cannot be read, is damaged, or is of other scenes: which field.
        RuntimeError: this machine cannot draw.
    """
    if kept is not None and kept.exists():
        return _read(kept, _about(suite.name, count, image_size))
    endless = islice(seen_scenes(suite, image_size), count)
    return ScenePictures.of(list(tracked(endless, "scenes", count)))


def keep_scenes(path: Path, suite: str, scenes: ScenePictures) -> None:
    """Writes them where there is no such file. Raises OSError."""
    if path.exists():
        return
    about = {**_about(suite, len(scenes), scenes.pictures.shape[1]), "names": scenes.names}
    with replacing(path) as (staged,), staged.open("wb") as file:
        np.savez_compressed(
            file, about=np.array(json.dumps(about)), pictures=scenes.pictures, boxes=scenes.boxes
        )


def _about(suite: str, count: int, image_size: int) -> dict[str, Any]:
    return {"format": FORMAT, "version": VERSION, "suite": suite, "scenes": count, "image_size": image_size}


def _read(path: Path, about: dict[str, Any]) -> ScenePictures:
    try:
        with np.load(path, allow_pickle=False) as file:
            told, pictures, boxes = json.loads(str(file["about"])), file["pictures"], file["boxes"]
    except DAMAGED as error:
        raise DatasetError(f"{path}: expected scenes, got {error}; {REMADE}") from None
    values = told if isinstance(told, dict) else {}
    for name, value in about.items():
        if values.get(name) != value:
            wanted = f"{name}: expected {value!r}, got {values.get(name)!r:.100}"
            raise DatasetError(f"{path}: {wanted}; {REMADE}")
    size = about["image_size"]
    _require(path, "pictures", (about["scenes"], size, size, 3), "uint8", pictures)
    _require(path, "boxes", (about["scenes"], boxes.shape[1] if boxes.ndim == 3 else 1, 4), "float32", boxes)
    _require_boxes(path, boxes)
    names: Any = values.get("names")
    if not _fits(names, about["scenes"], boxes.shape[1]):
        wanted = f"at most {boxes.shape[1]} texts of each scene"
        raise DatasetError(f"{path}: names: expected {wanted}, got {names!r:.100}; {REMADE}")
    return ScenePictures(pictures, boxes, tuple(tuple(some) for some in names))


def _require(path: Path, name: str, shape: tuple[int, ...], dtype: str, got: np.ndarray) -> None:
    if got.shape != shape or got.dtype != dtype:
        told = f"{got.dtype} {got.shape}"
        raise DatasetError(f"{path}: {name}: expected {dtype} {shape}, got {told}; {REMADE}")


def _require_boxes(path: Path, boxes: np.ndarray) -> None:
    for box in boxes.reshape(-1, 4):
        try:
            cell(box)
        except ValueError as error:
            raise DatasetError(f"{path}: boxes: {error}; {REMADE}") from None


def _fits(names: Any, scenes: int, most: int) -> bool:
    if not isinstance(names, list) or len(names) != scenes:
        return False
    return all(
        isinstance(some, list) and len(some) <= most and all(isinstance(name, str) for name in some)
        for some in names
    )
