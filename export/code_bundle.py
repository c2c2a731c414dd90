"""From the checkpoint of a planner that writes code to a bundle of the family `code`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from keystep.export.code_golden import CodePlanning, code_arrays
from keystep.export.code_graphs import PRECISIONS, write_graphs
from keystep.export.code_language import load_language
from keystep.export.code_manifest import REPLY_TOKENS, api_entries, planner_entry
from keystep.export.code_reading import shortest_reply
from keystep.export.code_verify import measured_code_errors, verify_code_bundle
from keystep.export.errors import ExportError
from keystep.export.golden import write_golden
from keystep.export.manifest import FORMAT, VERSION, validate
from keystep.files import replacing_folder, sha256, write_json
from keystep.models.checkpoint import Checkpoint, CheckpointError, load_model
from keystep.models.code_planner.network import CodePlanner
from keystep.provenance import git_commit


def export_code_bundle(
    checkpoint: Path,
    output: Path,
    *,
    precision: str = "fp32",
    name: str | None = None,
    overwrite: bool = False,
    seed: int = 0,
    resize: bool = False,
    reply_tokens: int = REPLY_TOKENS,
    context: int | None = None,
    constrained: bool = False,
    **others: Any,
) -> Path:
    """Compiles a planner that writes code into the folder `output`, which appears whole or not at all.

    Args:
        checkpoint, output, name, overwrite, seed, resize: see `export_bundle`.
        precision: of the decoder's weights, fp32 or int8.
        reply_tokens: most tokens of a reply, its end included.
        context: most tokens of a prompt with its reply; by default, and at most, as trained.
        constrained: sessions that are told nothing else write code of the API alone (docs/constrained.md).
        others: options of other policies; none of them may be given.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, or has weights that are not finite.
        ExportError: an option does not fit, a network that has no such graphs, or graphs that differ from
            torch by more than `keystep verify` allows.
        FileExistsError, OSError: as of `export_bundle`.
    """
    _check_options(precision, others)
    planning = load_code_planning(checkpoint, reply_tokens, context)
    if constrained:
        _check_room(planning)
    with replacing_folder(output, overwrite) as folder:
        graphs = write_graphs(planning.model, folder, precision, planning.context, reply_tokens)
        arrays = _golden(planning, seed)
        write_golden(folder / "golden.npz", arrays)
        golden = {"file": "golden.npz", "sha256": sha256(folder / "golden.npz")}
        title = name if name is not None else output.name.removesuffix(".keystep")
        manifest = code_manifest(title, planning, graphs, golden, precision, resize, constrained)
        write_json(folder / "manifest.json", manifest)
        _record_errors(manifest, folder)
        for row in verify_code_bundle(folder).different:
            wanted = f"{row.ours} to be {row.reference} within {row.allowed():.2g} of the greatest logit"
            raise ExportError(f"verify.{row.quantity}: expected {wanted}, got {row.max_error:.2g}")
    return output


def load_code_planning(
    folder: Path, reply_tokens: int = REPLY_TOKENS, context: int | None = None
) -> CodePlanning:
    """A checkpoint, checked. Raises CheckpointError, ExportError."""
    model, known = load_model(folder)
    if not isinstance(model, CodePlanner):
        raise CheckpointError(f"{folder}: kind: expected code_planner, got {known.kind}")
    for feature in model.config.images:
        mode = known.normalizer().entries[feature.key]["mode"]
        if mode != "identity":
            place, wanted = f"normalization.{feature.key}", "identity (fractions of full brightness)"
            raise ExportError(f"{place}: expected {wanted}, got {mode}")
    most = model.config.context
    capacity = context if context is not None else most
    if not 2 <= capacity <= most:
        raise ExportError(f"context: expected 2..{most} (as trained), got {capacity}")
    if not 1 <= reply_tokens < capacity:
        room = f"1..{capacity - 1} (below the context)"
        raise ExportError(f"reply_tokens: expected {room}, got {reply_tokens}")
    return CodePlanning(model, known, load_language(folder), reply_tokens, capacity)


def code_manifest(
    name: str,
    planning: CodePlanning,
    graphs: dict[str, Any],
    golden: dict[str, str],
    precision: str,
    resize: bool,
    constrained: bool,
) -> dict[str, Any]:
    """The manifest, validated."""
    known: Checkpoint = planning.checkpoint
    entries, config = known.normalizer().entries, planning.config
    features = [replace(one, resize=resize and one.can_resize) for one in config.observation]
    normalization = {feature.key: entries[feature.key] for feature in features}
    decoder = planning.model.decoder.config
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "family": "code",
        "control_rate_hz": known.control_rate_hz,
        "observation": [one.to_dict() | {"normalization": entries[one.key]} for one in features],
        "goal": "text",
        "tasks": [],
        "planner": planner_entry(
            config, planning.language, normalization, decoder, planning.limits, precision, constrained
        ),
        **dict.fromkeys(("action", "chunk", "sampler", "unet")),
        "graphs": graphs,
        "golden": golden,
        "provenance": {"keystep_version": version("keystep"), "git_commit": git_commit()} | known.provenance,
    }
    validate(manifest)
    return manifest


def _check_options(precision: str, others: Mapping[str, Any]) -> None:
    if precision not in PRECISIONS:
        wanted = " or ".join(PRECISIONS)
        raise ExportError(f"precision: expected {wanted} for a planner that writes code, got {precision}")
    neutral = {"replan": True, "planner_sampler": {}}
    for field, value in others.items():
        if value is not None and value != neutral.get(field):
            raise ExportError(f"{field}: expected none for a planner that writes code, got {value}")


def _check_room(planning: CodePlanning) -> None:
    """That replies have room for code."""
    language = planning.language
    least = shortest_reply(language.tokenizer, api_entries(), language.grid)
    if planning.reply_tokens < least:
        wanted = f"at least {least} (the shortest reply that is code)"
        raise ExportError(f"reply_tokens: expected {wanted}, got {planning.reply_tokens}")


def _golden(planning: CodePlanning, seed: int) -> dict[str, np.ndarray]:
    try:
        arrays = code_arrays(planning, seed)
    except (FloatingPointError, ValueError) as error:  # NaN; a context with no room for a prompt
        raise ExportError(f"golden.{error}") from None
    for name, values in arrays.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ExportError(
                f"golden.{name}: expected finite answers of the trained planner, got NaN or Inf"
            )
    return arrays


def _record_errors(manifest: dict[str, Any], folder: Path) -> None:
    errors = measured_code_errors(folder)
    if not all(map(math.isfinite, errors.values())):
        raise ExportError("planner.weights.errors: expected finite logits on the golden data, got NaN or Inf")
    manifest["planner"]["weights"]["errors"] = errors
    validate(manifest)
    write_json(folder / "manifest.json", manifest)
