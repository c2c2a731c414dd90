"""A planner that writes code, asked what it sees, each question twice: with its own picture, and blind.

Many questions share a row, as in training. Figures: `keystep.train.sight_metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from keystep.bars import progress_bar
from keystep.code.packing import Chunk, PackedRow, RowBuilder, Target, batch
from keystep.code.prompt import Prompt
from keystep.code.samples import SampleMaker
from keystep.models.code_planner.network import CodePlanner
from keystep.models.code_planner.writing import TokenText, never_written
from keystep.train.code_samples import CodeData
from keystep.train.sight_metrics import KEYSTEP, SightReply, TokenReply

Places = tuple[Any, ...]
"""Each (section, episode, step), as `CodeData.shown` takes them."""
Shown = Callable[[Places], dict[str, Tensor]]
"""Pictures or objects, and proprioception, as the network takes them."""


@dataclass(frozen=True)
class SightQuestion:
    """One of `keystep.train.sight_metrics.ASKED`, about an episode; `sample` ends with the right answer."""

    kind: str
    episode: int
    wanted: str
    sample: Sequence[Chunk]


def auxiliary_questions(
    data: CodeData, maker: SampleMaker, episodes: Sequence[int], pictures: int
) -> list[SightQuestion]:
    """One of each kind about some pictures of every episode; always the same ones.

    Raises:
        ValueError: a box that lies in no picture.
    """
    found = []
    for number in episodes:
        episode, rng = data.episodes[number], np.random.default_rng(number)
        steps = len(episode.codes)
        for step in sorted(rng.choice(steps, size=min(pictures, steps), replace=False).tolist()):
            for one in data.questions(episode, step, rng):
                prompt = Prompt(episode.task, episode.memory(step), question=one.question)
                sample = maker.sample(prompt, one.answer, Target.ANSWER, number, step)
                found.append(SightQuestion(one.kind, number, one.answer, sample))
    return found


def keystep_questions(
    data: CodeData, maker: SampleMaker, episodes: Sequence[int], request: bool
) -> list[SightQuestion]:
    """All key-steps of episodes; `request`: asked for, as a runtime does when a call has ended."""
    found = []
    for number in episodes:
        episode = data.episodes[number]
        for step in np.flatnonzero(episode.keysteps).tolist():
            prompt, code = Prompt(episode.task, episode.memory(step), request=request), episode.codes[step]
            sample = maker.sample(prompt, code, Target.KEYSTEP, number, step)
            found.append(SightQuestion(KEYSTEP, number, code, sample))
    return found


def ask_sight(
    planner: CodePlanner, words: TokenText, asked: Sequence[SightQuestion], shown: Shown, max_tokens: int
) -> list[SightReply]:
    """The replies, in order.

    Blind is: the mean of all pictures asked about in place of each; of objects, by slot, the mean of those
    that are there, and whether most are. Proprioception stays.

    Args:
        planner: in evaluation mode.
        max_tokens: of a row.

    Raises:
        ValueError: a question is longer than the planner's context.
    """
    rows = list(_rows(asked, max_tokens))
    mean = _mean_seen(rows, shown)
    never = never_written(planner.config, words)
    found: list[SightReply] = []
    with progress_bar() as progress, torch.no_grad():
        for row, questions in progress.track(rows, description="sight"):
            batched, here = _batched(row), shown(row.shown)
            batched = {name: value.to(mean.device) for name, value in batched.items()}
            seen, felt = _seen(here), here.get("proprioception")
            sides = [
                _logits(planner, batched, row, questions, pictures, felt)
                for pictures in (seen, mean.expand_as(seen))
            ]
            for (question, _), own, blind in zip(questions, *sides, strict=True):
                ids = list(question.sample[-1].tokens)
                replies = (_reply(words, ids, logits, never) for logits in (own, blind))
                spans = _spans(words, ids)
                found.append(SightReply(question.kind, question.episode, question.wanted, spans, *replies))
    return found


Row = tuple[PackedRow, list[tuple[SightQuestion, int]]]
"""With its questions, and where in it their answers begin."""


def _rows(asked: Sequence[SightQuestion], max_tokens: int) -> Iterator[Row]:
    """A question longer than that has a row of its own."""
    builder, here = RowBuilder(), list[tuple[SightQuestion, int]]()
    for one in asked:
        if here and builder.length + builder.growth(one.sample) > max_tokens:
            yield builder.row(), here
            builder, here = RowBuilder(), []
        builder.add(one.sample)
        here.append((one, builder.length - len(one.sample[-1].tokens)))
    if here:
        yield builder.row(), here


def _mean_seen(rows: Sequence[Row], shown: Shown) -> Tensor:
    """Of all pictures, or of the objects, asked about, each once."""
    shown_in_rows: Places = tuple(place for row, _ in rows for place in row.shown)
    places = list(dict.fromkeys(place for place in shown_in_rows if place[0] == "image"))
    sums, there = torch.zeros(()), torch.zeros(())
    for first in range(0, len(places), 64):
        here = shown(tuple(places[first : first + 64]))
        value = _seen(here).double()
        present = value[..., :1] if "objects" in here else torch.ones_like(value)
        sums, there = sums + (value * present).sum(dim=0), there + present.sum(dim=0)
    mean = sums / there.clamp(min=1)
    if there.shape != mean.shape:  # objects: how often one is there
        mean[..., :1] = there / len(places)
    return mean.float()


def _seen(here: dict[str, Tensor]) -> Tensor:
    return here["objects"] if "objects" in here else here["pictures"]


def _batched(row: PackedRow) -> dict[str, Tensor]:
    found: dict[str, Any] = batch([row])
    return {name: torch.from_numpy(found[name]) for name in ("tokens", "positions", "mask")}


def _logits(
    planner: CodePlanner,
    batched: dict[str, Tensor],
    row: PackedRow,
    questions: Sequence[tuple[SightQuestion, int]],
    seen: Tensor,
    felt: Tensor | None,
) -> list[Tensor]:
    """Of each question [tokens of its answer, V], on the CPU."""
    hidden = planner.hidden(batched["tokens"], batched["positions"], batched["mask"], seen, felt)[0]
    found = []
    for question, start in questions:
        places = [_before(row, start), *range(start, start + len(question.sample[-1].tokens) - 1)]
        found.append(planner.head(hidden[places]).float().cpu())
    return found


def _before(row: PackedRow, place: int) -> int:
    """Where the token before this one in its sample is."""
    return int(np.flatnonzero(row.mask[place] & (row.positions == row.positions[place] - 1))[0])


def _reply(words: TokenText, wanted: Sequence[int], logits: Tensor, never: Sequence[int]) -> TokenReply:
    """`wanted` ends with the end token."""
    likelihoods = torch.log_softmax(logits, dim=-1)[range(len(wanted)), list(wanted)].tolist()
    logits[:, list(never)] = -torch.inf
    written = logits.argmax(dim=-1).tolist()
    right = tuple(one == other for one, other in zip(written, wanted, strict=True))
    texts = tuple("" if token == wanted[-1] else words.decode([token]) for token in written)
    return TokenReply(texts, right, tuple(likelihoods))


def _spans(words: TokenText, ids: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """By token the characters of which it has a byte, one at least; of the end none."""
    texts = [words.decode(ids[:count]) for count in range(len(ids))]
    whole = texts[-1]
    # A text that ends amid a character has another in its place.
    starts = [_shared(text, whole) for text in texts]
    spans = [(start, len(text)) for start, text in zip(starts, texts[1:], strict=False)]
    return (*spans, (len(whole), len(whole)))


def _shared(one: str, other: str) -> int:
    """How many characters both begin with."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (mine, its) in enumerate(pairs) if mine != its), min(len(one), len(other)))
