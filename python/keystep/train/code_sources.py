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

from keystep.code.packing import ROW_TOKENS, PackedRow, batch, pack, together
from keystep.code.prompt import DEFAULT, PromptLayout
from keystep.code.samples import SampleMaker, text_samples
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
)
from keystep.train.program_texts import PROGRAMS, distinct, keep_programs, program_texts
from keystep.train.recipe import Windows


class Programs(Language):
    """Stage 1: whole programs of a suite's tasks, without a simulation.

    Args:
        programs: how many, all tasks alike.
        like: a source of stage 2, whose robot and proprioception the checkpoint is to have.
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
    ) -> None:
        super().__init__(like.tokenizer, like.layout, like.grid)
        if programs < 1:
            raise ValueError(f"programs: expected at least 1, got {programs}")
        self._max_tokens = max_tokens
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
        check_room(maker, texts, self._max_tokens, config.context, seen=False)
        return ProgramRows(self, episodes, maker, self._max_tokens)

    def save(self, checkpoint: Path) -> None:
        """The programs, for the next call of `Programs` in this run. Raises OSError."""
        keep_programs(checkpoint / PROGRAMS, self.collection["suite"], self.grid, self.episodes)

    def task_numbers(self, episodes: Sequence[int]) -> np.ndarray:
        return np.array([self._numbers[self.episodes[number].task] for number in episodes], np.int64)


class ProgramRows:
    """`keystep.train.recipe.Windows`: a row, or a part of one, for each program."""

    def __init__(self, source: Programs, episodes: list[int], maker: SampleMaker, max_tokens: int) -> None:
        self._source, self._episodes, self._maker, self._max_tokens = source, episodes, maker, max_tokens

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
            samples = list(text_samples(self._maker, episode.prompt, episode.keysteps, number))
            order = rng.permutation(len(samples))
            rows.append(next(pack((samples[place] for place in order), self._max_tokens)))
        return rows


class CodeDemonstrations(Language):
    """Stage 2: the demonstrations of a dataset with code.

    Args:
        suite: whose words the tokenizer has.
        seen, camera, cache: see `CodeData`.
        sight: rows are of pictures alone, and of where in them objects are.

    Attributes:
        texts: programs that are learned beside demonstrations, which alone make a planner forget them.
        texts_each: so many beside each demonstration.

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
        self._dataset, self._sight = dataset, sight
        self.texts: Programs | None = None
        self.texts_each = 0.0
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

    def __len__(self) -> int:
        return len(self._infos)

    def sha256(self) -> str:
        """Of the dataset and the language; texts follow from the settings of a training."""
        return hashlib.sha256((self._dataset.sha256() + to_json(self.language)).encode()).hexdigest()

    def rows(self, episodes: list[int], config: CodePlannerConfig) -> Windows:
        if self._sight:
            self.data.open()
            return SightRows(self.data, episodes, self.task_numbers(episodes), tuple(config.names))
        maker = self.maker(config)
        self.data.check(maker, config.context)
        self.data.open()
        texts = self.texts.rows(list(range(len(self.texts))), config) if self.texts else None
        return DemonstrationRows(
            self.data, maker, episodes, self.task_numbers(episodes), texts, self.texts_each
        )

    def save(self, checkpoint: Path) -> None:
        """The texts, where there are some. Raises OSError."""
        if self.texts:
            self.texts.save(checkpoint)

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


class SightRows:
    """`keystep.train.recipe.Windows`: pictures of some steps of each episode, of others each time."""

    def __init__(
        self, data: CodeData, episodes: list[int], tasks: np.ndarray, names: tuple[str, ...]
    ) -> None:
        self._data, self._episodes, self._tasks, self._names = data, episodes, tasks, names

    def __len__(self) -> int:
        return len(self._episodes)

    def tasks(self) -> np.ndarray:
        return self._tasks

    def batch(self, windows: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `CodeData.pictures`."""
        numbers = [self._episodes[int(window)] for window in windows]
        return self._data.pictures(numbers, self._names, rng)


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
