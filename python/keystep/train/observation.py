"""What of a dataset's columns a policy observes, as features."""

from __future__ import annotations

from keystep.data import Dataset
from keystep.features import Feature
from keystep.models.observing import IMAGES, STATE, camera_feature, numbered, vector_feature
from keystep.train.config import ControllerTraining
from keystep.train.names import usable_names


def feature_of(reader: Dataset, key: str, history: int = 1, depth: bool = False) -> Feature:
    """The feature that a column is. A vector's names that are not one each are replaced by numbers.

    Args:
        depth: take (height, width) numbers for depth, which a dataset does not tell.

    Raises:
        DatasetError: a column that no policy can take.
    """
    if key.startswith(IMAGES) and key in reader.cameras:
        height, width, _ = reader.features[key].shape
        return camera_feature(key.removeprefix(IMAGES), height, width, history=history)
    if depth and reader.features[key].is_depth:
        return Feature(key, "depth", reader.features[key].shape, history)
    column = reader.vector(key)
    width = column.shape[0]
    names = usable_names(column.names, width) or numbered(key.removeprefix("observation."), width)
    return vector_feature(key, width, names, history=history)


def observed(config: ControllerTraining, reader: Dataset) -> tuple[Feature, ...]:
    """What a controller sees: the state, the cameras, and what else is asked for, in this order.

    Raises:
        DatasetError, ValueError: a camera or another column that is not there, or that no policy can take.
    """
    keys = [STATE] if config.observe != "images" and STATE in reader.features else []
    keys += _camera_keys(config, reader) if config.observe != "state" else []
    for key in config.also:
        known = [name for name in reader.features if name.startswith("observation.") and name not in keys]
        if key not in known:
            raise ValueError(f"also: expected some of {', '.join(known) or 'none'}, got {key!r}")
        keys.append(key)
    return tuple(feature_of(reader, key, config.history, depth=key in config.also) for key in keys)


def _camera_keys(config: ControllerTraining, reader: Dataset) -> list[str]:
    """Of the cameras that are seen."""
    known = reader.cameras
    wanted = [IMAGES + name for name in config.cameras]
    for key in wanted:
        if key not in known:
            names = ", ".join(name.removeprefix(IMAGES) for name in known) or "none"
            raise ValueError(f"cameras: expected some of {names}, got {key.removeprefix(IMAGES)!r}")
    return [key for key in known if key in wanted] or known
