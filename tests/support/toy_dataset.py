"""Small datasets of random frames."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from keystep.data import (
    Column,
    DatasetReader,
    DatasetSpec,
    DatasetWriter,
    image_column,
    video_column,
)
from keystep.data.store import Store

TASKS = {"lift_red": "Lift the red block.", "stack": "Stack one block on top of another block."}


Image = bool | Literal["h264", "av1"]
"""With a camera, whose images are PNG, or in mp4 files of this codec."""


def make_spec(image: Image = False, **collection: object) -> DatasetSpec:
    features = {
        "observation.state": Column("float32", (3,), ("x", "y", "z")),
        "action": Column("float32", (2,), ("dx", "gripper")),
    }
    if image:
        features["observation.images.static"] = (
            image_column(12, 16) if image is True else video_column(12, 16, image)
        )
    return DatasetSpec(60, features, TASKS, "panda", collection)


def make_frames(seed: int, length: int, image: Image = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    frames = {
        "observation.state": rng.normal(size=(length, 3)).astype(np.float32),
        "action": rng.uniform(-1, 1, size=(length, 2)).astype(np.float32),
    }
    if image:
        frames["observation.images.static"] = rng.integers(0, 256, (length, 12, 16, 3), dtype=np.uint8)
    return frames


def write(
    path: Path, episodes: int, image: Image = False, flush_episodes: int = 3, length: int = 10
) -> list[dict]:
    written = [make_frames(number, length + number, image) for number in range(episodes)]
    with DatasetWriter(path, make_spec(image), flush_episodes=flush_episodes) as writer:
        for number, frames in enumerate(written):
            writer.add_episode(frames, list(TASKS)[number % 2], seed=100 + number)
    return written


def die_in_flush(writer: DatasetWriter, renames: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Flush as a process that is killed before rename number `renames`; names of the files renamed."""
    real, done = os.replace, []

    def replace(source: Path, target: Path) -> None:
        if len(done) == renames:
            raise SystemExit("killed")
        done.append(Path(target).name)
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        patch.setattr(Store, "_restore", lambda store: None)  # the dead put nothing back
        with pytest.raises(SystemExit):
            writer.flush()
    writer._stop_timer()
    os.close(writer._lock)
    return done


def read_all(path: Path) -> dict[str, np.ndarray]:
    batches = list(DatasetReader(path).iter_batches(batch_size=7))
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


def edit_info(path: Path, **changes: object) -> None:
    info = json.loads((path / "meta/info.json").read_text())
    (path / "meta/info.json").write_text(json.dumps({**info, **changes}))
