"""What a robot is about to send, looked at before it goes: what is wrong is told by the tick itself."""

from __future__ import annotations

from typing import Any

import numpy as np

TEXTS = ("task", "prompt")


def checked(observation: dict[str, Any], features: list[dict[str, Any]]) -> dict[str, Any]:
    """The same.

    Args:
        features: the server's metadata, "observation".

    Raises:
        ValueError: "key: expected X, got Y".
    """
    if not isinstance(observation, dict):
        raise ValueError(f"observation: expected a dict, got {type(observation).__name__}")
    known = [feature["key"] for feature in features]
    if unknown := [key for key in observation if key not in known and key not in TEXTS]:
        raise ValueError(f"observation: expected only {', '.join(known)}, got {unknown[0]!r}")
    for key in TEXTS:
        if not isinstance(observation.get(key), str | None):
            raise ValueError(f"{key}: expected a text, got {type(observation[key]).__name__}")
    for feature in features:
        _check(observation, feature)
    return observation


def told_in(observation: dict[str, Any]) -> str | None:
    """What it is about, as the server takes it; None: it does not say."""
    told = [observation[key] for key in ("prompt", "task") if observation.get(key) is not None]
    return told[0] if told else None


def _check(observation: dict[str, Any], feature: dict[str, Any]) -> None:
    key, shape = feature["key"], tuple(feature["shape"])
    if key not in observation:
        raise ValueError(f"{key}: expected {feature['dtype']} {shape}, got none")
    value = observation[key]
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{key}: expected a numpy array, got {type(value).__name__}")
    fits = value.shape == shape
    if feature.get("resize"):
        fits = value.ndim == len(shape) and value.shape[2:] == shape[2:] and value.size > 0
    if value.dtype != feature["dtype"] or not fits:
        raise ValueError(f"{key}: expected {feature['dtype']} {shape}, got {value.dtype} {value.shape}")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise ValueError(f"{key}: expected finite numbers, got NaN or Inf")
