"""An expert with a camera, without a simulator, importable by spawned processes."""

from __future__ import annotations

import dataclasses

import numpy as np
from fake_expert import SPEC, open_fake

from keystep.data import image_column
from keystep.suites.base import Rollout, Source

CAMERA = "observation.images.top"


def open_camera() -> Rollout:
    rollout = open_fake()

    def with_images(task: str, seed: int) -> dict | None:
        frames = rollout(task, seed)
        if frames is None:
            return None
        rng = np.random.default_rng(seed)
        shape = (len(frames["action"]), 24, 32, 3)
        return frames | {CAMERA: rng.integers(0, 256, shape, dtype=np.uint8)}

    return with_images


def camera_source() -> Source:
    spec = dataclasses.replace(SPEC, features={**SPEC.features, CAMERA: image_column(24, 32)})
    return Source(spec, open_camera, {"lift": 0, "push": 1}, 2)
