"""Level 0: one skill."""

from __future__ import annotations

import numpy as np

from keystep.suites.tabletop import layout, predicates
from keystep.suites.tabletop.objects import Thing
from keystep.suites.tabletop.placement import Placement, beside, in_box
from keystep.suites.tabletop.scenario import Scenario, Task
from keystep.suites.tabletop.tasks import common
from keystep.suites.tabletop.tasks.common import Arrange, Roles, blocks, blocks_only, scenario

OPEN_X_M = (0.39, 0.54)
OPEN_Y_M = (-0.18, 0.18)
"""Where a block can be pushed any way and stays in reach."""
TALL_M = (0.04, 0.12)
"""Width and height of what is toppled by hand."""
WIDE_TARGET_M = (0.07, 0.15)
THIN_TARGET_M = (0.04, 0.14)
LIGHT_KG_M3 = 100.0
"""Of what a thrown block is to topple: as in ClevrSkills."""
NEXT_TO_M = (0.105, 0.115)
ROTATE_M = 0.05


def pick(rng: np.random.Generator) -> Scenario:
    return scenario(rng, "Pick", blocks_only(blocks(rng, 3), "A"), predicates.picked)


def place_on_top(rng: np.random.Generator) -> Scenario:
    return scenario(rng, "PlaceOnTop", blocks_only(blocks(rng, 3), "A", "B"), predicates.on_top)


def place_next_to(rng: np.random.Generator) -> Scenario:
    return next_to(rng, "PlaceNextTo", 3)


def next_to(rng: np.random.Generator, task: str, count: int) -> Scenario:
    things = blocks(rng, count)
    direction, words = common.some_direction(rng)

    def arrange(scene: Placement) -> Roles:
        other = scene.put(things[1])
        scene.keep_free(things[0].radius_m, beside(scene.centre(other), direction, NEXT_TO_M))
        first, *_ = common.put_all(scene, [things[0], *things[2:]])
        return {"A": first, "B": other}

    def solved(first: int, other: int) -> predicates.All:
        return predicates.next_to(first, other, direction)

    return scenario(rng, task, arrange, solved, words, {"direction": direction})


def rotate(rng: np.random.Generator) -> Scenario:
    angle, words = common.some_turn(rng)

    def solved(body: int) -> predicates.All:
        return predicates.at_pose(body, body, angle, ROTATE_M)

    return scenario(rng, "Rotate", blocks_only(blocks(rng, 3), "A"), solved, words, {"angle": angle})


def throw_at(rng: np.random.Generator) -> Scenario:
    return scenario(rng, "ThrowAt", target_beyond_reach(rng, *WIDE_TARGET_M), predicates.hit)


def throw_to_topple(rng: np.random.Generator) -> Scenario:
    return scenario(
        rng,
        "ThrowToTopple",
        target_beyond_reach(rng, *THIN_TARGET_M, LIGHT_KG_M3),
        predicates.hit_and_toppled,
    )


def target_beyond_reach(
    rng: np.random.Generator, width_m: float, height_m: float, density_kg_m3: float = layout.DENSITY_KG_M3
) -> Arrange:
    target = common.tall_block(rng, width_m, height_m, density_kg_m3)
    return common.beyond_reach(blocks(rng, 2, without=target.colour), target)


def touch(rng: np.random.Generator) -> Scenario:
    return scenario(rng, "Touch", blocks_only(blocks(rng, 3), "A"), predicates.only_touched)


def push(rng: np.random.Generator) -> Scenario:
    return scenario(rng, "Push", alone(blocks(rng, 1)[0]), predicates.pushed)


def topple(rng: np.random.Generator) -> Scenario:
    return scenario(rng, "Topple", alone(common.tall_block(rng, *TALL_M)), predicates.toppled)


def alone(thing: Thing) -> Arrange:
    return lambda scene: {"A": scene.put(thing, in_box(OPEN_X_M, OPEN_Y_M))}


ON_TABLE = "The block lies on the table; it does not start at the hand."
SWUNG = ON_TABLE + " A parallel gripper throws it by opening in mid-swing; targets are at most 0.88 m away."

TASKS = (
    Task("Pick", 0, 150, pick),
    Task("PlaceOnTop", 0, 300, place_on_top, "A block on a block. " + ON_TABLE),
    Task("PlaceNextTo", 0, 300, place_next_to, ON_TABLE),
    Task("Rotate", 0, 300, rotate, "The orientation may be 10 degrees off instead of 18."),
    Task("ThrowAt", 0, 300, throw_at, SWUNG),
    Task("ThrowToTopple", 0, 300, throw_to_topple, SWUNG),
    Task("Touch", 0, 150, touch),
    Task("Push", 0, 250, push, "The block must not be grasped on the way."),
    Task("Topple", 0, 250, topple, "The block must not be grasped on the way."),
)
