"""What a training would be spent on in vain, found before its first step."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from keystep.data import Dataset, DatasetError
from keystep.models.code_planner.config import CodePlannerConfig

if TYPE_CHECKING:
    from keystep.train.recipe import Recipe

HINTS = {
    "action.hold": "--hold gives another",
    "action.names": "--action-bounds FILE gives names",
    "action.units": "--action-bounds FILE gives units",
    "action": "--action-bounds gives others",
    "action.normalization": "--normalization action=MODE chooses another; or scale them in the dataset",
    "normalization": "--normalization KEY=MODE chooses another, --observe what is seen",
    "planner.normalization": "--normalization KEY=MODE chooses another, --subgoal what a subgoal is",
    "tasks": "give every task of meta/tasks.parquet a text of its own; a controller that is told none takes "
    "--condition none",
    "observation.images": "--cameras chooses those that are seen, --observe state none",
    "act.observation": "--cameras chooses those that are seen, --observe state none",
    "act.history": "--history 1, or another preset",
    "observation.state": "--observe images leaves it out",
    "policy.observation": "--observe chooses what is seen",
    "policy.chunk_start": "--chunk-start gives another, --execute takes fewer, --horizon gives more",
    "policy.execute": "--execute gives another number of them",
    "policy.horizon": "--horizon gives another",
    "chunk_lengths": "--chunk-lengths gives others",
    "planner.subgoals": "--subgoals gives another number of them",
    "planner.observation": "--subgoal chooses another",
    "camera": "--subgoal chooses another observation, --preset another network",
    "graphs": "--preset chooses another network, --cameras and --observe what it sees",
    "sampler": "--preset chooses another network",
    "chunk": "--preset chooses another network",
    "provenance": "correct meta/keystep.json",
}
"""By the beginning of a field of the manifest: what mends it."""


def rehearse(recipe: Recipe, reader: Dataset, output: Path) -> None:
    """Looks for everything that export, or the loader of what it wrote, would refuse.

    Raises:
        DatasetError: `output` cannot be written to.
        ExportError: any other; the message ends with what mends it.
    """
    from keystep.export.manifest import ExportError
    from keystep.export.rehearsal import rehearse as rehearse_export

    plan = replace(recipe.draft, provenance={"dataset_collection": dict(reader.collection)})
    try:
        if not isinstance(plan.config, CodePlannerConfig):  # there is no exporter of these yet
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
    if field.startswith("observation.") and ".normalization" in field:
        field = "normalization"
    if field == "act.observation" and ".history: expected" in message:  # of one of the features
        field = "act.history"
    known = [start for start in HINTS if field.startswith(start)]
    return f"; {HINTS[max(known, key=len)]}" if known else ""
