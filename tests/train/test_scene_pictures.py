"""Scenes of stage `sight` are drawn once: a run that is continued reads those it began with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")

from keystep.data import DatasetError
from keystep.suites import suite_named
from keystep.suites.base import SeenScene
from keystep.train import scene_pictures as made
from keystep.train.scene_pictures import SCENES, ScenePictures, keep_scenes, scene_pictures

SUITE = suite_named("tabletop")


def seen(image_size: int) -> Iterator[SeenScene]:
    rng = np.random.default_rng(0)
    while True:
        count = int(rng.integers(1, 4))
        picture = rng.integers(0, 255, (image_size, image_size, 3), np.uint8)
        boxes = np.sort(rng.random((count, 2, 2)), axis=1).reshape(count, 4).astype(np.float32)
        yield SeenScene(picture, tuple(f"thing {number}" for number in range(count)), boxes)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(made, "seen_scenes", lambda suite, size: seen(size))
    path = tmp_path / SCENES
    keep_scenes(path, SUITE.name, scene_pictures(SUITE, 5, 16, path))
    return path


def same(one: ScenePictures, other: ScenePictures) -> bool:
    return (
        one.names == other.names
        and np.array_equal(one.pictures, other.pictures)
        and np.array_equal(one.boxes, other.boxes)
    )


def test_kept_scenes_are_read_and_not_drawn_again(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = scene_pictures(SUITE, 5, 16)
    assert len(drawn) == 5 and drawn.boxes.shape == (5, max(map(len, drawn.names)), 4)
    before = kept.read_bytes()
    keep_scenes(kept, SUITE.name, scene_pictures(SUITE, 2, 16))
    assert kept.read_bytes() == before, "a run keeps those it began with"
    monkeypatch.delattr(made, "seen_scenes")
    assert same(scene_pictures(SUITE, 5, 16, kept), drawn)
    named = drawn.named(np.array([3, 0]), ("thing 1", "thing 0"))
    for row, place in zip(named.tolist(), (3, 0), strict=True):
        count = len(drawn.names[place])
        assert row == ([1, 0, -1][:count] + [-1] * 3)[: len(row)]


@pytest.mark.parametrize(
    ("count", "size", "problem"),
    [(4, 16, "scenes: expected 4, got 5; without this file"), (5, 32, "image_size: expected 32, got 16")],
)
def test_scenes_of_other_settings(kept: Path, count: int, size: int, problem: str) -> None:
    with pytest.raises(DatasetError, match=problem):
        scene_pictures(SUITE, count, size, kept)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"about": {"suite": "other"}}, "suite: expected 'tabletop', got 'other'"),
        ({"about": {"names": [["a"]]}}, "names: expected at most 3 texts of each scene, got"),
        ({"about": {"names": [[1]] * 5}}, "names: expected at most 3 texts of each scene, got"),
        ({"pictures": np.zeros((5, 16, 16), np.uint8)}, r"pictures: expected uint8 \(5, 16, 16, 3\), got"),
        ({"boxes": np.zeros((5, 3, 4))}, r"boxes: expected float32 \(5, 3, 4\), got float64"),
        ({"boxes": np.full((5, 3, 4), np.nan, np.float32)}, "boxes: box: expected fractions 0 <= left"),
        ({"boxes": np.zeros(4, np.float32)}, r"boxes: expected float32 \(5, 1, 4\), got float32 \(4,\)"),
    ],
)
def test_damaged_scenes(kept: Path, change: dict[str, Any], problem: str) -> None:
    with np.load(kept) as file:
        values = dict(file)
    about = json.loads(str(values["about"])) | change.pop("about", {})
    np.savez(kept, **{**values, **change, "about": np.array(json.dumps(about))})
    with pytest.raises(DatasetError, match=rf"scenes\.npz: {problem}"):
        scene_pictures(SUITE, 5, 16, kept)


def test_a_file_that_is_cut_off_or_of_objects(kept: Path) -> None:
    whole = kept.read_bytes()
    for data in (b"", whole[:100], whole[:-40], b"scenes"):
        kept.write_bytes(data)
        with pytest.raises(DatasetError, match=r"scenes\.npz: expected scenes, got .*; without this file"):
            scene_pictures(SUITE, 5, 16, kept)
    for place in range(0, len(whole), 7):  # one error, or another picture; never anything else
        kept.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        with suppress(DatasetError):
            scene_pictures(SUITE, 5, 16, kept)
    with kept.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DatasetError, match=r"scenes\.npz: expected scenes, got"):
        scene_pictures(SUITE, 5, 16, kept)
    np.savez(kept, about=np.array({"a": 1}, object))
    with pytest.raises(DatasetError, match=r"scenes\.npz: expected scenes, got"):
        scene_pictures(SUITE, 5, 16, kept)
