"""Where bodies are on the base camera's picture: geometry, without a picture."""

from __future__ import annotations

import numpy as np

from keystep.suites.tabletop import layout
from keystep.suites.tabletop.objects import Body


def boxes(bodies: tuple[Body, ...], positions: np.ndarray, quaternions: np.ndarray) -> np.ndarray:
    """(N, 4) left, top, right, bottom of each body, as fractions of the picture's side.

    What stands before a body is not considered. -1 four times when its centre is out of the picture.

    Args:
        positions: (N, 3) centres in metres.
        quaternions: (N, 4), wxyz.
    """
    found = np.full((len(bodies), 4), -1.0)
    for number, body in enumerate(bodies):
        corners = rotated(quaternions[number], body.thing.corners()) + positions[number]
        pixels = project(np.vstack([corners, positions[number]]))
        if pixels is None or not ((pixels[-1] >= 0) & (pixels[-1] < 1)).all():
            continue
        low, high = pixels[:-1].min(axis=0), pixels[:-1].max(axis=0)
        found[number] = np.clip([*low, *high], 0.0, 1.0)
    return found


def first_boxes(bodies: tuple[Body, ...]) -> np.ndarray:
    """`boxes` of bodies where a scenario places them."""
    positions = np.array([body.position_m for body in bodies], dtype=np.float64).reshape(-1, 3)
    halves = np.array([body.yaw_rad / 2 for body in bodies])
    zeros = np.zeros_like(halves)
    return boxes(bodies, positions, np.stack([np.cos(halves), zeros, zeros, np.sin(halves)], axis=1))


def rotated(quaternion: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(K, 3) points turned by a quaternion wxyz."""
    w, axis = quaternion[0], quaternion[1:]
    across = 2.0 * np.cross(axis, points)
    return points + w * across + np.cross(axis, across)


def project(points: np.ndarray) -> np.ndarray | None:
    """(K, 3) points -> (K, 2) fractions (right, down) of the picture; None if one is behind the camera."""
    eye, target = np.array(layout.BASE_EYE_M), np.array(layout.BASE_TARGET_M)
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    rays = (points - eye) @ np.stack([right, down, forward], axis=1)
    if (rays[:, 2] <= 0).any():
        return None
    return rays[:, :2] / rays[:, 2:] / (2 * np.tan(layout.BASE_FOV_RAD / 2)) + 0.5
