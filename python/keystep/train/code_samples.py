"""What a planner that writes code learns from: texts of a suite, and steps of a dataset with code.

`keystep.code.samples` says what samples are; here they become rows and batches.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from keystep.code.grid import grid_of
from keystep.code.packing import Chunk, PackedRow, batch, pack
from keystep.code.questions import KINDS, Question, questions
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
from keystep.suites.base import Suite, texts

CODE, KEYSTEP, BOXES, NAMES = "code", "keystep", "objects.boxes", "names"
PROPRIOCEPTION, OBJECTS = "observation.state", "observation.objects"
OBJECT_SLOTS = 8


@dataclass(frozen=True)
class StepSampling:
    """Which steps of a dataset, and what about them.

    Attributes:
        steps_per_episode: drawn at a time.
        weights: how often which.
        requests: at key-steps, also ask for them.
        question_share: of the steps drawn, how many have auxiliary questions.
        questions_per_step: those that have some.
        max_tokens: of a row.
    """

    steps_per_episode: int = 16
    weights: StepWeights = field(default_factory=StepWeights)
    requests: bool = True
    question_share: float = 0.1
    questions_per_step: int = 2
    max_tokens: int = 1024

    def __post_init__(self) -> None:
        for name in ("steps_per_episode", "questions_per_step", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not 0 <= self.question_share <= 1:
            raise ValueError(f"question_share: expected 0 to 1, got {self.question_share}")


def text_rows(
    suite: Suite, tasks: Sequence[str] | None, maker: SampleMaker, grid: int, max_tokens: int = 1024
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


class CodeData:
    """Stage 2: the demonstrations of a dataset.

    Args:
        dataset: with the columns `code` and `keystep`.
        seen: what stands at a picture's place: "image", or "state" for the objects' states, one token each.
        camera: whose pictures.

    Attributes:
        grid: in whose cells the code says places.

    Raises:
        DatasetError: a column is missing, or the code is no trace.
    """

    def __init__(
        self,
        dataset: Dataset,
        maker: SampleMaker,
        sampling: StepSampling,
        seen: Literal["image", "state"] = "image",
        camera: str = "observation.images.base",
    ) -> None:
        self._sampling, self._seen = sampling, camera if seen == "image" else OBJECTS
        for column in (CODE, KEYSTEP, BOXES, PROPRIOCEPTION, self._seen):
            if column not in dataset.features:
                known = ", ".join(dataset.features)
                raise DatasetError(f"{dataset.path}: expected the column {column}, found only {known}")
        self._maker = self._checked(maker)
        try:
            self.grid = grid_of(dataset.collection)
            self.episodes, self._starts = _episodes(dataset)
        except ValueError as error:
            raise DatasetError(f"{dataset.path}: {error}") from None
        self._columns = mapped_columns(dataset, [BOXES, PROPRIOCEPTION, self._seen])
        self._names = sorted({name for episode in self.episodes for name in episode.names})

    def with_maker(self, maker: SampleMaker) -> CodeData:
        """The same steps, laid out otherwise."""
        found = copy(self)
        found._maker = self._checked(maker)
        return found

    def _checked(self, maker: SampleMaker) -> SampleMaker:
        if self._seen == OBJECTS and maker.image_tokens != OBJECT_SLOTS:
            raise DatasetError(f"image_tokens: expected {OBJECT_SLOTS} for states, got {maker.image_tokens}")
        return maker

    def rows(self, rng: np.random.Generator) -> Iterator[PackedRow]:
        """Rows without end: all episodes in a new order each time, other steps of them each time."""
        return self._packed(self._samples(rng))

    def row(self, number: int, rng: np.random.Generator) -> PackedRow:
        """A row of one episode: of the steps drawn the first ones, until one does not fit.

        To leave out what is too long and go on would drop the ends of episodes, where the memory is long.
        """
        return next(self._packed(self._of_episode(number, rng)))

    def _packed(self, samples: Iterator[list[Chunk]]) -> Iterator[PackedRow]:
        return pack(samples, self._sampling.max_tokens)

    def check_room(self, context: int) -> None:
        """Raises ValueError unless every sample fits in a row, and in a network's context."""
        episodes = ((episode.task, episode.memory(len(episode.codes))) for episode in self.episodes)
        check_room(self._maker, episodes, self._sampling.max_tokens, context)

    def _samples(self, rng: np.random.Generator) -> Iterator[list[Chunk]]:
        while True:
            for number in rng.permutation(len(self.episodes)):
                yield from self._of_episode(int(number), rng)

    def _of_episode(self, number: int, rng: np.random.Generator) -> Iterator[list[Chunk]]:
        sampling, episode = self._sampling, self.episodes[number]
        weights = sampling.weights.of(episode.keysteps)
        for step in draw_steps(weights, sampling.steps_per_episode, rng):
            asked = rng.random() < sampling.question_share
            about = self._questions(episode, int(step), rng) if asked else ()
            yield from step_samples(self._maker, episode, int(step), about, sampling.requests)

    def _questions(self, episode: CodeEpisode, step: int, rng: np.random.Generator) -> list[Question]:
        """Some about what is seen at a step, all kinds alike."""
        boxes = self._columns[BOXES][self._starts[episode.index] + step].reshape(-1, 4)
        found = questions(episode.names, boxes[: len(episode.names)], rng, self._names, self.grid)
        kinds = rng.choice(KINDS, size=self._sampling.questions_per_step, replace=False)
        by_kind = [[one for one in found if one.kind == kind] for kind in kinds]
        return [some[int(rng.integers(len(some)))] for some in by_kind if some]

    def batch(self, rows: Sequence[PackedRow]) -> dict[str, Any]:
        """`keystep.code.packing.batch`, and what is shown, in the order in which it stands in the rows.

        pictures float32 (N, 3, H, W) in [0, 1], or objects float32 (N, 8, numbers of a slot); proprioception
        float32 (M, P). Rows of texts may be among them.
        """
        found = batch(rows)
        shown = found.pop("shown")
        frames = {
            section: [self._starts[episode] + step for name, episode, step in shown if name == section]
            for section in ("image", "proprioception")
        }
        found["proprioception"] = self._columns[PROPRIOCEPTION][frames["proprioception"]]
        seen = self._columns[self._seen][frames["image"]]
        if self._seen == OBJECTS:
            found["objects"] = seen.reshape(len(seen), OBJECT_SLOTS, -1)
        else:
            found["pictures"] = np.moveaxis(seen, -1, 1).astype(np.float32) / 255
        return found


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
        names = tuple(info.extras.get(NAMES, ()))
        found.append(CodeEpisode(index, info.instruction, tuple(codes[here]), tuple(keysteps[here]), names))
        starts[index] = info.start
    return found, starts
