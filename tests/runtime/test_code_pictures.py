"""What a planner that writes code says of pictures that are not those of its manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from code_checkpoints import code_checkpoint

import keystep
from keystep.export.code_bundle import export_code_bundle

KEY = "observation.images.base"
STATE = {"observation.state": np.zeros(31, np.float32)}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return code_checkpoint(tmp_path_factory.mktemp("pictures") / "run", "micro", context=300)


def opened(checkpoint: Path, resize: bool) -> keystep.CodeRuntime:
    made = checkpoint.parent / f"resize-{resize}.keystep"
    export_code_bundle(checkpoint, made, reply_tokens=2, constrained=True, resize=resize, overwrite=True)
    planner = keystep.load(made, threads=1)
    planner.reset("Pick up the red cube")
    return planner


def test_pictures_that_are_none_of_the_manifest(checkpoint: Path) -> None:
    """Each one error that names the picture; then the next step is as ever."""
    good = np.zeros((128, 128, 3), np.uint8)
    with opened(checkpoint, resize=False) as planner:
        for wrong in (
            good[:64],
            np.zeros((3, 128, 128), np.uint8),  # channels first
            np.zeros((128, 128), np.uint8),
            np.zeros((128, 128, 4), np.uint8),
            good.astype(np.float32),
            np.zeros((0, 0, 3), np.uint8),
        ):
            with pytest.raises(keystep.ArgumentError, match=r"observation\.images\.base"):
                planner.ask(STATE | {KEY: wrong})
        for missing in (STATE, {KEY: good}, {}, STATE | {"observation.images.wrist": good}):
            with pytest.raises(keystep.ArgumentError, match="observation"):
                planner.ask(missing)
        assert planner.memory() == () and planner.ask(STATE | {KEY: good}).asked


def test_a_bundle_may_resize(checkpoint: Path) -> None:
    with opened(checkpoint, resize=True) as planner:
        for size in ((128, 128), (64, 64), (480, 640)):
            assert planner.ask(STATE | {KEY: np.zeros((*size, 3), np.uint8)}).asked
        with pytest.raises(keystep.ArgumentError, match=r"observation\.images\.base"):
            planner.ask(STATE | {KEY: np.zeros((64, 64, 4), np.uint8)})
