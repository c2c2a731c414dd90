"""Which push next: the best first one of a few pushes in a row, searched in the model of the T (`tee`).

A push is a straight way of the pusher that begins at a point of the outline. All pushes from a pose are tried
at once, and those from the best poses again, `DEPTH` pushes deep; what counts is where the T ends, and the
time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tee

SPACING, SLANTS = 12.0, np.radians([-20.0, 0.0, 20.0])
GAP, CLEARANCE = 8.0, 22.0
"""Between pusher and T before a push, and on the way around, where it cuts corners: it follows late."""
STRIDES = 40
LENGTHS = GAP + 2.5 * np.arange(1, STRIDES + 1)
"""Of pushes, the gap included."""
BEAM, DEPTH = 6, 3
APPROACH_SPEED, PUSH_SPEED, PAUSE = 18.0, 12.0, 7
"""Pixels a step of control; steps that it is waited for in a push, before and after."""
PRICE = 0.35
"""Of a step, in pixels of `tee.error`."""
LOW, HIGH = 18.0, 494.0  # for corners of the T and the pusher; walls are at 5 and 506

POINTS, NORMALS = tee.outline(SPACING)
RING = POINTS + NORMALS * (tee.RADIUS + CLEARANCE)
OPEN = tee.distance(RING) > tee.RADIUS + CLEARANCE - 1.0
"""Which places around the T are not in its inner corners."""
POINTS, NORMALS, RING = POINTS[OPEN], NORMALS[OPEN], RING[OPEN]
_ALONG = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.roll(RING, -1, axis=0) - RING, axis=1))])
_APART = np.abs(_ALONG[:-1, None] - _ALONG[None, :-1])
AROUND = np.minimum(_APART, _ALONG[-1] - _APART)
"""Lengths of the ways around the T between all places (M, M)."""


@dataclass(frozen=True)
class Push:
    """From `start` to `end` (2,), around the T to place `place` of RING before."""

    place: int
    start: np.ndarray
    end: np.ndarray


@dataclass(frozen=True)
class _Tried:
    """All C pushes from N poses, at each of S lengths.

    Attributes:
        starts: of the pushes (N, C, 2).
        ends: (N, C, S, 2).
        poses: of the T after them (N, C, S, 3).
        costs: (N, C, S), infinite where a push is not possible.
    """

    starts: np.ndarray
    ends: np.ndarray
    poses: np.ndarray
    costs: np.ndarray


def best(pose: np.ndarray, pusher: np.ndarray) -> Push:
    """The next push. Raises ValueError where none is possible."""
    first = leaves = _tried(pose[None], pusher[None], np.zeros(1))
    value, chosen = float(first.costs.min()), int(first.costs.argmin())
    if not np.isfinite(value):
        raise ValueError("no push is possible")
    roots: np.ndarray | None = None  # the first push of each leaf, as a place in first.costs
    for _ in range(DEPTH - 1):
        node, push, stop = _promising(leaves.costs)
        if not len(node):
            break
        roots = push * STRIDES + stop if roots is None else roots[node]
        poses = leaves.poses[node, push, stop]
        spent = leaves.costs[node, push, stop] - tee.error(tee.corners(poses))
        leaves = _tried(poses, leaves.ends[node, push, stop], spent)
        if leaves.costs.min() < value:
            value = float(leaves.costs.min())
            chosen = int(roots[leaves.costs.min(axis=(1, 2)).argmin()])
    number, length = divmod(chosen, STRIDES)
    return Push(number // len(SLANTS), first.starts[0, number], first.ends[0, number, length])


def _promising(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best pushes, each at its best length: their places in the costs (N, C, S)."""
    shortest = costs.min(axis=2)
    node, push = np.unravel_index(np.argsort(shortest, axis=None)[:BEAM], shortest.shape)
    possible = np.isfinite(shortest[node, push])
    node, push = node[possible], push[possible]
    return node, push, costs[node, push].argmin(axis=1)


def _tried(poses: np.ndarray, pushers: np.ndarray, spent: np.ndarray) -> _Tried:
    """All pushes from poses (N, 3) with pushers at (N, 2), after costs (N,)."""
    shape = (len(poses), len(POINTS) * len(SLANTS))
    inward = tee.turned(-NORMALS, poses[:, None, 2])  # (N, M, 2)
    ways = tee.turned(inward[:, :, None], SLANTS)
    contact = tee.placed(POINTS + NORMALS * tee.RADIUS, poses[:, None])
    starts = (contact[:, :, None] - ways * GAP).reshape(*shape, 2)
    ends = starts[:, :, None] + ways.reshape(*shape, 1, 2) * LENGTHS[:, None]
    after = _poses_after(poses, ends)
    corners = tee.corners(after)
    # Some episodes begin with the T through a wall: nearer to it than it is no push may bring it.
    limit = np.maximum(_outside(tee.corners(poses)), 0.0)[:, None, None]
    possible = _within(starts)[:, :, None] & _within(ends) & (_outside(corners) <= limit)
    steps = PAUSE + np.repeat(_approach(poses, pushers), len(SLANTS), axis=1) / APPROACH_SPEED
    costs = (spent[:, None] + PRICE * steps)[:, :, None] + PRICE * LENGTHS / PUSH_SPEED + tee.error(corners)
    possible = np.logical_and.accumulate(possible, axis=2)
    return _Tried(starts, ends, after, np.where(possible, costs, np.inf))


def _poses_after(poses: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Of the T (N, C, S, 3), as the pusher comes to one end (N, C, S, 2) after the other."""
    count, pushes, lengths = ends.shape[:3]
    now = np.repeat(poses, pushes, axis=0)
    after = np.empty((lengths, *now.shape))
    for number in range(lengths):
        now = after[number] = tee.pushed(now, ends[:, :, number].reshape(-1, 2))
    return after.reshape(lengths, count, pushes, 3).transpose(1, 2, 0, 3)


def _within(points: np.ndarray) -> np.ndarray:
    return np.asarray(((points > LOW) & (points < HIGH)).all(axis=-1))


def _outside(corners: np.ndarray) -> np.ndarray:
    """How far the T is out of bounds, for corners (.., 8, 2)."""
    return np.maximum(LOW - corners.min(axis=(-2, -1)), corners.max(axis=(-2, -1)) - HIGH)


def _approach(poses: np.ndarray, pushers: np.ndarray) -> np.ndarray:
    """Lengths (N, M) of the ways of the pushers to all places, infinite where a place is out of bounds."""
    ring = tee.placed(RING[None], poses[:, None])
    apart = np.linalg.norm(ring - pushers[:, None], axis=-1)
    nearest = apart.argmin(axis=1)
    length = apart.min(axis=1)[:, None] + AROUND[nearest]
    return np.where(_within(ring), np.maximum(length, apart), np.inf)


def way_around(pose: np.ndarray, pusher: np.ndarray, push: Push) -> np.ndarray:
    """Points (K, 2) from `pusher` to the start of the push, clear of the T where that is possible."""
    ring = tee.placed(RING, pose)
    first = int(np.linalg.norm(ring - pusher, axis=1).argmin())
    count = len(ring)
    ways = []
    for sign in (1, -1):
        steps = (push.place - first) * sign % count
        numbers = (first + sign * np.arange(steps + 1)) % count
        way = np.vstack([pusher, ring[numbers], push.start])
        length = np.linalg.norm(np.diff(way, axis=0), axis=1).sum()
        ways.append((not _within(ring[numbers]).all(), length, way))
    return _pulled(min(ways, key=lambda one: one[:2])[2], pose)


def _pulled(way: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """The way as short as it can be without coming nearer to the T."""
    taken, at = [way[0]], 0
    while at < len(way) - 1:
        free = [k for k in range(at + 2, len(way)) if _free(way[at], way[k], pose)]
        at = max(free, default=at + 1)
        taken.append(way[at])
    return np.array(taken)


def _free(start: np.ndarray, end: np.ndarray, pose: np.ndarray) -> bool:
    shares = np.linspace(0.0, 1.0, 2 + int(np.linalg.norm(end - start) / 4.0))
    points = start + shares[:, None] * (end - start)
    limit = tee.RADIUS + CLEARANCE - 4.0
    # Where it begins or ends nearer than that, it only must not come nearer still.
    ends = tee.distance(seen := tee.seen_from(points, pose))[[0, -1]]
    return bool((tee.distance(seen) >= min(limit, ends.min()) - 0.5).all())
