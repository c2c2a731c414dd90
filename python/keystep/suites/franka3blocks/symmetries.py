"""The cubes differ in colour only: scenes with colours exchanged are equally likely, and equally solved."""

from __future__ import annotations

from itertools import permutations

from keystep.suites.base import Symmetry
from keystep.suites.franka3blocks.layout import CUBE_POSITIONS, CUBES, STATE_NAMES
from keystep.suites.franka3blocks.tasks import TASKS


def _exchanged(colours: tuple[str, ...]) -> Symmetry:
    """Cube k, of colour `CUBES[k]`, gets the colour `colours[k]`."""
    renamed = dict(zip(CUBES, colours, strict=True))
    tasks = {task: "_".join(renamed.get(word, word) for word in task.split("_")) for task in TASKS}
    columns = list(range(len(STATE_NAMES)))
    first = CUBE_POSITIONS.start
    for old, colour in enumerate(colours):
        new = CUBES.index(colour)
        columns[first + 3 * new : first + 3 * new + 3] = range(first + 3 * old, first + 3 * old + 3)
    return Symmetry(tasks, {"observation.state": tuple(columns)})


SYMMETRIES = tuple(_exchanged(colours) for colours in permutations(CUBES))
