"""What the tasks' scenes have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np

from keystep.suites.tabletop import layout
from keystep.suites.tabletop.camera import first_boxes
from keystep.suites.tabletop.logic import All
from keystep.suites.tabletop.objects import COLOURS, SHAPES, Body, Thing, area, block
from keystep.suites.tabletop.placement import Crowded, Placement, arranged, out_of_reach
from keystep.suites.tabletop.prompts import prompt
from keystep.suites.tabletop.scenario import Predicate, Scenario

Roles = Mapping[str, int | tuple[int, ...]]
Arrange = Callable[[Placement], Roles]

AREA_M = 0.12
"""Side of an area for one block."""
WIDE_AREA_M = 0.16
"""For several."""
TARGET_M = 0.20
"""Of what is thrown at."""
APART = 0.12
"""Of the picture's side; more than a cell of the coarsest grid, 10 x 10."""
TALL_SHAPES = ("cube", "cylinder", "hexagon")
DIRECTION_WORDS = {
    "left": ("left of", "left"),
    "right": ("right of", "right"),
    "front": ("in front of", "front"),
    "behind": ("behind", "back"),
}


def scenario(
    rng: np.random.Generator,
    task: str,
    arrange: Arrange,
    predicate: Callable[..., Predicate],
    words: Mapping[str, object] | None = None,
    parameters: Mapping[str, object] | None = None,
) -> Scenario:
    """A scenario from a scene.

    Bodies are numbered at random, so that a number tells nothing about a role.

    Args:
        rng: draws the scene, the numbers and the phrasing.
        task: whose phrasings to use.
        arrange: places the bodies and returns who has which role.
        predicate: called with the bodies of the roles, in their order.
        words: what the prompt needs besides names.
        parameters: what the program needs besides roles.
    """

    def arrange_apart(scene: Placement) -> Roles:
        roles = arrange(scene)
        if not told_apart(tuple(scene.bodies)):
            raise Crowded
        return roles

    bodies, roles = arranged(rng, arrange_apart)
    order = rng.permutation(len(bodies))
    number = {int(old): new for new, old in enumerate(order)}
    numbered = {
        role: number[body] if isinstance(body, int) else tuple(number[one] for one in body)
        for role, body in roles.items()
    }
    made = Scenario(
        bodies=tuple(bodies[old] for old in order),
        roles=numbered,
        prompt="",
        predicate=predicate(*numbered.values()),
        parameters=dict(parameters or {}),
        scale=any(body.thing.kind == "plate" for body in bodies),
    )
    return replace(made, prompt=prompt(task, rng, made, words or {}))


def told_apart(bodies: tuple[Body, ...]) -> bool:
    """Whether any grid on the base camera's picture can tell things of one name apart."""
    boxes = first_boxes(bodies)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return all(
        np.abs(centres[one] - centres[other]).max() >= APART
        for one, other in combinations(range(len(bodies)), 2)
        if bodies[one].thing.name == bodies[other].thing.name
    )


def blocks(rng: np.random.Generator, count: int, without: str = "") -> list[Thing]:
    """Blocks of which no two share both colour and shape, in any colour but one."""
    kinds = [(shape, colour) for colour in COLOURS if colour != without for shape in SHAPES]
    return [block(*kinds[index]) for index in rng.choice(len(kinds), size=count, replace=False)]


def tall_block(
    rng: np.random.Generator, width_m: float, height_m: float, density_kg_m3: float = layout.DENSITY_KG_M3
) -> Thing:
    """One that can be toppled or hit."""
    (colour,) = some_colours(rng, 1)
    thing = block(a_shape(rng, TALL_SHAPES), colour, width_m, height_m)
    return replace(thing, density_kg_m3=density_kg_m3)


def areas(rng: np.random.Generator, count: int, side_m: float = AREA_M) -> list[Thing]:
    """Areas of different colours."""
    return [area(colour, side_m) for colour in some_colours(rng, count)]


def some_colours(rng: np.random.Generator, count: int) -> list[str]:
    """Different ones."""
    return [str(colour) for colour in rng.choice(list(COLOURS), size=count, replace=False)]


def a_shape(rng: np.random.Generator, shapes: tuple[str, ...] = SHAPES) -> str:
    return str(rng.choice(list(shapes)))


def count_of(rng: np.random.Generator, low: int, high: int) -> int:
    """Between the two, both included."""
    return int(rng.integers(low, high + 1))


def put_all(scene: Placement, things: list[Thing]) -> list[int]:
    return [scene.put(thing) for thing in things]


def blocks_only(things: list[Thing], *roles: str) -> Arrange:
    """A scene of blocks anywhere; the first have the roles."""
    return lambda scene: dict(zip(roles, put_all(scene, things), strict=False))


def on_areas(rng: np.random.Generator) -> Arrange:
    """Three blocks, one of them "A", and two or three areas, one of them "B"."""
    squares, things = areas(rng, count_of(rng, 2, 3)), blocks(rng, 3)

    def arrange(scene: Placement) -> Roles:
        goal, *_ = put_all(scene, squares)
        return {"A": put_all(scene, things)[0], "B": goal}

    return arrange


def one_on_an_area(rng: np.random.Generator) -> Arrange:
    """A block "A" on an area "B", and two more areas "S"."""
    squares, (thing,) = areas(rng, 3), blocks(rng, 1)

    def arrange(scene: Placement) -> Roles:
        first, *others = put_all(scene, squares)
        return {"A": scene.put_on(thing, first), "B": first, "S": tuple(others)}

    return arrange


def to_stack(rng: np.random.Generator) -> Arrange:
    """Three or four blocks "S"."""
    things = blocks(rng, count_of(rng, 3, 4))
    return lambda scene: {"S": tuple(put_all(scene, things))}


def beyond_reach(things: list[Thing], target: Thing) -> Arrange:
    """Blocks anywhere, the first of which is "A", and something to throw it at, "B"."""

    def arrange(scene: Placement) -> Roles:
        far = scene.put(target, out_of_reach)
        return {"A": put_all(scene, things)[0], "B": far}

    return arrange


def each(predicate: Callable[[int, int], Predicate]) -> Callable[..., Predicate]:
    """Of each of several bodies with the place of its own."""
    return lambda bodies, places: All(*map(predicate, bodies, places))


def some_turn(rng: np.random.Generator) -> tuple[float, dict[str, object]]:
    """Degrees, anticlockwise from above, and the words for them."""
    degrees = 30 * count_of(rng, 1, 5)
    clockwise = bool(rng.integers(2))
    words: dict[str, object] = {"degrees": degrees, "turn": "clockwise" if clockwise else "anti-clockwise"}
    return float(-degrees if clockwise else degrees), words


def some_direction(rng: np.random.Generator) -> tuple[str, dict[str, object]]:
    """A direction of the code language and the words for it."""
    direction = str(rng.choice(list(DIRECTION_WORDS)))
    where, side = DIRECTION_WORDS[direction]
    return direction, {"where": where, "side": side}


def plates() -> list[tuple[Thing, tuple[float, float, float]]]:
    """The left and the right plate of the scale, and where they are when it is level."""
    x, y = layout.SCALE_CENTRE_M
    sides = (("left plate", y + layout.SCALE_ARM_M), ("right plate", y - layout.SCALE_ARM_M))
    return [
        (Thing("plate", "white", layout.PLATE_SIZE_M, "plate", label), (x, side, layout.PLATE_HEIGHT_M))
        for label, side in sides
    ]
