"""Planners: an observation and a goal in words to M subgoals."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from keystep.data import Dataset, PlanWindows
from keystep.models.checkpoint import TEXT_ENCODER, Checkpoint
from keystep.models.frames import as_input
from keystep.models.planner_config import PlannerConfig
from keystep.models.presets import PLANNER_PRESETS
from keystep.models.text import load_text_encoder
from keystep.suites import suite_named
from keystep.suites.base import parts
from keystep.train.actions import ActionChoices
from keystep.train.config import PlannerTraining
from keystep.train.normalization import normalize
from keystep.train.observation import feature_of
from keystep.train.recipe import Windows, statistics
from keystep.train.start import statistics_of, taken_from
from keystep.train.symmetries import SymmetricWindows, symmetries_of

SENTENCES = 4
"""In which a batch tells a task: the goal of each is computed once, a quarter of a state planner's work."""


class PlannerRecipe:
    """See `keystep.train.recipe.Recipe`. Every example is told in one of its task's phrasings, drawn anew.

    Raises:
        ValueError: no such preset, or the dataset has no such observation.
    """

    def __init__(self, config: PlannerTraining, reader: Dataset) -> None:
        self._config, self._reader = config, reader
        self._suite = suite_named(reader.collection.get("suite", "franka3blocks"))
        self.text_encoder = load_text_encoder(_text_encoder(config))
        source = statistics_of(config, reader)
        self.notes: list[str] = []
        self.draft = self._draft(source.reader)
        if source.checkpoint is not None:
            self.draft = taken_from(source.checkpoint, self.draft)
            self.notes = source.told
        self._normalizer = self.draft.normalizer()
        self._symmetries = symmetries_of(reader, [config.subgoal]) if config.symmetries else ()
        phrasings = [self._phrasings(task) for task in reader.tasks]
        # The encoder is frozen: each sentence is encoded once.
        self._texts = self.text_encoder.encode([text for texts in phrasings for text in texts])
        counts = np.array([len(texts) for texts in phrasings])
        self._first, self._counts = np.cumsum(counts) - counts, counts

    def windows(self, episodes: list[int]) -> _TextWindows:
        config = self._config
        plans: Windows = PlanWindows(
            self._reader,
            config.subgoal,
            config.subgoals,
            config.steps_per_subgoal,
            latest_start=config.latest_start,
            episodes=episodes,
            cache=config.cache,
        )
        if self._symmetries:
            vectors = dict.fromkeys(("observation", "subgoals"), config.subgoal)
            plans = SymmetricWindows(plans, self._symmetries, vectors, self._reader.tasks)
        return _TextWindows(plans, self._first, self._counts)

    def prepare(self, arrays: dict[str, np.ndarray], device: torch.device) -> dict[str, torch.Tensor]:
        self._normalizer.to(device)
        if self._texts.device != device:
            self._texts = self._texts.to(device)
        sentences, told = torch.from_numpy(arrays["text"]).to(device).unique(return_inverse=True)
        batch = {"text": self._texts[sentences], "sentence": told}
        (feature,) = self.draft.observation
        for key in ("observation", "subgoals"):
            value = torch.from_numpy(arrays[key]).to(device)
            batch[key] = self._normalizer.normalize(feature.key, as_input(feature, value))
        return batch

    def save_extras(self, output: Path) -> None:
        folder = output / TEXT_ENCODER
        if not folder.exists():
            self.text_encoder.save(folder)

    def _phrasings(self, task: dict[str, str]) -> tuple[str, ...]:
        with suppress(KeyError):
            if self._config.phrasings:
                return self._suite.phrasings(task["name"])
        return (task["instruction"],)

    def _draft(self, measured: Dataset) -> Checkpoint:
        config, reader = self._config, self._reader
        if config.preset not in PLANNER_PRESETS:
            known = ", ".join(PLANNER_PRESETS)
            raise ValueError(f"preset: expected one of {known}, got {config.preset!r}")
        action = ActionChoices(measured).spec  # the bundle tells what the policy does
        if config.subgoal not in reader.features:
            known = ", ".join(key for key in reader.features if key.startswith("observation."))
            raise ValueError(f"subgoal: expected one of {known}, got {config.subgoal!r}")
        preset = PLANNER_PRESETS[config.preset]
        grouped = parts(self._suite, config.subgoal)
        if len(grouped) != reader.features[config.subgoal].shape[0]:  # another vector of that name
            grouped = ()
        network: PlannerConfig = dataclasses.replace(
            preset,
            transformer=dataclasses.replace(preset.transformer, parts=grouped),
            observation=(feature_of(reader, config.subgoal),),
            subgoals=config.subgoals,
            steps_per_subgoal=config.steps_per_subgoal,
            text_tokens=self.text_encoder.tokens,
            text_width=self.text_encoder.width,
        )
        normalized = normalize(network, measured, statistics(measured), config.normalization, config.cache)
        self.notes += normalized.notes
        return Checkpoint(
            config=normalized.network,
            stats=normalized.stats,
            tasks=reader.tasks,
            action=action,
            control_rate_hz=float(reader.info["fps"]),
            provenance={},
            normalization=normalized.modes,
        )


def _text_encoder(config: PlannerTraining) -> str | Path:
    """Of the run to be continued, as a name may mean another by then; else of the weights it starts from."""
    for folder in (config.output, config.weights):
        if folder is not None and (folder / TEXT_ENCODER).exists():
            return folder / TEXT_ENCODER
    return config.text_encoder


class _TextWindows:
    """Plans with the number of a sentence that tells their task; a batch tells a task in few of them."""

    def __init__(self, plans: Windows, first: np.ndarray, counts: np.ndarray) -> None:
        self._plans, self._first, self._counts = plans, first, counts

    def __len__(self) -> int:
        return len(self._plans)

    def tasks(self) -> np.ndarray:
        return self._plans.tasks()

    def batch(self, windows: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        batch = self._plans.batch(windows, rng)
        task = batch.pop("task")
        told = rng.integers(self._counts[:, None], size=(len(self._counts), SENTENCES))
        return batch | {"text": self._first[task] + told[task, rng.integers(SENTENCES, size=len(task))]}
