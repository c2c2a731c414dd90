"""Any torch module as a bundle, with golden data made on the spot."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from keystep.export.bundle import check_output, write_bundle
from keystep.export.errors import ExportError
from keystep.export.levels import Controller
from keystep.export.manifest import validate_sampler
from keystep.export.typical import typical
from keystep.features import Feature
from keystep.models import ConfigError, SamplerConfig
from keystep.models.given import GivenAct, GivenCheckpoint, GivenConfig, GivenSteps

STATISTICS = {
    "identity": (),
    "mean_std": ("mean", "std"),
    "min_max": ("min", "max"),
    "quantile": ("low", "high"),
}
"""What a mode of normalisation needs, as the manifest calls it."""
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
        """As a checkpoint has it."""
        width = len(self.names)
        limit = None if self.rate_limit is None else _numbers("action.rate_limit", self.rate_limit, width)
        units = list(self.units) or ["1"] * width
        low, high = _numbers("action.low", self.low, width), _numbers("action.high", self.high, width)
        bounds = {"min": low, "max": high, "rate_limit": limit}
        return {"names": list(self.names), "units": units, **bounds, "hold": dict(self.hold)}


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
    if not 0 < rate_hz < float("inf"):
        raise ExportError(f"rate_hz: expected a positive number, got {rate_hz}")
    if sampler is not None:
        validate_sampler(sampler)
        if sampler.guidance:
            raise ExportError(f"sampler.guidance: expected 0 for a module, got {sampler.guidance}")
    config = _config(features, len(action.names), horizon, execute, start)
    network = copy.deepcopy(module).eval()
    _try_out(network, config, sampler is not None)
    entries = _entries(config, action, normalization or {})
    widths = {feature.key: (feature.width, feature.is_image) for feature in features}
    checkpoint = GivenCheckpoint(
        config=config,  # type: ignore[arg-type]
        stats={key: typical(entries[key], *size) for key, size in widths.items()},
        tasks=[],
        action=action.to_dict(),
        control_rate_hz=rate_hz,
        provenance={"made_by": f"from_module({type(module).__name__})"},
        entries=entries,
    )
    model = GivenAct(config, _Acting(network)) if sampler is None else GivenSteps(config, network)
    controller = Controller(model.eval(), checkpoint, sampler, config.execute)
    try:
        return write_bundle(controller, None, output, name=name, overwrite=overwrite, seed=seed)
    except torch.onnx.errors.OnnxExporterError as error:
        reason = " ".join(str(error).split())[:200]
        raise ExportError(f"module: expected operations that ONNX has, got {reason}") from None


class _Acting(nn.Module):
    """Calls `act` of a module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.module.act(batch)  # type: ignore[operator]


def _config(
    features: Sequence[Feature], width: int, horizon: int, execute: int | None, start: int
) -> GivenConfig:
    taken = horizon - start if execute is None else execute
    try:
        return GivenConfig(
            action_dim=width, horizon=horizon, execute=taken, chunk_start=start, observation=tuple(features)
        )
    except ConfigError as error:
        raise ExportError(str(error).removeprefix("policy.")) from None


def _entries(config: GivenConfig, action: Actions, given: Entries) -> dict[str, Any]:
    keys = [feature.key for feature in config.observation]
    for key in given:
        if key not in keys:
            raise ExportError(f"normalization: expected keys of {', '.join(keys)}, got {key}")
    widths = {feature.key: feature.width for feature in config.observation} | {"action": config.action_dim}
    chosen = dict(given) | {"action": action.normalization}
    return {key: _entry(key, chosen.get(key, IDENTITY), width) for key, width in widths.items()}


def _entry(key: str, given: Mapping[str, Any], width: int) -> dict[str, Any]:
    """As the manifest has it: its mode, and as many numbers as that needs."""
    mode, where = given.get("mode"), f"{key}.normalization"
    if mode not in STATISTICS:
        raise ExportError(f"{where}.mode: expected {' | '.join(STATISTICS)}, got {mode!r:.80}")
    if set(given) != {"mode", *STATISTICS[mode]}:
        wanted = ", ".join(["mode", *STATISTICS[mode]])
        raise ExportError(f"{where}: expected {wanted}, got {', '.join(map(str, given))}")
    values = {name: _numbers(f"{where}.{name}", given[name], width) for name in STATISTICS[mode]}
    if values:
        first, second = values.values()
        floor = [0.0] * width if mode == "mean_std" else first
        for place, (low, high) in enumerate(zip(floor, second, strict=True)):
            if not high > low:
                field = f"{where}.{STATISTICS[mode][1]}[{place}]"
                raise ExportError(f"{field}: expected more than {low:g}, got {high:g}")
    return {"mode": mode, **values}


def _numbers(field: str, given: Any, width: int) -> list[float]:
    try:
        values = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.shape != (width,) or not np.isfinite(values).all():
        raise ExportError(f"{field}: expected {width} finite numbers, got {given!r:.80}")
    return values.tolist()


@torch.no_grad()
def _try_out(network: nn.Module, config: GivenConfig, steps: bool) -> None:
    """That the module has the methods, and that they make what they should."""
    for method in ("encode", "denoise") if steps else ("act",):
        if not callable(getattr(network, method, None)):
            wanted = f"a method {method} ({'with' if steps else 'without'} a sampler)"
            raise ExportError(f"module: expected {wanted}, got {type(network).__name__} without one")
    batch = {
        name: torch.zeros(feature.network_shape(frames))
        for name, (feature, frames) in config.inputs().items()
    }
    chunk = (1, config.horizon, config.action_dim)
    if not steps:
        _made("act", lambda: network.act(batch), chunk)  # type: ignore[operator]
        return
    condition = _made("encode", lambda: network.encode(batch))  # type: ignore[operator]
    told = (torch.zeros(chunk), torch.zeros(1, dtype=torch.int64), condition)
    _made("denoise", lambda: network.denoise(*told), chunk)  # type: ignore[operator]


def _made(method: str, call: Callable[[], Any], shape: tuple[int, ...] | None = None) -> Tensor:
    try:
        made = call()
    except Exception as error:  # of code that is not ours
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ExportError(f"module.{method}: expected it to take its features, got {reason}") from error
    wanted = f"a float32 tensor {[*shape]}" if shape else "a float32 tensor [1, ..]"
    if not isinstance(made, Tensor):
        raise ExportError(f"module.{method}: expected {wanted}, got {type(made).__name__}")
    fits = made.ndim > 0 and len(made) == 1 and (shape is None or made.shape == shape)
    if not fits or made.dtype != torch.float32:
        raise ExportError(f"module.{method}: expected {wanted}, got {made.dtype} {[*made.shape]}")
    return made
