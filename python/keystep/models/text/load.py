"""One function finds a text encoder by name, hub id or folder."""

from __future__ import annotations

from pathlib import Path

from keystep.models.text.base import DESCRIPTION, TextEncoder, TextEncoderError, read_description
from keystep.models.text.corpus_encoder import CorpusEncoder
from keystep.models.text.pretrained import FAMILIES, PretrainedEncoder, source_of

DEFAULT_ENCODER = CorpusEncoder.kind
KINDS = (CorpusEncoder.kind, *FAMILIES)
TRAINED = Path(__file__).parent / "corpus"  # ships with the package, so that the default needs no download


def load_text_encoder(name_or_folder: str | Path = DEFAULT_ENCODER) -> TextEncoder:
    """A frozen text encoder.

    Args:
        name_or_folder: one of `KINDS`; or a folder, as `TextEncoder.save` or transformers write it; or a hub
            id, "owner/name". Names come first: a folder called "clip" is "./clip".

    Raises:
        TextEncoderError: unknown name, damaged folder, or the hub cannot be reached.
    """
    name, folder = str(name_or_folder), Path(name_or_folder)
    if name == CorpusEncoder.kind:
        return CorpusEncoder.load(TRAINED)
    if name in FAMILIES:
        return PretrainedEncoder.pretrained(source_of(name), name)
    if (folder / DESCRIPTION).is_file():
        return _saved(folder)
    if (folder / "config.json").is_file():
        return PretrainedEncoder.pretrained(folder)
    if isinstance(name_or_folder, str) and _is_hub_id(name):
        return PretrainedEncoder.pretrained(name)
    known = ", ".join(KINDS)
    raise TextEncoderError(
        f"text encoder: expected one of {known}, a hub id like owner/name, or a folder with {DESCRIPTION} or "
        f"config.json, got {name!r}"
    )


def _saved(folder: Path) -> TextEncoder:
    kind = read_description(folder).get("kind")
    if kind == CorpusEncoder.kind:
        return CorpusEncoder.load(folder)
    if kind in FAMILIES:
        return PretrainedEncoder.load(folder)
    raise TextEncoderError(f"{folder / DESCRIPTION}: kind: expected one of {', '.join(KINDS)}, got {kind!r}")


def _is_hub_id(name: str) -> bool:
    owner, _, model = name.partition("/")
    return (
        bool(owner and model)
        and "/" not in model
        and not name.startswith((".", "~"))
        and not Path(name).exists()
    )
