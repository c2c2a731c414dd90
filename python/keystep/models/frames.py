"""Frames of a feature as they are given, to what networks take before it is normalised."""

from __future__ import annotations

from torch import Tensor

from keystep.features import Feature


def as_input(feature: Feature, frames: Tensor) -> Tensor:
    """[.., *shape] to float32: vectors as they are, RGB [.., 3, h, w] in 0..1, depth [.., 1, h, w] in m."""
    if feature.kind == "rgb":
        return frames.movedim(-1, -3).float() / 255
    return frames.float() if feature.kind == "vector" else frames.float().unsqueeze(-3)
