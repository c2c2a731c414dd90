"""What single precision alone does to a policy: the part of a difference that says nothing of the bundle.

A graph's outputs are right to about ERROR of their greatest value, whoever computes them. Samplers may
magnify that: near the noisy end by thousands, guidance by its strength, every step. A trained policy hardly
does; an untrained one, or strong guidance, does. So the graphs are run once more with outputs that far off.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from keystep.export.answers import Arrays, onnx_answers
from keystep.export.golden_file import CONTINUED
from keystep.export.onnx_policy import OnnxPolicy, physical_range
from keystep.features import feature_of

ERROR = 5e-7  # relative; of 36 random networks the differences were 0.2 to 2 times what this one makes


def network_units(manifest: dict[str, Any], quantity: str, values: np.ndarray) -> np.ndarray:
    """`actions` and `plan` in network units; whatever else is in them."""
    if (found := _range(manifest, quantity)) is None:
        return values.astype(np.float64)
    offset, scale = found
    return (values - offset) / scale


def resolution(manifest: dict[str, Any], quantity: str, values: np.ndarray) -> float:
    """The greatest distance of neighbouring floats of physical `values`, in network units."""
    if (found := _range(manifest, quantity)) is None:
        return 0.0
    return float(np.max(np.spacing(np.abs(values).astype(np.float32)) / found[1]))


def magnified(path: Path, manifest: dict[str, Any], golden: Arrays, threads: int) -> dict[str, float]:
    """How far the answers of the graphs move if all their outputs are off by ERROR; by quantity."""
    near, far = (
        onnx_answers(OnnxPolicy(path, manifest, threads, error), manifest, golden) for error in (0.0, ERROR)
    )

    def distance(name: str) -> float:
        ends = (network_units(manifest, name, values[name]) for values in (near, far))
        return float(np.max(np.abs(np.subtract(*ends))))

    return {name: distance(name) for name in near}


def _range(manifest: dict[str, Any], quantity: str) -> tuple[np.ndarray, np.ndarray] | None:
    if quantity in ("actions", CONTINUED):
        return physical_range(manifest["action"]["normalization"], image=False)
    if quantity in ("plan", "candidates"):
        planner = manifest["planner"]
        return physical_range(planner["normalization"], feature_of(manifest, planner["subgoal"])[0].is_image)
    return None
