"""Footprints on the table: convex polygons (K, 2) in metres, corners anticlockwise."""

from __future__ import annotations

import numpy as np

from keystep.suites.tabletop.objects import Thing

DIRECTIONS: dict[str, tuple[float, float]] = {
    "left": (0.0, 1.0), "right": (0.0, -1.0), "front": (1.0, 0.0), "behind": (-1.0, 0.0),
}  # fmt: skip


def unit(angle_rad: float) -> np.ndarray:
    """(2,) direction."""
    return np.array([np.cos(angle_rad), np.sin(angle_rad)])


def turned(points: np.ndarray, angle_rad: float) -> np.ndarray:
    """(K, 2) points, turned about the origin."""
    x, y = unit(angle_rad)
    return points @ np.array([[x, y], [-y, x]])


def outline(thing: Thing, centre: np.ndarray, yaw_rad: float) -> np.ndarray:
    """(K, 2) corners of its footprint on the table."""
    return turned(thing.footprint(), yaw_rad) + centre


def rectangle(centre: np.ndarray, along: float, across: float, angle_rad: float) -> np.ndarray:
    """(4, 2) corners of a rectangle with half sizes `along` and `across` its direction."""
    corners = np.array([[along, across], [-along, across], [-along, -across], [along, -across]])
    return turned(corners, angle_rad) + centre


def disc(centre: np.ndarray, radius_m: float) -> np.ndarray:
    """(12, 2) corners of a polygon that holds a disc."""
    angles = np.arange(12) * np.pi / 6
    return centre + radius_m / np.cos(np.pi / 12) * np.column_stack([np.cos(angles), np.sin(angles)])


def gap(first: np.ndarray, second: np.ndarray) -> float:
    """Room between two convex polygons (K, 2), anticlockwise, in metres; negative when they overlap.

    The widest gap along a side's normal: less than the distance when corner faces corner, never more.
    """
    best = -np.inf
    for one, other in ((first, second), (second, first)):
        edges = np.roll(one, -1, axis=0) - one
        normals = np.column_stack([edges[:, 1], -edges[:, 0]]) / np.linalg.norm(edges, axis=1)[:, None]
        beyond = (normals @ other.T).min(axis=1) - (normals * one).sum(axis=1)
        best = max(best, float(beyond.max()))
    return best
