"""`keystep convert lerobot`: from a checkpoint of LeRobot to a bundle that acts the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keystep.export.bundle import check_output, write_bundle
from keystep.export.convert.fields import refuse
from keystep.export.convert.lerobot.act import act_policy, ensemble_coefficient
from keystep.export.convert.lerobot.diffusion import blind, diffusion_policy
from keystep.export.convert.lerobot.source import ACTION, Given, LeRobotCheckpoint, described, read_source
from keystep.export.convert.lerobot.statistics import Normalization, normalization_of
from keystep.export.errors import ExportError
from keystep.export.levels import Controller, changed_sampler
from keystep.export.typical import typical
from keystep.export.unet_weights import Precision, check_precision, has_kernels
from keystep.features import Feature
from keystep.models import ConfigError, SamplerConfig
from keystep.models.given import GivenAct, GivenCheckpoint, GivenDiffusion
from keystep.models.observing import numbered, vector_feature

Bounds = Literal["none", "data"]
FPS = 30.0
"""What LeRobot's recorder does by default; its checkpoints do not say how often they act."""
UNBOUNDED = 1e30


@dataclass(frozen=True)
class Converted:
    """What `convert_lerobot` did.

    Attributes:
        path: the bundle. notes: what its user should know, a sentence each.
    """

    path: Path
    notes: tuple[str, ...]


def convert_lerobot(
    checkpoint: str,
    output: Path,
    *,
    revision: str | None = None,
    rate_hz: float = FPS,
    bounds: Bounds = "none",
    execute: int | None = None,
    resize: bool = False,
    precision: Precision = "fp32",
    name: str | None = None,
    overwrite: bool = False,
    seed: int = 0,
    **sampler: Any,
) -> Converted:
    """Makes the bundle of an ACT or diffusion policy; it appears whole or not at all, and is verified first.

    Args:
        checkpoint: a folder with config.json and model.safetensors, or the id of one on the model hub.
        revision: of the hub id: a branch, tag or commit.
        rate_hz: how often the policy is to act.
        bounds: of actions: none, as LeRobot has, or the least and greatest of the data.
        execute: actions taken of each chunk; as `n_action_steps` when not given.
        resize: let the runtime resize images of another size.
        precision, name, overwrite, seed: as of `export_bundle`.
        sampler: fields of SamplerConfig to change, such as kind="ddim" or inference_steps=10.

    Raises:
        ExportError: the checkpoint is damaged or not convertible, "field: expected X, got Y"; nothing is
            written.
        FileExistsError, OSError: as of `export_bundle`.
    """
    check_output(output, overwrite)
    check_precision(precision)
    if not 0 < rate_hz < float("inf"):
        raise refuse("rate_hz", "a positive number", rate_hz)
    source = read_source(checkpoint, revision)
    known = normalization_of(source)
    try:
        controller, notes = _controller(source, known, rate_hz, bounds, execute, resize, sampler)
    except ConfigError as error:
        raise ExportError(f"config.json: {error}") from None
    path = write_bundle(
        controller, None, output, precision=precision, name=name, overwrite=overwrite, seed=seed
    )
    return Converted(path, tuple(notes))


def _controller(
    source: LeRobotCheckpoint,
    known: Normalization,
    rate_hz: float,
    bounds: Bounds,
    execute: int | None,
    resize: bool,
    changes: dict[str, Any],
) -> tuple[Controller, list[str]]:
    features = {given.key: _feature(given, known.names[given.key]) for given in source.used}
    notes = _notes(source, rate_hz, bounds, known)
    spec: SamplerConfig | None = None
    decay: float | None = None
    model: GivenAct | GivenDiffusion
    if source.kind == "act":
        model = act_policy(source, features)
        decay = ensemble_coefficient(source.config)
        if changes:
            raise refuse("sampler", "none (ACT takes one step)", ", ".join(changes))
    else:
        model = diffusion_policy(source, features)
        spec = changed_sampler(model.config.sampler, changes)  # type: ignore[union-attr]
        if blind(model):
            notes.append(
                "Its images end as one cell (32 x 32 pixels or less): the network sees nothing of them."
            )
        if not has_kernels(model.unet):
            notes.append("n_groups is not 8, that of the last block: ONNX Runtime runs the U-Net.")
    most = model.config.horizon - model.config.chunk_start
    if execute is not None and not 1 <= execute <= most:
        raise refuse("execute", f"1..{most}", execute)
    keys = known.names | {ACTION: ACTION}
    checkpoint = GivenCheckpoint(
        config=model.config,  # type: ignore[arg-type]
        stats={
            feature.key: typical(known.entries[key], feature.width, feature.is_image)
            for key, feature in features.items()
        },
        tasks=[],
        action=_action(source.action, known, bounds),
        control_rate_hz=rate_hz,
        provenance=described(source),
        entries={keys[key]: entry for key, entry in known.entries.items()},
    )
    steps = execute if execute is not None else model.config.execute
    if decay is not None and steps != 1:
        notes.append(f"Its temporal ensembling is left out: {steps} actions of each chunk are executed.")
        decay = None
    if decay is not None:
        notes.append(f"Actions are means of all chunks that know them (temporal ensembling, m = {decay:g}).")
    return Controller(model.eval(), checkpoint, spec, steps, resize, decay), notes


def _feature(given: Given, key: str) -> Feature:
    try:
        if given.type == "VISUAL":
            return Feature(key, "rgb", (*given.shape[1:], 3))
        return vector_feature(key, given.shape[0])
    except ValueError as error:
        raise ExportError(f"input_features.{given.key}: {error}") from None


def _action(given: Given, known: Normalization, bounds: Bounds) -> dict[str, Any]:
    width = given.shape[0]
    low, high = [-UNBOUNDED] * width, [UNBOUNDED] * width
    if bounds == "data":
        if known.relative is not None:
            raise refuse("bounds", "none (the checkpoint's min and max are of relative actions)", bounds)
        if known.bounds is None:
            raise refuse("bounds", "none (the checkpoint has no min and max of the action)", bounds)
        low, high = known.bounds
        if len(low) != width or not np.isfinite([low, high]).all():
            raise refuse("bounds", f"none (min and max of the action are not {width} finite numbers)", bounds)
    names, units = numbered("action", width), ["1"] * width
    spec = {"names": names, "units": units, "min": low, "max": high, "rate_limit": None}
    # Nothing says whether an action is absolute: no number is known to keep the robot where it is.
    return spec | {"hold": {"mode": "last"}, "relative": known.relative}


def _notes(source: LeRobotCheckpoint, rate_hz: float, bounds: Bounds, known: Normalization) -> list[str]:
    notes = [f"It acts {rate_hz:g} times a second (--rate-hz)."]
    if known.relative is not None:
        moved = sum(place is not None for place in known.relative["values"])
        count = f"{moved} of {len(known.relative['values'])} actions"
        state = known.relative["feature"]
        notes.append(f"{count} are relative to {state} when a chunk is made; the bundle gives absolute ones.")
    if bounds == "none":
        notes.append("Its actions have no bounds, as in LeRobot; --bounds data takes those of the data.")
    unread = [given.key for given in source.inputs if given not in source.used]
    if unread:
        notes.append(f"LeRobot's network does not read {', '.join(unread)}: nor does the bundle.")
    if source.config.flag("use_amp", False):
        notes.append("use_amp: LeRobot evaluates it in half precision on GPUs; the bundle is float32.")
    return notes
