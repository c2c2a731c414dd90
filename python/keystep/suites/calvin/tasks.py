"""CALVIN's 34 tasks: numbers, families, and what their names say. Their success is `calvin_env`'s matter."""

from __future__ import annotations

from keystep.suites.calvin.layout import BLOCKS

SIDES = ("right", "left")
SURFACES = ("table", "slider", "drawer")


def _names() -> tuple[str, ...]:
    """In the order of calvin_env's conf/tasks/new_playtable_tasks.yaml."""
    return (
        *(f"rotate_{block}_block_{side}" for block in BLOCKS for side in SIDES),
        *(f"push_{block}_block_{side}" for block in BLOCKS for side in SIDES),
        "move_slider_left",
        "move_slider_right",
        "open_drawer",
        "close_drawer",
        *(f"lift_{block}_block_{surface}" for block in BLOCKS for surface in SURFACES),
        "place_in_slider",
        "place_in_drawer",
        "stack_block",
        "unstack_block",
        "turn_on_lightbulb",
        "turn_off_lightbulb",
        "turn_on_led",
        "turn_off_led",
        "push_into_drawer",
    )


TASKS: dict[str, int] = {name: number for number, name in enumerate(_names())}
"""By name their numbers, which never change."""

_FAMILIES = {
    "rotate": "rotate",
    "push": "push",
    "move": "slider",
    "open": "drawer",
    "close": "drawer",
    "lift": "lift",
    "place": "place",
    "stack": "stack",
    "unstack": "stack",
    "turn": "light",
}
FAMILIES: dict[str, str] = {
    task: "place" if task == "push_into_drawer" else _FAMILIES[task.partition("_")[0]] for task in TASKS
}
"""HD-ExpIt's categories (appendix D): slider, drawer, lift, place, light, stack (and unstack), and block
manipulation as its Figure 6 splits it, into pushing and rotation. The paper does not say where
push_into_drawer belongs; here it is a placement."""

_VERBS = tuple(dict.fromkeys(task.partition("_")[0] for task in TASKS))
_THINGS = ("none", *BLOCKS, "slider", "drawer", "lightbulb", "led")
_WHERE = ("none", *SIDES, *SURFACES, "on", "off")


def meaning(task: str) -> dict[str, int]:
    """What the task's name tells, as numbers; 0 of thing and where: nothing. KeyError for an unknown one."""
    if task not in TASKS:
        raise KeyError(task)
    verb, *words = task.split("_")
    places = [word for word in words if word in _WHERE and (word in SIDES or word in ("on", "off"))]
    places += [words[-1]] if verb in ("lift", "place") or task == "push_into_drawer" else []
    things = [word for word in words if word in _THINGS and word not in places]
    return {
        "verb": _VERBS.index(verb),
        "thing": _THINGS.index(things[0] if things else "none"),
        "where": _WHERE.index(places[0] if places else "none"),
    }


def instruction(task: str) -> str:
    """What the task is called in datasets: its name as words, which is none of CALVIN's sentences."""
    return task.replace("_", " ")
