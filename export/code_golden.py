"""golden.npz of a planner that writes code: prompts, and what torch writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from keystep.code.prompt import Prompt
from keystep.code.spoken import Language
from keystep.export.golden_file import CODE_KEYSTEPS, FILL
from keystep.features import Feature
from keystep.models.checkpoint import Checkpoint
from keystep.models.code_planner.config import OBJECT_SLOTS, CodePlannerConfig
from keystep.models.code_planner.network import CodePlanner
from keystep.models.code_planner.writing import ReplyWriter
from keystep.models.frames import as_input

CASES = CODE_KEYSTEPS + 1  # memories of no key-step to this many
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class CodePlanning:
    """A planner that writes code, as it comes out of training.

    Attributes:
        reply_tokens: most tokens of a reply; context: of a prompt with its reply.
    """

    model: CodePlanner
    checkpoint: Checkpoint
    language: Language
    reply_tokens: int
    context: int

    @property
    def config(self) -> CodePlannerConfig:
        return self.model.config

    @property
    def limits(self) -> dict[str, int]:
        return {"context": self.context, "reply_tokens": self.reply_tokens}

    @property
    def sees(self) -> Feature:
        """Its picture or objects."""
        found = self.config.picture or self.config.objects
        assert found is not None
        return found


def code_arrays(planning: CodePlanning, seed: int) -> Arrays:
    """See docs/code_bundle.md; observations are drawn from the statistics of the dataset, texts at random."""
    rng, config = np.random.default_rng(seed), planning.config
    maker = planning.language.maker(config)
    arrays = _observations(planning, rng)
    arrays["instruction"] = np.array([_text(planning, rng, 6) for _ in range(CASES)])
    memory = [[_text(planning, rng, 3) for _ in range(case)] for case in range(CASES)]
    arrays["memory"] = np.array([[*texts, *[""] * (CODE_KEYSTEPS - len(texts))] for texts in memory])
    arrays["tokens"] = np.full((CASES, planning.context), FILL, np.int64)
    arrays["logits"] = np.zeros((CASES, config.vocabulary), np.float32)
    for name, kind in (("reply", np.int64), ("margin", np.float32)):
        arrays[name] = np.full((CASES, planning.reply_tokens), FILL, kind)
    for case in range(CASES):
        asked = Prompt(str(arrays["instruction"][case]), tuple(memory[case]))
        chunks = maker.question(asked, episode=case)
        prompt = [token for chunk in chunks for token in chunk.tokens]
        room = planning.context - planning.reply_tokens
        if len(prompt) > room:
            raise ValueError(f"tokens: expected at most {room} (context - reply_tokens), got {len(prompt)}")
        reply, logits, margin = torch_reply(planning, arrays, case, prompt)
        arrays["tokens"][case, : len(prompt)], arrays["logits"][case] = prompt, logits
        arrays["reply"][case, : len(reply)], arrays["margin"][case, : len(reply)] = reply, margin
    return arrays


@torch.no_grad()
def torch_reply(
    planning: CodePlanning, arrays: Arrays, case: int, prompt: list[int]
) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Greedily, its end included; the logits [V] behind the prompt; and by how much each token was best."""
    planner, seen, felt = planning.model, *seen_and_felt(planning, arrays, case)
    writer = ReplyWriter(planner, planning.language.tokenizer, planning.reply_tokens)
    written = writer.write(prompt, seen, felt)
    reply = [*written.ids, *([planner.config.end_id] if written.ended else [])]
    tokens = torch.tensor([[*prompt, *reply[:-1]]])
    count = tokens.shape[1]
    mask = torch.ones(1, count, count, dtype=torch.bool).tril()
    logits = planner(tokens, torch.arange(count)[None], mask, seen, felt)[0, len(prompt) - 1 :]
    first = logits[0].numpy().copy()
    no_text = planning.language.tokenizer.no_text(planner.config.vocabulary)
    logits[:, [token for token in no_text if token != planner.config.end_id]] = -torch.inf
    best = logits.topk(2, dim=-1).values
    return reply, first, (best[:, 0] - best[:, 1]).numpy()


def seen_and_felt(
    planning: CodePlanning, observation: Mapping[str, np.ndarray], case: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """What is seen and felt, given as the world does, as the network takes it: a batch of one.

    Args:
        case: of arrays that have several cases.
    """
    normalizer = planning.checkpoint.normalizer()
    rows: list[Any] = []
    for feature in (planning.sees, planning.config.proprioception):
        if feature is None:
            rows.append(None)
            continue
        given = observation[feature.key] if case is None else observation[feature.key][case]
        value = as_input(feature, torch.from_numpy(given))
        rows.append(normalizer.normalize(feature.key, value)[None])
    return rows[0], rows[1]


def _observations(planning: CodePlanning, rng: np.random.Generator) -> Arrays:
    arrays: Arrays = {}
    for feature in planning.config.observation:
        if feature.is_image:
            arrays[feature.key] = rng.integers(0, 256, (CASES, *feature.shape), dtype=np.uint8)
            continue
        stats, normal = planning.checkpoint.stats[feature.key], rng.standard_normal((CASES, *feature.shape))
        drawn = (np.array(stats["mean"]) + np.array(stats["std"]) * normal).astype(np.float32)
        if feature == planning.config.objects:  # the first value of a slot says whether an object is there
            drawn.reshape(CASES, OBJECT_SLOTS, -1)[..., 0] = rng.random((CASES, OBJECT_SLOTS)) < 0.7
        arrays[feature.key] = drawn
    return arrays


def _text(planning: CodePlanning, rng: np.random.Generator, words: int) -> str:
    """Of the tokenizer's words, and one that it does not know."""
    table = [word for word in planning.language.tokenizer.words if word.isalpha()] or ["word"]
    return " ".join([*rng.choice(table, words), f"x{rng.integers(1000)}"])
