"""What the planner learns from: prompts with their replies, as chunks of tokens.

Stage 1 is text alone: whole episodes, in which nothing is seen. There a key-step is asked for, or the last
one goes on. Stage 2 is control steps of demonstrations with what was seen, key-steps and the steps around
borders more often, and the auxiliary questions.
Source: From Code to Action, sections 4.1 and 4.2.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from keystep.code.packing import Chunk, Target
from keystep.code.prompt import Piece, Prompt, PromptLayout
from keystep.code.questions import Question
from keystep.code.tokenizer import SPECIALS, Tokenizer
from keystep.code.trace import check_trace, comment


@dataclass(frozen=True)
class StepWeights:
    """How much a control step counts; it is drawn so much more often than others.

    Attributes:
        keystep: of a step at which a call begins.
        border: of steps near one, before or after.
        border_steps: how near.
    """

    keystep: float = 8.0
    border: float = 3.0
    border_steps: int = 3

    def __post_init__(self) -> None:
        for name in ("keystep", "border"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: expected more than 0, got {getattr(self, name)}")
        if self.border_steps < 0:
            raise ValueError(f"border_steps: expected at least 0, got {self.border_steps}")

    def of(self, keysteps: Sequence[bool]) -> np.ndarray:
        """(T,) float64 of a trace's steps. The first key-step is no border: nothing ends there."""
        starts = np.flatnonzero(keysteps)
        weights = np.ones(len(keysteps))
        for start in starts[1:]:
            weights[max(start - self.border_steps, 0) : start + self.border_steps + 1] = self.border
        weights[starts] = self.keystep
        return weights


def draw_steps(weights: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """At most `count` different steps, likely as they weigh, in the order in which they were drawn.

    So the first of them are a draw of fewer.
    """
    count = min(count, len(weights))
    return rng.choice(len(weights), size=count, replace=False, p=weights / weights.sum(), shuffle=False)


@dataclass(frozen=True)
class SampleMaker:
    """Makes samples of one layout.

    Attributes:
        image_tokens: how many positions a picture takes; its token stands there so many times.
    """

    tokenizer: Tokenizer
    layout: PromptLayout
    image_tokens: int

    def __post_init__(self) -> None:
        if self.image_tokens < 1:
            raise ValueError(f"image_tokens: expected at least 1, got {self.image_tokens}")

    def sample(
        self, prompt: Prompt, reply: str, target: Target, episode: Hashable, frame: Hashable = None,
        cell_weight: float = 1.0, told: Sequence[int] = (),
    ) -> list[Chunk]:  # fmt: skip
        """A prompt with its reply.

        Args:
            episode: samples with equal ones share what they begin with.
            frame: of the episode, which is seen; `Chunk.shown` is (section, episode, frame).
            cell_weight: of the numbers of cells in the loss, beside 1 of other tokens; 0 where text alone
                cannot know them.
            told: see `question`.
        """
        chunks = self.question(prompt, episode, frame, told)
        tokens = tuple(self.tokenizer.encode_pieces(self.layout.reply(reply)))
        cells = self.cells(tokens, answer=prompt.question is not None)
        weights = tuple(cell_weight if cell else 1.0 for cell in cells)
        return [*chunks, Chunk(("reply", reply, target), tokens, weights, target)]

    def longest(self, task: str, keysteps: Sequence[str], seen: bool = True) -> int:
        """Tokens that no sample of an episode with these key-steps exceeds, auxiliary questions apart.

        Args:
            seen: False: of an episode as text alone.
        """
        prompt = Prompt(task, tuple(keysteps), request=True, image=seen, proprioception=seen)
        asked = sum(len(chunk.tokens) for chunk in self.question(prompt, None))
        replies = [self.layout.reply(text) for code in keysteps for text in (code, comment(code))]
        return asked + max(len(self.tokenizer.encode_pieces(reply)) for reply in replies)

    def question(
        self, prompt: Prompt, episode: Hashable, frame: Hashable = None, told: Sequence[int] = ()
    ) -> list[Chunk]:
        """A prompt without reply.

        Args:
            told: ids in place of those of a picture, which is then text like any.
        """
        chunks = []
        for number, (name, pieces) in enumerate(self.layout.sections(prompt)):
            seen = name in ("image", "proprioception")
            in_words = bool(told) and name == "image"
            shown = (name, episode, frame) if seen and not in_words else None
            # Of an episode the same section at the same place has the same text, except for questions.
            key = (
                name,
                number,
                episode,
                frame if seen else None,
                prompt.question if name == "question" else None,
            )
            chunks.append(Chunk(key, tuple(self._encode(pieces, told)), shown=shown))
        return chunks

    def _encode(self, pieces: Sequence[Piece], told: Sequence[int]) -> Iterator[int]:
        for token in self.tokenizer.encode_pieces(pieces):
            if token == Tokenizer.image:
                yield from told or [token] * self.image_tokens
            else:
                yield token

    def cells(self, tokens: Sequence[int], answer: bool = False) -> list[bool]:
        """Which tokens are numbers of a cell: of `actor_pos` or `near`; in an answer, of any brackets."""
        opening = ("(",) if answer else ("actor_pos=(", "near=(")
        found, inside, written = [], False, ""
        for token in tokens:
            data = b"" if token < len(SPECIALS) else self.tokenizer.text_bytes(token)
            text = data.decode("utf-8", errors="replace")
            inside = inside and not text.startswith(")")
            found.append(inside and text.strip().isdigit())
            written += text
            inside = inside or written.endswith(opening)
        return found


@dataclass(frozen=True)
class TextEpisode:
    """An episode as text alone.

    Attributes:
        task, seed: whose scene it is; an environment reset with this seed has the same.
        prompt: the task in words.
        keysteps: code, in order, the last one `done()`.
        names: of the N objects; () where nobody says.
        boxes: float32 (key-steps, N, 4), where they are when each is written, see `keystep.code.grid.cell`.
    """

    task: str
    seed: int
    prompt: str
    keysteps: tuple[str, ...]
    names: tuple[str, ...] = ()
    boxes: np.ndarray | None = field(default=None, compare=False)


@dataclass(frozen=True)
class ToldScene:
    """What is seen at a key-step of an episode as text.

    Attributes:
        ids: in place of those of a picture, see `keystep.code.told`.
        questions: auxiliary ones about it.
    """

    ids: tuple[int, ...]
    questions: tuple[Question, ...] = ()


def text_samples(
    maker: SampleMaker,
    task: str,
    keysteps: Sequence[str],
    episode: Hashable,
    scenes: Sequence[ToldScene] = (),
    cell_weight: float = 1.0,
) -> Iterator[list[Chunk]]:
    """Stage 1: of an episode as text, each key-step asked for, and each going on; the first also unasked.

    Args:
        scenes: one for each key-step; (): nothing is seen, and numbers of cells have no loss.
        cell_weight: of these with `scenes`, see `SampleMaker.sample`.
    """
    weight = cell_weight if scenes else 0.0
    for number, code in enumerate(keysteps):
        told, about = (scenes[number].ids, scenes[number].questions) if scenes else ((), ())
        prompt = Prompt(task, tuple(keysteps[:number]), image=bool(scenes), proprioception=False)
        asked = replace(prompt, request=True)
        yield maker.sample(asked, code, Target.REQUESTED, episode, number, weight, told)
        if number:
            goes_on = comment(keysteps[number - 1])
            yield maker.sample(prompt, goes_on, Target.GOES_ON, episode, number, weight, told)
        else:
            yield maker.sample(prompt, code, Target.KEYSTEP, episode, number, weight, told)
        for one in about:
            question = replace(prompt, question=one.question)
            yield maker.sample(question, one.answer, Target.ANSWER, episode, number, weight, told)


@dataclass(frozen=True)
class CodeEpisode:
    """A demonstration.

    Attributes:
        index: of the episode in its dataset.
        task: the task in words.
        codes, keysteps: its trace, an entry for each control step.
        names: of the objects.
    """

    index: Hashable
    task: str
    codes: tuple[str, ...]
    keysteps: tuple[bool, ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_trace(self.codes, self.keysteps)

    def memory(self, step: int) -> tuple[str, ...]:
        """Key-steps before a control step."""
        trace = zip(self.codes[:step], self.keysteps[:step], strict=True)
        return tuple(code for code, keystep in trace if keystep)


def step_samples(
    maker: SampleMaker,
    episode: CodeEpisode,
    step: int,
    questions: Sequence[Question] = (),
    request: bool = True,
    cell_weight: float = 1.0,
) -> Iterator[list[Chunk]]:
    """Stage 2: of one control step the code, at a key-step also when it is asked for, and answers.

    Args:
        questions: auxiliary ones about its picture.
        request: ask for key-steps, too.
        cell_weight: see `SampleMaker.sample`.
    """
    memory, code, keystep = episode.memory(step), episode.codes[step], bool(episode.keysteps[step])
    plain = Prompt(episode.task, memory)
    target = Target.KEYSTEP if keystep else Target.GOES_ON
    yield maker.sample(plain, code, target, episode.index, step, cell_weight)
    if keystep and request:
        asked = Prompt(episode.task, memory, request=True)
        yield maker.sample(asked, code, Target.REQUESTED, episode.index, step, cell_weight)
    for one in questions:
        prompt = Prompt(episode.task, memory, question=one.question)
        yield maker.sample(prompt, one.answer, Target.ANSWER, episode.index, step, cell_weight)
