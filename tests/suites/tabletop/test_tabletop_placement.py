"""Placement: where things stand at the start of every task, against a slow geometry."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystep.suites.tabletop import layout
from keystep.suites.tabletop.objects import SHAPES, area, block
from keystep.suites.tabletop.placement import (
    FLAT_GAP_M,
    GAP_M,
    Crowded,
    Placement,
    around,
    arranged,
    beside,
    in_box,
    out_of_reach,
)
from keystep.suites.tabletop.polygons import DIRECTIONS, disc, gap, outline
from keystep.suites.tabletop.tasks import TASKS

SEEDS = range(80)
seeds = st.integers(0, 2**32 - 1)


def to_sides(points, polygon):
    """(P,) distances of points from the border of a polygon."""
    start, stop = polygon, np.roll(polygon, -1, axis=0)
    side = stop - start
    share = np.clip(((points[:, None] - start) * side).sum(-1) / (side**2).sum(-1), 0, 1)
    return np.linalg.norm(points[:, None] - start - share[..., None] * side, axis=-1).min(axis=1)


def contains(polygon, points):
    """(P,) whether points are inside an anticlockwise convex polygon."""
    side = np.roll(polygon, -1, axis=0) - polygon
    to = points[:, None] - polygon
    return (side[:, 0] * to[..., 1] - side[:, 1] * to[..., 0] >= 0).all(axis=1)


def dense(polygon, count=40):
    """Many points on the border."""
    shares = np.arange(count)[:, None, None] / count
    return (polygon + shares * (np.roll(polygon, -1, axis=0) - polygon)).reshape(-1, 2)


def distance(first, second):
    """Between two convex polygons; 0 when they overlap."""
    if contains(first, dense(second)).any() or contains(second, dense(first)).any():
        return 0.0
    return min(to_sides(first, second).min(), to_sides(second, first).min())


def outline_of(body):
    return outline(body.thing, np.array(body.position_m[:2]), body.yaw_rad)


def a_thing(rng):
    if rng.integers(3) == 0:
        return area("red", rng.uniform(0.05, 0.2))
    return block(str(rng.choice(list(SHAPES))), "red", rng.uniform(0.02, 0.1))


# ---- geometry


@given(seed=seeds)
def test_separation_never_exceeds_the_distance_and_tells_overlap(seed):
    rng = np.random.default_rng(seed)
    first, second = (
        outline(a_thing(rng), rng.uniform(-0.12, 0.12, 2), rng.uniform(-np.pi, np.pi)) for _ in range(2)
    )
    found, true = gap(first, second), distance(first, second)
    assert found == pytest.approx(gap(second, first))
    if true == 0:
        assert found <= 1e-9
    else:
        assert found + 1e-9 >= 0 and found <= true + 1e-9
        assert found >= true / 2  # corner to corner at worst


@given(seed=seeds)
def test_outlines_are_the_footprint_turned_and_moved(seed):
    rng = np.random.default_rng(seed)
    thing, centre, yaw = a_thing(rng), rng.uniform(-1, 1, 2), rng.uniform(-np.pi, np.pi)
    for corner, moved in zip(thing.footprint(), outline(thing, centre, yaw), strict=True):
        expected = complex(*corner) * np.exp(1j * yaw) + complex(*centre)
        assert complex(*moved) == pytest.approx(expected)


def test_a_disc_is_held_by_its_polygon():
    polygon = disc(np.array([0.4, 0.1]), 0.05)
    assert to_sides(np.array([[0.4, 0.1]]), polygon)[0] == pytest.approx(0.05)


# ---- scenes


@given(seed=seeds)
def test_directions_and_rings(seed):
    rng = np.random.default_rng(seed)
    centre = rng.uniform(-1, 1, 2)
    for direction, along in DIRECTIONS.items():
        offset = beside(centre, direction, (0.1, 0.13))(rng) - centre
        assert 0.1 <= offset @ np.array(along) <= 0.13
        assert abs(offset @ np.array(along)[::-1]) <= 0.015
    assert 0.2 <= np.linalg.norm(around(centre, (0.2, 0.3))(rng) - centre) <= 0.3


@given(seed=seeds)
def test_later_things_keep_off_what_is_kept_free(seed):
    def arrange(scene):
        centre = scene.keep_free(0.05)
        stop = centre + np.array([0.0, 0.15])
        scene.keep_lane_free(centre, stop, 0.06)
        return centre, stop, [scene.put(block("cube", "red")) for _ in range(3)]

    bodies, (centre, stop, numbers) = arranged(np.random.default_rng(seed), arrange)
    side = np.array([0.03, 0.0])
    lane = np.array([centre + side, stop + side, stop - side, centre - side])
    for number in numbers:
        corners = outline_of(bodies[number])
        assert to_sides(centre[None], corners)[0] >= 0.05 + FLAT_GAP_M - 1e-6
        assert distance(corners, lane) >= FLAT_GAP_M - 1e-6


def test_things_stand_on_the_table_or_on_each_other():
    def arrange(scene):
        square = scene.put(area("red", 0.12))
        lower = scene.put_on(block("cube", "red", height_m=0.03), square)
        return square, lower, scene.put_on(block("hexagon", "blue", height_m=0.05), lower)

    bodies, numbers = arranged(np.random.default_rng(0), arrange)
    assert [bodies[number].position_m[2] for number in numbers] == pytest.approx([0.002, 0.019, 0.059])
    assert len({bodies[number].position_m[:2] for number in numbers}) == 1


def test_a_scene_without_room_says_so():
    here = in_box((0.4, 0.401), (0.0, 0.001))

    def arrange(scene):
        scene.put(block("cube", "red"), here)
        scene.put(block("cube", "blue"), here)

    with pytest.raises(Crowded):
        arrange(Placement(np.random.default_rng(0)))
    with pytest.raises(RuntimeError, match="placement: expected room for all bodies"):
        arranged(np.random.default_rng(0), arrange)


def test_a_scene_refuses_more_bodies_than_there_are_slots():
    def arrange(scene):
        for number in range(9):
            scene.fix(area("red", 0.01), (0.4, 0.05 * number, 0.002))

    with pytest.raises(ValueError, match="scene: expected at most 8 bodies"):
        arranged(np.random.default_rng(0), arrange)


# ---- of the tasks


@pytest.fixture(scope="module", params=list(TASKS))
def scenarios(request):
    task = TASKS[request.param]
    return [task.build(np.random.default_rng([seed, len(task.name)])) for seed in SEEDS]


def beyond(body):
    return np.linalg.norm(body.position_m[:2]) > layout.OUT_OF_REACH_M[0] - 1e-9


def stacked(first, second):
    return first.position_m[:2] == second.position_m[:2]


def test_bodies_keep_their_gaps(scenarios):
    for scenario in scenarios:
        for first, second in combinations(scenario.bodies, 2):
            kinds = {first.thing.kind, second.thing.kind}
            if stacked(first, second) or kinds == {"plate"}:
                continue
            gap = GAP_M if kinds <= {"block", "plate"} else FLAT_GAP_M
            assert distance(outline_of(first), outline_of(second)) >= gap - 1e-9


def test_only_blocks_stand_on_areas(scenarios):
    for scenario in scenarios:
        for first, second in combinations(scenario.bodies, 2):
            if stacked(first, second):
                assert {first.thing.kind, second.thing.kind} == {"area", "block"}


def test_bodies_lie_in_the_workspace_or_out_of_reach(scenarios):
    (x_low, x_high), (y_low, y_high) = layout.WORKSPACE_X_M, layout.WORKSPACE_Y_M
    for scenario in scenarios:
        for body in scenario.bodies:
            x, y, _ = body.position_m
            if beyond(body):
                assert np.hypot(x, y) <= layout.OUT_OF_REACH_M[1]
                assert abs(np.arctan2(y, x)) <= layout.THROW_AZIMUTH_RAD
            else:
                assert x_low <= x <= x_high and y_low <= y <= y_high
                assert 0.33 <= np.hypot(x, y) <= 0.66


def test_only_targets_of_throws_are_out_of_reach(request, scenarios):
    task = request.node.callspec.params["scenarios"]
    for scenario in scenarios:
        far = {number for number, body in enumerate(scenario.bodies) if beyond(body)}
        if task in ("ThrowAt", "ThrowToTopple", "ThrowOnto"):
            assert far == {scenario.roles["B"]}
        elif task == "ThrowSort":
            assert far == {n for n, body in enumerate(scenario.bodies) if body.thing.kind == "area"}
        else:
            assert not far


def in_picture(points):
    """Whether the base camera sees all points (K, 3): a pinhole whose picture is square."""
    eye, target = np.array(layout.BASE_EYE_M), np.array(layout.BASE_TARGET_M)
    ahead = (target - eye) / np.linalg.norm(target - eye)
    side = np.cross(ahead, (0, 0, 1)) / np.linalg.norm(np.cross(ahead, (0, 0, 1)))
    depth, edge = (points - eye) @ ahead, np.tan(layout.BASE_FOV_RAD / 2)
    off = np.abs([(points - eye) @ side, (points - eye) @ np.cross(side, ahead)])
    return bool((off < edge * depth).all())


def test_the_base_camera_sees_what_is_in_reach_and_the_middle_of_what_is_not(scenarios):
    for scenario in scenarios:
        for body in scenario.bodies:
            corners = body.thing.corners()
            corners[:, :2] = np.concatenate([outline_of(body)] * 2)
            corners[:, 2] += body.position_m[2]
            assert in_picture(np.array([body.position_m]) if beyond(body) else corners)


def test_everything_starts_on_the_table_on_an_area_or_as_a_plate(scenarios):
    for scenario in scenarios:
        for body in scenario.bodies:
            low = body.position_m[2] - body.thing.height_m / 2
            on_area = any(stacked(body, other) for other in scenario.bodies if other is not body)
            expected = {"area": 0.0, "block": layout.AREA_HEIGHT_M if on_area else 0.0}
            expected["plate"] = layout.PLATE_HEIGHT_M - layout.PLATE_SIZE_M[2] / 2
            assert low == pytest.approx(expected[body.thing.kind], abs=1e-12)


def test_places_differ_from_seed_to_seed(scenarios):
    first = [scenario.bodies[0].position_m[:2] for scenario in scenarios if not scenario.scale]
    assert len(set(first)) == len(first)


def test_out_of_reach_is_beyond_the_hand():
    rng = np.random.default_rng(0)
    distances = [np.linalg.norm(out_of_reach(rng)) for _ in range(200)]
    assert min(distances) >= layout.OUT_OF_REACH_M[0] and max(distances) <= layout.OUT_OF_REACH_M[1]
