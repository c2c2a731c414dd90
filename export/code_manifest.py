"""The manifest's part of a planner that writes code, and what must hold in it.

The tables of the language, tokeniser, layout of prompts, functions, are data: C++ reads them from here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keystep.code.grid import MAX_GRID
from keystep.code.language import API, Function
from keystep.code.prompt import PromptLayout
from keystep.code.spoken import Language
from keystep.code.tokenizer import Tokenizer
from keystep.code.trace import EARLY_STOP_CHARACTERS
from keystep.export.code_tensors import GRAPHS, expected_tensors, role_of
from keystep.export.errors import ExportError
from keystep.features import feature_of
from keystep.models.code_planner.config import OBJECTS, CodePlannerConfig

REPLY_TOKENS, MAX_REPLY_TOKENS = 96, 4096
MAX_CONTEXT = 65536
KEYSTEPS = 256
MAX_MEMORY = 2**20  # tokens of a session's key-steps
MAX_TENSOR_BYTES = 2**30
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
) -> dict[str, Any]:
    """The key `planner`.

    Args:
        language: as this network is trained.
        normalization: by key.
        decoder: transformers' configuration of it.
        limits: `context` and `reply_tokens`.
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
        "api": [function_entry(function) for function in API.values()],
        "memory": dict(MEMORY),
        "decoding": dict(DECODING),
        "weights": {"precision": precision, "errors": dict(NO_ERRORS)},
    }


def special_tokens() -> dict[str, int]:
    words = Tokenizer
    return {"pad": words.pad, "end": words.end, "image": words.image, "proprioception": words.proprioception}


def never_written(words: Tokenizer, vocabulary: int) -> list[int]:
    """Ids that no reply has: all that are no text, but the end."""
    return [number for number in words.no_text(vocabulary) if number != words.end]


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


# ---- checks -----------------------------------------------------------------------------------------------


def check_code_graphs(manifest: dict[str, Any]) -> None:
    """That there are the graphs of this family, and no others; of a manifest of which nothing is known."""
    graphs = manifest.get("graphs")
    if not isinstance(graphs, dict):
        raise ExportError(f"graphs: expected an object, got {graphs!r:.80}")
    for name in GRAPHS:
        if name not in graphs:
            raise ExportError(f"graphs.{name}: expected a graph (family code), got no such key")
    for name in graphs:
        if name not in GRAPHS:
            raise ExportError(f"graphs.{name!s:.80}: expected no such key (family code), got a graph")


def check_code_planner(manifest: dict[str, Any]) -> None:
    """What the schema cannot say of a manifest of the family `code`; its shape has been checked.

    Raises:
        ExportError: "field: expected X, got Y".
    """
    planner = manifest["planner"]
    for key in ("action", "chunk", "sampler", "unet"):
        _require(manifest[key] is None, key, "null (family code without a controller)", manifest[key])
    _check_features(manifest, planner)
    _check_language(planner)
    limits = {"context": MAX_CONTEXT, "reply_tokens": MAX_REPLY_TOKENS}
    for name, most in limits.items():
        _require(planner[name] <= most, f"planner.{name}", f"at most {most}", planner[name])
    kept = planner["memory"]["keysteps"] * planner["reply_tokens"]
    wanted = f"at most {MAX_MEMORY} tokens (keysteps x reply_tokens)"
    _require(kept <= MAX_MEMORY, "planner.memory.keysteps", wanted, kept)
    room = f"more than reply_tokens ({planner['reply_tokens']})"
    _require(planner["context"] > planner["reply_tokens"], "planner.context", room, planner["context"])
    _check_tensors(manifest["graphs"], planner, manifest)
    _check_bytes(manifest["graphs"])


def _require(holds: bool, field: str, expected: str, got: object) -> None:
    if not holds:
        raise ExportError(f"{field}: expected {expected}, got {got!r:.100}")


def _check_features(manifest: dict[str, Any], planner: dict[str, Any]) -> None:
    known = {feature["key"]: feature["kind"] for feature in manifest["observation"]}
    sees, feels = planner["sees"], planner["feels"]
    picture = known.get(sees) == "rgb" or (sees == OBJECTS and known.get(sees) == "vector")
    wanted = f"an rgb picture of the observation, or {OBJECTS}"
    _require(picture, "planner.sees", wanted, sees)
    felt = feels is None or (known.get(feels) == "vector" and feels != sees)
    _require(felt, "planner.feels", "null, or another vector of the observation", feels)
    keys = {sees} | ({feels} if feels else set())
    _require(set(known) == keys, "observation", f"{', '.join(sorted(keys))}", sorted(known))
    got = sorted(planner["normalization"])
    _require(got == sorted(keys), "planner.normalization", f"entries of {', '.join(sorted(keys))}", got)
    _check_normalization(manifest, planner["normalization"])
    for feature in manifest["observation"]:
        frames, place = feature["history"], f"{feature['key']}.history"
        _require(frames == 1, place, "1 (the planner sees one frame)", frames)


def _check_normalization(manifest: dict[str, Any], entries: dict[str, Any]) -> None:
    for key, entry in entries.items():
        width = feature_of(manifest, key)[0].width
        for values in (value for name, value in entry.items() if name != "mode"):
            if len(values) != width:
                place = f"planner.normalization.{key}"
                raise ExportError(f"{place}: expected {width} values, got {len(values)}")


def _check_language(planner: dict[str, Any]) -> None:
    try:
        words = _told("tokenizer", Tokenizer.from_dict, planner)
        layout = _told("prompt", PromptLayout.from_dict, planner)
    except ValueError as error:
        raise ExportError(f"planner.{error}") from None
    rows = f"at least {len(words)} (ids of the tokenizer)"
    _require(planner["vocabulary"] >= len(words), "planner.vocabulary", rows, planner["vocabulary"])
    tokens = special_tokens()
    _require(planner["tokens"] == tokens, "planner.tokens", f"{tokens}", planner["tokens"])
    never = never_written(words, planner["vocabulary"])
    wanted = f"all that is no text but the end ({len(never)} ids, ascending)"
    _require(planner["never"] == never, "planner.never", wanted, planner["never"])
    if planner["feels"] is None:
        asked = "proprioception" in (*layout.order, *layout.question_order)
        _require(not asked, "planner.prompt.order", "no proprioception (feels is null)", layout.order)
    most = MAX_GRID
    _require(1 <= planner["grid"] <= most, "planner.grid", f"1..{most}", planner["grid"])


def _told(field: str, read: Callable[[Mapping[str, Any]], Any], planner: dict[str, Any]) -> Any:
    try:
        return read(planner[field])
    except ValueError as error:
        raise ValueError(f"{field}.{error}") from None


def _check_tensors(graphs: dict[str, Any], planner: dict[str, Any], manifest: dict[str, Any]) -> None:
    for graph, sides in expected_tensors(planner, manifest).items():
        for side, wanted in sides.items():
            place = f"graphs.{graph}.{side}"
            got = {one["name"]: (one["dtype"], tuple(one["shape"])) for one in graphs[graph][side]}
            roles = {one["name"]: one["role"] for one in graphs[graph][side]}
            for name, tensor in wanted.items():
                _require(name in got, place, f"a tensor {name}", ", ".join(got))
                if got[name] != tensor:
                    raise ExportError(f"{place}.{name}: expected {_shown(tensor)}, got {_shown(got[name])}")
                role = role_of(name)
                _require(roles[name] == role, f"{place}.{name}.role", role, roles[name])
            _require(len(got) == len(wanted), place, ", ".join(wanted), ", ".join(got))


def _check_bytes(graphs: dict[str, Any]) -> None:
    """Tensors take memory before a step; what has one role is one memory."""
    tensors = [one for graph in graphs.values() for side in ("inputs", "outputs") for one in graph[side]]
    sizes = {one["role"]: math.prod(one["shape"]) * np.dtype(one["dtype"]).itemsize for one in tensors}
    wanted = f"tensors of at most {MAX_TENSOR_BYTES} bytes together"
    _require(sum(sizes.values()) <= MAX_TENSOR_BYTES, "graphs", wanted, sum(sizes.values()))


def _shown(tensor: tuple[str, tuple[int, ...]]) -> str:
    return f"{tensor[0]} {list(tensor[1])}"
