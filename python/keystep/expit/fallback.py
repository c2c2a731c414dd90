"""Episodes of D0 for tasks of which no rollout succeeded: `ft` would forget what it does not see."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from keystep.data.layout import INDEX_FEATURES, INFO_PATH
from keystep.data.reader import DatasetReader
from keystep.data.spec import DatasetSpec
from keystep.data.writer import DatasetWriter

KEPT = ("suite", "env_id", "world_version", "action")
"""Of how D0 was collected: what the episodes still mean."""


def copy_episodes(dataset: Path, output: Path, tasks: Sequence[str]) -> str:
    """A dataset of the episodes of some tasks; goes on where an earlier call for the same was killed.

    Returns:
        Its digest.

    Raises:
        DatasetError: `output` is of something else, or the disk is full.
    """
    reader = DatasetReader(dataset)
    collection = {name: value for name, value in reader.collection.items() if name in KEPT}
    named = {task["name"]: task.get("instruction") for task in reader.tasks}  # all, for the same numbers
    spec = DatasetSpec(
        int(reader.info["fps"]),
        {key: column for key, column in reader.features.items() if key not in INDEX_FEATURES},
        named,
        reader.info.get("robot_type"),
        collection | {"copied_from": reader.sha256(), "copied_tasks": list(tasks)},
        tuple(reader.collection.get("extras", ())),
    )
    if (output / INFO_PATH).exists() and DatasetReader(output).collection != spec.side_file():
        shutil.rmtree(output)  # an earlier call for other tasks: a rollout of one has succeeded since
    with DatasetWriter(output, spec) as writer:
        chosen = [episode for episode in reader.episodes() if episode.task in tasks]
        for episode in chosen[writer.episodes :]:
            frames = reader.read_episode(episode)
            writer.add_episode(
                {key: frames[key] for key in spec.features},
                episode.task,
                episode.seed or 0,
                success=episode.success,
                instruction=episode.instruction,
                extras=episode.extras,
            )
    return DatasetReader(output).sha256()
