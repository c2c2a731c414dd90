"""Scenes to learn to see from: those of the texts' seeds, as a camera shows them."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

pytest.importorskip("mani_skill", reason="needs the extra 'sim'")

from keystep.code.grid import cell
from keystep.suites import suite_named
from keystep.suites.base import seen_scenes
from keystep.suites.headless import missing_driver
from keystep.suites.tabletop import TASKS
from keystep.suites.tabletop.oracle.texts import FIRST_SEED, text_episode


def test_a_scene_is_the_one_of_the_text_with_its_seed() -> None:
    if reason := missing_driver():
        pytest.skip(f"no Vulkan driver: {reason}")
    found = list(islice(seen_scenes(suite_named("tabletop"), 64), 14))
    for number, (task, scene) in enumerate(zip(TASKS, found, strict=False)):
        text = text_episode(task, FIRST_SEED + number)
        assert scene.names == text.names and scene.picture.shape == (64, 64, 3)
        assert text.boxes is not None
        for seen, told in zip(scene.boxes, text.boxes[0], strict=True):
            apart = np.array(cell(seen)) - np.array(cell(told))
            assert np.abs(apart).max() <= 1, "what stands on a table stays there"
    assert len({scene.picture.tobytes() for scene in found}) == len(found)
