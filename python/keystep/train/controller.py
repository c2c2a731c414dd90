"""Controllers: an observation, and a task or goal, to a chunk of actions."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from keystep.data import ChunkWindows, Dataset
from keystep.data.windows import PADDING
from keystep.models.checkpoint import Checkpoint
from keystep.models.checks import require
from keystep.models.config import ActConfig, DiffusionConfig, flow_sampler
from keystep.models.frames import as_input
from keystep.models.presets import ACT_PRESETS, PRESETS
from keystep.train.actions import ACTION, ActionChoices
from keystep.train.config import ControllerTraining
from keystep.train.normalization import normalize
from keystep.train.observation import observed
from keystep.train.recipe import Windows, statistics
from keystep.train.start import statistics_of, taken_from
from keystep.train.symmetries import SymmetricWindows, symmetries_of


class ControllerRecipe:
    """See `keystep.train.recipe.Recipe`.

    Raises:
        ValueError: no such preset, or the dataset has nothing to see.
    """

    def __init__(self, config: ControllerTraining, reader: Dataset) -> None:
        self._config, self._reader = config, reader
        source = statistics_of(config, reader)
        self._actions = ActionChoices(source.reader, config.hold, config.action_bounds, config.action_law)
        self.notes = self._actions.notes
        self.draft = self._draft(source.reader)
        if source.checkpoint is None:
            self._actions.require_told()
        else:
            self.draft = taken_from(source.checkpoint, self.draft)
            self.notes = source.told
        self.notes += self._told_observations()
        self._normalizer = self.draft.normalizer()
        seen = [feature.key for feature in self._network.observation]
        self._symmetries = symmetries_of(reader, seen) if config.symmetries else ()

    @property
    def text_encoder(self) -> None:
        """None: it is told tasks by number."""

    def windows(self, episodes: list[int]) -> Windows:
        network = self._network
        chunks = ChunkWindows(
            self._reader,
            network.horizon,
            condition=self._config.condition,
            observations=[feature.key for feature in network.observation],
            history=self._config.history,
            chunk_start=network.chunk_start,
            still=self._actions.still(),
            lengths=self._config.chunk_lengths,
            goal_last=self._config.goal_frame == "last",
            episodes=episodes,
            cache=self._config.cache,
        )
        if not self._symmetries:
            return chunks
        vectors = {key: feature.key for key, (feature, _) in network.inputs().items()}
        return SymmetricWindows(chunks, self._symmetries, vectors, self._reader.tasks)

    def prepare(self, arrays: dict[str, np.ndarray], device: torch.device) -> dict[str, torch.Tensor]:
        """Without `action_is_pad` where no row is padding: the loss is then the plain mean, bit for bit."""
        self._normalizer.to(device)
        if PADDING in arrays and not arrays[PADDING].any():
            arrays = {key: value for key, value in arrays.items() if key != PADDING}
        return {key: self._prepare(key, torch.from_numpy(value).to(device)) for key, value in arrays.items()}

    def save_extras(self, output: Path) -> None:
        """Nothing."""

    def _prepare(self, key: str, value: torch.Tensor) -> torch.Tensor:
        if key in ("task", PADDING):
            return value
        if key == ACTION:
            return self._normalizer.normalize(key, value.float())
        feature, _ = self._network.inputs()[key]
        value = self._normalizer.normalize(feature.key, as_input(feature, value))
        noise = self._config.goal_noise if key.startswith("goal.") else 0.0
        return value + noise * torch.randn_like(value) if noise else value  # the step's global generator

    def _told_observations(self) -> list[str]:
        """A line if the dataset observes more than the policy sees, or no planner could give such a goal."""
        seen = [feature.key for feature in self._network.observation]
        keys = [key for key in self._reader.features if key.startswith("observation.") and key not in seen]
        lines = [f"not seen by the policy: {', '.join(keys)}"] if keys else []
        if self._config.condition == "goal" and len(seen) > 1:
            goal = f"the goal is {' and '.join(seen)}, a planner imagines one of them"
            lines.append(f"warning: {goal}: for a hierarchy choose it with --observe and --cameras")
        return lines

    @property
    def _network(self) -> DiffusionConfig | ActConfig:
        assert isinstance(self.draft.config, DiffusionConfig | ActConfig)
        return self.draft.config

    def _draft(self, measured: Dataset) -> Checkpoint:
        config, reader = self._config, self._reader
        presets: dict[str, DiffusionConfig | ActConfig] = {**PRESETS, **ACT_PRESETS}
        if config.preset not in presets:
            raise ValueError(f"preset: expected one of {', '.join(presets)}, got {config.preset!r}")
        told = config.condition == "task"
        network = dataclasses.replace(
            presets[config.preset],
            action_dim=len(self._actions.spec["names"]),
            horizon=config.horizon or presets[config.preset].horizon,
            execute=config.execute or presets[config.preset].execute,
            chunk_start=config.chunk_start,
            observation=observed(config, reader),
            goal="observation" if config.condition == "goal" else "none",
            tasks=len(reader.tasks) if told else 0,
        )
        _check_lengths(config, network)
        if config.rtc:
            if not isinstance(network, DiffusionConfig):
                raise ValueError(f"rtc: expected 0 ({config.preset} takes one step), got {config.rtc}")
            most = network.horizon - network.chunk_start - 1
            require(config.rtc <= most, "rtc", f"0..{most} (a chunk has a new row)", config.rtc)
            network = dataclasses.replace(network, max_delay=config.rtc)
        if config.sampler == "flow_euler":
            if not isinstance(network, DiffusionConfig):
                why = f"preset ({config.preset} takes one step)"
                raise ValueError(f"sampler: expected {why}, got flow_euler")
            network = dataclasses.replace(network, sampler=flow_sampler(network.sampler))
        normalized = normalize(
            network, measured, statistics(measured), config.normalization, config.cache, self._actions.still()
        )
        self.notes += normalized.notes
        return Checkpoint(
            config=normalized.network,
            stats=normalized.stats,
            tasks=reader.tasks if told else [],
            action=self._actions.spec,
            control_rate_hz=float(reader.info["fps"]),
            provenance={},
            normalization=normalized.modes,
        )


def _check_lengths(config: ControllerTraining, network: DiffusionConfig | ActConfig) -> None:
    """Of chunks that end on a goal. Raises ConfigError."""
    if network.goal == "none":
        return
    shortest, longest = config.chunk_lengths
    ahead = network.horizon - network.chunk_start
    wanted = f"1 <= shortest <= longest <= {ahead} (horizon - chunk_start)"
    require(1 <= shortest <= longest <= ahead, "chunk_lengths", wanted, config.chunk_lengths)
