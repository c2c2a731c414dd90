"""A checkpoint of a planner that writes code, asked about demonstrations that its training did not have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import torch

from keystep.code.prompt import Prompt
from keystep.code.questions import KINDS
from keystep.code.samples import SampleMaker
from keystep.data import DatasetError, split_episodes
from keystep.models.checkpoint import Checkpoint, CheckpointError, load_model
from keystep.models.code_planner.config import CodePlannerConfig
from keystep.models.code_planner.network import CodePlanner
from keystep.models.code_planner.writing import ReplyWriter
from keystep.train.code_evaluation import WINDOW_STEPS, evaluate_replies
from keystep.train.code_language import load_language
from keystep.train.code_planner import CodePlannerRecipe, code_source
from keystep.train.code_planner_config import CodePlannerTraining
from keystep.train.code_samples import CodeData
from keystep.train.code_sight import (
    Places,
    SightQuestion,
    ask_sight,
    auxiliary_questions,
    keystep_questions,
)
from keystep.train.code_sources import CodeDemonstrations
from keystep.train.sight_metrics import sight_metrics

WITHOUT_PROGRAMS = {"stage": "pictures", "questions": 0.0, "texts": 0.0, "scenes": 0.0, "scene_pictures": 0}
"""Settings of a source that asks about demonstrations alone, whatever its planner learned from."""


def evaluate_code_planner(
    checkpoint: Path,
    dataset: Path | tuple[Path, ...],
    episodes: Literal["held-out", "all"] = "held-out",
    every: int = 4,
    window: int = WINDOW_STEPS,
    device: str = "cpu",
    pictures: int = 8,
) -> dict[str, Any]:
    """Figures of `keystep.train.code_metrics.code_metrics`, of all tasks together and of each.

    Of all together also "sight", unless the planner was trained without: those of
    `keystep.train.sight_metrics.sight_metrics`, and "missing", why some are, or None.

    Args:
        checkpoint: folder.
        dataset: of demonstrations with code.
        episodes: held-out: those of the dataset it was trained on that it has not seen; all: of any dataset.
        every, window: see `keystep.train.code_evaluation.evaluate_replies`.
        device: of torch.
        pictures: of each episode, for auxiliary questions; 0: no "sight".

    Raises:
        ValueError: a number is too small.
        CheckpointError: missing or damaged, or of another kind.
        DatasetError: the dataset cannot be read, is of another robot or language, or holds nothing out.
    """
    if pictures < 0:
        raise ValueError(f"pictures: expected at least 0, got {pictures}")
    model, about = load_model(checkpoint)
    if not isinstance(model, CodePlanner):
        raise CheckpointError(f"kind: expected code_planner, got {about.kind}")
    config = _settings(checkpoint, about, dataset)
    trained = about.provenance["training"]
    sighted = pictures > 0 and trained.get("stage") == "pictures"
    source, missing = _source(config, sighted, trained.get("questions", 0.0))
    source.names, source.numbers = {}, ()  # nothing is learned: the weights may know others, or none
    recipe, words = CodePlannerRecipe(config, source), load_language(checkpoint)
    numbers = list(range(len(source))) if episodes == "all" else _held_out(config, about, source)
    source.data.open()
    maker, place = words.maker(model.config), torch.device(device)
    shown = [AskedEpisode(recipe, source, maker, number, place) for number in numbers]
    writer = ReplyWriter(model.to(place), words.tokenizer)
    found = evaluate_replies(writer, shown, every, window)
    if sighted:
        asked = keystep_questions(source.data, maker, numbers, config.requests)
        if missing is None:
            further, missing = _about_pictures(source.data, maker, numbers, pictures)
            asked += further

        def seen(places: Places) -> dict[str, torch.Tensor]:
            return recipe.prepare_shown(source.data.shown(places), place)

        replies = ask_sight(model, words.tokenizer, asked, seen, source.data.max_tokens)
        found["all"]["sight"] = {**sight_metrics(replies), "missing": missing}
    return found


class AskedEpisode:
    """`keystep.train.code_evaluation.ShownEpisode` of a demonstration, asked about as in training."""

    def __init__(
        self,
        recipe: CodePlannerRecipe,
        source: CodeDemonstrations,
        maker: SampleMaker,
        number: int,
        device: torch.device,
    ) -> None:
        self._recipe, self._data, self._maker, self._device = recipe, source.data, maker, device
        self._number, self._episode = number, source.data.episodes[number]
        self.task = source.tasks[int(source.task_numbers([number])[0])]["name"]
        self.codes: Sequence[str] = self._episode.codes
        self.keysteps: Sequence[bool] = self._episode.keysteps

    def prompt(self, step: int, memory: Sequence[str]) -> list[int]:
        """Tokens of the question at a control step."""
        prompt = Prompt(self._episode.task, tuple(memory))
        return [token for chunk in self._maker.question(prompt, self._number, step) for token in chunk.tokens]

    def shown(self, step: int) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """What stands at its special tokens, normalised."""
        sections = [name for name in ("image", "proprioception") if name in self._maker.layout.order]
        arrays = self._data.shown([(section, self._number, step) for section in sections])
        found = self._recipe.prepare_shown(arrays, self._device)
        return found.get("pictures", found.get("objects")), found.get("proprioception")


def _source(
    config: CodePlannerTraining, sighted: bool, taught: float
) -> tuple[CodeDemonstrations, str | None]:
    """The dataset, with what auxiliary questions need where they are asked; why they are not, though wanted.

    Args:
        sighted: they are wanted.
        taught: share of steps that had some in its training.
    """
    missing = None
    if sighted and not taught:
        missing = "questions: expected a training with some, got none"
    elif sighted:
        try:
            found = code_source(replace(config, questions=1.0, questions_per_step=len(KINDS)))
            assert isinstance(found, CodeDemonstrations)
            return found, None
        except DatasetError as error:  # without boxes or names; of all else the next line tells
            missing = str(error)
    found = code_source(config)
    assert isinstance(found, CodeDemonstrations)
    return found, missing


def _about_pictures(
    data: CodeData, maker: SampleMaker, numbers: list[int], pictures: int
) -> tuple[list[SightQuestion], str | None]:
    """Auxiliary questions, or why there are none."""
    try:
        return auxiliary_questions(data, maker, numbers, pictures), None
    except ValueError as error:
        return [], str(error)


def _settings(folder: Path, about: Checkpoint, dataset: Path | tuple[Path, ...]) -> CodePlannerTraining:
    """Those of its training, for this dataset."""
    told = about.provenance.get("training")
    if not isinstance(told, dict) or not isinstance(about.config, CodePlannerConfig):
        raise CheckpointError("provenance.training: expected the settings of its training, got none")
    known = {field.name for field in fields(CodePlannerTraining)}
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in told.items()
        if name in known
    }
    places: dict[str, Any] = {"dataset": dataset, "output": folder, "weights": folder}
    return CodePlannerTraining(**values | places | WITHOUT_PROGRAMS)


def _held_out(config: CodePlannerTraining, about: Checkpoint, source: CodeDemonstrations) -> list[int]:
    trained_on, here = about.provenance.get("dataset_sha256"), source.sha256()
    if trained_on != here:
        wanted = f"the one it was trained on, {str(trained_on)[:12]}, or all episodes of another"
        raise DatasetError(f"dataset: expected {wanted}, got {here[:12]}")
    found = split_episodes(len(source), config.val_fraction, config.seed)[1]
    if not found:
        raise DatasetError("episodes: expected some that its training held out, got none")
    return found
