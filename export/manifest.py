"""The manifest of a bundle: everything the runtime knows about a policy."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import numpy as np

import keystep
from keystep import _core
from keystep.export.errors import ExportError as ExportError
from keystep.files import to_json
from keystep.models import SamplerConfig
from keystep.provenance import git_commit

if TYPE_CHECKING:
    from keystep.export.levels import Controller, Planning

FORMAT, VERSION = "keystep-bundle", 5
MAX_TEXT_BYTES = (
    1000  # of a goal in words: no instruction is longer, and one that is was meant for something else
)
DEEP = "manifest.json: expected at most 32 levels, got more"
SCHEMA = Path(__file__).parent / "manifest.schema.json"


def build_manifest(
    name: str,
    controller: Controller,
    planning: Planning | None,
    graphs: dict[str, Any],
    golden: dict[str, str],
    unets: dict[str, Any],
) -> dict[str, Any]:
    """The manifest, validated. Given are its entries `graphs` and `golden`, and its U-Nets by their place."""
    checkpoint, config = controller.checkpoint, controller.config
    statistics = checkpoint.normalizer().entries
    features = [
        feature.to_dict() | {"normalization": statistics[feature.key]} for feature in controller.features
    ]
    chunk = {"horizon": config.horizon, "execute": controller.execute, "start": controller.start}
    if delay := getattr(config, "max_delay", 0):  # left out where there is none
        chunk["max_delay"] = delay
    tasks = planning.checkpoint.tasks if planning else checkpoint.tasks if config.tasks else []
    made_by = {"keystep_version": version("keystep"), "git_commit": git_commit()}
    provenance = made_by | checkpoint.provenance
    if planning is not None:
        provenance["planner"] = planning.checkpoint.provenance
        if planning.scoring is not None:
            provenance["scorer"] = planning.scoring.checkpoint.provenance
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "family": "subgoal" if planning else "flat",
        "control_rate_hz": checkpoint.control_rate_hz,
        "observation": features,
        "goal": "text" if planning else config.goal,
        "tasks": tasks,
        "planner": planner_entry(planning, unets.get("planner.unet")) if planning else None,
        "action": action_entry(checkpoint.action) | {"normalization": statistics["action"]},
        "chunk": chunk | _merging(controller),
        "sampler": sampler_entry(controller.sampler) if controller.sampler else None,
        "graphs": graphs,
        "unet": unets.get("unet"),
        "golden": golden,
        "provenance": provenance,
    }
    validate(manifest)
    return manifest


def _merging(controller: Controller) -> dict[str, Any]:
    """How chunks join where nothing else is asked for."""
    if controller.ensemble_decay is None:
        return {"merge": "consumed_index"}
    return {"merge": "temporal_ensemble", "ensemble_decay": controller.ensemble_decay}


def action_entry(action: dict[str, Any]) -> dict[str, Any]:
    """What the runtime has to know. Bounds of a constant dimension are widened to the next float, no more."""
    entry = {key: action[key] for key in ("names", "units", "min", "max", "rate_limit", "hold")}
    if action.get("relative") is not None:  # left out where there is none
        entry["relative"] = action["relative"]
    low, high = np.float32(entry["min"]), np.float32(entry["max"])
    if low.shape == high.shape:
        wider = np.nextafter(low, np.float32(np.inf))
        entry["max"] = [
            float(wide) if same else value
            for wide, same, value in zip(wider, low == high, entry["max"], strict=True)
        ]
    return entry


def planner_entry(planning: Planning, unet: dict[str, Any] | None) -> dict[str, Any]:
    config = planning.config
    entry = {
        "subgoals": config.subgoals,
        "steps_per_subgoal": config.steps_per_subgoal,
        "replan": planning.replan,
        "guided": planning.guided,
        "subgoal": config.subgoal,
        "normalization": planning.checkpoint.normalizer().entries[config.subgoal],
        "sampler": sampler_entry(planning.sampler),
        "text": {"encoder": planning.text_encoder.kind, "max_bytes": MAX_TEXT_BYTES},
        "unet": unet,
    }
    if planning.plan_ahead is not None:  # left out where there is none, as older bundles do
        entry["plan_ahead"] = planning.plan_ahead
    if planning.scoring is not None:
        entry["scorer"] = scorer_entry(planning.scoring.metrics)
    return entry


def scorer_entry(metrics: dict[str, Any]) -> dict[str, Any]:
    """Of a network that was never trained: no plans, and no better than chance."""
    return {"plans": metrics.get("train_plans", 0), "auc": metrics.get("auc", 0.5)}


def sampler_entry(sampler: SamplerConfig) -> dict[str, Any]:
    return asdict(sampler) | {"betas": list(sampler.betas)}


def validate(manifest: dict[str, Any]) -> None:
    """Checks a manifest as the loader does, and by the published schema.

    Raises:
        ExportError: "field: expected X, got Y"; a feature is called by its key.
    """
    try:
        _validate(manifest)
    except RecursionError:
        raise ExportError(DEEP) from None
    except ExportError as error:
        match = re.match(r"(?:manifest\.)?observation\[([0-9]{1,9})\](.*)", str(error), re.DOTALL)
        key = _feature_key(manifest, int(match[1])) if match else None
        if match is None or key is None:
            raise
        raise ExportError(f"{key}{match[2]}") from None


def _feature_key(manifest: dict[str, Any], index: int) -> str | None:
    """Of a manifest that is wrong somewhere, perhaps here: None where there is nothing to call it by."""
    features = manifest.get("observation")
    if not isinstance(features, list) or index >= len(features) or not isinstance(features[index], dict):
        return None
    key = features[index].get("key")
    return key if isinstance(key, str) and 0 < len(key) <= 80 and _is_unicode(key) else None


def _validate(manifest: dict[str, Any]) -> None:
    check_values(manifest)
    try:  # first, because it tells what it expected
        _core.check_manifest(to_json(manifest))
    except keystep.BundleError as error:
        raise ExportError(str(error)) from None
    _check_schema(manifest)


def check_values(manifest: dict[str, Any]) -> None:
    """Its numbers are finite and its texts can be written, in any version. Raises ExportError."""
    try:
        for field, value in _leaves(manifest, ""):
            if isinstance(value, float) and not math.isfinite(value):
                raise ExportError(f"{field}: expected a finite number, got {value}")
            if isinstance(value, str) and not _is_unicode(value):
                wanted = "text that is valid UTF-8"
                raise ExportError(f"{repr(field)[1:-1]}: expected {wanted}, got {value!r:.80}")
    except RecursionError:
        raise ExportError(DEEP) from None


def validate_sampler(sampler: SamplerConfig, where: str = "sampler") -> None:
    """Checks the sampler alone, before anything is computed with it. Raises ExportError."""
    try:
        keystep.SamplerSpec(**asdict(sampler)).validate()
    except keystep.ArgumentError as error:
        raise ExportError(f"{where}.{error}") from None


@functools.cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))


def _check_schema(manifest: dict[str, Any]) -> None:
    error = jsonschema.exceptions.best_match(_validator().iter_errors(json.loads(json.dumps(manifest))))
    if error is not None:
        raise ExportError(f"manifest{error.json_path[1:]}: {error.message}")


def _leaves(value: Any, field: str) -> Iterator[tuple[str, Any]]:
    """What is no object and no array, and the keys of objects, each with its field."""
    if isinstance(value, dict):
        for key, entry in value.items():
            place = f"{field}.{key}" if field else key
            yield place, key
            yield from _leaves(entry, place)
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            yield from _leaves(entry, f"{field}[{index}]")
    else:
        yield field, value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
