"""What is given to `from_module` and `from_onnx`, checked before anything is computed with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keystep.export.errors import ExportError
from keystep.features import Feature
from keystep.models import ConfigError, SamplerConfig
from keystep.models.given import GivenConfig

STATISTICS = {
    "identity": (),
    "mean_std": ("mean", "std"),
    "min_max": ("min", "max"),
    "quantile": ("low", "high"),
}
"""What a mode of normalisation needs, as the manifest calls it."""


def refuse(field: str, wanted: str, got: Any) -> ExportError:
    """To be raised."""
    return ExportError(f"{field}: expected {wanted}, got {got!r:.80}")


def check_kinds(features: Any, rate_hz: Any, sampler: Any, normalization: Any) -> None:
    """Raises ExportError for what is of another type, or a rate that is none."""
    if not is_list(features) or not all(isinstance(feature, Feature) for feature in features):
        wanted = "a list of state_feature(..), camera_feature(..) and vector_feature(..)"
        raise refuse("features", wanted, features)
    known = isinstance(rate_hz, int | float | np.number) and not isinstance(rate_hz, bool)
    if not known or not 0 < rate_hz < math.inf:
        raise refuse("rate_hz", "a positive number", rate_hz)
    if sampler is not None and not isinstance(sampler, SamplerConfig):
        raise refuse("sampler", "a SamplerConfig or None", sampler)
    if normalization is not None and not isinstance(normalization, Mapping):
        raise refuse("normalization", "entries by key", normalization)


def is_list(value: Any) -> bool:
    """A sequence, but no text."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def chunk_config(
    features: Sequence[Feature], width: int, horizon: Any, execute: Any, start: Any
) -> GivenConfig:
    """Raises ExportError by the name of the argument."""
    horizon = whole("horizon", horizon, 1)
    start = whole("start", start, 0, horizon - 1)
    taken = horizon - start if execute is None else whole("execute", execute, 1, horizon - start)
    try:
        return GivenConfig(
            action_dim=width, horizon=horizon, execute=taken, chunk_start=start, observation=tuple(features)
        )
    except ConfigError as error:
        raise ExportError(str(error).removeprefix("policy.")) from None


def whole(field: str, value: Any, least: int, most: int = 65536) -> int:
    """An integer. Raises ExportError."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value <= most:
        raise refuse(field, f"an integer of {least}..{most}", value)
    return int(value)


def texts(field: str, given: Any, width: int | None = None) -> list[str]:
    """As many as `width`, one or more without it. Raises ExportError."""
    fits = is_list(given) and all(isinstance(text, str) for text in given)
    if not fits or len(given) != (width or max(1, len(given))):
        raise refuse(field, "a list of texts" if width is None else f"{width} texts", given)
    return list(given)


def numbers(field: str, given: Any, width: int) -> list[float]:
    """As many finite ones as `width`. Raises ExportError."""
    try:
        values = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.shape != (width,) or not np.isfinite(values).all():
        raise ExportError(f"{field}: expected {width} finite numbers, got {given!r:.80}")
    return values.tolist()


def normalizing(where: str, given: Any, width: int) -> dict[str, Any]:
    """An entry as the manifest has it: its mode, and as many numbers as that needs. Raises ExportError."""
    if not isinstance(given, Mapping):
        raise refuse(where, "an entry such as {'mode': 'identity'}", given)
    mode = given.get("mode")
    if not isinstance(mode, str) or mode not in STATISTICS:
        raise refuse(f"{where}.mode", " | ".join(STATISTICS), mode)
    if set(given) != {"mode", *STATISTICS[mode]}:
        wanted = ", ".join(["mode", *STATISTICS[mode]])
        raise ExportError(f"{where}: expected {wanted}, got {', '.join(map(str, given))}")
    values = {name: numbers(f"{where}.{name}", given[name], width) for name in STATISTICS[mode]}
    if values:
        first, second = values.values()
        floor = [0.0] * width if mode == "mean_std" else first
        for place, (low, high) in enumerate(zip(floor, second, strict=True)):
            if not high > low:
                field = f"{where}.{STATISTICS[mode][1]}[{place}]"
                raise ExportError(f"{field}: expected more than {low:g}, got {high:g}")
    return {"mode": mode, **values}
