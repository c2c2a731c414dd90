"""The things on the table: shapes, colours, sizes. No simulator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from keystep.suites.tabletop import layout

SHAPES: tuple[str, ...] = ("cube", "cylinder", "triangle", "hexagon")
SIDES = {"triangle": 3, "hexagon": 6, "cylinder": 24}
"""Prisms over regular polygons; the cylinder's many sides are flat, as PhysX needs."""
COLOURS: dict[str, tuple[float, float, float]] = {
    "cyan": (0.05, 0.75, 0.80),
    "red": (0.80, 0.08, 0.08),
    "white": (0.92, 0.92, 0.92),
    "yellow": (0.90, 0.78, 0.05),
    "black": (0.05, 0.05, 0.05),
    "blue": (0.08, 0.15, 0.80),
    "green": (0.08, 0.60, 0.12),
    "purple": (0.45, 0.10, 0.60),
}
Kind = Literal["block", "area", "plate"]


@dataclass(frozen=True)
class Thing:
    """What an object is.

    Attributes:
        shape: one of SHAPES; "area" for a flat square; "plate" for a dish of the scale.
        colour: one of COLOURS.
        size_m: full extent along x, y, z at yaw 0, in metres. Of a prism with `SIDES`, x is the diameter of
            the circle through the corners.
        kind: blocks move; areas lie fixed on the table; plates belong to the scale.
        label: what it is called when it is not "{colour} {shape}".
        density_kg_m3: of a block.
    """

    shape: str
    colour: str
    size_m: tuple[float, float, float]
    kind: Kind = "block"
    label: str = ""
    density_kg_m3: float = layout.DENSITY_KG_M3

    @property
    def name(self) -> str:
        """What code and prompts call it; two things may share it."""
        return self.label or f"{self.colour} {self.shape}"

    @property
    def height_m(self) -> float:
        return self.size_m[2]

    def footprint(self) -> np.ndarray:
        """(K, 2) corners at yaw 0 around the centre, anticlockwise, in metres."""
        if self.shape in SIDES:
            angles = 2 * np.pi * np.arange(SIDES[self.shape]) / SIDES[self.shape]
            return self.size_m[0] / 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        x, y = self.size_m[0] / 2, self.size_m[1] / 2
        return np.array([[x, y], [-x, y], [-x, -y], [x, -y]])

    @property
    def radius_m(self) -> float:
        """Of the circle around its centre that holds the footprint."""
        return float(np.linalg.norm(self.footprint(), axis=1).max())

    def corners(self) -> np.ndarray:
        """(2 K, 3) corners of the prism around its centre at yaw 0, the lower ones first."""
        flat = self.footprint()
        half = self.size_m[2] / 2
        return np.concatenate([np.column_stack([flat, np.full(len(flat), z)]) for z in (-half, half)])


@dataclass(frozen=True)
class Body:
    """A thing and where it is at the start.

    Attributes:
        position_m: of its centre, (x, y, z).
        yaw_rad: about the vertical, anticlockwise from above.
    """

    thing: Thing
    position_m: tuple[float, float, float]
    yaw_rad: float = 0.0


def block(shape: str, colour: str, width_m: float = layout.BLOCK_WIDTH_M,
          height_m: float = layout.BLOCK_HEIGHT_M) -> Thing:  # fmt: skip
    """A block whose fingers' distance, when held flat on its sides, is about `width_m`."""
    if shape == "cube":
        return Thing(shape, colour, (width_m, width_m, height_m))
    # A triangle is held between a side and the corner across, others between opposite sides.
    held = 0.75 if shape == "triangle" else float(np.cos(np.pi / SIDES[shape]))
    diameter = width_m / held
    return Thing(shape, colour, (diameter, diameter, height_m))


def area(colour: str, side_m: float) -> Thing:
    """A flat square, fixed on the table."""
    return Thing("area", colour, (side_m, side_m, layout.AREA_HEIGHT_M), "area")
