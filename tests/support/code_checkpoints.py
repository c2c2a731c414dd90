"""Checkpoints of planners that write code, with the tabletop's language and random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from keystep.code.prompt import DEFAULT, PromptLayout
from keystep.code.spoken import Language
from keystep.export.code_language import LANGUAGE
from keystep.files import write_json
from keystep.models.checkpoint import random_checkpoint
from keystep.models.code_planner.config import CodePlannerConfig
from keystep.models.code_planner.presets import CODE_PLANNER_PRESETS
from keystep.suites import suite_named
from keystep.suites.base import tokenizer

GRID = 32


def language(layout: PromptLayout = DEFAULT) -> Language:
    return Language(tokenizer(suite_named("tabletop"), GRID), layout, GRID)


def code_config(preset: str = "micro", spoken: Language | None = None, **changes: Any) -> CodePlannerConfig:
    """A preset of a language's vocabulary."""
    spoken = spoken or language()
    values: dict[str, Any] = {"vocabulary": spoken.vocabulary, **spoken.ids, **changes}
    return replace(CODE_PLANNER_PRESETS[preset], **values)


def code_checkpoint(
    folder: Path, preset: str = "micro", seed: int = 0, layout: PromptLayout = DEFAULT, **changes: Any
) -> Path:
    """Writes one; `changes` are of the configuration."""
    spoken = language(layout)
    config = code_config(preset, spoken, **changes)
    random_checkpoint(folder, config, seed)
    write_json(folder / LANGUAGE, spoken.told_to(config))
    return folder
