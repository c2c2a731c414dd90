"""What a policy observes: one entry of a manifest's list "observation". Importing this needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Kind:
    """Attributes:
    dtype: in which it is given.
    axes: of one frame, for messages.
    ndim: of one frame.
    channels: of an image, which goes channels first to the network; 0: a vector.
    unit: what a network's value 1 is before normalisation.
    own: the field that other kinds do not have.
    subgoal: whether a planner's subgoals may be of this kind.
    """

    dtype: str
    axes: str
    ndim: int
    channels: int
    unit: int = 1
    own: str = ""
    subgoal: bool = False


KINDS = {
    "vector": Kind("float32", "(S,)", 1, 0, own="names", subgoal=True),
    "rgb": Kind("uint8", "(height, width, 3)", 3, 3, unit=255, own="resize", subgoal=True),
    "depth": Kind("float32", "(height, width)", 2, 1),
}
"""By name. Depth is in metres."""


@dataclass(frozen=True)
class Feature:
    """A vector or an image that a policy observes.

    Attributes:
        key: as observations name it, `observation.<name>`, such as `observation.state`.
        kind: one of `KINDS`.
        shape: of one frame as it is given: (S,), (height, width, 3) or (height, width).
        history: frames that the network sees, oldest first; the runtime keeps them.
        names: of a vector's values, with units; () for images.
        resize: of rgb: images of another size are resized; if False they are refused.

    Raises:
        ValueError: "field: expected X, got Y".
    """

    key: str
    kind: str
    shape: tuple[int, ...]
    history: int = 1
    names: tuple[str, ...] = ()
    resize: bool = False

    def __post_init__(self) -> None:
        _require(self.kind in KINDS, f"{self.key}.kind", " | ".join(KINDS), self.kind)
        _require(self.key.startswith("observation."), "key", "observation.<name>", self.key)
        kind = KINDS[self.kind]
        fits = len(self.shape) == kind.ndim and all(extent > 0 for extent in self.shape)
        fits = fits and (kind.ndim < 3 or self.shape[2] == kind.channels)
        _require(fits, f"{self.key}.shape", kind.axes, self.shape)
        _require(self.history >= 1, f"{self.key}.history", "1 or more frames", self.history)
        wanted = self.shape[0] if kind.own == "names" else 0
        _require(len(self.names) == wanted, f"{self.key}.names", f"{wanted} names", len(self.names))
        _require(not self.resize or self.can_resize, f"{self.key}.resize", "false but for rgb", True)

    @property
    def dtype(self) -> str:
        """In which it is given."""
        return KINDS[self.kind].dtype

    @property
    def is_image(self) -> bool:
        return KINDS[self.kind].channels > 0

    @property
    def can_resize(self) -> bool:
        """Whether frames of another size may be resized."""
        return KINDS[self.kind].own == "resize"

    @property
    def name(self) -> str:
        """The key without `observation.`; a goal's key is `goal.<name>`."""
        return self.key.removeprefix("observation.")

    @property
    def width(self) -> int:
        """Values that each statistic of its normalisation has: one per value, or per channel."""
        return KINDS[self.kind].channels or self.shape[0]

    def network_shape(self, history: int | None = None) -> tuple[int, ...]:
        """The network's input, float32: [1, ..] for one frame, [1, n, ..] for n; images channels first.

        Args:
            history: frames; by default the feature's own. A goal is one frame.
        """
        frames = self.history if history is None else history
        frame = (self.width, *self.shape[:2]) if self.is_image else self.shape
        return (1, *((frames,) if frames > 1 else ()), *frame)

    def network_values(self, frames: np.ndarray) -> np.ndarray:
        """Frames [.., *shape] as the network takes them before normalisation: images channels first."""
        kind = KINDS[self.kind]
        values = frames / kind.unit if kind.unit != 1 else frames
        if not self.is_image:
            return values
        return np.moveaxis(values, -1, -3) if kind.ndim == 3 else np.expand_dims(values, -3)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: the entry of a manifest or a checkpoint, without its normalisation."""
        entry: dict[str, Any] = {"key": self.key, "kind": self.kind, "dtype": self.dtype}
        entry |= {"shape": list(self.shape), "history": self.history}
        own: dict[str, Any] = {"names": list(self.names), "resize": self.resize}
        return entry | {key: value for key, value in own.items() if key == KINDS[self.kind].own}

    @classmethod
    def from_dict(cls, entry: dict[str, Any]) -> Feature:
        """Inverse of `to_dict`. Other keys, such as its normalisation, are left alone."""
        known = {field.name: entry[field.name] for field in fields(cls) if field.name in entry}
        known["shape"] = tuple(known["shape"])
        known["names"] = tuple(known.get("names", ()))
        return cls(**known)


def features_of(entries: Sequence[dict[str, Any]]) -> list[Feature]:
    """Of a manifest's or a checkpoint's list "observation"."""
    return [Feature.from_dict(entry) for entry in entries]


def feature_of(manifest: dict[str, Any], role: str) -> tuple[Feature, dict[str, Any]]:
    """The feature of a network's input `observation.<name>` or `goal.<name>`, and its normalization."""
    key = role if role.startswith("observation.") else "observation." + role.removeprefix("goal.")
    (entry,) = (entry for entry in manifest["observation"] if entry["key"] == key)
    return Feature.from_dict(entry), entry["normalization"]


def _require(good: bool, field: str, wanted: str, got: object) -> None:
    if not good:
        raise ValueError(f"{field}: expected {wanted}, got {got}")
