"""The manifest of a bundle: everything the runtime knows about a policy."""

from __future__ import annotations

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
from keystep.features import Feature
from keystep.files import to_json
from keystep.models import SamplerConfig
from keystep.provenance import git_commit

if TYPE_CHECKING:
    from keystep.export.levels import Controller, Planning

FORMAT, VERSION = "keystep-bundle", 5
MAX_TEXT_BYTES = (
    1000  # of a goal in words: no instruction is longer, and one that is was meant for something else
)
SCHEMA = Path(__file__).parent / "manifest.schema.json"


class ExportError(ValueError):
    """The checkpoint or the options cannot become a bundle: "field: expected X, got Y"."""


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
    tasks = planning.checkpoint.tasks if planning else checkpoint.tasks if config.tasks else []
    made_by = {"keystep_version": version("keystep"), "git_commit": git_commit()}
    provenance = made_by | checkpoint.provenance
    if planning is not None:
        provenance["planner"] = planning.checkpoint.provenance
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
        "chunk": chunk | {"merge": "consumed_index"},
        "sampler": sampler_entry(controller.sampler) if controller.sampler else None,
        "graphs": graphs,
        "unet": unets.get("unet"),
        "golden": golden,
        "provenance": provenance,
    }
    validate(manifest)
    return manifest


def action_entry(action: dict[str, Any]) -> dict[str, Any]:
    """What the runtime has to know. Bounds of a constant dimension are widened to the next float, no more."""
    entry = {key: action[key] for key in ("names", "units", "min", "max", "rate_limit", "hold")}
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
    return {
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


def sampler_entry(sampler: SamplerConfig) -> dict[str, Any]:
    return asdict(sampler) | {"betas": list(sampler.betas)}


def validate(manifest: dict[str, Any]) -> None:
    """Checks a manifest by the published schema, for what a schema cannot say, and as the loader does.

    Raises:
        ExportError: "field: expected X, got Y"; a feature is called by its key.
    """
    try:
        _validate(manifest)
    except ExportError as error:
        if not (match := re.match(r"(?:manifest\.)?observation\[(\d+)\](.*)", str(error), re.DOTALL)):
            raise
        key = manifest["observation"][int(match[1])].get("key", f"observation[{match[1]}]")
        raise ExportError(f"{key}{match[2]}") from None


def _validate(manifest: dict[str, Any]) -> None:
    for field, value in _leaves(manifest, ""):
        if isinstance(value, float) and not math.isfinite(value):
            raise ExportError(f"{field}: expected a finite number, got {value}")
        if isinstance(value, str) and not _is_unicode(value):
            raise ExportError(f"{repr(field)[1:-1]}: expected text that is valid UTF-8, got {value!r:.80}")
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    _check_schema(manifest, schema, "manifest")
    _check_lengths(manifest)
    _check_sampler(manifest)
    try:
        _core.check_manifest(to_json(manifest))
    except keystep.BundleError as error:
        raise ExportError(str(error)) from None


def validate_sampler(sampler: SamplerConfig, where: str = "sampler") -> None:
    """Checks the sampler alone, before anything is computed with it. Raises ExportError."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    entry = schema["$defs"]["sampler"] | {"$defs": schema["$defs"]}
    _check_schema(asdict(sampler), entry, where)


def _check_schema(value: dict[str, Any], schema: dict[str, Any], where: str) -> None:
    validator = jsonschema.Draft202012Validator(schema)
    error = jsonschema.exceptions.best_match(validator.iter_errors(json.loads(json.dumps(value))))
    if error is not None:
        raise ExportError(f"{where}{error.json_path[1:]}: {error.message}")


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


def _check_lengths(manifest: dict[str, Any]) -> None:
    action = manifest["action"]
    width = len(action["names"])
    lists = {f"action.{key}": (action[key], width) for key in ("units", "min", "max")}
    if action["hold"]["mode"] == "values":
        lists["action.hold.values"] = (action["hold"]["values"], width)
    if action["rate_limit"] is not None:
        lists["action.rate_limit"] = (action["rate_limit"], width)
    lists |= _statistics("action", action, width)
    for index, entry in enumerate(manifest["observation"]):
        try:
            feature = Feature.from_dict(entry)
        except ValueError as error:
            raise ExportError(str(error)) from None
        lists |= _statistics(f"observation[{index}]", entry, feature.width)
    for field, (values, width) in lists.items():
        if len(values) != width:
            raise ExportError(f"{field}: expected {width} values, got {len(values)}")


def _statistics(field: str, entry: dict[str, Any], width: int) -> dict[str, tuple[list[float], int]]:
    named = {name: values for name, values in entry["normalization"].items() if name != "mode"}
    return {f"{field}.normalization.{name}": (values, width) for name, values in named.items()}


def _check_sampler(manifest: dict[str, Any]) -> None:
    planner = manifest["planner"]
    if manifest["sampler"] is not None:
        _check_steps(manifest["sampler"], "sampler")
        sampler = manifest["sampler"]
        if "sample" in manifest["graphs"] and (sampler["kind"] != "ddim" or sampler["eta"]):
            got = f"{sampler['kind']}, eta {sampler['eta']}"
            raise ExportError(f"form: expected a deterministic sampler (ddim, eta 0), got {got}")
    if planner is not None:
        _check_steps(planner["sampler"], "planner.sampler")
    chunk = manifest["chunk"]
    if chunk["execute"] > chunk["horizon"]:
        raise ExportError(f"chunk.execute: expected 1..{chunk['horizon']} (horizon), got {chunk['execute']}")
    if chunk["start"] > (most := chunk["horizon"] - chunk["execute"]):
        raise ExportError(f"chunk.start: expected 0..{most} (horizon - execute), got {chunk['start']}")


def _check_steps(sampler: dict[str, Any], where: str) -> None:
    if sampler["inference_steps"] > sampler["train_steps"]:
        wanted = f"1..{sampler['train_steps']} (train_steps)"
        raise ExportError(f"{where}.inference_steps: expected {wanted}, got {sampler['inference_steps']}")
    length = sampler["train_steps"] if sampler["beta_schedule"] == "table" else 0
    if len(sampler["betas"]) != length:
        raise ExportError(f"{where}.betas: expected {length} values, got {len(sampler['betas'])}")
