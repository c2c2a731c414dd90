"""What a run takes from elsewhere: the weights it starts from, and the statistics that its numbers mean."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from keystep.data import Dataset, DatasetError, DatasetReader
from keystep.data.joined import JoinedDatasets, check_same_world
from keystep.files import sha256
from keystep.models.checkpoint import Checkpoint, load_model, network_modes, read_checkpoint
from keystep.models.code_planner.config import CodePlannerConfig
from keystep.models.planner_config import PlannerConfig
from keystep.train.config import TrainConfig

WEIGHTS = "model.safetensors"
_OF_STATISTICS = ("clip_range",)  # of a sampler: follows from the statistics


@dataclass(frozen=True)
class Statistics:
    """Where the numbers of a network get their meaning.

    Attributes:
        reader: the dataset that is measured; the training data themselves, or others of the same world.
        checkpoint: in place of a measurement: what these weights mean; None without one.
    """

    reader: Dataset
    checkpoint: Checkpoint | None = None

    @property
    def told(self) -> list[str]:
        """A line for who trains."""
        if self.checkpoint is not None:
            return ["statistics and actions: those of the checkpoint"]
        return []


def statistics_of(config: TrainConfig, reader: Dataset) -> Statistics:
    """The training data's own, unless `config.statistics` or `config.weights` name others.

    Raises:
        DatasetError: neither a checkpoint nor a dataset, or a dataset of another world.
        ValueError: choices beside a checkpoint, which has made them.
    """
    place = config.statistics or config.weights
    if place is None:
        return Statistics(reader)
    if (place / "policy.json").exists():
        _no_choices(config, place)
        return Statistics(reader, read_checkpoint(place))
    if not (place / "meta" / "info.json").exists():
        name = "statistics" if config.statistics else "weights"
        wanted = "a checkpoint (policy.json)" + (
            " or a dataset (meta/info.json)" if config.statistics else ""
        )
        raise DatasetError(f"{name}: expected {wanted}, got {place}")
    other = DatasetReader(place)
    check_same_world(other, reader)
    return Statistics(other)


def _no_choices(config: TrainConfig, place: Path) -> None:
    for name in ("normalization", "hold", "action_bounds", "action_law"):
        if getattr(config, name, None):
            raise ValueError(f"{name}: expected none, as {place} has made this choice, got one")


def taken_from(checkpoint: Checkpoint, draft: Checkpoint) -> Checkpoint:
    """`draft` with the statistics, the normalisation, the clip range and the actions of a checkpoint.

    Raises:
        DatasetError: what differs, by field.
    """
    _require("statistics.kind", _family(draft), _family(checkpoint))
    mine = {feature.key: feature for feature in draft.observation}
    theirs = {feature.key: feature for feature in checkpoint.observation}
    for key, feature in mine.items():
        _require(f"statistics.observation.{key}", feature, theirs.get(key))
    for name in ("names", "law"):
        if name in checkpoint.action:
            _require(f"statistics.action.{name}", draft.action[name], checkpoint.action[name])
    _require("statistics.control_rate_hz", draft.control_rate_hz, checkpoint.control_rate_hz)
    config: Any = draft.config
    given: Any = checkpoint.config
    if hasattr(config, "sampler") and hasattr(given, "sampler"):
        clip = given.sampler.clip_range
        config = dataclasses.replace(config, sampler=dataclasses.replace(config.sampler, clip_range=clip))
    action = {**draft.action, **checkpoint.action}
    return dataclasses.replace(
        draft, config=config, stats=checkpoint.stats, normalization=checkpoint.normalization, action=action
    )


def start_from(folder: Path, draft: Checkpoint, model: Any) -> str:
    """Loads the checkpoint's weights, those that are exported, into `model`.

    Returns:
        The digest of the weights.

    Raises:
        CheckpointError: missing or damaged.
        DatasetError: the checkpoint is of another network, actions, tasks or text encoder: which field.
    """
    trained, checkpoint = load_model(folder)
    _require("weights.kind", draft.kind, checkpoint.kind)
    mine, theirs = draft.config.to_dict(), checkpoint.config.to_dict()
    widened = not theirs.get("max_delay") and bool(mine.get("max_delay"))
    for name in (key for key in mine if key != "max_delay" or not widened):
        _require(f"weights.{name}", _network(mine[name]), _network(theirs.get(name)))
    modes = [network_modes(level.config) | level.normalization for level in (checkpoint, draft)]
    _require("weights.normalization", *modes)  # by which the weights were trained
    _require("weights.action.names", draft.action["names"], checkpoint.action["names"])
    told = isinstance(draft.config, PlannerConfig | CodePlannerConfig)  # in words
    if draft.tasks and not told:
        _require("weights.tasks", draft.tasks, checkpoint.tasks)
    _require("weights.control_rate_hz", draft.control_rate_hz, checkpoint.control_rate_hz)
    model.load_state_dict(_with_mask(trained.state_dict(), model) if widened else trained.state_dict())
    return sha256(folder / WEIGHTS)


def _with_mask(weights: dict[str, Any], model: Any) -> dict[str, Any]:
    """Of a network without an input for a mask: it starts with weights of 0, so that nothing changes."""
    found, state = dict(weights), model.state_dict()
    if found.keys() != state.keys():
        wanted = "one trained with --rtc, as its first width is the number of actions or one more"
        raise DatasetError(f"weights.max_delay: expected {wanted}, got 0")
    for name, wanted in state.items():
        if found[name].shape != wanted.shape:
            found[name] = torch.cat([found[name], torch.zeros_like(found[name][:, :1])], dim=1)
    return found


def subject(reader: Dataset, draft: Checkpoint, weights: str | None) -> dict[str, Any]:
    """What a run is about besides its settings: digests of its data and of the weights it starts from."""
    found = {"dataset_sha256": reader.sha256(), "action_law": draft.action["law"], "weights_sha256": weights}
    if isinstance(reader, JoinedDatasets):
        found["datasets_sha256"] = [part.sha256() for part in reader.readers]
    return found


def _network(value: Any) -> Any:
    """Without what follows from the statistics."""
    if not isinstance(value, dict):
        return value
    return {key: part for key, part in value.items() if key not in _OF_STATISTICS}


def _family(checkpoint: Checkpoint) -> str:
    return "planner" if isinstance(checkpoint.config, PlannerConfig) else "controller"


def _require(field: str, expected: Any, got: Any) -> None:
    if expected != got:
        raise DatasetError(f"{field}: expected {expected!r:.200}, got {got!r:.200}")
