"""What a run would be refused for later is refused before it begins: each part is asked by its own checks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keystep
from keystep.data import DatasetError, DatasetReader
from keystep.evaluate.environments import env_plan
from keystep.evaluate.rollout import check
from keystep.expit.config import FINETUNE, ExpitConfig
from keystep.expit.evaluating import evaluation_for
from keystep.expit.folder import Iteration
from keystep.expit.scoring import choosing
from keystep.expit.settled import plain
from keystep.expit.stages import rollout_settings, training
from keystep.suites import suite_named
from keystep.suites.base import TASK, Suite, symmetries
from keystep.train.symmetries import among


def check_settings(config: ExpitConfig) -> None:
    """What can be told without D0; nothing is created.

    Raises:
        ArgumentError: a suite, environment or task that there is not; settings of a later iteration.
        DatasetError: the cluster is gone.
    """
    with _of("suite"):
        suite = suite_named(config.suite)
    asked = {"evaluation.tasks": config.evaluation.tasks, "rollouts.tasks": config.rollouts.tasks or ()}
    for name, tasks in asked.items():
        for task in tasks:
            if task not in suite.tasks:
                wanted = f"some of {', '.join(suite.tasks)}"
                raise keystep.ArgumentError(f"{name}: expected {wanted}, got {task!r}")
    _check_env(config, suite, {"observation": []})
    for number in range(config.iterations + 1):
        for network in ("planner", "controller"):
            finetuned = config.mode == FINETUNE and number > 0
            with _of(f"{network}{'.finetune' if finetuned else ''}"):
                getattr(config, network).of(config.steps(network, number), finetuned)
        with _of("rollouts"):
            config.rollout_settings(number)
    left = any("rollouts" not in Iteration(config.output, t).done for t in range(1, config.iterations + 1))
    if config.cluster is not None and left:
        from keystep.record.cluster import require_cluster

        require_cluster(config.cluster)


def check_run(config: ExpitConfig) -> None:
    """What can be told with D0: trainings, the bundle, its evaluation, the rollouts.

    Raises:
        ArgumentError: the table of the settings and what is wrong there.
        DatasetError: iteration 0 was begun with other settings, its folder cannot be written to.
    """
    from keystep.record.rollouts import check_rollouts

    first = Iteration(config.output, 0)
    manifest = keystep.read_manifest(first.bundle) if first.finished else _rehearsed(config, first)
    with _of("evaluation"):
        evaluation = evaluation_for(plain(config), manifest)
        check(manifest, evaluation)
    _check_env(config, suite_named(config.suite), manifest)
    known = [task["name"] for task in DatasetReader(config.dataset).tasks]
    for number in range(1, config.iterations + 1):
        settings = rollout_settings(config, number)
        for task in settings.tasks:
            if task not in known:
                wanted = f"tasks of {config.dataset} ({', '.join(known)})"
                raise keystep.ArgumentError(f"rollouts.tasks: expected {wanted}, got {task!r}")
        with _of("rollouts"):
            check_rollouts(choosing(settings, manifest), manifest)
        for network in ("planner", "controller"):  # fine-tuned on data of these tasks alone
            if config.mode == FINETUNE and getattr(config, network).training.symmetries:
                with _of(network):
                    among(symmetries(suite_named(config.suite)), settings.tasks)


def _rehearsed(config: ExpitConfig, first: Iteration) -> dict[str, Any]:
    """The manifest that the bundle of iteration 0 will have: its trainings are opened, and not begun."""
    from keystep.export.rehearsal import rehearse_bundle
    from keystep.train.trainer import Trainer

    recipes = {}
    for network in ("planner", "controller"):
        with _of(network, config.output, config.dataset):
            recipes[network] = Trainer(training(config, first, None, network)).recipe
    planner = recipes["planner"]
    assert planner.text_encoder is not None
    with _of("export"):
        return rehearse_bundle(
            recipes["controller"].draft,
            planner.draft,
            planner.text_encoder,
            replan=config.evaluation.replan,
            **config.export.options(config.evaluation.guidance),
        )


def _check_env(config: ExpitConfig, suite: Suite, manifest: dict[str, Any]) -> None:
    suite.register()
    env = config.env or suite.env_id
    env_plan(env.replace(TASK, next(iter(suite.tasks))), manifest, config.env_kwargs)


@contextmanager
def _of(table: str, *folders: Path) -> Iterator[None]:
    """Faults of values name their table of the file; those of the `folders` name the folder already."""
    try:
        yield
    except (ValueError, DatasetError) as error:  # ArgumentError and ExportError are ValueErrors
        told = str(error)
        if isinstance(error, DatasetError) and told.startswith(tuple(map(str, folders))):
            raise
        raise keystep.ArgumentError(told if told.startswith(table) else f"{table}: {told}") from None
