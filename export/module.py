"""Any torch module as a bundle, with golden data made on the spot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from keystep.export.bundle import check_output, write_bundle
from keystep.export.errors import ExportError
from keystep.export.levels import Controller
from keystep.export.manifest import validate_sampler
from keystep.export.module_calls import copied, traced_by_torch, try_out
from keystep.export.module_checks import (
    check_kinds,
    chunk_config,
    is_list,
    normalizing,
    numbers,
    refuse,
    texts,
)
from keystep.export.typical import typical
from keystep.features import Feature
from keystep.models import SamplerConfig
from keystep.models.given import GivenAct, GivenCheckpoint, GivenConfig, GivenSteps

IDENTITY: Mapping[str, Any] = {"mode": "identity"}
Entries = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Actions:
    """What a module's chunks are made of; everything in physical units.

    Attributes:
        names, units: of each value. low, high: bounds of the gate.
        rate_limit: greatest change from one action to the next, None: any.
        hold: what a tick that fails gives, see docs/bundle.md; by default the last action again.
        normalization: the manifest's entry by which the module's output is taken back.
    """

    names: Sequence[str]
    low: Sequence[float]
    high: Sequence[float]
    units: Sequence[str] = ()
    rate_limit: Sequence[float] | None = None
    hold: Mapping[str, Any] = field(default_factory=lambda: {"mode": "last"})
    normalization: Mapping[str, Any] = field(default_factory=lambda: dict(IDENTITY))

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


def from_module(
    module: nn.Module,
    output: Path | str,
    *,
    features: Sequence[Feature],
    action: Actions,
    horizon: int,
    rate_hz: float,
    execute: int | None = None,
    start: int = 0,
    sampler: SamplerConfig | None = None,
    normalization: Entries | None = None,
    name: str | None = None,
    overwrite: bool = False,
    seed: int = 0,
) -> Path:
    """Compiles a policy that is no class of ours; the bundle appears whole or not at all, verified.

    Without a sampler the module has `act(batch)`, which makes a chunk [1, H, A]. With one it has
    `encode(batch)`, which makes a condition [1, ..] once per chunk, and for each step
    `denoise(sample, timestep, condition)`, from rows [1, H, A] and a time-step [1] int64 to the prediction
    [1, H, A]. A batch holds the features by their keys, float32 and normalised: vectors [1, S], images
    [1, C, h, w] from 0..1, n > 1 frames [1, n, ..]. An `if` on a tensor's values is traced once; where golden
    data take the other branch the bundle is refused.

    Args:
        features: what it observes: `keystep.models.state_feature`, `camera_feature` and `vector_feature`.
        action: what it does.
        horizon: H. execute: actions taken of each chunk, all by default. start: the row that belongs to now.
        rate_hz: how often it acts.
        sampler: how it denoises.
        normalization: the manifest's entries by key (docs/bundle.md); identity for the rest.
        name, overwrite, seed: as of `export_bundle`.

    Raises:
        ExportError: "field: expected X, got Y": a method is missing or makes another shape, an operation has
            no form in ONNX, the graphs compute something else.
        FileExistsError, OSError: as of `export_bundle`.
    """
    output = Path(output)
    check_output(output, overwrite)
    check_kinds(module, features, rate_hz, sampler, normalization)
    if not isinstance(action, Actions):
        raise refuse("action", "Actions", action)
    if sampler is not None:
        validate_sampler(sampler)
        if sampler.guidance:
            raise ExportError(f"sampler.guidance: expected 0 for a module, got {sampler.guidance}")
    doing = action.to_dict()
    config = chunk_config(features, len(doing["names"]), horizon, execute, start)
    entries = _entries(config, action, normalization or {})
    network = copied(module)
    widths = {feature.key: (feature.width, feature.is_image) for feature in features}
    checkpoint = GivenCheckpoint(
        config=config,  # type: ignore[arg-type]
        stats={key: typical(entries[key], *size) for key, size in widths.items()},
        tasks=[],
        action=doing,
        control_rate_hz=float(rate_hz),
        provenance={"made_by": f"from_module({type(module).__name__})"},
        entries=entries,
    )
    model = GivenAct(config, _Acting(network)) if sampler is None else GivenSteps(config, network)
    controller = Controller(model.eval(), checkpoint, sampler, config.execute)
    with traced_by_torch():
        try_out(network, config, sampler is not None)
        return write_bundle(controller, None, output, name=name, overwrite=overwrite, seed=seed)


class _Acting(nn.Module):
    """Calls `act` of a module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.module.act(batch)  # type: ignore[operator]


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
