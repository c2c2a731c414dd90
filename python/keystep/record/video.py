"""Demonstrations whose images are collected into mp4 files."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from keystep.data.errors import DatasetError
from keystep.data.layout import video_column

if TYPE_CHECKING:
    from keystep.suites.base import Source


def with_video(source: Source, codec: str) -> Source:
    """The same demonstrations, whose images go into mp4 files.

    Raises:
        DatasetError: there are no images, no such codec, or it cannot encode their size.
    """
    features = dict(source.spec.features)
    cameras = [key for key, feature in features.items() if feature.is_image]
    if not cameras:
        raise DatasetError(f"video: expected none, as there are no images (obs_mode), got {codec!r}")
    for key in cameras:
        height, width, _ = features[key].shape
        features[key] = video_column(height, width, codec)
    return dataclasses.replace(source, spec=dataclasses.replace(source.spec, features=features))
