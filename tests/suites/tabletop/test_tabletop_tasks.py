"""The 31 tabletop tasks: their scenes, prompts and what solves them at the start (no simulator)."""

from __future__ import annotations

import string
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from tabletop_world import FakeWorld

from keystep.suites.tabletop import layout
from keystep.suites.tabletop.objects import COLOURS, SHAPES
from keystep.suites.tabletop.polygons import DIRECTIONS
from keystep.suites.tabletop.prompts import PHRASINGS
from keystep.suites.tabletop.tasks import TASKS, task_named

SEEDS = range(60)
LEVELS = {
    0: [
        "Pick", "PlaceOnTop", "PlaceNextTo", "Rotate", "ThrowAt", "ThrowToTopple", "Touch", "Push", "Topple",
    ],
    1: [
        "PickPlaceOnTop", "PickPlaceNextTo", "FollowOrder", "FollowOrderRestore", "Neighbour",
        "NovelAdjective", "NovelNoun", "NovelNounAdjective", "RotateRestore", "RotateSymmetry", "SingleStack",
        "ReverseStack", "SortByTexture", "Swap", "ThrowOnto", "PushToTarget",
    ],
    2: ["BalanceScale", "StackSorted", "StackTopple", "SwapByPushing", "SwapRotate", "ThrowSort"],
}  # fmt: skip
SAME_NAMES = {
    "NovelAdjective", "NovelNounAdjective", "RotateSymmetry", "SortByTexture", "StackSorted", "ThrowSort",
}  # fmt: skip
COUNTS = {
    "Pick": {3}, "PlaceOnTop": {3}, "PlaceNextTo": {3}, "Rotate": {3}, "Touch": {3}, "Push": {1},
    "Topple": {1}, "ThrowAt": {3}, "ThrowToTopple": {3}, "PickPlaceOnTop": {5, 6}, "PickPlaceNextTo": {3, 4},
    "FollowOrder": {4}, "FollowOrderRestore": {4}, "Neighbour": {4, 5}, "NovelAdjective": {4},
    "NovelNoun": {5, 6}, "NovelNounAdjective": {4}, "RotateRestore": {3}, "RotateSymmetry": {3, 4},
    "SingleStack": {3, 4}, "ReverseStack": {3, 4}, "SortByTexture": {4, 5, 6, 7}, "Swap": {2, 3},
    "ThrowOnto": {3}, "PushToTarget": {3}, "BalanceScale": {4, 5, 6}, "StackSorted": {4, 5},
    "StackTopple": {3, 4}, "SwapByPushing": {2}, "SwapRotate": {2, 3}, "ThrowSort": {4, 5},
}  # fmt: skip


def scenario_of(task, seed):
    return TASKS[task].build(np.random.default_rng(seed))


def flat(roles):
    """All bodies in roles."""
    return [body for bodies in roles.values() for body in several(bodies)]


def several(bodies):
    return (bodies,) if isinstance(bodies, int) else bodies


def things(scenario, role):
    return [scenario.bodies[body].thing for body in several(scenario.roles[role])]


@pytest.fixture(scope="module", params=list(TASKS))
def task(request):
    return request.param


@pytest.fixture(scope="module")
def scenarios(task):
    return [scenario_of(task, seed) for seed in SEEDS]


def test_names_and_levels_are_those_of_the_paper():
    assert {
        level: [task.name for task in TASKS.values() if task.level == level] for level in LEVELS
    } == LEVELS
    assert len(TASKS) == 31
    assert all(name == task.name and task.max_steps >= 150 for name, task in TASKS.items())


def test_a_task_is_found_by_its_name():
    assert task_named("Swap") is TASKS["Swap"]
    with pytest.raises(ValueError, match=r"task: expected PlaceOnTop or .*, got 'PlaceOnTopp'"):
        task_named("PlaceOnTopp")
    with pytest.raises(ValueError, match=r"task: expected one of Pick, .*ThrowSort, got 'qqq'"):
        task_named("qqq")


def test_tasks_need_no_simulator():
    code = (
        "import sys, numpy\n"
        "from keystep.suites.tabletop.tasks import TASKS\n"
        "from keystep.suites.tabletop.oracle import programs, texts\n"
        "for task in TASKS.values(): task.build(numpy.random.default_rng(0))\n"
        "print([name for name in ('torch', 'sapien', 'mani_skill') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_equal_generators_give_equal_scenarios(task, scenarios):
    for seed in SEEDS:
        again = scenario_of(task, seed)
        assert again.bodies == scenarios[seed].bodies
        assert (again.roles, again.prompt, again.parameters) == (
            scenarios[seed].roles, scenarios[seed].prompt, scenarios[seed].parameters,
        )  # fmt: skip
    assert len({scenario.bodies for scenario in scenarios}) == len(SEEDS)


def test_numbers_of_bodies(task, scenarios):
    assert {len(scenario.bodies) for scenario in scenarios} == COUNTS[task]
    assert max(COUNTS[task]) <= layout.MAX_BODIES


def test_roles_are_of_different_bodies(scenarios):
    for scenario in scenarios:
        bodies = flat({role: bodies for role, bodies in scenario.roles.items() if role != "T"})
        assert len(set(bodies)) == len(bodies)
        assert all(0 <= body < len(scenario.bodies) for body in flat(scenario.roles))
        assert all(type(body) is int for body in flat(scenario.roles))


def test_a_number_tells_nothing_about_a_role(task, scenarios):
    if "A" in scenarios[0].roles and COUNTS[task] != {1}:
        numbers = Counter(scenario.roles["A"] for scenario in scenarios)
        assert set(numbers) >= set(range(min(COUNTS[task])))


def test_objects_are_known_and_fit_the_gripper(scenarios):
    for scenario in scenarios:
        for body in scenario.bodies:
            thing = body.thing
            assert thing.colour in COLOURS
            if thing.kind == "block":
                assert thing.shape in SHAPES
                reach = np.linalg.norm(body.position_m[:2])
                width = np.ptp(thing.footprint(), axis=0).min()
                assert reach > 0.7 or (0.03 <= width <= 0.06 and 0.02 <= thing.height_m <= 0.12)


def test_names_are_shared_only_where_the_task_is_about_it(task, scenarios):
    shared = [
        name
        for scenario in scenarios
        for name, count in Counter(body.thing.name for body in scenario.bodies).items()
        if count > 1
    ]
    assert bool(shared) is (task in SAME_NAMES)


def test_nothing_is_solved_at_the_start(scenarios):
    for scenario in scenarios:
        world = FakeWorld(scenario.bodies)
        scenario.predicate.begin(world)
        for _ in range(3):
            assert not scenario.predicate.update(world)


def test_prompts_are_filled_in(scenarios):
    for scenario in scenarios:
        assert scenario.prompt[0].isupper()
        assert not set("{}[]'\"") & set(scenario.prompt) and "  " not in scenario.prompt
        assert not scenario.prompt.endswith((".", " "))


def test_every_phrasing_is_used(task, scenarios):
    """Told apart by their fixed words."""

    def matches(phrasing, prompt):
        words = [text for text, *_ in string.Formatter().parse(phrasing) if text.strip()]
        return all(word.strip(" .").lower() in prompt.lower() for word in words)

    for phrasing in PHRASINGS[task]:
        assert any(matches(phrasing, scenario.prompt) for scenario in scenarios), phrasing


def test_there_are_phrasings_for_the_tasks_and_no_others():
    assert list(PHRASINGS) == list(TASKS) and all(len(phrasings) >= 2 for phrasings in PHRASINGS.values())
    assert all(len(set(phrasings)) == len(phrasings) for phrasings in PHRASINGS.values())


def test_prompts_name_what_they_are_about(task, scenarios):
    by_colour = {"RotateSymmetry", "SortByTexture", "StackSorted", "ThrowSort"}
    unnamed = {
        "N": {"Neighbour"}, "P": {"BalanceScale"}, "L": {"BalanceScale"}, "R": {"BalanceScale"},
        "S": by_colour, "T": by_colour, "B": {"FollowOrder", "FollowOrderRestore"},
    }  # fmt: skip
    for scenario in scenarios:
        for role, bodies in scenario.roles.items():
            if task not in unnamed.get(role, ()):
                assert all(scenario.name(body).lower() in scenario.prompt.lower() for body in several(bodies))


# ---- what single tasks are about


@pytest.mark.parametrize("task", ["PlaceNextTo", "PickPlaceNextTo"], indirect=True)
def test_next_to_says_and_keeps_its_direction(scenarios):
    words = {"left": "left of", "right": "right of", "front": "in front of", "behind": "behind"}
    assert {scenario.parameters["direction"] for scenario in scenarios} == set(DIRECTIONS)
    for scenario in scenarios:
        assert words[scenario.parameters["direction"]] in scenario.prompt


@pytest.mark.parametrize("task", ["Rotate", "RotateRestore", "RotateSymmetry", "SwapRotate"], indirect=True)
def test_turns_are_told_with_their_direction(scenarios):
    angles = {scenario.parameters["angle"] for scenario in scenarios}
    assert angles == {sign * degrees for sign in (1, -1) for degrees in (30, 60, 90, 120, 150)}
    for scenario in scenarios:
        angle = scenario.parameters["angle"]
        assert f"{abs(angle):.0f} degrees" in scenario.prompt
        assert ("anti-clockwise" in scenario.prompt) is (angle > 0) and "clockwise" in scenario.prompt


@pytest.mark.parametrize("task", ["NovelAdjective", "NovelNounAdjective"], indirect=True)
def test_the_new_adjective_tells_two_sizes_apart(scenarios):
    seen = set()
    for scenario in scenarios:
        (wanted,) = things(scenario, "A")
        (other,) = (
            body.thing
            for number, body in enumerate(scenario.bodies)
            if body.thing.name == wanted.name and number != scenario.roles["A"]
        )
        larger = wanted.size_m[0] > other.size_m[0]
        assert larger is (wanted.height_m > other.height_m)
        example = scenario.prompt.lower().split(" than ")[0].rsplit("a ", 1)[1]
        assert example.startswith("large" if larger else "small")
        seen.add(larger)
    assert seen == {True, False}


@pytest.mark.parametrize("task", ["SortByTexture", "ThrowSort"], indirect=True)
def test_blocks_are_sorted_to_areas_of_their_colour(scenarios):
    for scenario in scenarios:
        assert [thing.colour for thing in things(scenario, "S")] == [
            thing.colour for thing in things(scenario, "T")
        ]
        assert {thing.kind for thing in things(scenario, "T")} == {"area"}
        areas = [body.thing.colour for body in scenario.bodies if body.thing.kind == "area"]
        assert len(set(areas)) == len(areas)


@pytest.mark.parametrize("task", ["SortByTexture"], indirect=True)
def test_an_area_holds_its_blocks_side_by_side(scenarios):
    for scenario in scenarios:
        for goal in set(scenario.roles["T"]):
            widths = [
                2 * thing.radius_m
                for thing, place in zip(things(scenario, "S"), scenario.roles["T"], strict=True)
                if place == goal
            ]
            assert sum(widths) + 0.02 * (len(widths) - 1) <= scenario.bodies[goal].thing.size_m[0]


@pytest.mark.parametrize("task", ["BalanceScale"], indirect=True)
def test_both_sides_of_the_scale_can_weigh_the_same(scenarios):
    for scenario in scenarios:
        left, right = (sum(thing.height_m for thing in things(scenario, role)) for role in "LR")
        assert left == pytest.approx(right)
        heights = [thing.height_m for thing in things(scenario, "L") + things(scenario, "R")]
        assert min(heights) >= 0.02 - 1e-9 and max(heights) <= 0.06 + 1e-9
        assert len({thing.size_m[:2] for thing in things(scenario, "L") + things(scenario, "R")}) == 1
        assert scenario.scale
        assert [thing.label for thing in things(scenario, "P")] == ["left plate", "right plate"]
        left_plate, right_plate = (scenario.bodies[plate].position_m for plate in scenario.roles["P"])
        assert left_plate[1] == layout.SCALE_ARM_M and right_plate[1] == -layout.SCALE_ARM_M


@pytest.mark.parametrize("task", ["StackSorted"], indirect=True)
def test_stacks_are_of_one_colour_each(scenarios):
    for scenario in scenarios:
        first, second = ({thing.colour for thing in things(scenario, role)} for role in "ST")
        assert len(first) == len(second) == 1 and first != second
        assert len(flat(scenario.roles)) == len(scenario.bodies)


@pytest.mark.parametrize("task", ["RotateSymmetry"], indirect=True)
def test_just_two_share_the_colour_that_is_turned(scenarios):
    for scenario in scenarios:
        (colour,) = {thing.colour for thing in things(scenario, "S")}
        colours = Counter(body.thing.colour for body in scenario.bodies)
        assert colours.pop(colour) == 2 and set(colours.values()) == {1}


@pytest.mark.parametrize("task", ["SwapRotate"], indirect=True)
def test_both_face_the_same_way(scenarios):
    for scenario in scenarios:
        first, second = (scenario.bodies[scenario.roles[role]].yaw_rad for role in "AB")
        assert first == second


@pytest.mark.parametrize("task", ["Neighbour"], indirect=True)
def test_the_neighbour_stands_in_the_direction_and_nothing_else_does(scenarios):
    sides = {"left": "left", "right": "right", "front": "front", "back": "behind"}
    words = {"left of": "left", "right of": "right", "in front of": "front", "behind": "behind"}
    for scenario in scenarios:
        (said,) = {
            direction
            for text, direction in [*((f"at its {side} ", way) for side, way in sides.items()),
                                    *((f"{word} it", way) for word, way in words.items())]
            if text in scenario.prompt
        }  # fmt: skip
        start = np.array(scenario.bodies[scenario.roles["A"]].position_m[:2])
        for number, body in enumerate(scenario.bodies):
            offset = np.array(body.position_m[:2]) - start
            ahead = offset @ np.array(DIRECTIONS[said])
            close = body.thing.kind == "block" and 0 < np.linalg.norm(offset) < 0.14
            assert bool(close and ahead > 0.1) is (number == scenario.roles["N"])


@pytest.mark.parametrize("task", ["FollowOrder", "FollowOrderRestore"], indirect=True)
def test_the_block_starts_on_an_area(scenarios):
    for scenario in scenarios:
        assert FakeWorld(scenario.bodies).support[scenario.roles["A"]] == scenario.roles["B"]


@pytest.mark.parametrize("task", ["PushToTarget"], indirect=True)
def test_there_is_room_to_push(scenarios):
    for scenario in scenarios:
        start, target = (np.array(scenario.bodies[scenario.roles[role]].position_m[:2]) for role in "AB")
        way = target - start
        length = np.linalg.norm(way)
        assert 0.16 <= length <= 0.30
        assert 0.33 <= np.linalg.norm(start - 0.12 * way / length) <= 0.66
        (third,) = set(range(3)) - {scenario.roles["A"], scenario.roles["B"]}
        other = np.array(scenario.bodies[third].position_m[:2])
        share = np.clip((other - start) @ way / length**2, -0.12 / length, 1)
        assert np.linalg.norm(other - start - share * way) >= 0.045 + 0.03


@pytest.mark.parametrize("task", ["SwapByPushing"], indirect=True)
def test_blocks_that_swap_by_pushing_are_far_apart(scenarios):
    for scenario in scenarios:
        first, second = (np.array(scenario.bodies[scenario.roles[role]].position_m[:2]) for role in "AB")
        assert np.linalg.norm(first - second) >= 0.16
