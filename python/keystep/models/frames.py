"""Frames of a feature as they are given, to what networks take before it is normalised."""

from __future__ import annotations

from torch import Tensor

from keystep.features import KINDS, Feature


def as_input(feature: Feature, frames: Tensor) -> Tensor:
    """[.., *shape] to float32: vectors as they are, RGB [.., 3, h, w] in 0..1, depth [.., 1, h, w] in m.

    What `Feature.network_values` does in numpy.
    """
    kind = KINDS[feature.kind]
    if feature.is_image:
        frames = frames.movedim(-1, -3) if kind.ndim == 3 else frames.unsqueeze(-3)
    return frames.float() / kind.unit if kind.unit != 1 else frames.float()
