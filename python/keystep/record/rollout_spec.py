"""What a collection of rollouts is asked for, checked before anything is created, and its dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keystep
from keystep.data.errors import DatasetError
from keystep.data.layout import INDEX_FEATURES, Column
from keystep.data.reader import DatasetReader
from keystep.data.spec import DatasetSpec
from keystep.evaluate.environments import env_plan
from keystep.record.collect import default_source
from keystep.record.player import load_options
from keystep.record.rollout_settings import RolloutSettings
from keystep.suites import suite_named
from keystep.suites.base import Suite
from keystep.suites.states import END_STATE, SUCCESS_STATE

CONTEXT = "context"
"""Name among the extras of an episode: its context's `kind`, `number` and `source`, and the `trial`."""


def check_rollouts(settings: RolloutSettings, manifest: dict[str, Any]) -> tuple[Suite, tuple[str, ...]]:
    """What a policy with this manifest would be refused for; the suite and the tasks that are collected.

    Raises:
        DatasetError: settings that suite or bundle do not take.
        ArgumentError: a task that the policy does not know; no such environment, or it does not take the
            options.
    """
    suite, tasks = _suite(settings)
    load_options(manifest, settings)
    known = [task["name"] for task in manifest["tasks"]]
    for task in tasks if known else ():
        if task not in known:
            raise keystep.ArgumentError(
                f"tasks: expected some of the bundle's ({', '.join(known)}), got {task!r}"
            )
    suite.register()
    env_plan(settings.env_id or suite.env_id, manifest, settings.env_kwargs)
    return suite, tasks


def _suite(settings: RolloutSettings) -> tuple[Suite, tuple[str, ...]]:
    try:
        suite = suite_named(settings.suite)
    except ValueError as error:
        raise DatasetError(str(error)) from None
    tasks = tuple(suite.tasks) if settings.tasks is None else settings.tasks
    for task in tasks:
        if task not in suite.tasks:
            raise DatasetError(f"tasks: expected some of {', '.join(suite.tasks)}, got {task!r}")
    if not tasks:
        raise DatasetError("tasks: expected at least one, got none")
    return suite, tasks


def rollout_spec(
    settings: RolloutSettings,
    suite: Suite,
    tasks: Sequence[str],
    manifest: Mapping[str, Any],
    digest: str,
    replay: Sequence[Path],
    output: Path,
) -> DatasetSpec:
    """Features, rate and action as those of the replayed datasets, else of the suite's demonstrations."""
    base = _replayed_spec(replay[0]) if replay else _demonstrated_spec(settings, suite, tasks, manifest)
    collection = {
        "suite": settings.suite,
        "env_id": settings.env_id or suite.env_id,
        "rollouts": _kept_settings(settings, output) | {"tasks": list(tasks)},
        "bundle_sha256": digest,
        "replay_sha256": [DatasetReader(path).sha256() for path in replay],
        "action": base.collection.get("action"),
    }
    instructions = {task: suite.instruction(task) for task in tasks}
    return DatasetSpec(
        base.fps,
        base.features,
        instructions,
        base.robot_type,
        collection,
        (END_STATE, SUCCESS_STATE, CONTEXT),
        {"bundle": manifest["name"], "keystep_version": keystep.__version__},
    )


def _kept_settings(settings: RolloutSettings, output: Path) -> dict[str, Any]:
    """Without `max_contexts`: more contexts only go on with the same ones. Datasets until 0.8 have it."""
    values = settings.to_json()
    del values["max_contexts"]
    if (output / "meta" / "info.json").exists():
        stored = DatasetReader(output).collection.get("rollouts", {})
        values |= {name: stored[name] for name in ("max_contexts",) if name in stored}
    return values


def _replayed_spec(path: Path) -> DatasetSpec:
    reader = DatasetReader(path)
    features: dict[str, Column] = {
        key: feature for key, feature in reader.features.items() if key not in INDEX_FEATURES
    }
    tasks = {task["name"]: task["instruction"] for task in reader.tasks}
    robot = reader.info.get("robot_type")
    return DatasetSpec(
        int(reader.info["fps"]), features, tasks, robot, {"action": reader.collection.get("action")}
    )


def _demonstrated_spec(
    settings: RolloutSettings, suite: Suite, tasks: Sequence[str], manifest: Mapping[str, Any]
) -> DatasetSpec:
    images = [entry for entry in manifest["observation"] if entry["kind"] == "rgb"]
    size = images[0]["shape"][0] if images else 96
    options = {"env_id": settings.env_id} if settings.env_id else {}
    return default_source(suite, tasks, "rgb" if images else "state", size, **options).spec
