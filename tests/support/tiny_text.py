"""Text models of transformers, tiny, random and complete: what a folder from the model hub holds."""

from __future__ import annotations

import json
from pathlib import Path

import torch

SENTENCES = [
    "Lift the red block.",
    "Push the green cube to the left, please!",
    "Could you push the blue block to the right?",
    "Stack one block on top of another block.",
    "Don't hold it: pick up the crimson brick (now); it's the one with 2 sides.",
]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"()-"


def write_clip(folder: Path):
    """A whole CLIP, text and vision, with a byte-level BPE tokeniser."""
    from tokenizers import pre_tokenizers, trainers
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    special = ["<|startoftext|>", "<|endoftext|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    untrained = CLIPTokenizer(vocab={token: index for index, token in enumerate(special)}, merges=[])
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=special,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    untrained.backend_tokenizer.train_from_iterator(SENTENCES, trainer)
    learned = json.loads(untrained.backend_tokenizer.to_str())["model"]
    vocabulary = learned["vocab"]
    for token in (*alphabet, *(f"{byte}</w>" for byte in alphabet)):
        vocabulary.setdefault(token, len(vocabulary))
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[tuple(merge) for merge in learned["merges"]])
    text = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 4, "max_position_embeddings": 20, "bos_token_id": 0, "eos_token_id": 1}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 16}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    return _written(folder, CLIPModel, config, tokenizer)


def write_t5(folder: Path):
    """A whole T5, encoder and decoder, with a Unigram tokeniser."""
    from tokenizers import trainers
    from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

    untrained = T5Tokenizer(extra_ids=0)
    trainer = trainers.UnigramTrainer(
        vocab_size=120,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    untrained.backend_tokenizer.train_from_iterator(SENTENCES, trainer)
    learned = json.loads(untrained.backend_tokenizer.to_str())["model"]["vocab"]
    tokenizer = T5Tokenizer(vocab=[tuple(entry) for entry in learned], extra_ids=0)
    config = T5Config(vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
    return _written(folder, T5ForConditionalGeneration, config, tokenizer)


def write_minilm(folder: Path, letters: str = LETTERS, words: tuple[str, ...] = ("lift", "red", "##ward")):
    """A BERT with a WordPiece tokeniser of `letters` and `words`."""
    from transformers import BertConfig, BertModel, BertTokenizer

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    tokens += words
    tokenizer = BertTokenizer(vocab={token: index for index, token in enumerate(tokens)})
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
    )
    return _written(folder, BertModel, config, tokenizer)


WRITERS = {"clip": write_clip, "t5": write_t5, "minilm": write_minilm}


def _written(folder: Path, model_class, config, tokenizer):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = model_class(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model
