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
from keystep.models.observing import camera_feature, state_feature
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


def found_words(spoken: Language | None = None) -> dict[str, Any]:
    """Changes of a configuration: two objects are found in a picture, and told in the language's words."""
    encode = (spoken or language()).tokenizer.encode
    names = {name: tuple(encode(name)) for name in ("blue hexagon", "left plate", "red cube")}
    numbers = tuple(encode(str(number))[0] for number in range(GRID + 1))
    return {"names": names, "numbers": numbers, "image_tokens": 8}


def code_checkpoint(
    folder: Path, preset: str = "micro", seed: int = 0, layout: PromptLayout = DEFAULT, **changes: Any
) -> Path:
    """Writes one; `changes` are of the configuration."""
    spoken = language(layout)
    config = code_config(preset, spoken, **changes)
    random_checkpoint(folder, config, seed)
    write_json(folder / LANGUAGE, spoken.told_to(config))
    return folder


def small_llava(felt: bool = False) -> dict[str, Any]:
    """Changes of a configuration: CLIP and Phi-3 of a few thousand parameters in the own language."""
    spoken = language()
    vision = {"model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 32}
    vision |= {"num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 16}
    text = {"model_type": "phi3", "vocab_size": spoken.vocabulary, "hidden_size": 64, "intermediate_size": 48}
    text |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    text |= {"max_position_embeddings": 512, "original_max_position_embeddings": 512}
    text |= {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    sizes = {"image_token_index": 2, "vision_config": {**vision, "projection_dim": 16}, "text_config": text}
    seen = (camera_feature("base", 32, 32), *([state_feature(5)] if felt else []))
    return {"preset": "paper", "context": 512, "image_tokens": 4, "llava": sizes, "observation": seen}
