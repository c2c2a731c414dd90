"""Level 1: several skills in a row."""

from __future__ import annotations

import numpy as np

from keystep.suites.tabletop import predicates
from keystep.suites.tabletop.logic import All, Order
from keystep.suites.tabletop.objects import block
from keystep.suites.tabletop.placement import Crowded, Placement, around, beside, reachable
from keystep.suites.tabletop.polygons import DIRECTIONS
from keystep.suites.tabletop.predicates import at_pose, inside
from keystep.suites.tabletop.scenario import Scenario, Task
from keystep.suites.tabletop.tasks import common, l0
from keystep.suites.tabletop.tasks.common import (
    Arrange,
    Roles,
    areas,
    blocks,
    blocks_only,
    put_all,
    scenario,
)

NOUNS = ("dax", "blicket", "wug", "zup")
ADJECTIVES = ("daxer", "blicker", "modier", "kobar")
SMALL_M = (0.033, 0.03)
LARGE_M = (0.057, 0.055)
"""Width and height."""
FREE_PLACE_M = 0.07
"""Radius of the room that a third place needs while two blocks swap."""
PUSH_DISTANCE_M = (0.16, 0.30)
PUSH_ROOM_M = 0.12
"""Behind a block that is pushed."""
LANE_M = 0.09
NEIGHBOUR_M = (0.105, 0.13)
NEIGHBOUR_AREA_M = 0.18


def pick_place_on_top(rng: np.random.Generator) -> Scenario:
    return scenario(rng, "PickPlaceOnTop", common.on_areas(rng), inside)


def pick_place_next_to(rng: np.random.Generator) -> Scenario:
    return l0.next_to(rng, "PickPlaceNextTo", common.count_of(rng, 3, 4))


def follow_order(rng: np.random.Generator) -> Scenario:
    def solved(body: int, start: int, others: tuple[int, ...]) -> Order:
        return Order(*(inside(body, area) for area in others))

    return scenario(rng, "FollowOrder", common.one_on_an_area(rng), solved)


def follow_order_restore(rng: np.random.Generator) -> Scenario:
    def solved(body: int, start: int, others: tuple[int, ...]) -> Order:
        return Order(*(inside(body, area) for area in (*others, start)))

    return scenario(rng, "FollowOrderRestore", common.one_on_an_area(rng), solved)


def neighbour(rng: np.random.Generator) -> Scenario:
    direction, words = common.some_direction(rng)
    elsewhere = str(rng.choice([other for other in DIRECTIONS if other != direction]))
    things, squares = blocks(rng, 3), areas(rng, common.count_of(rng, 1, 2), NEIGHBOUR_AREA_M)

    def arrange(scene: Placement) -> Roles:
        goal, *_ = put_all(scene, squares)
        first = scene.put(things[0])
        beside_it = [
            scene.put(thing, beside(scene.centre(first), side, NEIGHBOUR_M))
            for thing, side in zip(things[1:], (direction, elsewhere), strict=True)
        ]
        return {"A": first, "N": beside_it[0], "B": goal}

    def solved(body: int, near: int, area: int) -> All:
        return All(inside(body, area), inside(near, area))

    return scenario(rng, "Neighbour", arrange, solved, words)


def novel_adjective(rng: np.random.Generator) -> Scenario:
    return small_and_large(rng, "NovelAdjective")


def novel_noun_adjective(rng: np.random.Generator) -> Scenario:
    return small_and_large(rng, "NovelNounAdjective")


def small_and_large(rng: np.random.Generator, task: str) -> Scenario:
    """Of two blocks that differ in size alone, the prompt tells which by an example with a third shape."""
    (goal,), (kind, other) = areas(rng, 1), blocks(rng, 2)
    larger = bool(rng.integers(2))
    large, small = (block(kind.shape, kind.colour, *size) for size in (LARGE_M, SMALL_M))
    wanted, unwanted = (large, small) if larger else (small, large)
    one, two = ("large", "small") if larger else ("small", "large")
    words = {"adjective": rng.choice(ADJECTIVES), "example": common.a_shape(rng), "one": one, "two": two}

    def arrange(scene: Placement) -> Roles:
        square, first, *_ = put_all(scene, [goal, wanted, unwanted, other])
        return {"A": first, "B": square}

    return scenario(rng, task, arrange, inside, {**words, **nouns(rng)})


def nouns(rng: np.random.Generator) -> dict[str, object]:
    """New words for the block and for the area."""
    noun, place = rng.choice(NOUNS, size=2, replace=False)
    return {"noun": noun, "place": place}


def novel_noun(rng: np.random.Generator) -> Scenario:
    return scenario(rng, "NovelNoun", common.on_areas(rng), inside, nouns(rng))


def rotate_restore(rng: np.random.Generator) -> Scenario:
    angle, words = common.some_turn(rng)

    def solved(body: int) -> Order:
        return Order(*(at_pose(body, body, degrees, l0.ROTATE_M) for degrees in (angle, 0.0)))

    arrange = blocks_only(blocks(rng, 3), "A")
    return scenario(rng, "RotateRestore", arrange, solved, words, {"angle": angle})


def rotate_symmetry(rng: np.random.Generator) -> Scenario:
    angle, words = common.some_turn(rng)
    shared, *others = common.some_colours(rng, common.count_of(rng, 2, 3))
    things = [block(common.a_shape(rng), colour) for colour in (shared, shared, *others)]

    def arrange(scene: Placement) -> Roles:
        return {"S": tuple(put_all(scene, things)[:2])}

    def solved(bodies: tuple[int, ...]) -> All:
        return All(*(at_pose(body, body, angle, l0.ROTATE_M) for body in bodies))

    return scenario(rng, "RotateSymmetry", arrange, solved, {**words, "colour": shared}, {"angle": angle})


def single_stack(rng: np.random.Generator) -> Scenario:
    return scenario(rng, "SingleStack", common.to_stack(rng), predicates.stack)


def reverse_stack(rng: np.random.Generator) -> Scenario:
    return scenario(rng, "ReverseStack", common.to_stack(rng), lambda bodies: predicates.stack(bodies[::-1]))


def sort_by_texture(rng: np.random.Generator) -> Scenario:
    squares = areas(rng, common.count_of(rng, 2, 3), common.WIDE_AREA_M)
    # Two of each colour at most: an area holds two side by side.
    slots = rng.permutation([*range(len(squares))] * 2)[: common.count_of(rng, 2, 4)]
    things = [block(common.a_shape(rng), squares[slot].colour) for slot in slots]

    def arrange(scene: Placement) -> Roles:
        goals = put_all(scene, squares)
        return {"S": tuple(put_all(scene, things)), "T": tuple(goals[slot] for slot in slots)}

    return scenario(rng, "SortByTexture", arrange, common.each(inside))


def swap(rng: np.random.Generator) -> Scenario:
    return scenario(rng, "Swap", two_and_room(rng, same_yaw=False), predicates.swapped)


def two_and_room(rng: np.random.Generator, same_yaw: bool) -> Arrange:
    """Two blocks to swap, room for either elsewhere, and at times a third block."""
    things = blocks(rng, common.count_of(rng, 2, 3))

    def arrange(scene: Placement) -> Roles:
        yaw = float(scene.rng.uniform(-np.pi, np.pi)) if same_yaw else None
        first, second = (scene.put(thing, yaw_rad=yaw) for thing in things[:2])
        scene.keep_free(FREE_PLACE_M)
        put_all(scene, things[2:])
        return {"A": first, "B": second}

    return arrange


def throw_onto(rng: np.random.Generator) -> Scenario:
    (target,) = areas(rng, 1, common.TARGET_M)
    return scenario(rng, "ThrowOnto", common.beyond_reach(blocks(rng, 2), target), predicates.flew_over)


def push_to_target(rng: np.random.Generator) -> Scenario:
    things = blocks(rng, 3)

    def arrange(scene: Placement) -> Roles:
        first = scene.put(things[0])
        start = scene.centre(first)
        target = scene.put(things[1], around(start, PUSH_DISTANCE_M))
        way = scene.centre(target) - start
        behind = start - PUSH_ROOM_M * way / np.linalg.norm(way)
        if not reachable(behind):
            raise Crowded
        scene.keep_lane_free(behind, scene.centre(target), LANE_M)
        scene.put(things[2])
        return {"A": first, "B": target}

    return scenario(rng, "PushToTarget", arrange, predicates.direction_pushed)


WORDS = "Words and names stand for the pictures in the prompt."

TASKS = (
    Task("PickPlaceOnTop", 1, 300, pick_place_on_top, "On one of the areas."),
    Task("PickPlaceNextTo", 1, 300, pick_place_next_to),
    Task("FollowOrder", 1, 500, follow_order, WORDS),
    Task("FollowOrderRestore", 1, 700, follow_order_restore, WORDS),
    Task("Neighbour", 1, 500, neighbour, "A third block stands in another direction."),
    Task("NovelAdjective", 1, 300, novel_adjective, WORDS),
    Task("NovelNoun", 1, 300, novel_noun, WORDS),
    Task("NovelNounAdjective", 1, 300, novel_noun_adjective, WORDS),
    Task("RotateRestore", 1, 500, rotate_restore, "The orientation may be 10 degrees off instead of 18."),
    Task("RotateSymmetry", 1, 500, rotate_symmetry, "The two may be turned in any order."),
    Task("SingleStack", 1, 700, single_stack),
    Task("ReverseStack", 1, 700, reverse_stack),
    Task("SortByTexture", 1, 800, sort_by_texture),
    Task("Swap", 1, 700, swap),
    Task("ThrowOnto", 1, 300, throw_onto, "Flying over the area counts. " + l0.SWUNG),
    Task("PushToTarget", 1, 300, push_to_target, "The distance is that to the target, not to half the way."),
)
