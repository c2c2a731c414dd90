"""Room between footprints, grasps and the wrist's turns, against slow references; no simulator."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tabletop_scenes import border, contains, corners, distance

from keystep.suites.tabletop import layout
from keystep.suites.tabletop.objects import SHAPES, area, block
from keystep.suites.tabletop.oracle.grasps import (
    ENOUGH_M,
    FINGER_HALF_DEPTH_M,
    FINGER_HALF_WIDTH_M,
    TIP_M,
    grasp_depth,
    grasps,
    hand_room,
)
from keystep.suites.tabletop.oracle.motion import WRIST_RANGE_RAD, reachable_yaw, wrap
from keystep.suites.tabletop.polygons import gap, outline, rectangle, turned, unit

seeds = st.integers(0, 2**32 - 1)
angles = st.floats(-20, 20)
SAMPLED_M = 0.001


def a_thing(rng, width=(0.03, 0.055)):
    height = rng.uniform(0.025, 0.11)
    return block(str(rng.choice(SHAPES)), "red", rng.uniform(*width), height)


def a_polygon(rng, reach):
    thing = a_thing(rng, (0.03, 0.12)) if rng.integers(4) else area("red", rng.uniform(0.05, 0.2))
    return corners(thing, rng.uniform(-reach, reach, 2), rng.uniform(-np.pi, np.pi))


def widest(first, second):
    """The widest gap between two polygons, looking along each of many directions; of overlapping ones the
    least way, negative, that parts them."""
    directions = np.linspace(0, 2 * np.pi, 1440, endpoint=False)
    rays = np.column_stack([np.cos(directions), np.sin(directions)])
    return float(((second @ rays.T).min(axis=0) - (first @ rays.T).max(axis=0)).max())


def nothing(height):
    return []


# ---- room


@given(seed=seeds)
@settings(deadline=None)
def test_gaps_are_those_of_densely_sampled_polygons(seed):
    rng = np.random.default_rng(seed)
    first, second = a_polygon(rng, 0.1), a_polygon(rng, 0.1)
    found, apart, slow = gap(first, second), distance(first, second), widest(first, second)
    assert found <= slow + SAMPLED_M, "never more room than there is"
    if apart == 0:
        assert found <= SAMPLED_M and found == pytest.approx(slow, abs=SAMPLED_M)
    else:
        assert -SAMPLED_M < found <= apart + SAMPLED_M
        assert slow == pytest.approx(apart, abs=SAMPLED_M)


@given(seed=seeds)
@settings(deadline=None)
def test_a_gap_to_a_side_is_the_distance(seed):
    """A corner or a side faces a side: here a square beside a polygon, along one of its sides' normals."""
    rng = np.random.default_rng(seed)
    polygon, room = a_polygon(rng, 0.1), rng.uniform(0.001, 0.1)
    start, stop = polygon[0], polygon[1]
    along = (stop - start) / np.linalg.norm(stop - start)
    outward = np.array([along[1], -along[0]])
    half = rng.uniform(0.01, 0.03)
    centre = (start + stop) / 2 + (room + half) * outward
    square = rectangle(centre, half, half, float(np.arctan2(outward[1], outward[0])))
    assert gap(polygon, square) == pytest.approx(room)
    assert gap(square, polygon) == pytest.approx(room)
    assert distance(polygon, square) == pytest.approx(room, abs=SAMPLED_M)


@given(seed=seeds, angle=angles)
def test_gaps_do_not_depend_on_where_one_looks_from(seed, angle):
    rng = np.random.default_rng(seed)
    first, second, shift = a_polygon(rng, 0.1), a_polygon(rng, 0.1), rng.uniform(-1, 1, 2)
    moved = gap(turned(first, angle) + shift, turned(second, angle) + shift)
    assert moved == pytest.approx(gap(first, second), abs=1e-9)
    assert gap(second, first) == pytest.approx(gap(first, second), abs=1e-12)


@given(seed=seeds)
def test_outlines_are_footprints_turned_anticlockwise_and_moved(seed):
    rng = np.random.default_rng(seed)
    thing, centre, yaw = a_thing(rng), rng.uniform(-1, 1, 2), rng.uniform(-np.pi, np.pi)
    np.testing.assert_allclose(outline(thing, centre, yaw), corners(thing, centre, yaw), atol=1e-12)


@given(along=st.floats(0.01, 1), across=st.floats(0.01, 1), angle=angles)
def test_a_rectangle_has_its_half_sizes_along_and_across(along, across, angle):
    made = rectangle(np.array([0.3, 0.2]), along, across, angle)
    assert contains(made, np.array([[0.3, 0.2]])).all(), "anticlockwise"
    offsets = made - [0.3, 0.2]
    np.testing.assert_allclose(np.abs(offsets @ unit(angle)), along, atol=1e-9)
    np.testing.assert_allclose(np.abs(offsets @ unit(angle + np.pi / 2)), across, atol=1e-9)


# ---- the wrist


@given(yaw=angles, azimuth=st.floats(-1.2, 1.2))
def test_a_yaw_is_reached_by_the_nearer_way_round_or_not_at_all(yaw, azimuth):
    position = 0.5 * unit(azimuth)
    middle = azimuth + np.pi / 4
    options = [yaw + turns * 2 * np.pi for turns in range(-8, 9)]
    within = [option for option in options if abs(option - middle) <= WRIST_RANGE_RAD]
    assume(all(abs(abs(option - middle) - WRIST_RANGE_RAD) > 1e-6 for option in options))
    found = reachable_yaw(yaw, position)
    assert (found is None) == (not within)
    if found is not None:
        assert found == pytest.approx(within[0])


@given(angle=angles)
def test_wrapped_angles_are_the_same_and_at_most_half_a_turn(angle):
    assert -np.pi <= wrap(angle) <= np.pi
    assert np.exp(1j * wrap(angle)) == pytest.approx(np.exp(1j * angle))


# ---- grasps


def chord(polygon, point, direction):
    """Where a line through a point meets a convex polygon: (from, to) along the direction; None if not."""
    along = np.arange(-0.2, 0.2, 1e-4)
    inside = along[contains(polygon, point + along[:, None] * direction)]
    return (float(inside[0]), float(inside[-1])) if len(inside) else None


@given(seed=seeds)
@settings(deadline=None)
def test_the_fingers_close_on_the_body(seed):
    rng = np.random.default_rng(seed)
    thing, yaw = a_thing(rng), rng.uniform(-np.pi, np.pi)
    position = np.append(rng.uniform(0.35, 0.6) * unit(rng.uniform(-0.6, 0.6)), thing.height_m / 2)
    found = grasps(thing, position, yaw, nothing)
    assert found, "alone on the table there is always a grasp"
    polygon = corners(thing, position, yaw)
    for grasp in found:
        closing = unit(grasp.yaw + np.pi / 2)
        met = chord(polygon, grasp.position[:2], closing)
        assert met is not None, "the closing line goes through the body"
        assert met[0] == pytest.approx(-met[1], abs=3e-4), "both fingers arrive at the same time"
        assert met[1] - met[0] < 2 * layout.FINGER_OPEN_M
        across = (polygon - grasp.position[:2]) @ unit(grasp.yaw)
        near = border(polygon)[
            np.abs((border(polygon) - grasp.position[:2]) @ unit(grasp.yaw)) < FINGER_HALF_WIDTH_M
        ]
        assert np.abs((near - grasp.position[:2]) @ closing).max() < layout.FINGER_OPEN_M, (
            "they pass it going down"
        )
        assert across.min() < -FINGER_HALF_WIDTH_M / 2 and across.max() > FINGER_HALF_WIDTH_M / 2
        assert grasp.room_m == ENOUGH_M
        assert reachable_yaw(grasp.yaw, position) == pytest.approx(grasp.yaw)
        assert grasp.position[2] >= TIP_M, "the tips stay above the table"
        assert grasp.position[2] <= thing.height_m and grasp_depth(thing) > 0


@given(seed=seeds)
@settings(deadline=None)
def test_flat_sides_are_what_the_fingers_meet(seed):
    """The chord is as long as the body is wide there: fingers do not close on corners."""
    rng = np.random.default_rng(seed)
    shape, width = str(rng.choice(["cube", "hexagon", "cylinder"])), rng.uniform(0.03, 0.055)
    thing, yaw = block(shape, "red", width), rng.uniform(-np.pi, np.pi)
    position = np.array([0.45, 0.1, thing.height_m / 2])
    for grasp in grasps(thing, position, yaw, nothing):
        met = chord(corners(thing, position, yaw), grasp.position[:2], unit(grasp.yaw + np.pi / 2))
        assert met is not None and met[1] - met[0] == pytest.approx(width, abs=3e-4)


@given(seed=seeds)
@settings(deadline=None)
def test_grasps_with_room_come_first_and_then_those_in_the_wrist_s_middle(seed):
    rng = np.random.default_rng(seed)
    thing, position = a_thing(rng), np.array([0.45, 0.1, 0.02])
    others = [corners(a_thing(rng), position[:2] + rng.uniform(0.05, 0.12) * unit(rng.uniform(-4, 4)), 0.3)]
    found = grasps(thing, position, rng.uniform(-np.pi, np.pi), lambda height: others)
    free = [grasp.room_m >= 0.003 for grasp in found]
    assert free == sorted(free, reverse=True)
    middle = np.arctan2(0.1, 0.45) + np.pi / 4
    for wanted in (True, False):
        turns = [
            abs(grasp.yaw - middle) for grasp, is_free in zip(found, free, strict=True) if is_free is wanted
        ]
        assert turns == sorted(turns)


@given(seed=seeds)
@settings(deadline=None)
def test_the_room_of_a_hand_is_that_of_its_open_fingers(seed):
    """Low obstacles meet the fingers only, high ones also the palm."""
    rng = np.random.default_rng(seed)
    hand, yaw = np.array([0.45, 0.0, 0.03]), rng.uniform(-np.pi, np.pi)
    other = corners(a_thing(rng), hand[:2] + rng.uniform(0.0, 0.15) * unit(rng.uniform(-4, 4)), 0.3)
    closing = yaw + np.pi / 2
    reach = layout.FINGER_OPEN_M + FINGER_HALF_DEPTH_M
    fingers = [
        rectangle(hand[:2] + side * unit(closing), FINGER_HALF_DEPTH_M, FINGER_HALF_WIDTH_M, closing)
        for side in (reach, -reach)
    ]
    apart = min(distance(finger, other) for finger in fingers)
    low = hand_room(hand, yaw, lambda height: [other] if height < 0.04 else [])
    high = hand_room(hand, yaw, lambda height: [other])
    assert high <= low <= min(apart, ENOUGH_M) + SAMPLED_M
    assert (low > SAMPLED_M) <= (apart > 0)
    assert apart < 2 * SAMPLED_M or low > -SAMPLED_M
    assert hand_room(hand, yaw, nothing) == ENOUGH_M
