"""What every text encoder is: a frozen network, its tokeniser, and a folder that holds both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from keystep.files import parse_json, replacing_folder, sha256, to_json

FORMAT, VERSION = "keystep-text-encoder", 1
DESCRIPTION = "text_encoder.json"
WEIGHTS = "model.safetensors"


EncoderT = TypeVar("EncoderT", bound="TextEncoder")


class TextEncoderError(RuntimeError):
    """A text encoder is unknown, cannot be found, or its folder is damaged."""


class TextEncoder(nn.Module, ABC):
    """Sentences -> one vector per token. Frozen, always in evaluation mode.

    Attributes:
        kind: one of `keystep.models.text.load.KINDS`.
        tokens: T, of every sentence: long ones are cut, short ones padded.
        width: D of each token's vector.
    """

    kind: str
    tokens: int
    width: int

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """ids [B, T] int64 and mask [B, T] int64: 1 for tokens, 0 for padding."""

    @abstractmethod
    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """[B, T] twice -> [B, T, D] float32; rows of padding are zero."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What `text_encoder.json` says beside format, version, kind and files; JSON values."""

    @abstractmethod
    def write_files(self, folder: Path) -> None:
        """Writes weights (safetensors) and tokeniser files into an existing folder."""

    def train(self: EncoderT, mode: bool = True) -> EncoderT:
        """Stays in evaluation mode, also when the model that it is a part of is trained."""
        return super().train(False)

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Texts -> [B, T, D], without gradient, on the encoder's device."""
        device = next(self.parameters()).device
        ids, mask = self.tokenize(texts)
        return self(ids.to(device), mask.to(device))

    def save(self, folder: Path) -> None:
        """Writes a self-contained folder, replacing one that is there: description, weights, tokeniser."""
        with replacing_folder(folder, overwrite=True) as staged:
            self.write_files(staged)
            document = {
                "format": FORMAT,
                "version": VERSION,
                "kind": self.kind,
                "tokens": self.tokens,
                "width": self.width,
                **self.settings(),
                "files": {path.name: sha256(path) for path in sorted(staged.iterdir())},
            }
            (staged / DESCRIPTION).write_text(to_json(document), encoding="utf-8")


def frozen(encoder: EncoderT) -> EncoderT:
    """The encoder in evaluation mode, without gradients."""
    return encoder.eval().requires_grad_(False)


def read_description(folder: Path) -> dict[str, Any]:
    """Reads `text_encoder.json` and checks every file that it names. Raises TextEncoderError."""
    path = folder / DESCRIPTION
    try:
        document = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise TextEncoderError(f"{path}: expected JSON, got {error}") from None
    if not isinstance(document, dict):
        raise TextEncoderError(f"{path}: expected an object, got {type(document).__name__}")
    if document.get("format") != FORMAT or document.get("version") != VERSION:
        got = f"{document.get('format')} version {document.get('version')}"
        raise TextEncoderError(f"{path}: expected {FORMAT} version {VERSION}, got {got}")
    files = document.get("files")
    if not isinstance(files, dict) or WEIGHTS not in files:
        raise TextEncoderError(f"{path}: files: expected checksums with one of {WEIGHTS}, got {files!r}")
    for name, digest in files.items():
        file = folder / name
        if file.parent != folder or not file.is_file():
            raise TextEncoderError(f"{path}: files: expected {name!r} in the folder, got no such file")
        if sha256(file) != digest:
            raise TextEncoderError(f"{file}: expected sha256 {digest}, got {sha256(file)}")
    return document
