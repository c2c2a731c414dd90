"""The default text encoder: a small transformer over whole words, trained on our own instruction corpus.

It needs no download, and its tokeniser is made of plain ONNX Runtime operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from keystep.models.text.base import WEIGHTS, TextEncoder, TextEncoderError, frozen, read_description
from keystep.models.text.words import Vocabulary


@dataclass(frozen=True)
class CorpusConfig:
    """Sizes of the corpus encoder.

    Attributes:
        tokens: T, the start token included.
        width: D.
        hidden: width of the feed-forward layers.
    """

    tokens: int = 24
    width: int = 64
    layers: int = 2
    heads: int = 4
    hidden: int = 64


class Layer(nn.Module):
    """A pre-norm transformer layer of plain operators (torch's own has a fused path that does not export)."""

    def __init__(self, config: CorpusConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, config.hidden), nn.ReLU(), nn.Linear(config.hidden, width))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x [B, T, D]; bias [B, 1, 1, T] is added to the attention scores."""
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norms[0](x)).reshape(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.transpose(-1, -2) / (width // self.heads) ** 0.5 + bias
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, tokens, width)
        x = x + self.out(mixed)
        return x + self.feed(self.norms[1](x))


class CorpusEncoder(TextEncoder):
    """Words -> ids -> transformer. Untrained until `train_corpus_encoder` or `load` has given it weights."""

    kind = "corpus"

    def __init__(self, vocabulary: Vocabulary, config: CorpusConfig = CorpusConfig()) -> None:
        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        self.tokens, self.width = config.tokens, config.width
        self.words = nn.Embedding(len(vocabulary), config.width)
        self.places = nn.Parameter(0.1 * torch.randn(config.tokens, config.width))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        ids = torch.tensor([self.vocabulary.ids(text, self.tokens) for text in texts], dtype=torch.int64)
        return ids, (ids > 0).long()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        valid = mask.to(self.places.dtype)
        bias = ((valid - 1) * 1e4)[:, None, None]
        x = self.words(ids) + self.places
        for layer in self.layers:
            x = layer(x, bias)
        return self.norm(x) * valid[..., None]

    def settings(self) -> dict[str, Any]:
        return asdict(self.config) | {"words": list(self.vocabulary.words)}

    def write_files(self, folder: Path) -> None:
        weights = {name: value.cpu().contiguous() for name, value in self.state_dict().items()}
        save_file(weights, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> CorpusEncoder:
        """From a folder that `save` wrote. Raises TextEncoderError."""
        document = read_description(folder)
        try:
            config = CorpusConfig(**{field.name: document[field.name] for field in fields(CorpusConfig)})
            encoder = cls(Vocabulary(document["words"]), config)
            encoder.load_state_dict(load_file(folder / WEIGHTS))
        except (KeyError, TypeError, ValueError, OSError, SafetensorError, RuntimeError) as error:
            raise TextEncoderError(f"{folder}: expected a corpus encoder, got {error!r}") from None
        return frozen(encoder)
