"""When tasks are solved, with the meaning that ClevrSkills gives them. The parts: conditions.py, logic.py."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, permutations

import numpy as np

from keystep.suites.tabletop import layout
from keystep.suites.tabletop.conditions import (
    NeverGrasped,
    Now,
    Thrown,
    beside,
    carried,
    carries,
    centred,
    clear,
    grasped,
    moved,
    near,
    on_ground,
    pushed_towards,
    static,
    tilted,
    touched,
    turned,
)
from keystep.suites.tabletop.logic import All, Any, Not, Once
from keystep.suites.tabletop.scenario import World

SWAP_M = 0.04
PUSH_M = 0.05
SCALE_MARGIN_RAD = float(np.deg2rad(1.0))
SCALE_TURN_RAD_S = float(np.deg2rad(1.0))


def picked(body: int) -> All:
    return All(grasped(body), clear(body))


def at_rest(body: int) -> All:
    return All(static(body), Not(grasped(body)))


def on_top(upper: int, lower: int) -> All:
    return All(at_rest(upper), at_rest(lower), carried(upper, lower))


def inside(body: int, area: int) -> All:
    resting = Any(carried(body, area), on_ground(body))
    return All(at_rest(body), centred(body, area), resting)


def next_to(body: int, other: int, direction: str) -> All:
    return All(at_rest(body), on_ground(body), beside(body, other, direction))


def touched_only(body: int) -> All:
    """By the hand and never grasped; now it rests on the table."""
    return All(Once(touched(body)), NeverGrasped(body), static(body), on_ground(body))


def only_touched(body: int) -> All:
    return All(touched_only(body), Not(moved(body)), Not(tilted(body)))


def pushed(body: int) -> All:
    return All(
        Once(touched(body)), static(body), NeverGrasped(body), on_ground(body), moved(body), Not(tilted(body))
    )


def toppled(body: int) -> All:
    return All(touched_only(body), tilted(body))


def direction_pushed(body: int, target: int) -> All:
    return All(static(body), NeverGrasped(body), pushed_towards(body, target))


def at_position(body: int, place: int, tolerance_m: float = SWAP_M) -> All:
    """It rests where the body `place` was at the beginning."""
    return All(at_rest(body), on_ground(body), near(body, place, tolerance_m))


def at_pose(body: int, place: int, degrees: float, tolerance_m: float = SWAP_M) -> All:
    """As `at_position`, and turned by so many degrees from its own first orientation."""
    return All(at_position(body, place, tolerance_m), turned(body, degrees))


def at_position_pushed(body: int, place: int, tolerance_m: float = PUSH_M) -> All:
    return All(NeverGrasped(body), at_position(body, place, tolerance_m))


def swapped(first: int, second: int) -> All:
    """Each rests where the other was."""
    return All(at_position(first, second), at_position(second, first))


def swapped_by_pushing(first: int, second: int) -> All:
    return All(at_position_pushed(first, second), at_position_pushed(second, first))


def swapped_and_turned(first: int, second: int, degrees: float) -> All:
    return All(at_pose(first, second, degrees), at_pose(second, first, degrees))


def hit(body: int, target: int) -> Thrown:
    return Thrown(body, lambda world: world.touching(body, target))


def hit_and_toppled(body: int, target: int) -> All:
    return All(hit(body, target), tilted(target))


def flew_over(body: int, area: int) -> Thrown:
    """It flew to above the area or onto it."""
    above = centred(body, area)
    return Thrown(body, above.update)


def structure_toppled(bodies: Sequence[int]) -> All:
    return All(*map(on_ground, bodies))


def stack(bodies: Sequence[int]) -> All:
    """One on the other, the lowest first."""
    return All(*(on_top(upper, lower) for lower, upper in pairwise(bodies)))


def stack_in_any_order(bodies: Sequence[int]) -> Any:
    return Any(*map(stack, permutations(bodies)))


def balanced(blocks: Sequence[int], plates: Sequence[int]) -> All:
    """Both plates are loaded and carry all blocks, the hand touches none, and the beam is level and still."""
    return All(
        *(Not(touched(body)) for body in (*blocks, *plates)),
        Now(lambda world: _loaded(world, blocks, plates)),
        Now(lambda world: abs(world.scale_angle_rad()) < layout.SCALE_LIMIT_RAD - SCALE_MARGIN_RAD),
        Now(lambda world: abs(world.scale_turn_rad_s()) < SCALE_TURN_RAD_S),
    )


def _loaded(world: World, blocks: Sequence[int], plates: Sequence[int]) -> bool:
    held: set[int] = set()
    for _ in blocks:
        lower = held | set(plates)
        held |= {block for block in blocks if any(carries(world, block, other) for other in lower - {block})}
    loads = [any(carries(world, block, plate) for block in blocks) for plate in plates]
    return held == set(blocks) and all(loads)
