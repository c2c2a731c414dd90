"""Trains the corpus encoder on the sentences of a suite; about a minute on one core.

Two losses. Supervised contrastive (Khosla et al. 2020) on the mean over tokens: sentences of one task attract
each other, those of different tasks repel. And linear read-outs of what the sentences tell (verb, colour
and side, of Franka-3Blocks) from *every* token, so that whatever reads the tokens afterwards finds it
wherever it looks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from keystep.bars import tracked
from keystep.models.text.base import frozen
from keystep.models.text.corpus_encoder import CorpusEncoder
from keystep.models.text.words import FIRST_WORD, UNKNOWN, Vocabulary
from keystep.suites import suite_named
from keystep.suites.base import Suite

TEMPERATURE = 0.1
FILLER_RATE, WORD_RATE = 0.3, 0.05  # of words that become unknown in training; see `_disturbed`
MAX_INSERTED = 6
LEARNING_RATE = 2e-3
BATCH = 128


@dataclass(frozen=True)
class CorpusReport:
    """How well held-out sentences are understood, after training.

    Attributes:
        nearest_task: share whose nearest task (cosine to the mean of its training sentences) is theirs.
        attributes: share whose verb, colour and side are read by the linear heads, from the mean over tokens.
        same_task, other_task: mean cosine to training sentences of the same, and of other tasks.
    """

    sentences: int
    vocabulary: int
    parameters: int
    nearest_task: float
    attributes: dict[str, float]
    same_task: float
    other_task: float

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def train_corpus_encoder(
    output: Path, steps: int = 1500, seed: int = 0, suite: str = "franka3blocks"
) -> CorpusReport:
    """Trains from nothing and writes the encoder to the folder `output`, replacing one that is there.

    Raises:
        KeyError: the suite has no sentences.
    """
    world = suite_named(suite)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        texts, tasks = _labelled(world, world.phrasings)
        names, labels = _meanings(world)
        encoder = CorpusEncoder(Vocabulary.of(texts))
        counts = (labels.amax(0) + 1).tolist()
        heads = nn.ModuleDict({n: nn.Linear(encoder.width, c) for n, c in zip(names, counts, strict=True)})
        _fit(encoder, heads, texts, tasks, labels, steps)
    frozen(encoder).save(output)
    return _report(encoder, heads.requires_grad_(False), world, labels)


def _fit(
    encoder: CorpusEncoder,
    heads: nn.ModuleDict,
    texts: list[str],
    tasks: Tensor,
    meanings: Tensor,
    steps: int,
) -> None:
    ids, mask = encoder.tokenize(texts)
    labels, rates = meanings[tasks], _unknown_rates(ids, mask, tasks)
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in tracked(range(steps), "text encoder"):
        rows = torch.randint(len(texts), (BATCH,))
        seen, valid = _disturbed(ids[rows], mask[rows], rates)
        hidden = encoder(seen, valid)
        loss = _contrastive(_mean(hidden, valid), tasks[rows])
        for column, head in enumerate(heads.values()):
            wanted = labels[rows, column, None].expand(valid.shape)
            loss = loss + functional.cross_entropy(head(hidden)[valid > 0], wanted[valid > 0])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()


def _labelled(suite: Suite, sentences_of: Callable[[str], tuple[str, ...]]) -> tuple[list[str], Tensor]:
    """The sentences, and [sentences] which of the suite's tasks each tells."""
    pairs = [(text, index) for index, task in enumerate(suite.tasks) for text in sentences_of(task)]
    return [text for text, _ in pairs], torch.tensor([index for _, index in pairs])


def _meanings(suite: Suite) -> tuple[list[str], Tensor]:
    """What sentences tell, and [tasks, of these] int64."""
    rows = [suite.meaning(task) for task in suite.tasks]
    return list(rows[0]), torch.tensor([list(row.values()) for row in rows])


def _unknown_rates(ids: Tensor, mask: Tensor, tasks: Tensor) -> Tensor:
    """[ids]: how often each id becomes unknown. Fillers, the words that all tasks use, decide nothing."""
    used = torch.zeros(int(tasks.max()) + 1, int(ids.max()) + 1, dtype=torch.bool)
    used[tasks[:, None].expand_as(ids)[mask > 0], ids[mask > 0]] = True
    rates = torch.where(used.all(0), FILLER_RATE, WORD_RATE)
    rates[:FIRST_WORD] = 0.0
    return rates


def _disturbed(ids: Tensor, mask: Tensor, rates: Tensor) -> tuple[Tensor, Tensor]:
    """Some words become unknown and some unknown words come in, so that words never seen are passed over."""
    ids = torch.where(torch.rand(ids.shape) < rates[ids], UNKNOWN, ids)
    place, count = int(torch.randint(1, 4, ())), int(torch.randint(MAX_INSERTED + 1, ()))
    tokens = ids.shape[1]
    inserted = ids.new_full((len(ids), count), UNKNOWN)
    ids = torch.cat([ids[:, :place], inserted, ids[:, place:]], dim=1)[:, :tokens]
    mask = torch.cat([mask[:, :place], torch.ones_like(inserted), mask[:, place:]], dim=1)[:, :tokens]
    return ids, mask


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden.sum(1) / mask.sum(1, keepdim=True)


def _contrastive(pooled: Tensor, tasks: Tensor) -> Tensor:
    unit = functional.normalize(pooled, dim=-1)
    itself = torch.eye(len(unit), dtype=torch.bool)
    scores = (unit @ unit.T / TEMPERATURE).masked_fill(itself, -1e4).log_softmax(-1)
    same = (tasks[:, None] == tasks) & ~itself
    return -((scores * same).sum(-1) / same.sum(-1).clamp(min=1)).mean()


@torch.no_grad()
def _report(encoder: CorpusEncoder, heads: nn.ModuleDict, suite: Suite, meanings: Tensor) -> CorpusReport:
    def pooled(sentences: list[str]) -> Tensor:
        ids, mask = encoder.tokenize(sentences)
        return _mean(encoder(ids, mask), mask)

    texts, tasks = _labelled(suite, suite.phrasings)
    known = functional.normalize(pooled(texts), dim=-1)
    means = [known[tasks == task].mean(0) for task in range(len(suite.tasks))]
    centres = functional.normalize(torch.stack(means), dim=-1)
    unseen, wanted = _labelled(suite, suite.held_out)
    vectors = pooled(unseen)
    scores = functional.normalize(vectors, dim=-1) @ centres.T
    cosines = functional.normalize(vectors, dim=-1) @ known.T
    same = wanted[:, None] == tasks
    labels = meanings[wanted]
    return CorpusReport(
        sentences=len(unseen),
        vocabulary=len(encoder.vocabulary),
        parameters=sum(parameter.numel() for parameter in encoder.parameters()),
        nearest_task=float((scores.argmax(-1) == wanted).float().mean()),
        attributes={
            name: float((head(vectors).argmax(-1) == labels[:, column]).float().mean())
            for column, (name, head) in enumerate(heads.items())
        },
        same_task=float(cosines[same].mean()),
        other_task=float(cosines[~same].mean()),
    )
