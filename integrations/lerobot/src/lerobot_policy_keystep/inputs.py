"""What LeRobot hands over, as the bundle takes it. Knows neither torch nor LeRobot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

import keystep
from keystep.data.info import element_names
from keystep.features import Feature, features_of

STATE_TYPES = {"observation.state": "STATE", "observation.environment_state": "ENV"}


class Inputs:
    """The features of a bundle, by the names that LeRobot has for them.

    Args:
        manifest: the bundle's.
        rename_map: LeRobot's key: the bundle's, for those that differ. What it names is that, and nothing
            else: LeRobot must have it, and no other feature of the bundle takes it.

    Raises:
        keystep.ArgumentError: the bundle takes what LeRobot's tools do not give, or `rename_map` names a key
            that the bundle does not have, or one twice.
    """

    def __init__(self, manifest: dict[str, Any], rename_map: Mapping[str, str] | None = None) -> None:
        self.features = features_of(manifest["observation"])
        self._told: dict[str, str] = {}  # the bundle's key: LeRobot's
        self._names: dict[frozenset[str], dict[str, str]] = {}  # by the keys that were there
        known = [feature.key for feature in self.features]
        for theirs, ours in (rename_map or {}).items():
            left = [key for key in known if key not in self._told]
            if ours not in left:
                raise wrong(f"rename_map.{theirs}", f"one of {', '.join(left) or 'none more'}", ours)
            self._told[ours] = theirs
        for feature in self.features:
            if feature.kind not in ("vector", "rgb"):  # LeRobot scales whatever is called an image
                raise wrong(f"{feature.key}.kind", "vector | rgb", feature.kind)

    def expected(self) -> dict[str, str]:
        """As `names`, where nothing is known of LeRobot's keys but what `rename_map` says."""
        return {feature.key: self._told.get(feature.key, feature.key) for feature in self.features}

    def names(self, available: Iterable[str]) -> dict[str, str]:
        """The bundle's keys: LeRobot's. The only camera of a bundle is the only image of LeRobot, whatever
        their names.

        Raises:
            keystep.ArgumentError: one is missing, or what `rename_map` says is.
        """
        there = frozenset(available)
        if there not in self._names:
            self._names[there] = {feature.key: self._find(feature, there) for feature in self.features}
        return self._names[there]

    def check(self, given: Mapping[str, tuple[str, Sequence[int]]], sizes: bool) -> dict[str, str]:
        """The names, if a dataset's or an environment's features are those of the bundle.

        Args:
            given: by LeRobot's keys: VISUAL, STATE, .., and the shape, of images (channels, height, width).
            sizes: whether images are as large as said there. LeRobot's environments are not so exact: its
                PushT says 384 x 384, and gives 96 x 96. Frames are checked anyway, when they come.

        Raises:
            keystep.ArgumentError: names the first feature that is missing or another.
        """
        names = self.names(given)
        for feature in self.features:
            kind, shape = given[names[feature.key]]
            wanted = lerobot_shape(feature)
            if (kind == "VISUAL") != feature.is_image:
                raise wrong(feature.key, "an image" if feature.is_image else "a vector", kind)
            exact = not feature.is_image or (sizes and not feature.resize)
            if tuple(shape) != wanted if exact else (len(shape), *shape[:1]) != (3, 3):
                raise wrong(feature.key, str(wanted), str(tuple(shape)))
        return names

    def observations(
        self, batch: Mapping[str, Any], array: Callable[[Any], np.ndarray] = np.asarray
    ) -> list[dict[str, np.ndarray]]:
        """One for each environment of a batch.

        Args:
            batch: vectors (B, S); images (B, 3, height, width), floats from 0 to 1, or bytes. Keys that the
                bundle does not have are left alone.
            array: of a value of the batch.

        Raises:
            keystep.ArgumentError: a key is missing, or an array is none of these. Sizes of images are
                checked by the runtime.
        """
        names = self.names(key for key in batch if key.startswith("observation."))
        read = {feature.key: _frames(feature, array(batch[names[feature.key]])) for feature in self.features}
        count = len(next(iter(read.values())))
        if count < 1:
            raise wrong("environments", "1 or more", count)
        for key, frames in read.items():
            if len(frames) != count:
                raise wrong(key, f"{count} environments, as {next(iter(read))} has", len(frames))
        return [{key: frames[number] for key, frames in read.items()} for number in range(count)]

    def _find(self, feature: Feature, there: frozenset[str]) -> str:
        got = ", ".join(sorted(there)) or "none"
        told = self._told.get(feature.key)
        if told is not None and told not in there:
            raise wrong(f"rename_map.{told}", "a name of LeRobot's features", got)
        if told is not None:
            return told
        left = there - set(self._told.values())
        images = [name for name in left if name.startswith("observation.image")]
        if feature.key in left:
            return feature.key
        if feature.is_image and len(images) == 1 and sum(each.is_image for each in self.features) == 1:
            return images[0]
        raise wrong(feature.key, "it among LeRobot's features (else policy.rename_map says which)", got)


def lerobot_type(feature: Feature) -> str:
    """As LeRobot calls a feature of this key and kind."""
    return "VISUAL" if feature.is_image else STATE_TYPES.get(feature.key, "STATE")


def lerobot_shape(feature: Feature) -> tuple[int, ...]:
    """Images channels first."""
    return (feature.width, *feature.shape[:2]) if feature.is_image else feature.shape


def check_action(manifest: dict[str, Any], shape: Sequence[int], names: Any = None) -> None:
    """Whether a dataset's or an environment's actions are the bundle's.

    Args:
        names: of the values, in any form that datasets have. The same names in another order would move the
            wrong joints; others say nothing, for converted bundles have only numbers.
    """
    ours = manifest["action"]["names"]
    if tuple(shape) != (len(ours),):
        raise wrong("action", str((len(ours),)), str(tuple(shape)))
    theirs = list(element_names(names) or ())
    if sorted(theirs) == sorted(ours) and theirs != ours:
        raise wrong("action.names", ", ".join(ours), ", ".join(theirs))


def check_rate(manifest: dict[str, Any], fps: float | None) -> None:
    """Whether a dataset's frames a second are the bundle's actions: at another rate a robot would move faster
    or slower than it has learned. None: nobody says."""
    rate = manifest["control_rate_hz"]
    if fps is not None and abs(fps - rate) > 0.5:  # LeRobot has whole numbers
        raise wrong("dataset.fps", f"{rate:g}, the rate of the bundle", f"{fps:g}")


def wrong(field: str, wanted: str, got: object) -> keystep.ArgumentError:
    return keystep.ArgumentError(f"{field}: expected {wanted}, got {got}")


def _frames(feature: Feature, given: np.ndarray) -> np.ndarray:
    """[B, *shape of a frame], as the runtime takes them."""
    if not feature.is_image:
        if given.ndim != 2 or given.dtype.kind not in "fiub":
            raise wrong(feature.key, f"numbers (B, {feature.shape[0]})", _described(given))
        with np.errstate(over="ignore"):  # the runtime refuses what is not finite
            return np.ascontiguousarray(given, np.float32)
    if given.ndim != 4 or given.shape[1] != 3 or given.dtype.kind not in "fu":
        raise wrong(feature.key, "an RGB image (B, 3, height, width)", _described(given))
    if given.dtype != np.uint8:
        given = given.astype(np.float32, copy=False)
        if not (given.min() >= 0 and given.max() <= 1):  # NaN is neither
            raise wrong(feature.key, "values of 0 to 1", f"{given.min():g} to {given.max():g}")
        given = np.rint(given * 255).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(given, 1, -1))


def _described(given: np.ndarray) -> str:
    return f"{given.dtype} {given.shape}"
