"""A planner that writes code and knows one long episode by heart, so that its drafts are accepted as those of
a trained one are.

The episode is a program of the suite tabletop, once more, and its first call again: the same calls go on with
a short memory and with a long one. What is seen is noise that says by itself what is to be written. Only the
first layers are taught, and those behind them add next to nothing: what a step costs is the same, and
teaching takes a minute or two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.writing_episodes import Episode, Observation
from keystep.bars import tracked
from keystep.code.packing import Chunk, PackedRow, Target, batch, pack
from keystep.code.prompt import DEFAULT, Prompt
from keystep.code.samples import TextEpisode
from keystep.code.spoken import Language
from keystep.code.trace import comment
from keystep.export.code_bundle import load_code_planning
from keystep.export.code_golden import CodePlanning, seen_and_felt
from keystep.export.code_language import LANGUAGE
from keystep.files import write_json
from keystep.models.checkpoint import random_checkpoint, save_checkpoint
from keystep.models.code_planner.config import OBJECT_SLOTS
from keystep.models.code_planner.network import CodePlanner
from keystep.models.code_planner.presets import CODE_PLANNER_PRESETS
from keystep.suites import suite_named
from keystep.suites.base import texts, tokenizer

GRID = 32
PROGRAM = "Swap"
TAUGHT_LAYERS, QUIET = 2, 1e-2
STEPS = 4  # of a call, the one at which it begins included
RATE = 3e-3  # of AdamW, at first
ROW_TOKENS = 768


def taught_planner(folder: Path, preset: str, calls: int, steps: int) -> None:
    """Writes a checkpoint of that preset.

    Args:
        calls: of the episode, 12 of them different; 25 make 240 tokens of memory and more.
        steps: of the optimizer.
    """
    suite = suite_named("tabletop")
    spoken = Language(tokenizer(suite, GRID), DEFAULT, GRID)
    values: dict[str, Any] = {"vocabulary": spoken.vocabulary, **spoken.ids}
    config = replace(CODE_PLANNER_PRESETS[preset], **values)
    random_checkpoint(folder, config)
    write_json(folder / LANGUAGE, spoken.told_to(config))
    planning, program = load_code_planning(folder), _program()
    shown = [_drawn(planning, frame) for frame in range(2 * len(program.keysteps))]
    _teach(planning, list(pack(_samples(planning, program, calls), ROW_TOKENS)), shown, steps)
    save_checkpoint(folder, planning.checkpoint, planning.model.state_dict())


def known_episode(folder: Path, calls: int) -> Episode:
    """What the checkpoint in `folder` was taught."""
    planning, program = load_code_planning(folder), _program()
    begins = [2 * (call % len(program.keysteps)) for call in range(calls)]
    frames = [frame + bool(step) for frame in begins for step in range(STEPS)]
    return Episode(program.prompt, tuple(_drawn(planning, frame) for frame in frames))


def _program() -> TextEpisode:
    """Without its end."""
    program = next(texts(suite_named("tabletop"), [PROGRAM], GRID))
    return replace(program, keysteps=program.keysteps[:-1])


def _drawn(planning: CodePlanning, seed: int) -> Observation:
    """Of the statistics of the checkpoint."""
    rng, found = np.random.default_rng(seed), {}
    for feature in planning.config.observation:
        if feature.is_image:
            found[feature.key] = rng.integers(0, 256, feature.shape, dtype=np.uint8)
            continue
        stats = planning.checkpoint.stats[feature.key]
        values = np.array(stats["mean"]) + np.array(stats["std"]) * rng.standard_normal(feature.shape)
        if feature == planning.config.objects:  # the first value of a slot says whether an object is there
            values.reshape(OBJECT_SLOTS, -1)[:, 0] = rng.random(OBJECT_SLOTS) < 0.7
        found[feature.key] = values.astype(np.float32)
    return found


def _samples(planning: CodePlanning, program: TextEpisode, calls: int) -> Iterator[list[Chunk]]:
    """Frame 2 n is that at which call n of the program begins, 2 n + 1 those at which it goes on.

    The next key-step is asked for at the frame at which one began: there it is prepared.
    """
    maker, different = planning.language.maker(planning.config), len(program.keysteps)
    code = [program.keysteps[call % different] for call in range(calls + 1)]
    for number, call in enumerate(code[:-1]):
        frame, before, known = 2 * (number % different), tuple(code[:number]), tuple(code[: number + 1])
        asked = Prompt(program.prompt, known, request=True)
        yield maker.sample(Prompt(program.prompt, before), call, Target.KEYSTEP, 0, frame)
        yield maker.sample(Prompt(program.prompt, known), comment(call), Target.GOES_ON, 0, frame + 1)
        yield maker.sample(asked, code[number + 1], Target.REQUESTED, 0, frame)


def _teach(
    planning: CodePlanning, rows: Sequence[PackedRow], shown: Sequence[Observation], steps: int
) -> None:
    """What encodes the picture stays as it is, so that it is run once."""
    model, rng = planning.model, np.random.default_rng(0)
    given = [seen_and_felt(planning, observation) for observation in shown]
    with torch.no_grad():
        tokens = torch.cat([model.sight(seen) for seen, _ in given])
        for layer in model.decoder.layers[TAUGHT_LAYERS:]:
            layer.self_attn.o_proj.weight *= QUIET
            layer.mlp.down_proj.weight *= QUIET
    sight, model.sight = model.sight, nn.Identity()
    layers, model.decoder.layers = model.decoder.layers, model.decoder.layers[:TAUGHT_LAYERS]
    _learn(model, [_batch(row, tokens, given) for row in rows], steps, rng)
    model.sight, model.decoder.layers = sight, layers


def _learn(
    model: CodePlanner, batches: Sequence[dict[str, torch.Tensor]], steps: int, rng: np.random.Generator
) -> None:
    """One batch a step, each as often as the others; the rate falls to nothing."""
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0)
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    order = np.concatenate([rng.permutation(len(batches)) for _ in range(steps // len(batches) + 1)])
    for number in tracked(order[:steps], "teaching", steps):
        loss = model.loss(batches[number])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        falling.step()


def _batch(row: PackedRow, tokens: torch.Tensor, given: Sequence[Any]) -> dict[str, torch.Tensor]:
    """`tokens` of what is seen, and what is felt, by frame."""
    found = batch([row])
    frames: dict[str, list[int]] = {"image": [], "proprioception": []}
    for section, _, frame in found.pop("shown"):
        frames[section].append(frame)
    arrays = {name: torch.from_numpy(values) for name, values in found.items()}
    felt = torch.cat([given[frame][1] for frame in frames["proprioception"]])
    return {**arrays, "pictures": tokens[frames["image"]], "proprioception": felt}
