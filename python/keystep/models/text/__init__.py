"""Frozen text encoders behind one interface: sentences -> one vector per token."""

from keystep.models.text.base import TextEncoder, TextEncoderError
from keystep.models.text.load import DEFAULT_ENCODER, load_text_encoder

__all__ = ["DEFAULT_ENCODER", "TextEncoder", "TextEncoderError", "load_text_encoder"]
