"""A tokeniser of single characters, and small planners that write, for tests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torch

from keystep.models.code_planner.config import CodePlannerConfig
from keystep.models.code_planner.network import NO_LOSS, CodePlanner
from keystep.models.code_planner.presets import CODE_PLANNER_PRESETS
from keystep.models.observing import camera_feature, state_feature

CHARACTERS = "abcdefghijklmnopqrstuvwxyz# ()\n"
FIRST = 4
MARK = {"<image>": 2, "<proprioception>": 3}


class Characters:
    """One token per character; an image mark is as many tokens as a picture has."""

    def __init__(self, image_tokens: int) -> None:
        self.image_tokens = image_tokens

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for part in re.findall("<image>|<proprioception>|.", text, re.DOTALL):
            if part in MARK:
                ids += [MARK[part]] * (self.image_tokens if part == "<image>" else 1)
            else:
                ids.append(FIRST + CHARACTERS.index(part))
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        assert all(number >= FIRST for number in ids), "no text"
        return "".join(CHARACTERS[number - FIRST] for number in ids)

    def no_text(self, vocabulary: int) -> list[int]:
        return [*range(FIRST), *range(FIRST + len(CHARACTERS), vocabulary)]


def small(name: str = "micro", **changes: object) -> CodePlannerConfig:
    """A configuration of a few tokens, over a picture of 32 px and 5 values of proprioception."""
    preset = CODE_PLANNER_PRESETS[name]
    seen = camera_feature("base", 32, 32) if preset.picture else preset.objects
    assert seen is not None
    values = {"vocabulary": FIRST + len(CHARACTERS), "observation": (seen, state_feature(5))}
    return replace(preset, **{**values, **changes})  # type: ignore[arg-type]


def looks(config: CodePlannerConfig, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random pictures or objects, and proprioception."""
    generator = torch.Generator().manual_seed(seed)
    if config.picture is not None:
        seen = torch.rand(count, 3, *config.picture.shape[:2], generator=generator)
    else:
        seen = torch.randn(count, 8, 20, generator=generator)
        seen[..., 0] = torch.rand(count, 8, generator=generator) < 0.7
    return seen, torch.randn(count, 5, generator=generator)


LESSONS = (
    ("go\n<proprioception><image>", 0, "pick(a)"),
    ("go\npick(a)\n<proprioception><image>", 1, "#pick(a)"),
    ("go\npick(a)\n<proprioception><image>", 2, "place(b)"),
    ("go\npick(a) place(b)\n<proprioception><image>", 3, "#place(b)\n#on"),
    ("go\npick(a) place(b)\n<proprioception><image>", 4, "#place(b)\n#off"),
)
"""Prompt, seed of what is seen, and the reply that `taught` gives."""


@cache
def taught(name: str = "micro") -> CodePlanner:
    """A planner that has learned `LESSONS` by heart."""
    torch.manual_seed(0)
    config = small(name)
    planner, words = CodePlanner(config), Characters(config.image_tokens)
    optimizer = torch.optim.AdamW(planner.parameters(), 5e-3)
    batch = side_by_side([lesson_batch(config, words, *lesson) for lesson in LESSONS])
    for _ in range(120):
        loss = planner.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 4e-3:
            break
    return planner.eval()


def side_by_side(batches: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Batches of one row as one batch, filled up behind."""
    count = max(batch["tokens"].shape[1] for batch in batches)
    found = {}
    for key, value in batches[0].items():
        if value is None:  # of a planner without proprioception
            continue
        if key in ("tokens", "positions", "targets", "weights"):
            fill = NO_LOSS if key == "targets" else 0
            rows = [
                torch.nn.functional.pad(batch[key], (0, count - batch[key].shape[1]), value=fill)
                for batch in batches
            ]
        elif key == "mask":
            rows = [torch.ones(1, count, count, dtype=torch.bool).tril()] * len(batches)
        else:
            rows = [batch[key] for batch in batches]
        found[key] = torch.cat(rows).to(value.dtype)
    return found


def lesson_batch(
    config: CodePlannerConfig, words: Characters, prompt: str, seed: int, reply: str
) -> dict[str, torch.Tensor]:
    """One prompt and its reply, as a batch of one row."""
    answer = [*words.encode(reply), config.end_id]
    return row_of(config, words.encode(prompt), answer, *looks(config, 1, seed))


def row_of(
    config: CodePlannerConfig, asked: list[int], answer: list[int], seen: torch.Tensor, felt: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The tokens of a prompt and of its answer, as a batch of one row."""
    tokens = torch.tensor([[*asked, *answer[:-1]]])
    count = tokens.shape[1]
    targets = torch.full((1, count), NO_LOSS)
    targets[0, len(asked) - 1 :] = torch.tensor(answer)
    return {
        "tokens": tokens,
        "positions": torch.arange(count)[None],
        "mask": torch.ones(1, count, count, dtype=torch.bool).tril(),
        "targets": targets,
        "weights": torch.ones(1, count),
        "pictures" if config.picture else "objects": seen,
        "proprioception": felt,
    }


def random_planner(name: str = "micro", **changes: object) -> CodePlanner:
    torch.manual_seed(0)
    return CodePlanner(small(name, **changes)).eval()


def example(config: CodePlannerConfig, prompt: str, seed: int = 0, reply: str = "pick(a)") -> dict:
    return lesson_batch(config, Characters(config.image_tokens), prompt, seed, reply)
