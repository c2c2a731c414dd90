"""The T of PushT: its outline, and how a round pusher moves it, for many pushes at once.

gym-pusht has no friction and damps all speeds away within a step of its physics, so that where the T goes
depends on the path of the pusher alone, not on its speed. That makes a model of a few lines: whatever depth
the pusher has gone into the T is undone by one impulse at the point of contact.

Lengths are pixels, angles radians. A pose is (x, y, angle) of the middle of the bar's upper edge.
"""

from __future__ import annotations

import numpy as np

RADIUS = 15.0
"""Of the pusher."""
GOAL = np.array([256.0, 256.0, np.pi / 4])
BAR_AND_STEM = np.array([[-60.0, 0.0, 60.0, 30.0], [-15.0, 30.0, 15.0, 120.0]])
"""Rectangles: left, upper, right, lower."""
CORNERS = np.array(
    [[-60, 0], [60, 0], [60, 30], [15, 30], [15, 120], [-15, 120], [-15, 30], [-60, 30]], float
)
CENTRE = np.array([0.0, 45.0])  # of gravity, as gym-pusht has it
INERTIA = 3000.0  # over mass; of gym-pusht's own sum


def turned(vectors: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Vectors (.., 2) turned by angles (..)."""
    x, y, sine, cosine = vectors[..., 0], vectors[..., 1], np.sin(angle), np.cos(angle)
    return np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=-1)


def placed(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Points of the T (.., 2) in the world, at a pose (.., 3)."""
    return turned(points, pose[..., 2]) + pose[..., :2]


def seen_from(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """The inverse of `placed`."""
    return turned(points - pose[..., :2], -pose[..., 2])


def distance(points: np.ndarray) -> np.ndarray:
    """From points (.., 2) outside the T, in its own frame, to its surface; 0 within."""
    nearest = [np.clip(points, box[:2], box[2:]) for box in BAR_AND_STEM]
    return np.min([np.linalg.norm(points - near, axis=-1) for near in nearest], axis=0)


def corners(pose: np.ndarray) -> np.ndarray:
    """Of the T (.., 8, 2), for poses (.., 3)."""
    return placed(CORNERS, pose[..., None, :])


def error(corners: np.ndarray) -> np.ndarray:
    """Mean distance of the corners (.., 8, 2) from their goal."""
    apart = corners - placed(CORNERS, GOAL)
    return np.sqrt((apart * apart).sum(axis=-1)).mean(axis=-1)


def pushed(pose: np.ndarray, pusher: np.ndarray) -> np.ndarray:
    """The poses (N, 3) after the pusher has come to (N, 2)."""
    for box in BAR_AND_STEM:
        at = seen_from(pusher, pose)
        touched = np.clip(at, box[:2], box[2:])
        away = at - touched
        apart = np.maximum(np.hypot(away[:, 0], away[:, 1]), 1e-9)
        normal, arm = -away / apart[:, None], touched - CENTRE
        lever = arm[:, 0] * normal[:, 1] - arm[:, 1] * normal[:, 0]
        impulse = np.maximum(RADIUS - apart, 0.0) / (1.0 + lever**2 / INERTIA)
        centre = placed(CENTRE, pose) + turned(normal, pose[:, 2]) * impulse[:, None]
        angle = pose[:, 2] + impulse * lever / INERTIA
        pose = np.column_stack([centre - turned(CENTRE, angle), angle])
    return pose


def outline(spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 2) on the surface, and the normals out of it; in order around the T, no corners."""
    points, normals = [], []
    for start, end in zip(CORNERS, np.roll(CORNERS, -1, axis=0), strict=True):
        side = end - start
        length = np.linalg.norm(side)
        count = max(1, round(length / spacing))
        shares = (np.arange(count) + 0.5) / count
        points.append(start + shares[:, None] * side)
        normals.append(np.tile([side[1] / length, -side[0] / length], (count, 1)))
    return np.concatenate(points), np.concatenate(normals)
