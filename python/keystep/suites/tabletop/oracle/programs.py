"""What the oracle does in each task: key-steps as code in which `{A}` stands for the actor in role A.

`{A@}` is the actor with its cell, whatever its name, and `{A+}` the cell of the free space for it. A stored
pose says its place so: what is done there later knows nothing of the picture in which it was stored.

A key-step has exactly one action; queries and entries of `pose_dict` that it needs come before, in the same
text. The actors' names, and their places where two share a name, are filled in when the key-step starts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from keystep.suites.tabletop.scenario import Scenario

Steps = list[str]
_ROLE = re.compile(r"\{(\w+[@+]?)(?:\[(\d+)\])?\}")


def program(task: str, scenario: Scenario) -> tuple[str, ...]:
    """The key-steps that solve a scenario of the task, the last one `done()`.

    Raises:
        ValueError: there is no program for the task.
    """
    if task not in PROGRAMS:
        raise ValueError(f"task: expected one of {', '.join(PROGRAMS)}, got {task!r}")
    return (*PROGRAMS[task](scenario), "done()")


def render(template: str, references: Mapping[str, str | Sequence[str]]) -> str:
    """The code of a key-step.

    Args:
        template: text with `{A}`, `{S[1]}`, `{A@}` or `{A+}`; a role of several without a number gives all,
            with commas.
        references: for each role the code that gets the actor; for a role of several, one for each. `A@` and
            `A+` are roles, too.

    Raises:
        ValueError: the template needs what `references` does not have.
    """

    def actor(match: re.Match[str]) -> str:
        role, index = match.groups()
        found = references.get(role)
        if isinstance(found, str) and index is None:
            return found
        if found is None or isinstance(found, str) or (index and int(index) >= len(found)):
            raise ValueError(f"key-step: expected a reference for {match.group()}, got {found!r}")
        return found[int(index)] if index else ", ".join(found)

    return _ROLE.sub(actor, template)


# ---- parts

FREE = "free_space({A}, near={A+})"


def pick_up(actor: str) -> Steps:
    return [f"move3d({actor})", f"pick({actor})"]


def put_on(actor: str, lower: str) -> Steps:
    return [*pick_up(actor), f"move3d({lower})", f"place_on({actor}, {lower})"]


def put_at(actor: str, key: str, pose: str = "") -> Steps:
    """To a pose: that of `pose`, which is stored under the key first, or the one stored there before."""
    stored = f"pose_dict['{key}']"
    store = f"{stored} = {pose}\n" if pose else ""
    return [*pick_up(actor), f"{store}move3d({stored})", f"place({actor}, {stored})"]


def remember(*keys: str) -> str:
    """Stores the poses of roles under their names."""
    return "".join(f"pose_dict['{key}'] = get_pose({{{key}@}})\n" for key in keys)


def first(prefix: str, steps: Steps) -> Steps:
    """The same steps with more code at the beginning of the first."""
    return [prefix + steps[0], *steps[1:]]


def members(scenario: Scenario, role: str) -> Steps:
    """The templates of a role of several: `{S[0]}`, `{S[1]}` ..."""
    bodies = scenario.roles[role]
    if isinstance(bodies, int):
        raise ValueError(f"role {role}: expected several bodies, got one")
    return [f"{{{role}[{index}]}}" for index in range(len(bodies))]


def stack(actors: Steps) -> Steps:
    """One on the other, the lowest first."""
    return [step for lower, upper in pairwise(actors) for step in put_on(upper, lower)]


def turn(actor: str, angle: float) -> Steps:
    return [*pick_up(actor), f"rotate({actor}, {angle:g})"]


def throw(actor: str, target: str) -> Steps:
    return [*pick_up(actor), f"throw({actor}, {target})"]


# ---- tasks


def pick(scenario: Scenario) -> Steps:
    return pick_up("{A}")


def place_on(scenario: Scenario) -> Steps:
    return put_on("{A}", "{B}")


def place_next_to(scenario: Scenario) -> Steps:
    direction = scenario.parameters["direction"]
    return put_at("{A}", "T", f"free_space_next_to({{A}}, {{B}}, '{direction}')")


def rotate(scenario: Scenario) -> Steps:
    return turn("{A}", scenario.parameters["angle"])


def throw_at(scenario: Scenario) -> Steps:
    return throw("{A}", "{B}")


def touch(scenario: Scenario) -> Steps:
    return ["move3d({A})", "touch({A})"]


def push(scenario: Scenario) -> Steps:
    return ["move3d({A})", "touch({A}, push=True)"]


def topple(scenario: Scenario) -> Steps:
    return ["move3d({A})", "touch({A}, topple=True)"]


def follow_order(scenario: Scenario) -> Steps:
    return [step for area in members(scenario, "S") for step in put_on("{A}", area)]


def follow_order_restore(scenario: Scenario) -> Steps:
    return [*first(remember("A"), follow_order(scenario)), *put_at("{A}", "A")]


def neighbour(scenario: Scenario) -> Steps:
    return [*put_on("{A}", "{B}"), *put_on("{N}", "{B}")]


def rotate_restore(scenario: Scenario) -> Steps:
    return [*first(remember("A"), rotate(scenario)), *put_at("{A}", "A")]


def rotate_symmetry(scenario: Scenario) -> Steps:
    return [step for actor in members(scenario, "S") for step in turn(actor, scenario.parameters["angle"])]


def single_stack(scenario: Scenario) -> Steps:
    return stack(members(scenario, "S"))


def reverse_stack(scenario: Scenario) -> Steps:
    return stack(members(scenario, "S")[::-1])


def sort_by_texture(scenario: Scenario) -> Steps:
    pairs = zip(members(scenario, "S"), members(scenario, "T"), strict=True)
    return [step for actor, area in pairs for step in put_on(actor, area)]


def swap(scenario: Scenario) -> Steps:
    return [
        *first(remember("A", "B"), put_at("{A}", "T", FREE)),
        *put_at("{B}", "A"),
        *put_at("{A}", "B"),
    ]


def push_to_target(scenario: Scenario) -> Steps:
    return ["move3d({A})", "push({A}, get_pose({B}))"]


def balance_scale(scenario: Scenario) -> Steps:
    """Layer by layer, so that the plates are about equally loaded all the time."""
    left, right = (["{P[0]}", *members(scenario, "L")], ["{P[1]}", *members(scenario, "R")])
    steps = []
    for layer in range(1, max(len(left), len(right))):
        for side in (left, right):
            if layer < len(side):
                steps += put_on(side[layer], side[layer - 1])
    return steps


def stack_sorted(scenario: Scenario) -> Steps:
    return [*stack(members(scenario, "S")), *stack(members(scenario, "T"))]


def stack_topple(scenario: Scenario) -> Steps:
    highest = members(scenario, "S")[-1]
    return [*single_stack(scenario), f"move3d({highest})", "topple_structure([{S}])"]


def swap_by_pushing(scenario: Scenario) -> Steps:
    return [
        remember("A", "B") + "pose_dict['T'] = " + FREE + "\nmove3d({A})",
        "push({A}, pose_dict['T'])",
        "move3d({B})",
        "push({B}, pose_dict['A'])",
        "move3d({A})",
        "push({A}, pose_dict['B'])",
    ]


def swap_rotate(scenario: Scenario) -> Steps:
    """As `swap`, to the stored poses turned; the two faced the same way."""
    angle = scenario.parameters["angle"]
    return [
        *first(remember("A", "B"), put_at("{A}", "T", FREE)),
        *put_at("{B}", "A", f"rotate_z(pose_dict['A'], {angle:g})"),
        *put_at("{A}", "B", f"rotate_z(pose_dict['B'], {angle:g})"),
    ]


def throw_sort(scenario: Scenario) -> Steps:
    pairs = zip(members(scenario, "S"), members(scenario, "T"), strict=True)
    return [step for actor, area in pairs for step in throw(actor, area)]


PROGRAMS: dict[str, Callable[[Scenario], Steps]] = {
    "Pick": pick,
    "PlaceOnTop": place_on,
    "PlaceNextTo": place_next_to,
    "Rotate": rotate,
    "ThrowAt": throw_at,
    "ThrowToTopple": throw_at,
    "Touch": touch,
    "Push": push,
    "Topple": topple,
    "PickPlaceOnTop": place_on,
    "PickPlaceNextTo": place_next_to,
    "FollowOrder": follow_order,
    "FollowOrderRestore": follow_order_restore,
    "Neighbour": neighbour,
    "NovelAdjective": place_on,
    "NovelNoun": place_on,
    "NovelNounAdjective": place_on,
    "RotateRestore": rotate_restore,
    "RotateSymmetry": rotate_symmetry,
    "SingleStack": single_stack,
    "ReverseStack": reverse_stack,
    "SortByTexture": sort_by_texture,
    "Swap": swap,
    "ThrowOnto": throw_at,
    "PushToTarget": push_to_target,
    "BalanceScale": balance_scale,
    "StackSorted": stack_sorted,
    "StackTopple": stack_topple,
    "SwapByPushing": swap_by_pushing,
    "SwapRotate": swap_rotate,
    "ThrowSort": throw_sort,
}
