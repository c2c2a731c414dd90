"""What configurations say of what a network observes: a list of features. Importing this needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keystep.features import Feature
from keystep.models.checks import ConfigError, require

STATE, IMAGES = "observation.state", "observation.images."


def vector_feature(key: str, width: int, names: Sequence[str] | None = None, *, history: int = 1) -> Feature:
    """A vector; without names its values are numbered."""
    known = numbered(key.removeprefix("observation."), width) if names is None else names
    return Feature(key, "vector", (width,), history, tuple(known))


def state_feature(width: int, *, history: int = 1) -> Feature:
    """`observation.state` with numbered values."""
    return vector_feature(STATE, width, history=history)


def camera_feature(name: str, height: int, width: int, *, history: int = 1) -> Feature:
    """`observation.images.<name>`, in RGB. Sizes in pixels."""
    return Feature(IMAGES + name, "rgb", (height, width, 3), history)


def numbered(what: str, count: int) -> list[str]:
    return [f"{what}_{number}" for number in range(count)]


class Observing:
    """A configuration with `observation`."""

    observation: tuple[Feature, ...]

    @property
    def vectors(self) -> tuple[Feature, ...]:
        """The features that are vectors."""
        return tuple(feature for feature in self.observation if not feature.is_image)

    @property
    def images(self) -> tuple[Feature, ...]:
        """The features that are images, depth too."""
        return tuple(feature for feature in self.observation if feature.is_image)

    @property
    def vector_width(self) -> int:
        """Values of all vectors together."""
        return sum(feature.shape[0] for feature in self.vectors)

    def views(self) -> tuple[str, ...]:
        """What the features are seen of: the observation, and the goal if that is one."""
        return ("observation", "goal") if getattr(self, "goal", "") == "observation" else ("observation",)

    def inputs(self) -> dict[str, tuple[Feature, int]]:
        """By the name of every tensor that is observed, its feature and its frames; a goal is one frame."""
        return {
            f"{view}.{feature.name}": (feature, feature.history if view == "observation" else 1)
            for view in self.views()
            for feature in self.observation
        }


def check_observation(where: str, observation: tuple[Feature, ...]) -> None:
    """That every key is there once, and of a tensor's name."""
    require(len(observation) > 0, f"{where}.observation", "at least one feature", "none")
    keys = [feature.key for feature in observation]
    require(len(set(keys)) == len(keys), f"{where}.observation", "different keys", keys)
    for feature in observation:
        require(feature.name != "", f"{where}.observation", "a key observation.NAME", feature.key)


def read_observation(where: str, entries: Any) -> tuple[Feature, ...]:
    """The features of a list of JSON values. Raises ConfigError naming the field."""
    require(isinstance(entries, list | tuple), where, "an array", entries)
    return tuple(_read_feature(f"{where}[{number}]", entry) for number, entry in enumerate(entries))


def _read_feature(where: str, entry: Any) -> Feature:
    require(isinstance(entry, dict), where, "an object", entry)
    kinds: dict[str, Any] = {"key": str, "kind": str, "history": int, "resize": bool}
    for name, kind in kinds.items():
        if name in ("key", "kind") or name in entry:
            value = entry.get(name)
            require(type(value) is kind, f"{where}.{name}", f"a value of type {kind.__name__}", value)
    for name, kind in {"shape": int, "names": str}.items():
        if name == "shape" or name in entry:
            value = entry.get(name)
            fits = isinstance(value, list | tuple) and all(type(part) is kind for part in value)
            require(fits, f"{where}.{name}", f"an array of values of type {kind.__name__}", value)
    try:
        return Feature.from_dict(entry)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
