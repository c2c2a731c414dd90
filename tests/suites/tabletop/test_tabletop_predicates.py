"""Predicates of the tabletop tasks on worlds set by hand: each condition alone decides."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from tabletop_changes import (
    AREA,
    LEFT,
    RIGHT,
    STILL,
    A,
    B,
    C,
    H,
    beam,
    grasp,
    hand_on,
    holds,
    lift,
    loaded,
    meets,
    move,
    on,
    put,
    put_on,
    share,
    tilt,
    together,
    world,
)
from tabletop_world import GROUND

from keystep.suites.tabletop import conditions, layout, predicates
from keystep.suites.tabletop.objects import Body, block

# ---- pick, on top, inside, next to


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([grasp(A), lift(A, 0.0201)], True),
        ([grasp(A), lift(A, 0.0199)], False),
        ([lift(A, 0.1)], False),
        ([grasp(B), lift(A, 0.1)], False),
        ([grasp(A), lift(A, 0.1), tilt(A, 45)], True),
        ([grasp(A), put(A, 0.5, 0.1, 1.5 * H + 0.019)], False),
        ([grasp(A), put(A, 0.5, 0.1, 1.5 * H + 0.021)], True),
        ([grasp(A), put(A, 0.5, 0.1 - 0.09, 1.5 * H - 0.01)], True),
        ([grasp(A), put(A, 0.5, 0.1 - 0.08, 1.5 * H - 0.01)], False),
    ],
)
def test_picked(changes, expected):
    assert holds(predicates.picked(A), *changes) is expected


def test_a_tilted_block_needs_its_lowest_corner_clear():
    half_diagonal = np.hypot(layout.BLOCK_WIDTH_M, H) / 2
    for extra, expected in ((0.021, True), (0.019, False)):
        centre = put(A, 0.4, 0.0, half_diagonal + extra)
        angle = np.rad2deg(np.arctan2(layout.BLOCK_WIDTH_M, H))
        lean = tilt(A, angle, (np.cos(0.3), np.sin(0.3), 0.0))
        assert holds(predicates.picked(A), together(centre, lean, grasp(A))) is expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (on(A, B), True),
        *((together(on(A, B), change), expected) for change, expected in STILL),
        (together(on(A, B), move(B, 1.1e-3)), False),
        (together(on(A, B), move(B, turn=1.1e-2)), False),
        (together(on(A, B), grasp(A)), False),
        (together(on(A, B), grasp(B)), False),
        (together(on(A, B), share(0.51)), True),
        (together(on(A, B), share(0.49)), False),
        (on(B, A), False),
        (on(A, C), False),
    ],
)
def test_on_top(change, expected):
    assert holds(predicates.on_top(A, B), change) is expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (put_on(A, AREA, 0, 0), True),
        (put_on(A, AREA, 0.0599, -0.0599), True),
        (put_on(A, AREA, 0.0601, 0), False),
        (put_on(A, AREA, 0, -0.0601), False),
        *((together(put_on(A, AREA, 0, 0), change), expected) for change, expected in STILL),
        (together(put_on(A, AREA, 0, 0), grasp(A)), False),
        (together(put_on(A, AREA, 0, 0), share(0.49)), False),
        (together(put_on(A, AREA, 0.05, 0), lambda now: now.support.update({A: GROUND})), True),
        (together(put_on(A, AREA, 0, 0), lambda now: now.support.update({A: B})), False),
        (together(put_on(A, AREA, 0, 0), lambda now: now.support.pop(A)), False),
        (put_on(B, AREA, 0, 0), False),
    ],
)
def test_inside(change, expected):
    assert holds(predicates.inside(A, AREA), change) is expected


@pytest.mark.parametrize("direction", ["left", "right", "front", "behind"])
def test_next_to_measures_along_the_direction_and_across(direction):
    size = 0.05  # the cubes are smaller
    along = np.array({"left": (0, 1), "right": (0, -1), "front": (1, 0), "behind": (-1, 0)}[direction])
    allowed = [(0.51, 0), (2.49, 0), (1, 0.99), (1, -0.99)]
    refused = [(0.49, 0), (2.51, 0), (1, 1.01), (1, -1.01), (-1, 0)]
    for forward, side in allowed + refused:
        place = np.array([0.5, 0.1]) + size * (forward * along + side * along[::-1])
        expected = (forward, side) in allowed
        assert holds(predicates.next_to(A, B, direction), put(A, *place, H / 2)) is expected


def test_next_to_follows_the_other_and_larger_things_reach_farther():
    beside = predicates.next_to(A, B, "left")
    assert holds(beside, put(B, 0.4, -0.08, H / 2))
    assert not holds(beside, put(B, 0.4, 0.08, H / 2))
    wide = world()
    thing = block("cube", "red", 0.06)
    wide.bodies = (*(Body(thing, body.position_m) for body in wide.bodies[:2]), *wide.bodies[2:])
    assert holds(beside, put(A, 0.5, 0.1 + 0.149, H / 2), at=wide)
    assert not holds(beside, put(A, 0.5, 0.1 + 0.151, H / 2), at=wide)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        *STILL,
        (grasp(A), False),
        (grasp(B), True),
        (lambda now: now.support.pop(A), False),
        (lambda now: now.support.update({A: C}), False),
    ],
)
def test_next_to_needs_rest_on_the_table(change, expected):
    predicate = predicates.next_to(A, B, "left")
    assert holds(predicate, together(put(A, 0.5, 0.2, H / 2), change)) is expected


# ---- touch, push, topple


def touch_cases():
    touched, pushed, toppled = predicates.only_touched, predicates.pushed, predicates.toppled
    far, near = put(A, 0.4, 0.1001, H / 2), put(A, 0.4, 0.0999, H / 2)
    hand, off = hand_on(A), hand_on()
    yield touched, [hand], True
    yield touched, [hand, off], True
    yield touched, [off], False
    yield touched, [hand_on(B)], False
    yield touched, [hand, near], True
    yield touched, [hand, far], False
    yield touched, [hand, tilt(A, 44)], True
    yield touched, [hand, tilt(A, 46)], False
    yield pushed, [hand, far], True
    yield pushed, [hand, near], False
    yield pushed, [far], False
    yield pushed, [hand, far, tilt(A, 44)], True
    yield pushed, [hand, far, tilt(A, 46)], False
    yield toppled, [hand, tilt(A, 46)], True
    yield toppled, [hand, tilt(A, 44)], False
    yield toppled, [hand, tilt(A, 180)], True
    yield toppled, [tilt(A, 90)], False
    for predicate, good in ((touched, [hand]), (pushed, [hand, far]), (toppled, [hand, tilt(A, 90)])):
        yield predicate, [grasp(A), grasp(), *good], False
        yield predicate, [grasp(B), grasp(), *good], True
        for change, expected in STILL:
            yield predicate, [*good, change], expected


@pytest.mark.parametrize(("predicate", "changes", "expected"), list(touch_cases()))
def test_touch_push_and_topple(predicate, changes, expected):
    assert holds(predicate(A), *changes) is expected


WAY = np.array([0.1, 0.1])  # from A to B


@pytest.mark.parametrize(
    ("share_gone", "degrees", "expected"),
    [(0.31, 0, True), (0.29, 0, False), (1.0, 0, True), (1.71, 0, False), (1.0, 39, True), (1.0, 42, False)],
)
def test_pushed_towards_leaves_less_than_seven_tenths_of_the_way(share_gone, degrees, expected):
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    place = np.array([0.4, 0.0]) + share_gone * np.array([[c, -s], [s, c]]) @ WAY
    assert holds(predicates.direction_pushed(A, B), put(A, *place, H / 2)) is expected


def test_pushed_towards_asks_for_the_first_place_of_the_target_and_no_grasp():
    towards = put(A, *(np.array([0.4, 0.0]) + 0.5 * WAY), H / 2)
    predicate = predicates.direction_pushed(A, B)
    assert holds(predicate, put(B, 0.3, -0.3, H / 2), towards)
    assert not holds(predicate, grasp(A), grasp(), towards)
    for change, expected in STILL:
        assert holds(predicate, together(towards, change)) is expected
    assert not holds(predicate, put(A, 0.4, 0.0, H / 2))


def test_the_cosine_of_a_push_is_bounded():
    # With the distance condition out of the way: 60 degrees off is the limit.
    now = world()
    predicate = conditions.pushed_towards(A, B)
    for degrees, expected in ((59, True), (61, False)):
        c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        ahead = np.array([0.4, 0.0]) + 0.5 * np.array([[c, -s], [s, c]]) @ WAY
        predicate.begin(now)
        now.positions[A][:2] = ahead
        left = np.linalg.norm(now.positions[B][:2] - ahead) / np.linalg.norm(WAY)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(conditions, "PUSHED_SHARE", left + 0.01)
            assert predicate.update(now) is expected
        now.positions[A][:2] = (0.4, 0.0)


# ---- positions and poses


def at_place(predicate, tolerance):
    """Cases for A to be where B was."""
    x, y = 0.5, 0.1
    inside, outside = put(A, x, y + tolerance - 1e-4, H / 2), put(A, x + tolerance + 1e-4, y, H / 2)
    assert holds(predicate, put(B, 0.3, 0.3, H / 2), inside)
    assert not holds(predicate, outside)
    for change, expected in STILL:
        assert holds(predicate, together(inside, change)) is expected
    assert not holds(predicate, together(inside, grasp(A)))
    assert not holds(predicate, together(inside, lambda now: now.support.update({A: C})))


def test_at_position():
    at_place(predicates.at_position(A, B), 0.04)
    assert holds(predicates.at_position(A, B), grasp(A), together(grasp(), put(A, 0.5, 0.1, H / 2)))


def test_at_position_pushed():
    at_place(predicates.at_position_pushed(A, B), 0.05)
    assert not holds(
        predicates.at_position_pushed(A, B), grasp(A), together(grasp(), put(A, 0.5, 0.1, H / 2))
    )


@pytest.mark.parametrize("degrees", [-150, -30, 0, 60, 150])
def test_at_pose_asks_for_the_turn_since_the_beginning(degrees):
    at_place_turned = predicates.at_pose(A, A, degrees, 0.05)
    for off, expected in ((0, True), (9.9, True), (-9.9, True), (10.1, False), (-10.1, False), (180, False)):
        yaw = 0.3 + np.deg2rad(degrees + off)
        assert holds(at_place_turned, put(A, 0.4, 0.0, H / 2, yaw=yaw)) is expected
    assert not holds(at_place_turned, put(A, 0.4, 0.0501, H / 2, yaw=0.3 + np.deg2rad(degrees)))


def test_shapes_are_not_taken_for_symmetric():
    for symmetric in (60, 90, 120):
        assert not holds(predicates.at_pose(A, A, symmetric), put(A, 0.4, 0.0, H / 2))


def test_at_pose_needs_an_upright_body():
    for degrees, expected in ((9.9, True), (10.1, False), (90, False), (180, False)):
        assert holds(predicates.at_pose(A, A, 0.0), tilt(A, degrees)) is expected


@pytest.mark.parametrize("swap", [predicates.swapped, predicates.swapped_by_pushing])
def test_swapped_needs_both_at_the_others_place(swap):
    a, b = put(A, 0.5, 0.1, H / 2), put(B, 0.4, 0.0, H / 2)
    assert holds(swap(A, B), a, b)
    assert not holds(swap(A, B), a)
    assert not holds(swap(A, B), b)


def test_swapped_and_turned_needs_both_turned():
    yaw = 0.3 + np.deg2rad(60)
    a, b = put(A, 0.5, 0.1, H / 2, yaw=yaw), put(B, 0.4, 0.0, H / 2, yaw=yaw)
    assert holds(predicates.swapped_and_turned(A, B, 60), a, b)
    assert not holds(predicates.swapped_and_turned(A, B, 60), a, put(B, 0.4, 0.0, H / 2))
    assert not holds(predicates.swapped_and_turned(A, B, 60), b, put(A, 0.5, 0.1, H / 2))
    assert not holds(predicates.swapped_and_turned(A, B, -60), a, b)


# ---- throws


def fly(*position):
    """Nothing touches A."""

    def change(now):
        now.held, now.hand, now.contacts = set(), set(), set()
        now.support.pop(A, None)
        now.positions[A] = position

    return change


def flight(length):
    """Held, let go, and after a flight of `length` along y in contact with B."""
    return [grasp(A), fly(0.4, 0.0, 0.3), together(fly(0.4, length, 0.3), meets(A, B))]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (flight(0.051), True),
        (flight(0.049), False),
        ([*flight(0.051), meets()], True),
        ([*flight(0.051)[:2], together(fly(0.4, 0.2, 0.3), meets(A, C))], False),
        ([*flight(0.051)[:2], together(fly(0.4, 0.2, 0.3), meets(B, C))], False),
        ([*flight(0.051)[:2], together(fly(0.4, 0.2, 0.3), grasp(A), meets(A, B))], False),
        ([*flight(0.051)[:2], together(fly(0.4, 0.04, 0.3), meets(A, C)), fly(0.4, 0.05, 0.3),
          together(fly(0.4, 0.09, 0.2), meets(A, B))], False),
        ([grasp(A), together(fly(0.4, 0.2, 0.3), meets(A, B))], False),
        ([put(A, 0.45, 0.1, H / 2), meets(A, B)], False),
    ],
)  # fmt: skip
def test_hit(changes, expected):
    assert holds(predicates.hit(A, B), *changes) is expected


def test_a_fall_straight_down_is_no_flight():
    assert not holds(
        predicates.hit(A, B), grasp(A), fly(0.4, 0.0, 0.9), together(fly(0.4, 0, 0.1), meets(A, B))
    )


def test_hit_and_toppled():
    predicate = predicates.hit_and_toppled(A, B)
    assert holds(predicate, *flight(0.1), together(meets(), tilt(B, 46)))
    assert not holds(predicate, *flight(0.1), tilt(B, 44))
    assert not holds(predicate, *flight(0.04), tilt(B, 90))
    assert not holds(predicate, *flight(0.1), tilt(A, 90))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([fly(0.4, 0.0, 0.3), fly(0.4, -0.15, 0.3)], True),
        ([fly(0.4, 0.0, 0.3), fly(0.4, -0.15, 0.3), fly(0.4, -0.4, 0.1)], True),
        ([fly(0.4, 0.0, 0.3), together(fly(0.4, -0.15, 0.02), meets(A, AREA))], True),
        ([fly(0.4, 0.0, 0.3), fly(0.4, -0.15 + 0.084, 0.3)], True),
        ([fly(0.4, 0.0, 0.3), fly(0.4, -0.15 + 0.086, 0.3)], False),
        ([fly(0.4, 0.0, 0.3), together(fly(0.4, -0.15, 0.3), grasp(A))], False),
        ([together(fly(0.4, -0.14, 0.3), grasp(A)), fly(0.4, -0.14, 0.3), fly(0.4, -0.15, 0.1)], False),
        ([together(fly(0.4, -0.09, 0.3), grasp(A)), fly(0.4, -0.15, 0.3), fly(0.4, -0.15, 0.1)], True),
        ([fly(0.4, 0.0, 0.3), together(fly(0.4, -0.02, 0.02), meets(A, C)), put(A, 0.4, -0.15, 0.02)], False),
        ([put(A, 0.4, -0.15, 0.02)], False),
    ],
)
def test_flew_over(changes, expected):
    assert holds(predicates.flew_over(A, AREA), *changes) is expected


# ---- structures


def test_structure_toppled_needs_all_on_the_table():
    predicate = predicates.structure_toppled([A, B, C])
    assert holds(predicate, lambda now: None)
    for body in (A, B, C):
        assert not holds(predicate, lambda now, body=body: now.support.update({body: AREA}))


def test_stack_asks_for_its_order():
    built = together(on(B, A), on(C, B))
    for order in permutations((A, B, C)):
        assert holds(predicates.stack(order), built) is (order == (A, B, C))
        assert holds(predicates.stack_in_any_order(order), built)
    assert not holds(predicates.stack_in_any_order((A, B, C)), on(B, A))
    assert not holds(predicates.stack_in_any_order((A, B, C)), together(on(B, A), on(C, A), lambda now: None))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (loaded((A, LEFT), (B, RIGHT), (C, B)), True),
        (loaded((A, LEFT), (B, RIGHT), (C, RIGHT)), True),
        (loaded((A, LEFT), (B, RIGHT)), False),
        (loaded((A, LEFT), (B, A), (C, B)), False),
        (loaded((A, LEFT), (B, RIGHT), (C, AREA)), False),
        (together(loaded((A, LEFT), (B, RIGHT), (C, B)), grasp(C)), False),
        (together(loaded((A, LEFT), (B, RIGHT), (C, B)), share(0.2)), False),
        (together(loaded((A, LEFT), (B, RIGHT), (C, B)), beam(4.9)), True),
        (together(loaded((A, LEFT), (B, RIGHT), (C, B)), beam(-5.1)), False),
        (together(loaded((A, LEFT), (B, RIGHT), (C, B)), beam(5.1)), False),
        (together(loaded((A, LEFT), (B, RIGHT), (C, B)), beam(0, 0.9)), True),
        (together(loaded((A, LEFT), (B, RIGHT), (C, B)), beam(0, -1.1)), False),
    ],
)
def test_balanced(change, expected):
    assert holds(predicates.balanced([A, B, C], [LEFT, RIGHT]), change) is expected
