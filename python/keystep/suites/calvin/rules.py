"""When a task of CALVIN makes sense, and what it changes: the symbolic world that chains are drawn from.

Source: the facts of calvin_agent/evaluation/multistep_sequences.py (mees/calvin, fa03f01), restated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations, product

from keystep.suites.calvin.layout import BLOCKS
from keystep.suites.calvin.tasks import SIDES, TASKS

Scene = Mapping[str, str | int]
"""Lights 0 or 1, slider right or left, drawer closed or open, where each block is, whether one is held."""

SHELVES = ("slider_right", "slider_left")
START_VALUES: dict[str, tuple[str | int, ...]] = {
    "led": (0, 1),
    "lightbulb": (0, 1),
    "slider": SIDES,
    "drawer": ("closed", "open"),
    **{f"{block}_block": ("table", *SHELVES) for block in BLOCKS},
    "grasped": (0,),
}
"""What a scene may be at the start of a chain; the order matters to the public sampler's random numbers."""
_OTHER = {"right": "left", "left": "right", "open": "closed", "closed": "open"}


@dataclass(frozen=True)
class Rule:
    """One way to do a task.

    Attributes:
        needs: values of the scene, any of those given.
        makes: values afterwards.
    """

    needs: Mapping[str, tuple[str | int, ...]]
    makes: Mapping[str, str | int]

    def apply(self, scene: Scene) -> Scene | None:
        """The scene afterwards; None where the task makes no sense."""
        if any(scene[name] not in values for name, values in self.needs.items()):
            return None
        return {**scene, **self.makes}


Values = dict[str, str | int]


def _rule(needs: dict[str, str | int | tuple[str, ...]], makes: Values, held: int = 0) -> Rule:
    wanted = {name: value if isinstance(value, tuple) else (value,) for name, value in needs.items()}
    return Rule({**wanted, "grasped": (held,)}, makes)


def _rules(task: str) -> Iterator[Rule]:
    verb, *words = task.split("_")
    blocks = [f"{block}_block" for block in BLOCKS]
    if verb == "rotate" or (verb == "push" and words[1] == "block"):
        yield _rule({f"{words[0]}_block": "table"}, {f"{words[0]}_block": "table"})
    elif verb == "move":
        yield _rule({"slider": _OTHER[words[1]]}, {"slider": words[1]})
    elif verb in ("open", "close"):
        after = {"open": "open", "close": "closed"}[verb]
        yield _rule({"drawer": _OTHER[after]}, {"drawer": after})
    elif verb == "turn":
        on = int(words[0] == "on")
        yield _rule({words[1]: 1 - on}, {words[1]: on})
    elif verb == "lift":
        yield from _lifts(f"{words[0]}_block", words[2])
    elif verb == "place":
        for block in blocks:
            yield from _places(block, words[1])
    elif verb == "stack":
        for top, below in permutations(blocks, 2):
            made: Values = {top: "stacked_top", below: "stacked_bottom", "grasped": 0}
            yield _rule({top: "grasped", below: "table"}, made, held=1)
    elif verb == "unstack":
        for top, below in permutations(blocks, 2):
            yield _rule({top: "stacked_top", below: "stacked_bottom"}, {top: "table", below: "table"})
    else:  # push_into_drawer: only the block that is meant lies on the table
        for block in blocks:
            shelved = {other: SHELVES for other in blocks if other != block}
            yield _rule({block: "table", "drawer": "open", **shelved}, {block: "drawer", "grasped": 0})


def _lifts(block: str, surface: str) -> Iterator[Rule]:
    made: Values = {block: "grasped", "grasped": 1}
    if surface == "slider":  # what stands left is covered by a door that is left
        for side in ("left", "right"):
            yield _rule({block: f"slider_{side}", "slider": _OTHER[side]}, made)
    elif surface == "drawer":
        yield _rule({block: "drawer", "drawer": "open"}, made)
    else:
        yield _rule({block: "table"}, made)


def _places(block: str, surface: str) -> Iterator[Rule]:
    if surface == "drawer":
        yield _rule({block: "grasped", "drawer": "open"}, {block: "drawer", "grasped": 0}, held=1)
        return
    for side in SIDES:
        made: Values = {block: f"slider_{side}", "grasped": 0}
        yield _rule({block: "grasped", "slider": side}, made, held=1)


RULES: dict[str, tuple[Rule, ...]] = {task: tuple(_rules(task)) for task in TASKS}


def kind(task: str) -> str:
    """Of a chain no two tasks are of one kind."""
    verb, *words = task.split("_")
    if verb == "rotate" or (verb == "push" and words[1] == "block"):
        return "move block"
    if verb == "lift":
        return f"lift from {words[2]}"
    return {"open": "drawer", "close": "drawer", "move": "slider", "turn": "light"}.get(verb, verb)


def is_possible(scene: Scene, chain: tuple[str, ...]) -> bool:
    """Each task makes sense where the one before has left the scene, in exactly one way; the kinds differ."""
    for task in chain:
        after = [made for rule in RULES[task] if (made := rule.apply(scene)) is not None]
        if len(after) != 1:
            return False
        scene = after[0]
    return len({kind(task) for task in chain}) == len(chain)


def start_scenes() -> list[Scene]:
    """Every scene that a chain may start from: one or two blocks on the table, no shelf with two of them."""
    scenes = [dict(zip(START_VALUES, values, strict=True)) for values in product(*START_VALUES.values())]
    return [scene for scene in scenes if is_start(scene)]


def is_start(scene: Scene) -> bool:
    """Whether it is one of `start_scenes`."""
    places = [scene[f"{block}_block"] for block in BLOCKS]
    alone = all(places.count(shelf) < 2 for shelf in SHELVES)
    known = all(scene[name] in values for name, values in START_VALUES.items())
    return known and alone and places.count("table") in (1, 2)
