"""A LLaVA with a CLIP vision tower and Phi-3 of a few thousand parameters, in the format of the hub."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration, PreTrainedTokenizerFast

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
WORDS = ["<unk>", "<pad>", "<|end|>", "<image>", "go", "pick", "place", "done"]
VOCABULARY = 16


def write(folder: Path) -> Path:
    """Weights, configuration, tokeniser and picture processor."""
    torch.manual_seed(0)
    sizes = LlavaConfig(
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 16,
            "projection_dim": 16,
        },
        text_config={
            "model_type": "phi3",
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 64,
            "original_max_position_embeddings": 64,
            "pad_token_id": 1,
            "eos_token_id": 2,
            "bos_token_id": None,
        },
        image_token_index=WORDS.index("<image>"),
    )
    LlavaForConditionalGeneration(sizes).save_pretrained(folder)
    _tokenizer(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    return folder


def _tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", pad_token="<pad>", eos_token="<|end|>"
    ).save_pretrained(folder)
