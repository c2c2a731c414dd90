"""What a dataset's spec must be, so that whatever is written later fits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keystep.data.encoder import check_encoder
from keystep.data.info import LANGUAGE_KEYS, MAX_SIDE, NUMBERS, check_feature_name, read_feature
from keystep.data.layout import INDEX_FEATURES, Column, DatasetError
from keystep.data.validation import checked_json, checked_text, checked_words, told

if TYPE_CHECKING:
    from keystep.data.spec import DatasetSpec

DTYPES = (*NUMBERS, "string", "image", "video")
MAX_FPS = 10**6


def check_spec(spec: DatasetSpec) -> None:
    """Raises DatasetError for what a dataset cannot have, before anything of it is written."""
    check_count("fps", spec.fps, MAX_FPS)
    for name in ("features", "tasks", "collection", "notes"):
        if not isinstance(value := getattr(spec, name), Mapping):
            raise DatasetError(f"{name}: expected a mapping, got {told(value)}")
    if not isinstance(spec.extras, tuple | list):
        raise DatasetError(f"extras: expected a tuple of names, got {told(spec.extras)}")
    if not spec.tasks:
        raise DatasetError("tasks: expected at least one, got none")
    for name, words in spec.tasks.items():
        checked_words("tasks", name)
        if words is not None:
            checked_words(f"tasks.{name}", words)
    if not spec.features:
        raise DatasetError("features: expected at least one, got none")
    for name, feature in spec.features.items():
        check_feature_name("features", name)
        if name in (*INDEX_FEATURES, *LANGUAGE_KEYS):
            raise DatasetError(f"features.{name}: expected another name, as the layout fills {name} itself")
        _check_feature(f"features.{name}", feature)
    if spec.robot_type is not None:
        checked_text("robot_type", spec.robot_type)
    for name in spec.extras:
        checked_words("extras", name)
    checked_json("collection", dict(spec.collection))
    checked_json("notes", dict(spec.notes))


def check_count(name: str, value: Any, most: int | None = None) -> None:
    """Raises DatasetError unless it is a whole number from 1 to `most`."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < 1 or (most is not None and value > most):
        wanted = "of at least 1" if most is None else f"from 1 to {most}"
        raise DatasetError(f"{name}: expected a whole number {wanted}, got {told(value)}")


def _check_feature(name: str, feature: Column) -> None:
    if not isinstance(feature, Column):
        raise DatasetError(f"{name}: expected a Column, got {told(feature)}")
    if feature.dtype not in DTYPES:
        raise DatasetError(f"{name}.dtype: expected one of {', '.join(DTYPES)}, got {told(feature.dtype)}")
    shape = feature.shape
    if not isinstance(shape, tuple) or not shape or not all(type(size) is int and size > 0 for size in shape):
        raise DatasetError(f"{name}.shape: expected a tuple of whole numbers above 0, got {told(shape)}")
    if feature.is_image and (len(shape) != 3 or shape[2] != 3 or max(shape) > MAX_SIDE):
        wanted = f"(height, width, 3) of images, at most {MAX_SIDE} pixels each"
        raise DatasetError(f"{name}.shape: expected {wanted}, got {shape}")
    if feature.is_video:
        check_encoder(name, feature.codec, *shape[:2])
    _check_names(f"{name}.names", feature)


def _check_names(name: str, feature: Column) -> None:
    """Those that readers give again: as many as there are elements; of images the axes, in their order."""
    if feature.names in (None, (), []):
        return
    if not isinstance(feature.names, tuple | list):
        raise DatasetError(f"{name}: expected a tuple of texts or None, got {told(feature.names)}")
    for text in feature.names:
        checked_text(name, text)
    size = math.prod(feature.shape)
    if feature.is_number and len(feature.names) != size:
        raise DatasetError(f"{name}: expected {size}, one of each element, got {len(feature.names)}")
    if feature.is_image and read_feature(name, "", feature.to_json()).shape != feature.shape:
        raise DatasetError(f"{name}: expected height, width and channels, got {told(feature.names)}")
