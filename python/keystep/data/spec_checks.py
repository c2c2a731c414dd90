"""What a dataset's spec must be, so that whatever is written later fits."""

from __future__ import annotations

from typing import Any

from keystep.data.layout import DatasetError, Feature
from keystep.data.spec import DatasetSpec
from keystep.data.validation import checked_json, checked_text, checked_words, told

DTYPES = (
    "bool",
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    *(f"float{bits}" for bits in (16, 32, 64)),
    "string",
    "image",
)


def check_spec(spec: DatasetSpec) -> None:
    """Raises DatasetError for what a dataset cannot have, before anything of it is written."""
    check_count("fps", spec.fps)
    if not spec.tasks:
        raise DatasetError("tasks: expected at least one, got none")
    for name, words in spec.tasks.items():
        checked_words("tasks", name)
        if words is not None:
            checked_words(f"tasks.{name}", words)
    if not spec.features:
        raise DatasetError("features: expected at least one, got none")
    for name, feature in spec.features.items():
        _check_feature(f"features.{checked_words('features', name)}", feature)
    if spec.robot_type is not None:
        checked_text("robot_type", spec.robot_type)
    for name in spec.extras:
        checked_words("extras", name)
    checked_json("collection", dict(spec.collection))
    checked_json("notes", dict(spec.notes))


def check_count(name: str, value: Any) -> None:
    """Raises DatasetError unless it is a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise DatasetError(f"{name}: expected a whole number of at least 1, got {told(value)}")


def _check_feature(name: str, feature: Feature) -> None:
    if feature.dtype not in DTYPES:
        raise DatasetError(f"{name}.dtype: expected one of {', '.join(DTYPES)}, got {told(feature.dtype)}")
    shape = feature.shape
    if not isinstance(shape, tuple) or not shape or not all(type(size) is int and size > 0 for size in shape):
        raise DatasetError(f"{name}.shape: expected a tuple of whole numbers above 0, got {told(shape)}")
    if feature.is_image and (len(shape) != 3 or shape[2] != 3):
        raise DatasetError(f"{name}.shape: expected (height, width, 3) of images, got {shape}")
    for text in feature.names or ():
        checked_text(f"{name}.names", text)
