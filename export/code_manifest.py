"""The manifest's part of a planner that writes code; the loader has what must hold in it.

The tables of the language, tokeniser, layout of prompts, functions, are data: C++ reads them from here.
"""

from __future__ import annotations

from typing import Any

from keystep.code.language import API, Function
from keystep.code.spoken import Language
from keystep.code.tokenizer import Tokenizer
from keystep.code.trace import EARLY_STOP_CHARACTERS
from keystep.models.code_planner.config import CodePlannerConfig

REPLY_TOKENS = 96
KEYSTEPS = 256
MEMORY = {"overflow": "forget_oldest", "keysteps": KEYSTEPS}
DECODING = {"way": "draft", "early_stop": EARLY_STOP_CHARACTERS, "every": 1, "constrained": False}
"""What a session does unless it is told otherwise."""
NO_ERRORS = {"max": 0.0, "rms": 0.0, "agree": 1.0, "margin": 0.0}


def planner_entry(
    config: CodePlannerConfig,
    language: Language,
    normalization: dict[str, Any],
    decoder: Any,
    limits: dict[str, int],
    precision: str,
    constrained: bool,
) -> dict[str, Any]:
    """The key `planner`.

    Args:
        language: as this network is trained.
        normalization: by key.
        decoder: transformers' configuration of it.
        limits: `context` and `reply_tokens`.
        precision: of the decoder's weights.
        constrained: replies are code of the API unless a session is told otherwise.
    """
    sees = config.picture or config.objects
    assert sees is not None
    told = language.told_to(config)
    return {
        "sees": sees.key,
        "feels": config.proprioception.key if config.proprioception else None,
        "normalization": normalization,
        "image_tokens": config.image_tokens,
        "width": decoder.hidden_size,
        "layers": decoder.num_hidden_layers,
        "key_heads": decoder.num_key_value_heads,
        "head_width": decoder.hidden_size // decoder.num_attention_heads,
        "vocabulary": config.vocabulary,
        **limits,
        "tokens": special_tokens(),
        "never": never_written(language.tokenizer, config.vocabulary),
        **told,
        "api": api_entries(),
        "memory": dict(MEMORY),
        "decoding": DECODING | {"constrained": constrained},
        "weights": {"precision": precision, "errors": dict(NO_ERRORS)},
    }


def special_tokens() -> dict[str, int]:
    words = Tokenizer
    return {"pad": words.pad, "end": words.end, "image": words.image, "proprioception": words.proprioception}


def never_written(words: Tokenizer, vocabulary: int) -> list[int]:
    """Ids that no reply has: all that are no text, but the end."""
    return [number for number in words.no_text(vocabulary) if number != words.end]


def api_entries() -> list[dict[str, Any]]:
    """All functions that a reply may call."""
    return [function_entry(function) for function in API.values()]


def function_entry(function: Function) -> dict[str, Any]:
    """Of the API; `result` is null of an action."""
    parameters = [
        {
            "name": parameter.name,
            "types": [str(kind) for kind in parameter.types],
            "required": parameter.required,
            "choices": list(parameter.choices),
        }
        for parameter in function.parameters
    ]
    result = str(function.result) if function.result else None
    return {"name": function.name, "result": result, "parameters": parameters}
