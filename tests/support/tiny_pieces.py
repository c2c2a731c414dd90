"""A LLaVA of a few thousand parameters with a tokeniser of Phi-3's kind: BPE, bytes, a space before texts."""

from __future__ import annotations

import json
import random
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import tiny_llava
import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from keystep.code.samples import TextEpisode
from keystep.suites import suite_named
from keystep.suites.base import texts

GRID = 10
CONTROL = ["<unk>", "<s>", "</s>"]
ADDED = ["<|endoftext|>", "<|end|>", "<|user|>", "<image>"]
PIECES = 220


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Pieces of programs of the tabletop; ids as in Phi-3's: control, bytes, pieces, added."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, trainers

    lines = [line for one in programs() for line in (one.prompt, *one.keysteps)]
    marks = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    learner = Tokenizer(models.BPE())
    learner.normalizer = marks
    learner.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=PIECES, show_progress=False))
    learned = json.loads(learner.to_str())["model"]
    names = [*CONTROL, *(f"<0x{byte:02X}>" for byte in range(256))]
    names += sorted(learned["vocab"], key=learned["vocab"].__getitem__)
    vocabulary = {name: number for number, name in enumerate(names)}
    merges = [tuple(pair) for pair in learned["merges"]]
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = marks
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in (*CONTROL, *ADDED)])
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", pad_token="<|endoftext|>")


@cache
def programs() -> tuple[TextEpisode, ...]:
    return tuple(islice(texts(suite_named("tabletop"), None, GRID), 62))


def write(folder: Path, seed: int = 0, **text: Any) -> Path:
    """Weights, configuration, tokeniser and picture processor; `text` changes the decoder."""
    torch.manual_seed(seed)
    words = tokenizer()
    sizes = LlavaConfig(
        vision_config={"model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 32}
        | {"num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 16}
        | {"projection_dim": 16},
        text_config={"model_type": "phi3", "vocab_size": len(words) + 9, "hidden_size": 64}
        | {"intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        | {"num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": None}
        | {"original_max_position_embeddings": 512, "pad_token_id": words.pad_token_id, "eos_token_id": 2}
        | text,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    LlavaForConditionalGeneration(sizes).save_pretrained(folder)
    words.save_pretrained(folder)
    pixels = {"image_mean": tiny_llava.MEAN, "image_std": tiny_llava.STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    return folder


def random_text(seed: int) -> str:
    """Programs, odd characters, spaces and lines."""
    rng = random.Random(seed)
    odd = [" ", "  ", "\n", "\t", "#", "'", "é", "赤い", "😀", "\u00a0", "0", "1e5", "<|end|", "zq"]
    code = rng.choice(programs()).keysteps
    return "".join(rng.choice([*odd, *code]) for _ in range(rng.randrange(12)))
