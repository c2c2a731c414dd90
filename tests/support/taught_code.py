"""A small planner that has learned one episode by heart, in the tabletop's language."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tiny_pieces
import torch
from code_checkpoints import GRID, code_config, language
from code_writers import row_of, side_by_side
from safetensors.torch import save_file

from keystep.code.prompt import Prompt
from keystep.code.trace import comment
from keystep.export.code_golden import CodePlanning, seen_and_felt
from keystep.export.code_language import LANGUAGE, load_language
from keystep.files import write_json
from keystep.models.checkpoint import load_model, random_checkpoint
from keystep.models.code_planner.network import CodePlanner
from keystep.models.observing import camera_feature
from keystep.train.code_pretrained import pretrained_checkpoint

TASK = "Pick up the red cube"
CALLS = ("move3d(get_actor('red cube', actor_pos=(7, 21)))", "pick(get_actor('red cube'))", "done()")
LESSONS = tuple(
    (number, going_on)
    for number in range(len(CALLS) + 1)
    for going_on in (True, False)
    if (number or not going_on) and (number < len(CALLS) or going_on)
)
"""Key-steps so far, and whether the last one goes on, which is seen."""
EPISODE = (0, 1, 1, 1, 2, 3, 3, 4, 5, 5)
"""Lessons in the order of the steps that show them."""


def wanted(lesson: int) -> str:
    number, going_on = LESSONS[lesson]
    return comment(CALLS[number - 1]) if going_on else CALLS[number]


def observed(planning: CodePlanning, seed: int) -> dict[str, np.ndarray]:
    """What is seen at a lesson, or at any other number."""
    rng = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}
    for feature in planning.config.observation:
        if feature.is_image:
            found[feature.key] = rng.integers(0, 256, feature.shape, dtype=np.uint8)
        else:
            stats = planning.checkpoint.stats[feature.key]
            normal = rng.standard_normal(feature.shape)
            found[feature.key] = (np.array(stats["mean"]) + np.array(stats["std"]) * normal).astype(
                np.float32
            )
    return found


@cache
def taught_checkpoint(folder: Path, preset: str = "micro") -> Path:
    """Writes it; `pieces`: a LLaVA with a tokeniser of Phi-3's kind, and prompts as in the paper."""
    torch.manual_seed(0)
    if preset == "pieces":
        source, seen = tiny_pieces.write(folder / "hub"), (camera_feature("base", 32, 32),)
        pretrained_checkpoint(folder, source, observation=seen, grid=GRID, context=512)
    else:
        config = code_config(preset, language())
        random_checkpoint(folder, config)
        write_json(folder / LANGUAGE, language().told_to(config))
    model, known = load_model(folder)
    assert isinstance(model, CodePlanner)
    spoken = load_language(folder)
    planning = CodePlanning(model, known, spoken, 48, model.config.context)
    batch = side_by_side([_lesson(planning, lesson) for lesson in range(len(LESSONS))])
    optimizer = torch.optim.AdamW(model.parameters(), 6e-3)
    for _ in range(200):
        loss = model.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 5e-3:
            break
    save_file(model.state_dict(), folder / "model.safetensors")
    return folder


def _lesson(planning: CodePlanning, lesson: int) -> dict[str, Any]:
    config, words = planning.config, planning.language.tokenizer
    chunks = planning.language.maker(config).question(Prompt(TASK, CALLS[: LESSONS[lesson][0]]), episode=0)
    asked = [token for chunk in chunks for token in chunk.tokens]
    answer = [*words.encode(wanted(lesson)), config.end_id]
    return row_of(config, asked, answer, *seen_and_felt(planning, observed(planning, lesson)))
