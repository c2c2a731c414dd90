"""The tokeniser of a pretrained LLaVA in the runtime's numbers, and its weights renumbered to fit.

The numbers of docs/tokenizer.md: specials, bytes, entries. Rows of the embedding and of the head change their
places; what the network computes does not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from keystep.code.pieces import SPACE_MARK, PieceTokenizer
from keystep.code.tokenizer import BYTES, FIRST_WORD, Tokenizer
from keystep.models.code_planner.config import CodePlannerConfig
from keystep.models.code_planner.network import CodePlanner
from keystep.models.code_planner.pretrained import LlavaError

PROBES = (
    "Pick up the red cube",
    "move3d(get_actor('red cube', actor_pos=(7, 21)))",
    "# pose_dict['A'] = get_pose(get_actor(\"it's\"))\n# done()\n",
    "two  spaces\t\tand\n\nlines ",
    "caf\u00e9 \u8d64\u3044 \U0001f600 \u0394",
)
"""Texts by which the two tokenisers are compared. None begins with a space: see SPACES."""
_MARKING = {"type": "Metaspace", "replacement": SPACE_MARK, "split": False}
_REPLACING = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE_MARK}
SPACES: tuple[dict[str, list[dict[str, Any]]], ...] = (
    {"normalizer": [{"type": "Prepend", "prepend": SPACE_MARK}, _REPLACING], "pre_tokenizer": []},
    *(
        {"normalizer": [], "pre_tokenizer": [{**_MARKING, "prepend_scheme": scheme}]}
        for scheme in ("first", "always")
    ),
)
"""How a tokeniser of Phi-3's kind marks spaces: as its file says, or as LlamaTokenizer of transformers does
in any case. That one puts none before a text that has one, which then is lost."""


def own_pieces(tokenizer: Any, config: CodePlannerConfig) -> tuple[PieceTokenizer, list[int]]:
    """The table of a tokeniser of transformers, and which of its numbers each of ours is.

    Args:
        tokenizer: BPE with bytes for unknown characters and a space before each text, as Phi-3's.
        config: of the planner with this tokeniser.

    Returns:
        The table, and for every row of the vocabulary the row that it was.

    Raises:
        LlavaError: another kind of tokeniser, or one that gives other numbers for PROBES.
    """
    told = json.loads(tokenizer.backend_tokenizer.to_str())
    model = told["model"]
    _check_kind(told)
    vocabulary: dict[str, int] = model["vocab"]
    spelled = [f"<0x{byte:02X}>" for byte in range(BYTES)]
    lacking = [name for name in spelled if name not in vocabulary]
    if lacking:
        raise LlavaError(f"tokenizer: expected all bytes in the vocabulary, not without {lacking[0]}")
    others = {token["content"] for token in told["added_tokens"]} | {model.get("unk_token"), *spelled}
    pieces = sorted((number, text) for text, number in vocabulary.items() if text not in others)
    ours = {text: FIRST_WORD + index for index, (_, text) in enumerate(pieces)}
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    try:
        words = tuple(text.replace(SPACE_MARK, " ") for _, text in pieces)
        found = PieceTokenizer(words, tuple((ours[left], ours[right]) for left, right in pairs))
    except (ValueError, KeyError) as error:
        raise LlavaError(f"tokenizer: expected pieces and pairs of them, got {error}") from None
    known = [*(vocabulary[name] for name in spelled), *(number for number, _ in pieces)]
    order = _order(config, known)
    _check_probes(found, tokenizer, order)
    return found, order


def _check_kind(told: dict[str, Any]) -> None:
    """That texts are not changed, nor parted, before pairs are merged; probes alone would not show it."""
    model = told["model"]
    if model.get("type") != "BPE" or not model.get("byte_fallback"):
        got = f"{model.get('type')}, byte_fallback {model.get('byte_fallback')}"
        raise LlavaError(f"tokenizer: expected BPE with bytes for unknown characters, got {got}")
    for setting in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"):
        if model.get(setting):
            raise LlavaError(f"tokenizer.{setting}: expected none, got {model[setting]}")
    steps = {name: _steps(told.get(name)) for name in ("normalizer", "pre_tokenizer")}
    if steps not in SPACES:
        raise LlavaError(f"tokenizer: expected spaces marked as Phi-3's, and nothing else, got {steps}")


def _steps(found: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A normaliser or pre-tokeniser as a list of those that it is made of."""
    if found is None:
        return []
    if found.get("type") != "Sequence":
        return [found]
    parts = found.get("normalizers", found.get("pretokenizers", []))
    return [step for part in parts for step in _steps(part)]


def _order(config: CodePlannerConfig, known: Sequence[int]) -> list[int]:
    """All numbers: the specials', those of text, and what no text gives."""
    left = set(range(config.vocabulary)) - {*known, config.pad_id, config.end_id, config.image_id}
    felt = config.proprioception_id if config.proprioception_id in left else max(left, default=-1)
    specials = [config.pad_id, config.end_id, config.image_id, felt]
    if felt < 0 or len({*specials, *known}) != len(specials) + len(known):
        raise LlavaError(f"tokenizer: expected specials that are no text, and one to spare, got {specials}")
    return [*specials, *known, *sorted(left - {felt})]


def _check_probes(found: PieceTokenizer, tokenizer: Any, order: Sequence[int]) -> None:
    for text in PROBES:
        wanted = tokenizer(text, add_special_tokens=False)["input_ids"]
        got = [order[number] for number in found.encode(text)]
        if got != wanted:
            raise LlavaError(f"tokenizer: expected pieces merged as Phi-3's, got {wanted} for {text!r}")


@torch.no_grad()
def renumbered(planner: CodePlanner, order: Sequence[int]) -> CodePlanner:
    """The planner with row i of embedding and head where row `order[i]` was, in place."""
    config, rows = planner.config, torch.tensor(order)
    table: Any = planner.decoder.get_input_embeddings().weight
    head: Any = planner.head.weight
    for weight in (table,) if head is table else (table, head):
        weight.copy_(weight[rows.to(weight.device)])
    llava = dict(config.llava)
    text = {"pad_token_id": Tokenizer.pad, "eos_token_id": Tokenizer.end, "bos_token_id": None}
    llava |= {"image_token_index": Tokenizer.image, "text_config": llava["text_config"] | text}
    ids: dict[str, Any] = {"pad_id": Tokenizer.pad, "end_id": Tokenizer.end, "image_id": Tokenizer.image}
    planner.config = replace(config, **ids, proprioception_id=Tokenizer.proprioception, llava=llava)
    return planner
