"""What a policy observes and does, as the caller of `from_module` and `from_onnx` says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keystep.export.errors import ExportError
from keystep.export.manifest import validate_sampler
from keystep.export.module_checks import (
    check_kinds,
    chunk_config,
    is_list,
    normalizing,
    numbers,
    refuse,
    texts,
    whole,
)
from keystep.export.typical import typical
from keystep.features import Feature
from keystep.models import SamplerConfig
from keystep.models.given import GivenCheckpoint, GivenConfig

IDENTITY: Mapping[str, Any] = {"mode": "identity"}
Entries = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Actions:
    """What a policy's chunks are made of; everything in physical units.

    Attributes:
        names, units: of each value. low, high: bounds of the gate.
        rate_limit: greatest change from one action to the next, None: any.
        hold: what a tick that fails gives, see docs/bundle.md; by default the last action again.
        normalization: the manifest's entry by which the network's output is taken back.
        relative: {"feature": key, "values": [..]}, the manifest's `action.relative`: which value of a vector,
            as it was observed when a chunk was made, is added to each action (None: it is absolute).
            Everything else here is of absolute actions, but `normalization`, which is of the network's.
    """

    names: Sequence[str]
    low: Sequence[float]
    high: Sequence[float]
    units: Sequence[str] = ()
    rate_limit: Sequence[float] | None = None
    hold: Mapping[str, Any] = field(default_factory=lambda: {"mode": "last"})
    normalization: Mapping[str, Any] = field(default_factory=lambda: dict(IDENTITY))
    relative: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As a checkpoint has it. Raises ExportError."""
        names = texts("action.names", self.names)
        width = len(names)
        limit = None if self.rate_limit is None else numbers("action.rate_limit", self.rate_limit, width)
        none = is_list(self.units) and not self.units
        units = ["1"] * width if none else texts("action.units", self.units, width)
        low, high = numbers("action.low", self.low, width), numbers("action.high", self.high, width)
        if not isinstance(self.hold, Mapping):
            raise refuse("action.hold", "{'mode': 'last'} or {'mode': 'values', 'values': [..]}", self.hold)
        bounds = {"min": low, "max": high, "rate_limit": limit}
        return {"names": names, "units": units, **bounds, "hold": dict(self.hold)}


def described(
    features: Sequence[Feature],
    action: Actions,
    *,
    horizon: int,
    rate_hz: float,
    execute: int | None,
    start: int,
    sampler: SamplerConfig | None,
    normalization: Entries | None,
    made_by: str,
) -> GivenCheckpoint:
    """All that is known of a policy but its networks, whose `config` is a `GivenConfig`.

    Raises:
        ExportError: "field: expected X, got Y".
    """
    check_kinds(features, rate_hz, sampler, normalization)
    if not isinstance(action, Actions):
        raise refuse("action", "Actions", action)
    if sampler is not None:
        validate_sampler(sampler)
        if sampler.guidance:
            wanted = "0 for a network that is not ours"
            raise ExportError(f"sampler.guidance: expected {wanted}, got {sampler.guidance}")
    doing = action.to_dict()
    if action.relative is not None:
        doing["relative"] = _relative(action.relative, features, len(doing["names"]))
    config = chunk_config(features, len(doing["names"]), horizon, execute, start)
    entries = _entries(config, action, normalization or {})
    widths = {feature.key: (feature.width, feature.is_image) for feature in features}
    return GivenCheckpoint(
        config=config,  # type: ignore[arg-type]
        stats={key: typical(entries[key], *size) for key, size in widths.items()},
        tasks=[],
        action=doing,
        control_rate_hz=float(rate_hz),
        provenance={"made_by": made_by},
        entries=entries,
    )


def _relative(given: Any, features: Sequence[Feature], width: int) -> dict[str, Any]:
    """The manifest's `action.relative`. Raises ExportError."""
    field = "action.relative"
    if not isinstance(given, Mapping) or set(given) != {"feature", "values"}:
        raise refuse(field, "{'feature': 'observation.state', 'values': [..]} or None", given)
    vectors = {feature.key: feature.shape[0] for feature in features if feature.kind == "vector"}
    key, values = given["feature"], given["values"]
    if not isinstance(key, str) or key not in vectors:
        raise refuse(f"{field}.feature", " | ".join(vectors) or "the key of a vector", key)
    if not is_list(values) or len(values) != width:
        raise refuse(f"{field}.values", f"{width} places, None of absolute actions", values)
    known = [
        place if place is None else whole(f"{field}.values[{number}]", place, 0, vectors[key] - 1)
        for number, place in enumerate(values)
    ]
    if all(place is None for place in known):
        raise refuse(f"{field}.values", "at least one that is not None", known)
    return {"feature": key, "values": known}


def _entries(config: GivenConfig, action: Actions, given: Entries) -> dict[str, Any]:
    keys = [feature.key for feature in config.observation]
    for key in given:
        if key not in keys:
            raise ExportError(f"normalization: expected keys of {', '.join(keys)}, got {key}")
    widths = {feature.key: feature.width for feature in config.observation} | {"action": config.action_dim}
    chosen = dict(given) | {"action": action.normalization}
    return {
        key: normalizing(f"{key}.normalization", chosen.get(key, IDENTITY), width)
        for key, width in widths.items()
    }
