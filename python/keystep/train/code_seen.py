"""What a planner that writes code sees, as the network takes it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from keystep.models.code_planner.config import CodePlannerConfig
from keystep.models.normalizer import Normalizer


def shown_tensors(
    arrays: Mapping[str, np.ndarray], network: CodePlannerConfig, normalizer: Normalizer, device: torch.device
) -> dict[str, torch.Tensor]:
    """Vectors are normalised; pictures are fractions of full brightness.

    Args:
        arrays: some of pictures (N, 3, H, W), uint8 or 0 to 1, objects (N, slots * values) or
            (N, slots, values), and proprioception (M, P).

    Raises:
        ValueError: the network has no such feature.
    """
    found = {}
    if (pictures := arrays.get("pictures")) is not None:
        value = torch.from_numpy(pictures).to(device)
        found["pictures"] = value.float() / 255 if value.dtype == torch.uint8 else value
    for name in ("objects", "proprioception"):
        feature = network.objects if name == "objects" else network.proprioception
        values = arrays.get(name)
        if values is None or (not len(values) and feature is None):
            continue
        if feature is None:
            raise ValueError(f"{name}: expected none, as the network has no such feature, got some")
        given = torch.from_numpy(values).to(device)
        flat = normalizer.normalize(feature.key, given.flatten(1).float())
        found[name] = flat.reshape(given.shape)
    return found
