"""Level 2: the long ones."""

from __future__ import annotations

import numpy as np

from keystep.suites.tabletop import layout, predicates
from keystep.suites.tabletop.logic import All, Order
from keystep.suites.tabletop.objects import block
from keystep.suites.tabletop.placement import Crowded, Placement, in_box, out_of_reach
from keystep.suites.tabletop.scenario import Scenario, Task
from keystep.suites.tabletop.tasks import common, l0, l1
from keystep.suites.tabletop.tasks.common import Roles, areas, blocks, put_all, scenario

HEIGHT_STEP_M = 0.01
HEIGHT_STEPS = (2, 6)
"""Blocks for the scale are 0.02 to 0.06 m high, in steps that tip it when they are shared out wrongly."""
BEFORE_SCALE_X_M = (0.34, 0.39)
"""The hand is wide: here it does not meet what stands on the plates."""
APART_M = 0.16
SCALE = (
    "The scale is a beam with fixed plates that tilts by up to 6 degrees, instead of plates that hang. "
    "The blocks differ in colour, for code to tell them apart; two may also lie side by side."
)


def balance_scale(rng: np.random.Generator) -> Scenario:
    heights = equal_heights(rng)
    shape, colours = common.a_shape(rng), common.some_colours(rng, sum(map(len, heights)))
    before = in_box(BEFORE_SCALE_X_M, layout.WORKSPACE_Y_M)
    things = [
        block(shape, colour, height_m=steps * HEIGHT_STEP_M)
        for colour, steps in zip(colours, (*heights[0], *heights[1]), strict=True)
    ]

    def arrange(scene: Placement) -> Roles:
        plates = [scene.fix(plate, position) for plate, position in common.plates()]
        scene.keep_lane_free(scene.centre(plates[0]), scene.centre(plates[1]), layout.PLATE_SIZE_M[0])
        blocks = [scene.put(thing, before) for thing in things]
        count = len(heights[0])
        return {"L": tuple(blocks[:count]), "R": tuple(blocks[count:]), "P": tuple(plates)}

    def solved(on_left: tuple[int, ...], on_right: tuple[int, ...], plates: tuple[int, ...]) -> All:
        return predicates.balanced(on_left + on_right, plates)

    return scenario(rng, "BalanceScale", arrange, solved, {"name": shape})


def equal_heights(rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Of the one or two blocks on either plate, in steps; both sums are equal."""
    low, high = HEIGHT_STEPS
    count = common.count_of(rng, 2, 4)
    total = common.count_of(rng, low if count == 2 else 2 * low, 2 * high if count == 4 else high)

    def split() -> list[int]:
        first = common.count_of(rng, max(low, total - high), min(high, total - low))
        return [first, total - first]

    return (split() if count > 2 else [total]), (split() if count > 3 else [total])


def stack_sorted(rng: np.random.Generator) -> Scenario:
    counts = (common.count_of(rng, 2, 3), 2)
    groups = [
        [block(common.a_shape(rng), colour) for _ in range(count)]
        for colour, count in zip(common.some_colours(rng, 2), counts, strict=True)
    ]

    def arrange(scene: Placement) -> Roles:
        return {role: tuple(put_all(scene, things)) for role, things in zip("ST", groups, strict=True)}

    def solved(first: tuple[int, ...], second: tuple[int, ...]) -> All:
        return All(predicates.stack_in_any_order(first), predicates.stack_in_any_order(second))

    return scenario(rng, "StackSorted", arrange, solved)


def stack_topple(rng: np.random.Generator) -> Scenario:
    def solved(bodies: tuple[int, ...]) -> Order:
        return Order(predicates.stack(bodies), predicates.structure_toppled(bodies))

    return scenario(rng, "StackTopple", common.to_stack(rng), solved)


def swap_by_pushing(rng: np.random.Generator) -> Scenario:
    things = blocks(rng, 2)

    def arrange(scene: Placement) -> Roles:
        # Far apart and away from the borders, so that the hand fits behind each wherever it goes.
        first, second = (scene.put(thing, in_box(l0.OPEN_X_M, l0.OPEN_Y_M)) for thing in things)
        if np.linalg.norm(scene.centre(first) - scene.centre(second)) < APART_M:
            raise Crowded
        return {"A": first, "B": second}

    return scenario(rng, "SwapByPushing", arrange, predicates.swapped_by_pushing)


def swap_rotate(rng: np.random.Generator) -> Scenario:
    angle, words = common.some_turn(rng)

    def solved(first: int, second: int) -> All:
        return predicates.swapped_and_turned(first, second, angle)

    # Both face the same way: the pose of either, turned, is then the goal of the other.
    return scenario(rng, "SwapRotate", l1.two_and_room(rng, same_yaw=True), solved, words, {"angle": angle})


def throw_sort(rng: np.random.Generator) -> Scenario:
    targets = areas(rng, 2, common.TARGET_M)
    slots = [int(slot) for slot in rng.integers(2, size=common.count_of(rng, 2, 3))]
    things = [block(common.a_shape(rng), targets[slot].colour) for slot in slots]

    def arrange(scene: Placement) -> Roles:
        goals = [scene.put(target, out_of_reach) for target in targets]
        return {"S": tuple(put_all(scene, things)), "T": tuple(goals[slot] for slot in slots)}

    return scenario(rng, "ThrowSort", arrange, common.each(predicates.flew_over))


TASKS = (
    Task(
        "BalanceScale",
        2,
        900,
        balance_scale,
        SCALE,
    ),
    Task("StackSorted", 2, 900, stack_sorted),
    Task("StackTopple", 2, 900, stack_topple),
    Task("SwapByPushing", 2, 900, swap_by_pushing, "A place counts within 0.05 m instead of 0.03."),
    Task("SwapRotate", 2, 900, swap_rotate, "The two face the same way at first."),
    Task("ThrowSort", 2, 700, throw_sort, "Flying over an area counts. " + l0.SWUNG),
)
