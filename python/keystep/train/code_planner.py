"""Planners that write code: packed rows of prompts and replies, with what is seen in them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch

from keystep.code.prompt import LAYOUTS
from keystep.code.samples import StepWeights
from keystep.data import DatasetError, open_datasets
from keystep.features import Feature
from keystep.files import write_json
from keystep.models.checkpoint import Checkpoint, read_checkpoint
from keystep.models.code_planner.config import OBJECTS, CodePlannerConfig
from keystep.models.code_planner.presets import CODE_PLANNER_PRESETS
from keystep.models.observing import camera_feature
from keystep.suites import suite_named
from keystep.train.actions import ActionChoices
from keystep.train.code_language import LANGUAGE, check_language
from keystep.train.code_planner_config import CodePlannerTraining
from keystep.train.code_samples import StepSampling
from keystep.train.code_seen import shown_tensors
from keystep.train.code_sources import CodeDemonstrations, Programs
from keystep.train.program_texts import PROGRAMS
from keystep.train.recipe import Windows
from keystep.train.scene_pictures import SCENES, scene_pictures
from keystep.train.start import taken_from

ARRAYS = ("tokens", "positions", "mask", "targets", "weights")
PLACES = ("boxes", "named")


class CodeSource(Protocol):
    """Episodes that a planner learns to write the code of.

    Attributes:
        tasks: {"name", "instruction"} by number.
        collection: how they were made.
        vocabulary: ids of the tokeniser; ids: of its special tokens, pad_id, end_id, image_id and
            proprioception_id.
        names, numbers: of objects that are found in pictures, and of the grid that says where, as of
            CodePlannerConfig; {} and () where pictures do not come with boxes.
        proprioception: the vector of that token; None where there is none.
        stats: of that vector, and of `OBJECTS`: those of every slot alike, of whether it is there mean 0 and
            std 1.
        action, control_rate_hz: of the robot, for the checkpoint.
    """

    tasks: list[dict[str, str]]
    collection: dict[str, Any]
    vocabulary: int
    ids: dict[str, Any]
    names: dict[str, tuple[int, ...]]
    numbers: tuple[int, ...]
    proprioception: Feature | None
    stats: dict[str, dict[str, Any]]
    action: dict[str, Any]
    control_rate_hz: float

    def __len__(self) -> int:
        """Episodes."""
        ...

    def sha256(self) -> str:
        """Of all that the samples depend on."""
        ...

    def told_to(self, network: CodePlannerConfig) -> dict[str, Any]:
        """JSON values that say the tokeniser and the layout of this network's prompts, see `LANGUAGE`."""
        ...

    def rows(self, episodes: list[int], config: CodePlannerConfig) -> Windows:
        """Packed rows of some episodes.

        A batch holds tokens, positions, targets [B, T] int64, mask [B, T, T] bool, weights [B, T] float32, as
        `CodePlanner.loss` takes them, and, where tokens ask for them, pictures [N, 3, H, W] float32 in [0, 1]
        or uint8, or objects [N, slots, values], and proprioception [M, P]. Or, in place
        of all that, pictures with boxes [N, objects, 4] float32 and named [N, objects] int64: places in the
        network's names.
        """
        ...


class CodePlannerRecipe:
    """See `keystep.train.recipe.Recipe`.

    Raises:
        ValueError: no such preset; stage sight of a network that finds no objects.
        ConfigError: the network and the source do not fit.
        CheckpointError, DatasetError: the checkpoint to start from cannot be read, or has another language.
    """

    text_encoder = None

    def __init__(self, config: CodePlannerTraining, source: CodeSource) -> None:
        self._source = source
        self.notes = [
            f"{len(source)} episodes of {len(source.tasks)} tasks, {source.vocabulary} ids of tokens",
            *getattr(source, "notes", ()),
        ]
        draft = self._draft(config)
        network = draft.config
        assert isinstance(network, CodePlannerConfig)
        self._language = source.told_to(network)
        sees = False
        if config.weights is not None:
            trained = read_checkpoint(config.weights)
            sees = _sees(trained)
            if not isinstance(trained.config, CodePlannerConfig):
                raise DatasetError(f"weights.kind: expected {draft.kind}, got {trained.kind}")
            check_language(config.weights, self._language)
            draft = taken_from(trained, draft)
            network = _with_names_of(trained.config, network)
        if config.stage == "sight" and not network.names:
            wanted = f"text or pictures, as the preset {config.preset} is not told what is where"
            raise ValueError(f"stage: expected {wanted}, got sight")
        if network.names:
            objects, each = network.image_tokens // network.tokens_of_an_object, network.tokens_of_an_object
            self.notes.append(
                f"of a picture {objects} objects are told, in {each} tokens each; {len(network.names)} names"
            )
        if config.stage == "pictures" and network.names and not sees:
            self.notes.append("weights: of stage sight none, so that what it says it finds stays a guess")
        self.draft = replace(draft, config=network)
        self._normalizer = self.draft.normalizer()

    def windows(self, episodes: list[int]) -> Windows:
        network = self.draft.config
        assert isinstance(network, CodePlannerConfig)
        return self._source.rows(episodes, network)

    def prepare(self, arrays: dict[str, np.ndarray], device: torch.device) -> dict[str, torch.Tensor]:
        """See `shown_tensors`."""
        given = [name for name in (*ARRAYS, *PLACES) if name in arrays]
        batch = {name: torch.from_numpy(arrays[name]).to(device) for name in given}
        return batch | self.prepare_shown(arrays, device)

    def prepare_shown(self, arrays: dict[str, np.ndarray], device: torch.device) -> dict[str, torch.Tensor]:
        """Of a batch, what is seen."""
        network = self.draft.config
        assert isinstance(network, CodePlannerConfig)
        self._normalizer.to(device)
        return shown_tensors(arrays, network, self._normalizer, device)

    def save_extras(self, output: Path) -> None:
        write_json(output / LANGUAGE, self._language)
        if isinstance(self._source, Programs | CodeDemonstrations):
            self._source.save(output)

    def _draft(self, config: CodePlannerTraining) -> Checkpoint:
        source = self._source
        preset = preset_of(config)
        seen = preset.objects
        if preset.picture is not None:
            name = preset.picture.key.rpartition(".")[2]
            seen = camera_feature(name, config.image_size, config.image_size)
        assert seen is not None
        felt = (source.proprioception,) if config.proprioception and source.proprioception else ()
        network = replace(preset, observation=(seen, *felt), vocabulary=source.vocabulary, **source.ids)
        if source.names and _can_find(network):
            network = _finding(network, source.names, source.numbers)
        modes = {feature.key: "identity" for feature in network.images}
        stats = {key: source.stats[key] for key in (OBJECTS, *(f.key for f in felt)) if key in source.stats}
        return Checkpoint(
            config=network,
            stats=stats,
            tasks=source.tasks,
            action=source.action,
            control_rate_hz=source.control_rate_hz,
            provenance={},
            normalization=modes,
        )


def code_source(config: CodePlannerTraining) -> CodeSource:
    """The source that a configuration names.

    Raises:
        DatasetError: the dataset cannot be read, or has no code, no such pictures or no objects.
        ValueError: no such preset or layout; pictures of another size.
    """
    network = preset_of(config)
    if config.layout not in LAYOUTS:
        raise ValueError(f"layout: expected one of {', '.join(LAYOUTS)}, got {config.layout!r}")
    reader = open_datasets(config.dataset)
    suite = suite_named(reader.collection.get("suite", "tabletop"))
    sampling = StepSampling(
        config.steps_per_row,
        StepWeights(config.keystep_weight, config.border_weight, config.border_steps),
        config.requests,
        config.questions,
        config.questions_per_step,
        config.row_tokens,
        config.cell_weight,
    )
    camera = network.picture.key if network.picture else ""
    size = reader.features[camera].shape[:2] if camera in reader.features else ()
    if size and size != (config.image_size, config.image_size):
        raise ValueError(f"image_size: expected {size}, the dataset's, got {config.image_size}")
    seen: Literal["image", "state"] = "image" if camera else "state"
    layout = LAYOUTS[config.layout]
    sight = config.stage == "sight"
    found = CodeDemonstrations(reader, suite, sampling, layout, seen, camera, config.cache, sight)
    found.action = ActionChoices(reader).spec
    if config.scene_pictures:
        kept = config.output / SCENES
        found.scenes = scene_pictures(suite, config.scene_pictures, config.image_size, kept)
    if config.stage == "sight" or (config.stage == "pictures" and not config.texts):
        return found
    kept = config.output / PROGRAMS
    texts = Programs(suite, config.programs, found, config.row_tokens, kept, config.scenes)
    if config.stage == "text":
        return texts
    found.texts, found.texts_each = texts, config.texts
    return found


def _sees(trained: Checkpoint) -> bool:
    """Whether these weights know what is where."""
    told = trained.provenance.get("training")
    return isinstance(told, dict) and told.get("stage") in ("sight", "pictures")


def _can_find(network: CodePlannerConfig) -> bool:
    """Whether objects are found in what it sees, where it is told which there are."""
    return network.picture is not None and network.network == "own"


def _finding(
    network: CodePlannerConfig, names: dict[str, tuple[int, ...]], numbers: tuple[int, ...]
) -> CodePlannerConfig:
    """With as many objects as the tokens of its picture suffice for, at least one, at most one per cell."""
    assert network.picture is not None
    each = max(map(len, names.values())) + 2
    cells = math.prod(side // 8 for side in network.picture.shape[:2])
    objects = min(max(network.image_tokens // each, 1), max(cells, 1))
    return replace(network, names=names, numbers=numbers, image_tokens=objects * each)


def _with_names_of(trained: CodePlannerConfig, network: CodePlannerConfig) -> CodePlannerConfig:
    """With the names that the weights know: a source may have fewer, but no others.

    Raises:
        DatasetError: it has others.
    """
    if not _can_find(network):
        return network  # other weights fit it no better
    unknown = sorted(set(network.names) - set(trained.names))
    if unknown and not trained.names:
        wanted = "some, as the dataset says where objects are in its pictures"
        raise DatasetError(f"weights.names: expected {wanted}, got none")
    if unknown:
        wanted = f"objects that are some of {_few(list(trained.names))} (the weights')"
        raise DatasetError(f"weights.names: expected {wanted}, got {_few(unknown)}")
    if not trained.names:
        return network
    tokens = trained.image_tokens
    return replace(network, names=trained.names, numbers=trained.numbers, image_tokens=tokens)


def _few(names: list[str], most: int = 8) -> str:
    """In one line, however many there are."""
    more = [f"{len(names) - most} more"] if len(names) > most else []
    return ", ".join([*names[:most], *more])


def preset_of(config: CodePlannerTraining) -> CodePlannerConfig:
    """Raises ValueError for an unknown one."""
    if config.preset not in CODE_PLANNER_PRESETS:
        known = ", ".join(CODE_PLANNER_PRESETS)
        raise ValueError(f"preset: expected one of {known}, got {config.preset!r}")
    return CODE_PLANNER_PRESETS[config.preset]
