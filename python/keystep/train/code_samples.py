"""What a planner that writes code learns from: texts of a suite, and steps of a dataset with code.

`keystep.code.samples` says what samples are; here they become rows and batches.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keystep.code.grid import cell, grid_of
from keystep.code.packing import ROW_TOKENS, Chunk, PackedRow, batch, pack
from keystep.code.questions import KINDS, SCENE, Question, questions
from keystep.code.samples import (
    CodeEpisode,
    SampleMaker,
    StepWeights,
    draw_steps,
    step_samples,
    text_samples,
)
from keystep.data.cache import mapped_columns
from keystep.data.joined import Dataset
from keystep.data.layout import DatasetError
from keystep.models.code_planner.config import OBJECT_SLOTS, OBJECTS
from keystep.suites.base import Suite, texts

CODE, KEYSTEP, BOXES, NAMES = "code", "keystep", "objects.boxes", "names"
PROPRIOCEPTION = "observation.state"
SIDES = {"left", "right"}
"""Words of names that a mirror makes wrong."""


@dataclass(frozen=True)
class StepSampling:
    """Which steps of a dataset, and what about them.

    Attributes:
        steps_per_episode: drawn at a time.
        weights: how often which.
        requests: at key-steps, also ask for them.
        question_share: of the steps drawn, how many have auxiliary questions.
        questions_per_step: those that have some, beside the one about the scene; of as many kinds.
        max_tokens: of a row.
        cell_weight: of the numbers of cells in the loss, beside 1 of other tokens.
    """

    steps_per_episode: int = 16
    weights: StepWeights = field(default_factory=StepWeights)
    requests: bool = True
    question_share: float = 0.1
    questions_per_step: int = 2
    max_tokens: int = ROW_TOKENS
    cell_weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.cell_weight < math.inf:
            raise ValueError(f"cell_weight: expected more than 0, got {self.cell_weight}")
        for name in ("steps_per_episode", "questions_per_step", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.questions_per_step > len(KINDS):
            raise ValueError(f"questions_per_step: expected 1 to {len(KINDS)}, got {self.questions_per_step}")
        if not 0 <= self.question_share <= 1:
            raise ValueError(f"question_share: expected 0 to 1, got {self.question_share}")


def text_rows(
    suite: Suite, tasks: Sequence[str] | None, maker: SampleMaker, grid: int, max_tokens: int = ROW_TOKENS
) -> Iterator[PackedRow]:
    """Stage 1, without end. Raises ArgumentError for a suite without code."""

    def samples() -> Iterator[list[Chunk]]:
        for episode in texts(suite, tasks, grid):
            yield from text_samples(maker, episode.prompt, episode.keysteps, (episode.task, episode.seed))

    return pack(samples(), max_tokens)


def check_room(
    maker: SampleMaker,
    episodes: Iterable[tuple[str, Sequence[str]]],
    max_tokens: int,
    context: int,
    seen: bool = True,
) -> None:
    """Raises ValueError where an episode, its task and its key-steps, has a sample that fits in no row.

    Args:
        context: most tokens of a sample, of a network.
        seen: see `SampleMaker.longest`.
    """
    longest = max((maker.longest(*episode, seen) for episode in episodes), default=0)
    for name, most in {"row_tokens": max_tokens, "context": context}.items():
        if longest > most:
            raise ValueError(
                f"{name}: expected at least {longest} tokens, for the longest sample, got {most}"
            )


def draw_questions(found: Sequence[Question], kinds: int, rng: np.random.Generator) -> list[Question]:
    """Of those about a picture one about the scene, and one each of so many other kinds."""
    drawn = [SCENE, *rng.choice(KINDS, size=kinds, replace=False)]
    by_kind = [[one for one in found if one.kind == kind] for kind in drawn]
    return [some[int(rng.integers(len(some)))] for some in by_kind if some]


class CodeData:
    """Stage 2: the demonstrations of a dataset.

    Args:
        dataset: with the columns `code` and `keystep`; for questions with boxes and names of the objects.
        seen: what stands at a picture's place: "image", or "state" for the objects' states, one token each.
        camera: whose pictures.
        cache: see `keystep.data.cache.mapped_columns`; filled when it is needed, or by `open`.

    Attributes:
        sampling: as given.
        names: of the objects, sorted.
        placed: it is known where in its pictures objects are.
        grid: in whose cells the code says places.
        max_tokens: of a row.

    Raises:
        DatasetError: a column or names are missing, or the code is no trace.
    """

    def __init__(
        self,
        dataset: Dataset,
        sampling: StepSampling,
        seen: Literal["image", "state"] = "image",
        camera: str = "observation.images.base",
        cache: Path | None = None,
    ) -> None:
        self.sampling, self._seen = sampling, camera if seen == "image" else OBJECTS
        self._dataset, self._cache, self.max_tokens = dataset, cache, sampling.max_tokens
        there = seen == "image" and BOXES in dataset.features
        boxes = (BOXES,) if sampling.question_share or there else ()
        self._mapped = (PROPRIOCEPTION, self._seen, *boxes)
        for column in (CODE, KEYSTEP, *self._mapped):
            if column not in dataset.features:
                known = ", ".join(dataset.features)
                raise DatasetError(f"{dataset.path}: expected the column {column}, found only {known}")
        try:
            self.grid = grid_of(dataset.collection)
            self.episodes, self._starts = _episodes(dataset)
            self.names = tuple(sorted({name for episode in self.episodes for name in episode.names}))
            self.placed = there and all(episode.names for episode in self.episodes)
            if sampling.question_share or self.placed:
                _check_names(self.episodes, dataset.features[BOXES].shape[0] // 4)
        except ValueError as error:
            raise DatasetError(f"{dataset.path}: {error}") from None

    def open(self) -> None:
        """Makes what is seen ready. Raises DatasetError: it cannot be read, or there is no place for it."""
        self._columns  # noqa: B018

    @cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        return mapped_columns(self._dataset, self._mapped, self._cache)

    def check(self, maker: SampleMaker, context: int) -> None:
        """That all samples can be learned.

        Args:
            context: most tokens of a sample, of a network.

        Raises:
            DatasetError: objects take another number of tokens.
            ValueError: a sample does not fit in a row, or in the context.
        """
        if self._seen == OBJECTS and maker.image_tokens != OBJECT_SLOTS:
            raise DatasetError(f"image_tokens: expected {OBJECT_SLOTS} for states, got {maker.image_tokens}")
        episodes = ((episode.task, episode.memory(len(episode.codes))) for episode in self.episodes)
        check_room(maker, episodes, self.max_tokens, context)

    def rows(self, maker: SampleMaker, rng: np.random.Generator) -> Iterator[PackedRow]:
        """Rows without end: all episodes in a new order each time, other steps of them each time."""
        return self._packed(self._samples(maker, rng))

    def row(self, number: int, maker: SampleMaker, rng: np.random.Generator) -> PackedRow:
        """A row of one episode: of the steps drawn the first ones, until one does not fit.

        To leave out what is too long and go on would drop the ends of episodes, where the memory is long.
        """
        return next(self._packed(self._of_episode(number, maker, rng)))

    def _packed(self, samples: Iterator[list[Chunk]]) -> Iterator[PackedRow]:
        return pack(samples, self.max_tokens)

    def _samples(self, maker: SampleMaker, rng: np.random.Generator) -> Iterator[list[Chunk]]:
        while True:
            for number in rng.permutation(len(self.episodes)):
                yield from self._of_episode(int(number), maker, rng)

    def _of_episode(self, number: int, maker: SampleMaker, rng: np.random.Generator) -> Iterator[list[Chunk]]:
        sampling, episode = self.sampling, self.episodes[number]
        weights = sampling.weights.of(episode.keysteps)
        for step in draw_steps(weights, sampling.steps_per_episode, rng):
            asked = rng.random() < sampling.question_share
            about = self.questions(episode, int(step), rng) if asked else ()
            yield from step_samples(maker, episode, int(step), about, sampling.requests, sampling.cell_weight)

    def questions(self, episode: CodeEpisode, step: int, rng: np.random.Generator) -> list[Question]:
        """What is seen at a step, and some about it, all kinds alike; of a sampling that has questions."""
        boxes = self._columns[BOXES][self._starts[episode.index] + step].reshape(-1, 4)
        found = questions(episode.names, boxes[: len(episode.names)], rng, self.names, self.grid)
        return draw_questions(found, self.sampling.questions_per_step, rng)

    def batch(self, rows: Sequence[PackedRow]) -> dict[str, Any]:
        """`keystep.code.packing.batch`, and what is `shown`. Rows of texts may be among them."""
        found = batch(rows)
        return found | self.shown(found.pop("shown"))

    def pictures(
        self, episodes: Iterable[int], names: Iterable[str], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Pictures of any steps of each episode, half of them mirrored, and where in them objects are.

        Blocks and their names are the same in a mirror; the arm is not, and nothing is learned about it. A
        picture with a "left plate" in view is never mirrored: the name would be wrong.

        Args:
            names: all that `named` may say.

        Returns:
            pictures, see `shown`; boxes float32 (N, objects, 4) and named int64 (N, objects), as
            `keystep.models.code_planner.finding.Finder.loss` takes them.
        """
        steps = [
            (number, int(step))
            for number in episodes
            for step in draw_steps(
                np.ones(len(self.episodes[number].codes)), self.sampling.steps_per_episode, rng
            )
        ]
        names = tuple(names)
        shown = self.shown(("image", *step) for step in steps)
        return half_mirrored({"pictures": shown["pictures"]} | self._boxes(steps, names), names, rng)

    def shown(self, places: Iterable[tuple[str, int, int]]) -> dict[str, np.ndarray]:
        """What is seen at places, each (section, episode, step), in their order.

        pictures float32 (N, 3, H, W) in [0, 1], or objects float32 (N, 8, numbers of a slot); proprioception
        float32 (M, P).
        """
        frames: dict[str, list[int]] = {"image": [], "proprioception": []}
        for section, episode, step in places:
            frames[section].append(self._starts[episode] + step)
        found = {}
        found["proprioception"] = self._columns[PROPRIOCEPTION][frames["proprioception"]]
        seen = self._columns[self._seen][frames["image"]]
        if self._seen == OBJECTS:
            found["objects"] = seen.reshape(len(seen), OBJECT_SLOTS, seen.shape[1] // OBJECT_SLOTS)
        else:
            found["pictures"] = np.moveaxis(seen, -1, 1).astype(np.float32) / 255
        return found

    def _boxes(self, steps: Sequence[tuple[int, int]], names: Iterable[str]) -> dict[str, np.ndarray]:
        """Of the objects at steps, each (episode, step): where, and the places of their names in `names`.

        Raises:
            ValueError: a box that lies in no picture.
        """
        places = {name: place for place, name in enumerate(names)}
        frames = [self._starts[episode] + step for episode, step in steps]
        stored = self._columns[BOXES][frames]
        boxes = stored.reshape(len(frames), stored.shape[1] // 4, 4)
        named = np.full(boxes.shape[:2], -1, np.int64)
        for row, (episode, _) in enumerate(steps):
            here = [places[name] for name in self.episodes[episode].names]
            named[row, : len(here)] = here
        named[(boxes == -1).all(axis=-1)] = -1
        _check_boxes(boxes[named >= 0])
        return {"boxes": boxes, "named": named}


def half_mirrored(
    found: dict[str, np.ndarray], names: Sequence[str], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Pictures, boxes and named, as `CodeData.pictures` gives them; which are mirrored is drawn."""
    sided = [place for place, name in enumerate(names) if SIDES & set(name.split())]
    sides = np.isin(found["named"], sided).any(axis=1)
    _mirror(found, ~sides & (rng.random(len(found["named"])) < 0.5))
    return found


def _mirror(found: dict[str, np.ndarray], which: np.ndarray) -> None:
    """Some pictures, with their boxes, left for right, in place."""
    pictures, boxes = found["pictures"], found["boxes"]
    pictures[which] = pictures[which][..., ::-1]
    seen = which[:, None] & (found["named"] >= 0)
    boxes[seen] = np.stack([1 - boxes[seen, 2], boxes[seen, 1], 1 - boxes[seen, 0], boxes[seen, 3]], axis=-1)


def _check_boxes(boxes: np.ndarray) -> None:
    """Of objects in view, (n, 4). Raises ValueError for the first that lies in no picture."""
    low, high = boxes[:, :2], boxes[:, 2:]
    fits = ((low >= 0) & (low <= high) & (high <= 1)).all(axis=1)
    for box in boxes[~fits]:
        cell(box)


def _check_names(episodes: Sequence[CodeEpisode], objects: int) -> None:
    """What has no name is asked about as though it were not there."""
    for episode in episodes:
        if not 1 <= len(episode.names) <= objects:
            wanted = f"{NAMES} of 1 to {objects} objects of episode {episode.index}, to ask about them"
            raise ValueError(f"{NAMES}: expected {wanted}, got {len(episode.names)}")


def _episodes(dataset: Dataset) -> tuple[list[CodeEpisode], dict[Any, int]]:
    """All of them, and the frames at which they start."""
    codes: list[str] = []
    keysteps: list[bool] = []
    for part in dataset.iter_batches([CODE, KEYSTEP]):
        codes += [sys.intern(code) for code in part[CODE]]
        keysteps += part[KEYSTEP].tolist()
    found, starts = [], {}
    for index, info in enumerate(dataset.episodes()):
        here = slice(info.start, info.stop)
        names = _names(index, info.extras.get(NAMES) or ())
        found.append(CodeEpisode(index, info.instruction, tuple(codes[here]), tuple(keysteps[here]), names))
        starts[index] = info.start
    return found, starts


def _names(episode: int, told: object) -> tuple[str, ...]:
    """Raises ValueError for what are no names."""
    fits = isinstance(told, list | tuple) and all(isinstance(name, str) and name.strip() for name in told)
    if not fits:
        wanted = f"texts that are not empty, of the objects of episode {episode}"
        raise ValueError(f"{NAMES}: expected {wanted}, got {told!r:.100}")
    return tuple(told)  # type: ignore[arg-type]
