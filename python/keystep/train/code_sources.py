"""Programs as text, and demonstrations with code, as the training of planners that write code takes them.

Both have what `keystep.train.code_planner.CodeSource` lists.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keystep.code.packing import ROW_TOKENS, Chunk, PackedRow, Target, batch, pack, together
from keystep.code.prompt import DEFAULT, PromptLayout
from keystep.code.questions import Question, questions
from keystep.code.samples import SampleMaker, TextEpisode, ToldScene, text_samples
from keystep.code.told import SceneWords
from keystep.data.joined import Dataset
from keystep.data.layout import DatasetError
from keystep.features import Feature
from keystep.files import to_json
from keystep.models.code_planner.config import OBJECT_SLOTS, OBJECTS, CodePlannerConfig
from keystep.suites.base import Suite, tokenizer
from keystep.train.code_language import Language, Sees
from keystep.train.code_samples import (
    BOXES,
    NAMES,
    PROPRIOCEPTION,
    CodeData,
    StepSampling,
    check_room,
    draw_questions,
    half_mirrored,
)
from keystep.train.program_texts import PROGRAMS, distinct, keep_programs, program_texts
from keystep.train.recipe import Windows
from keystep.train.scene_pictures import SCENES, ScenePictures, keep_scenes

GOES_ON_SHARE = 0.25
"""Of the replies of programs in which the last call goes on, how many are learned from."""


class Programs(Language):
    """Stage 1: whole programs of a suite's tasks, without a simulation.

    Args:
        programs: how many, all tasks alike.
        like: a source of stage 2, whose robot and proprioception the checkpoint is to have, and whose share
            of questions and weight of cells count where scenes are told.
        scenes: share of the programs that come with theirs, told to a planner that finds objects.
        kept: see `program_texts`, as also for what is raised.

    Raises:
        ValueError: no program.
    """

    def __init__(
        self,
        suite: Suite,
        programs: int,
        like: CodeDemonstrations,
        max_tokens: int = ROW_TOKENS,
        kept: Path | None = None,
        scenes: float = 0.0,
    ) -> None:
        super().__init__(like.tokenizer, like.layout, like.grid)
        if programs < 1:
            raise ValueError(f"programs: expected at least 1, got {programs}")
        if scenes and not like.names:
            wanted = f"0, as no picture learned from in {like.place} says what is where"
            raise DatasetError(f"scenes: expected {wanted}, got {scenes}")
        self._max_tokens, self.sampling, self.scenes = max_tokens, like.data.sampling, scenes
        self.episodes = program_texts(suite, programs, like.grid, kept)
        self.notes = [
            f"{programs} programs, {distinct(self.episodes)} different: short tasks have few, so that the"
            " held-out ones are in part those of the training"
        ]
        names = list(dict.fromkeys(episode.task for episode in self.episodes))
        self._numbers = {name: number for number, name in enumerate(names)}
        self.tasks = [{"name": name, "instruction": name} for name in names]
        self.collection: dict[str, Any] = {"suite": suite.name, "grid": like.grid, "programs": programs}
        self.names, self.numbers = like.names, like.numbers
        self.proprioception, self.stats = like.proprioception, like.stats
        self.action, self.control_rate_hz = like.action, like.control_rate_hz

    def __len__(self) -> int:
        return len(self.episodes)

    def sha256(self) -> str:
        """Of the texts and the language."""
        digest = hashlib.sha256(to_json(self.language).encode())
        for episode in self.episodes:
            digest.update("\0".join((episode.prompt, *episode.keysteps, "")).encode())
        return digest.hexdigest()

    def rows(self, episodes: list[int], config: Sees) -> ProgramRows:
        maker = self.maker(config)
        texts = ((self.episodes[number].prompt, self.episodes[number].keysteps) for number in episodes)
        words = self._words_of(config) if self.scenes else None
        if self.scenes and words is None:
            wanted = "0, as this network is not told what is where"
            raise ValueError(f"scenes: expected {wanted}, got {self.scenes}")
        if words is not None and not any(can_be_told(one, words) for one in self.episodes):
            wanted = f"0, as every program has an object that is none of {len(words.names)} known names"
            raise DatasetError(f"scenes: expected {wanted}, got {self.scenes}")
        check_room(maker, texts, self._max_tokens, config.context, seen=words is not None)
        return ProgramRows(self, episodes, maker, self._max_tokens, words)

    def _words_of(self, config: Sees) -> SceneWords | None:
        """How a network is told what is where; None of one that is not."""
        if not isinstance(config, CodePlannerConfig) or not config.names or config.picture is None:
            return None
        height, width = (side // 8 for side in config.picture.shape[:2])
        objects = config.image_tokens // config.tokens_of_an_object
        return SceneWords(config.names, config.numbers, (height, width), objects, config.pad_id)

    def save(self, checkpoint: Path) -> None:
        """The programs, for the next call of `Programs` in this run. Raises OSError."""
        keep_programs(checkpoint / PROGRAMS, self.collection["suite"], self.grid, self.episodes)

    def task_numbers(self, episodes: Sequence[int]) -> np.ndarray:
        return np.array([self._numbers[self.episodes[number].task] for number in episodes], np.int64)


def can_be_told(episode: TextEpisode, words: SceneWords) -> bool:
    """Whether the scenes of an episode can be told in these words."""
    return episode.boxes is not None and words.names.keys() >= set(episode.names)


class ProgramRows:
    """`keystep.train.recipe.Windows`: a row, or a part of one, for each program."""

    def __init__(
        self,
        source: Programs,
        episodes: list[int],
        maker: SampleMaker,
        max_tokens: int,
        words: SceneWords | None = None,
    ) -> None:
        self._source, self._episodes, self._maker, self._max_tokens = source, episodes, maker, max_tokens
        self._words = words

    def __len__(self) -> int:
        return len(self._episodes)

    def tasks(self) -> np.ndarray:
        return self._source.task_numbers(self._episodes)

    def batch(self, windows: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Short programs share a row."""
        found = batch(together(self.packed(windows, rng), self._max_tokens))
        found.pop("shown")
        return found

    def packed(self, windows: np.ndarray, rng: np.random.Generator) -> list[PackedRow]:
        """One of each program; of longer ones some samples are left out, others each time."""
        rows = []
        for window in windows:
            number = self._episodes[int(window)]
            episode = self._source.episodes[number]
            scenes = self._scenes(episode, rng)
            weight = self._source.sampling.cell_weight
            samples = list(
                text_samples(self._maker, episode.prompt, episode.keysteps, number, scenes, weight)
            )
            samples = [one for one in samples if _learned(one, rng)]
            order = rng.permutation(len(samples))
            rows.append(next(pack((samples[place] for place in order), self._max_tokens)))
        return rows

    def _scenes(self, episode: TextEpisode, rng: np.random.Generator) -> list[ToldScene]:
        """Of each key-step, or none; some of them with questions."""
        boxes, words, sampling = episode.boxes, self._words, self._source.sampling
        if words is None or boxes is None or not can_be_told(episode, words):
            return []
        if rng.random() >= self._source.scenes:
            return []
        found = []
        for here in boxes:
            about: list[Question] = []
            if rng.random() < sampling.question_share:
                asked = questions(episode.names, here, rng, tuple(words.names), self._source.grid)
                about = draw_questions(asked, sampling.questions_per_step, rng)
            found.append(ToldScene(tuple(words.tell(episode.names, here, rng)), tuple(about)))
        return found


class CodeDemonstrations(Language):
    """Stage 2: the demonstrations of a dataset with code.

    Args:
        suite: whose words the tokenizer has.
        seen, camera, cache: see `CodeData`.
        sight: rows are of pictures alone, and of where in them objects are.

    Attributes:
        texts: programs that are learned beside demonstrations, which alone make a planner forget them.
        texts_each: so many beside each demonstration.
        scenes: for `sight`, as many pictures of which are in a batch as of demonstrations.

    Raises:
        DatasetError: the dataset does not have what is needed, see `CodeData`; or for `sight` places.
    """

    def __init__(
        self,
        dataset: Dataset,
        suite: Suite,
        sampling: StepSampling | None = None,
        layout: PromptLayout = DEFAULT,
        seen: Literal["image", "state"] = "image",
        camera: str = "observation.images.base",
        cache: Path | None = None,
        sight: bool = False,
    ) -> None:
        self._dataset, self._suite, self._sight = dataset, suite, sight
        self.texts: Programs | None = None
        self.texts_each = 0.0
        self.scenes: ScenePictures | None = None
        self.data = CodeData(dataset, sampling or StepSampling(), seen, camera, cache)
        super().__init__(tokenizer(suite, self.data.grid), layout, self.data.grid)
        self.names, self.numbers = self._words() if self.data.placed else ({}, ())
        if sight and not self.names:
            wanted = f"stage: expected text or pictures, as {dataset.path} has no pictures with {BOXES}"
            raise DatasetError(f"{wanted} and {NAMES} of the objects, got sight")
        self._infos = list(dataset.episodes())
        names = sorted({info.task for info in self._infos})
        self._numbers = {name: number for number, name in enumerate(names)}
        self.tasks = [{"name": name, "instruction": name} for name in names]
        self.collection, self.action = dict(dataset.collection), dict(dataset.collection.get("action") or {})
        self.control_rate_hz = float(dataset.info["fps"])
        vector = dataset.vector(PROPRIOCEPTION)
        self.proprioception: Feature | None = None
        if "proprioception" in layout.order:
            elements = tuple(vector.names or (f"state_{number}" for number in range(vector.shape[0])))
            self.proprioception = Feature(PROPRIOCEPTION, "vector", vector.shape, names=elements)
        self.stats = _stats(dataset, seen)

    @property
    def place(self) -> Path:
        """Of the dataset."""
        return self._dataset.path

    def __len__(self) -> int:
        return len(self._infos)

    def sha256(self) -> str:
        """Of the dataset and the language; texts follow from the settings of a training."""
        return hashlib.sha256((self._dataset.sha256() + to_json(self.language)).encode()).hexdigest()

    def rows(self, episodes: list[int], config: CodePlannerConfig) -> Windows:
        if self._sight:
            self.data.open()
            names = tuple(config.names)
            return SightRows(self.data, episodes, self.task_numbers(episodes), names, self.scenes)
        maker = self.maker(config)
        self.data.check(maker, config.context)
        self.data.open()
        texts = self.texts.rows(list(range(len(self.texts))), config) if self.texts else None
        return DemonstrationRows(
            self.data, maker, episodes, self.task_numbers(episodes), texts, self.texts_each
        )

    def save(self, checkpoint: Path) -> None:
        """Texts and scenes, where there are some. Raises OSError."""
        if self.texts:
            self.texts.save(checkpoint)
        if self.scenes:
            keep_scenes(checkpoint / SCENES, self._suite.name, self.scenes)

    def task_numbers(self, episodes: Sequence[int]) -> np.ndarray:
        return np.array([self._numbers[self._infos[number].task] for number in episodes], np.int64)

    def _words(self) -> tuple[dict[str, tuple[int, ...]], tuple[int, ...]]:
        """Of the objects' names and of the grid's numbers, as CodePlannerConfig has them.

        None of either where a number is not one word.
        """
        numbers = [self.tokenizer.encode(str(number)) for number in range(self.grid + 1)]
        if any(len(ids) != 1 for ids in numbers):
            return {}, ()
        names = {name: tuple(self.tokenizer.encode(name)) for name in self.data.names}
        return names, tuple(ids[0] for ids in numbers)


class DemonstrationRows:
    """`keystep.train.recipe.Windows`: a row, or a part of one, for each episode, of other steps each time.

    Beside them `texts_each` times as many programs, drawn from all of `texts`.
    """

    def __init__(
        self,
        data: CodeData,
        maker: SampleMaker,
        episodes: list[int],
        tasks: np.ndarray,
        texts: ProgramRows | None = None,
        texts_each: float = 0.0,
    ) -> None:
        self._data, self._maker, self._episodes, self._tasks = data, maker, episodes, tasks
        self._texts, self._texts_each = texts, texts_each

    def __len__(self) -> int:
        return len(self._episodes)

    def tasks(self) -> np.ndarray:
        return self._tasks

    def batch(self, windows: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `CodeData.batch`; short episodes share a row."""
        numbers = [self._episodes[int(window)] for window in windows]
        rows = [self._data.row(number, self._maker, rng) for number in numbers]
        if self._texts:
            drawn = rng.integers(len(self._texts), size=math.ceil(self._texts_each * len(numbers)))
            rows += self._texts.packed(drawn, rng)
        return self._data.batch(together(rows, self._data.max_tokens))


def _learned(sample: Sequence[Chunk], rng: np.random.Generator) -> bool:
    """What goes on is the last key-step again, and soon known."""
    return sample[-1].target is not Target.GOES_ON or rng.random() < GOES_ON_SHARE


class SightRows:
    """`keystep.train.recipe.Windows`: pictures of some steps of each episode, of others each time.

    Beside them as many of `scenes`, where there are some.
    """

    def __init__(
        self,
        data: CodeData,
        episodes: list[int],
        tasks: np.ndarray,
        names: tuple[str, ...],
        scenes: ScenePictures | None = None,
    ) -> None:
        self._data, self._episodes, self._tasks, self._names = data, episodes, tasks, names
        self._scenes = scenes

    def __len__(self) -> int:
        return len(self._episodes)

    def tasks(self) -> np.ndarray:
        return self._tasks

    def batch(self, windows: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `CodeData.pictures`."""
        numbers = [self._episodes[int(window)] for window in windows]
        found = self._data.pictures(numbers, self._names, rng)
        if self._scenes is None:
            return found
        return _beside(found, self._of_scenes(self._scenes, len(found["pictures"]), rng))

    def _of_scenes(
        self, scenes: ScenePictures, count: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        drawn = rng.integers(len(scenes), size=count)
        pictures = np.moveaxis(scenes.pictures[drawn], -1, 1).astype(np.float32) / 255
        found = {"pictures": pictures, "boxes": scenes.boxes[drawn].copy()}
        return half_mirrored(found | {"named": scenes.named(drawn, self._names)}, self._names, rng)


def _beside(*parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Pictures with their objects, of which they may have other numbers."""
    most = max(part["named"].shape[1] for part in parts)

    def wide(values: np.ndarray) -> np.ndarray:
        found = np.full((len(values), most, *values.shape[2:]), -1, values.dtype)
        found[:, : values.shape[1]] = values
        return found

    parts = tuple({**part, **{name: wide(part[name]) for name in ("boxes", "named")}} for part in parts)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _stats(dataset: Dataset, seen: str) -> dict[str, dict[str, Any]]:
    """Of proprioception, and of the slots of objects: all alike, and whether one is there unchanged."""
    found = {}
    for key in (PROPRIOCEPTION, *((OBJECTS,) if seen == "state" else ())):
        values = {name: np.asarray(value).reshape(-1) for name, value in dataset.stats[key].items()}
        if key == OBJECTS:
            values = {name: values[name] for name in ("min", "max", "mean", "std")} | _alike(values)
        found[key] = {name: value.tolist() for name, value in values.items()}
    return found


def _alike(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Mean and std (slots * values,) of all slots together; of the first value, presence, 0 and 1."""
    mean, std = (values[name].reshape(OBJECT_SLOTS, -1) for name in ("mean", "std"))
    together = mean.mean(axis=0)
    spread = np.sqrt((std**2 + (mean - together) ** 2).mean(axis=0))
    together[0], spread[0] = 0.0, 1.0
    return {"mean": np.tile(together, OBJECT_SLOTS), "std": np.tile(spread, OBJECT_SLOTS)}
