"""What a policy observes: one entry of a manifest's list "observation". Importing this needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

KINDS = {"vector": "float32", "rgb": "uint8", "depth": "float32"}
"""The kinds, and the dtype in which each is given. Depth is in metres."""


@dataclass(frozen=True)
class Feature:
    """A vector or an image that a policy observes.

    Attributes:
        key: as observations name it, `observation.<name>`, such as `observation.state`.
        kind: vector, rgb or depth.
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
        axes = {"vector": "(S,)", "rgb": "(height, width, 3)", "depth": "(height, width)"}[self.kind]
        fits = len(self.shape) == axes.count(",") + (self.kind != "vector")
        fits = fits and all(extent > 0 for extent in self.shape)
        fits = fits and (self.kind != "rgb" or self.shape[2] == 3)
        _require(fits, f"{self.key}.shape", axes, self.shape)
        _require(self.history >= 1, f"{self.key}.history", "1 or more frames", self.history)
        wanted = self.shape[0] if self.kind == "vector" else 0
        _require(len(self.names) == wanted, f"{self.key}.names", f"{wanted} names", len(self.names))
        _require(not self.resize or self.kind == "rgb", f"{self.key}.resize", "false but for rgb", True)

    @property
    def dtype(self) -> str:
        """In which it is given."""
        return KINDS[self.kind]

    @property
    def name(self) -> str:
        """The key without `observation.`; a goal's key is `goal.<name>`."""
        return self.key.removeprefix("observation.")

    @property
    def width(self) -> int:
        """Values that each statistic of its normalisation has: one per value, or per channel."""
        return self.shape[0] if self.kind == "vector" else 3 if self.kind == "rgb" else 1

    def network_shape(self, history: int | None = None) -> tuple[int, ...]:
        """The network's input, float32: [1, ..] for one frame, [1, n, ..] for n; images channels first.

        Args:
            history: frames; by default the feature's own. A goal is one frame.
        """
        frames = self.history if history is None else history
        frame = self.shape if self.kind == "vector" else (self.width, *self.shape[:2])
        return (1, *((frames,) if frames > 1 else ()), *frame)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: the entry of a manifest or a checkpoint, without its normalisation."""
        entry: dict[str, Any] = {"key": self.key, "kind": self.kind, "dtype": self.dtype}
        entry |= {"shape": list(self.shape), "history": self.history}
        own: dict[str, dict[str, Any]] = {
            "vector": {"names": list(self.names)},
            "rgb": {"resize": self.resize},
            "depth": {},
        }
        return entry | own[self.kind]

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


def _require(good: bool, field: str, wanted: str, got: object) -> None:
    if not good:
        raise ValueError(f"{field}: expected {wanted}, got {got}")
