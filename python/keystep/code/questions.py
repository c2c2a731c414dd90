"""Auxiliary questions: where objects are on the grid over the base camera's picture, with answers.

Source: From Code to Action, section 4.2, "Object detection"; the five kinds are those of ClevrSkills'
converter to LLaVA. The sixth, what is visible and where, is ours: who tells all that is seen learns to read
it, which questions about one thing hardly teach. Visible means in the picture: an object out of it is
answered like one that is not there. What hides an object is not considered, so one behind another, or under
it in a stack, counts as visible.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from keystep.code.grid import GRID, OUT_OF_VIEW, Cell, cell

Kind = Literal["where", "what", "is_at", "visible", "count", "scene"]
KINDS: tuple[Kind, ...] = ("where", "what", "is_at", "visible", "count")
SCENE: Kind = "scene"


@dataclass(frozen=True)
class Question:
    """One question about a picture and its answer."""

    kind: Kind
    question: str
    answer: str


def questions(
    names: Sequence[str],
    boxes: np.ndarray,
    rng: np.random.Generator,
    all_names: Sequence[str],
    grid: int = GRID,
) -> list[Question]:
    """Questions of all five kinds about one picture, and last two about the scene.

    They are answered with all there is and where: by name, so that each thing has to be looked for, and row
    by row, nearly as image tokens come, which is learned first.

    Every kind of the five asks about every name, or place of an object in view, once, and about one fake: a
    name of `all_names` that no object has, or a place further than a third of the grid from every object. A
    fake that does not exist is left out. "is_at" asks at every place for the names that are there and for
    another one.

    Args:
        names: of the N objects; may repeat.
        boxes: (N, 4), see `keystep.code.grid.cell`.
        rng: chooses fakes.
        all_names: whatever an object may be called.
        grid: in whose cells places are told.
    """
    if np.shape(boxes) != (len(names), 4):
        raise ValueError(f"boxes: expected shape ({len(names)}, 4), got {np.shape(boxes)}")
    scene = _Scene(tuple(names), tuple(cell(box, grid) for box in boxes), grid)
    things = list(zip(scene.names, scene.cells, strict=True))
    fakes = sorted(set(all_names) - set(names))

    def asked() -> list[str]:
        return [*dict.fromkeys(names), *_some(fakes, rng)]

    def places() -> list[Cell]:
        return [*scene.places(), *_some(scene.empty_places(), rng)]

    return [
        *(Question("where", f"Where is the {name}?", _where(scene, name)) for name in asked()),
        *(Question("what", f"What is at {place}?", _what(scene, place)) for place in places()),
        *_is_at_questions(scene, asked(), places(), rng),
        *(Question("visible", f"Is {_a(name)} visible?", _visible(scene, name)) for name in asked()),
        *(
            Question("count", f"How many {_plural(name)} are visible?", _count(scene, name))
            for name in asked()
        ),
        Question(SCENE, "What is visible?", _all(sorted(things))),
        Question(
            SCENE, "What is visible in order?", _all(sorted(things, key=lambda one: (one[1][::-1], one[0])))
        ),
    ]


@dataclass(frozen=True)
class _Scene:
    names: tuple[str, ...]
    cells: tuple[Cell, ...]
    grid: int

    def of(self, name: str) -> list[Cell]:
        """Where objects of this name are seen, from left to right; one entry per object."""
        found = zip(self.names, self.cells, strict=True)
        return sorted(place for other, place in found if other == name and place != OUT_OF_VIEW)

    def at(self, place: Cell) -> Counter[str]:
        """How many of which name are there."""
        found = zip(self.names, self.cells, strict=True)
        return Counter(name for name, other in found if other == place)

    def places(self) -> list[Cell]:
        return [place for place in dict.fromkeys(self.cells) if place != OUT_OF_VIEW]

    def empty_places(self) -> list[Cell]:
        """Cells inside the grid that are further than a third of it from every object in view."""
        grid = [(column, row) for row in range(self.grid) for column in range(self.grid)]
        taken = np.array(self.places()).reshape(-1, 1, 2)
        distances = np.linalg.norm(np.array(grid) - taken, axis=2)
        empty = (distances > self.grid / 3).all(axis=0)
        return [place for place, free in zip(grid, empty, strict=True) if free]


def _some(candidates: Sequence, rng: np.random.Generator) -> list:
    """One of them, when there is any."""
    return [candidates[int(rng.integers(len(candidates)))]] if candidates else []


def _is_at_questions(
    scene: _Scene, names: list[str], places: list[Cell], rng: np.random.Generator
) -> Iterator[Question]:
    for place in places:
        here = list(scene.at(place))
        for name in here + _some([name for name in names if name not in here], rng):
            yield Question("is_at", f"Is {_a(name)} at {place}?", _is_at(scene, name, place))


def _where(scene: _Scene, name: str) -> str:
    places = scene.of(name)
    if not places:
        return f"No {name} is visible."
    if len(places) == 1:
        return f"The {name} is at {places[0]}."
    return f"The {len(places)} {_plural(name)} are at {_list([str(place) for place in places])}."


def _what(scene: _Scene, place: Cell) -> str:
    here = scene.at(place)
    if not here:
        return f"Nothing is at {place}."
    verb = "is" if here.total() == 1 else "are"
    return f"{_capital(_things(here))} {verb} at {place}."


def _is_at(scene: _Scene, name: str, place: Cell) -> str:
    here = scene.at(place)
    if name in here:
        return f"Yes, {_things(Counter({name: here[name]}))} {'is' if here[name] == 1 else 'are'} at {place}."
    if not here:
        return f"No, nothing is at {place}."
    return f"No, {_things(here)} {'is' if here.total() == 1 else 'are'} at {place}."


def _visible(scene: _Scene, name: str) -> str:
    if not scene.of(name):
        return f"No, no {name} is visible."
    count = len(scene.of(name))
    return f"Yes, {_things(Counter({name: count}))} {'is' if count == 1 else 'are'} visible."


def _count(scene: _Scene, name: str) -> str:
    count = len(scene.of(name))
    if count == 1:
        return f"1 {name} is visible."
    return f"{count or 'No'} {_plural(name)} are visible."


def _all(things: Sequence[tuple[str, Cell]]) -> str:
    """Objects and where they are, as they come."""
    told = [f"{_a(name)} is at {place}" for name, place in things if place != OUT_OF_VIEW]
    return f"{_capital(_list(told) if told else 'nothing is visible')}."


def _things(counts: Counter[str]) -> str:
    return _list([_a(name) if count == 1 else f"{count} {_plural(name)}" for name, count in counts.items()])


def _a(name: str) -> str:
    """With its article; "u" mostly starts as in "unit"."""
    return f"an {name}" if name[:1].lower() in "aeio" else f"a {name}"


def _plural(name: str) -> str:
    return f"{name}es" if name.endswith(("s", "x", "sh", "ch")) else f"{name}s"


def _list(parts: Sequence[str]) -> str:
    """a; a and b; a, b and c."""
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
