"""What a training would be spent on in vain, found before its first step."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keystep.data import DatasetError, DatasetReader

if TYPE_CHECKING:
    from keystep.train.recipe import Recipe

ROWS = 4096  # read at a time
HINTS = {
    "action.hold": "--hold gives another",
    "action.names": "--action-bounds FILE gives names",
    "action.units": "--action-bounds FILE gives units",
    "action": "--action-bounds gives others",
    "normalization.action": "scale the actions of the dataset",
    "normalization": "scale that observation in the dataset, or choose what is seen with --observe",
    "planner.normalization": "scale that observation in the dataset, or choose another with --subgoal",
    "tasks": "give every task of meta/tasks.parquet a text of its own; a controller that is told none takes "
    "--condition none",
    "observation.images": "--cameras chooses those that are seen, --observe state none",
    "policy.cameras": "--cameras chooses those that are seen, --observe state none",
    "act.cameras": "--cameras chooses those that are seen, --observe state none",
    "observation.state": "--observe images leaves it out",
    "policy.state_dim": "--observe chooses what is seen",
    "policy.horizon": "--preset chooses another network",
    "planner.subgoals": "--subgoals gives another number of them",
    "camera": "--subgoal chooses another observation, --preset another network",
    "graphs": "--preset chooses another network, --cameras and --observe what it sees",
    "sampler": "--preset chooses another network",
    "chunk": "--preset chooses another network",
    "provenance": "correct meta/keystep.json",
}
"""By the beginning of a field of the manifest: what mends it."""


def rehearse(recipe: Recipe, reader: DatasetReader, output: Path) -> None:
    """Looks for everything that export, or the loader of what it wrote, would refuse.

    Raises:
        DatasetError: a value that is no finite number in what the network sees or does; `output` cannot be
            written to.
        ExportError: any other; the message ends with what mends it.
    """
    from keystep.export.manifest import ExportError
    from keystep.export.rehearsal import rehearse as rehearse_export

    for key in recipe.columns:
        for _ in finite_rows(reader, key):
            pass
    plan = replace(recipe.plan, provenance={"dataset_collection": dict(reader.collection)})
    try:
        rehearse_export(plan, recipe.text_encoder)
    except ValueError as error:
        raise ExportError(f"{error}{hint(str(error))}") from None
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise DatasetError(f"{output}: expected a folder to write checkpoints to, got {error}") from None


def hint(message: str) -> str:
    """What mends a refusal, "; .."; empty where that is not known."""
    field = message.split(":", 1)[0].removeprefix("manifest.")
    known = [start for start in HINTS if field.startswith(start)]
    return f"; {HINTS[max(known, key=len)]}" if known else ""


def vector_width(reader: DatasetReader, key: str) -> int:
    """Of a feature that must be a vector of numbers."""
    if key not in reader.features:
        raise DatasetError(f"{reader.path}: expected a feature {key!r}, got {', '.join(reader.features)}")
    feature = reader.features[key]
    if len(feature.shape) != 1 or feature.shape[0] < 1 or feature.is_string or feature.is_image:
        got = f"{feature.dtype} of shape {feature.shape}"
        raise DatasetError(f"{reader.path}: {key}: expected a vector of numbers, got {got}")
    return feature.shape[0]


def finite_rows(reader: DatasetReader, key: str) -> Iterator[np.ndarray]:
    """All frames of a vector, (N, D) float64, batch after batch.

    Raises:
        DatasetError: NaN, Inf or what single precision, in which networks compute, cannot hold.
    """
    first = 0
    for batch in reader.iter_batches([key], ROWS):
        rows = np.asarray(batch[key], np.float64).reshape(len(batch[key]), -1)
        with np.errstate(over="ignore"):
            bad = ~np.isfinite(rows.astype(np.float32))
        if bad.any():
            frame, number = (int(place) for place in np.argwhere(bad)[0])
            where = f"frame {_frame(reader, first + frame)}"
            wanted = "finite numbers of single precision"
            got = f"{rows[frame, number]} in {where}; correct it or leave that episode out"
            raise DatasetError(f"{reader.path}: {key}[{number}]: expected {wanted}, got {got}")
        first += len(rows)
        yield rows


def _frame(reader: DatasetReader, index: int) -> str:
    for episode in reader.episodes():
        if index < episode.stop:
            return f"{index - episode.start} of episode {episode.index}"
    return str(index)
