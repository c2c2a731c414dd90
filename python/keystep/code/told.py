"""A scene told in the words of image tokens: what a planner that finds objects would be shown of it.

`keystep.models.code_planner.finding.FoundTokens` makes of each object the embeddings of its name's words, its
column and its row. So the same words as text stand for a picture, and programs without a simulation come with
their scenes. A detector errs; a reader that never saw it err would trust it too much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keystep.code.grid import OUT_OF_VIEW, cell

MISSED, MISREAD, BESIDE = 0.08, 0.2, 0.08
"""Of objects: not told; told as another of the same first word (of a block: its colour); a column or a row
beside its own. Near what the detector of three core-hours does."""


@dataclass(frozen=True)
class SceneWords:
    """How a planner is told what is where.

    Attributes:
        names: ids of each one's words.
        numbers: the ids of 0, 1, .. up to the grid.
        cells: (rows, columns) of the map in which objects are found: one object in each, told row by row.
        objects: most of them.
        pad: id that stands where there is none, and fills up names.
    """

    names: Mapping[str, tuple[int, ...]]
    numbers: tuple[int, ...]
    cells: tuple[int, int]
    objects: int
    pad: int

    def tell(self, names: Sequence[str], boxes: np.ndarray, rng: np.random.Generator | None) -> list[int]:
        """Ids in the places of a picture's tokens.

        Args:
            names: of the N objects, all among the known ones, else KeyError.
            boxes: (N, 4), see `keystep.code.grid.cell`.
            rng: draws errors; None: all is told as it is.
        """
        each = max(map(len, self.names.values()))
        found = self._found(names, boxes)
        if rng is not None:
            found = [self._erring(*one, rng) for one in found if rng.random() >= MISSED]
        told = []
        for name, place in found[: self.objects]:
            words = self.names[name]
            told += [*words, *[self.pad] * (each - len(words)), *(self.numbers[number] for number in place)]
        return told + [self.pad] * ((each + 2) * self.objects - len(told))

    def _found(self, names: Sequence[str], boxes: np.ndarray) -> list[tuple[str, tuple[int, int]]]:
        """Of those in view what is in which cell, in the order of the map; of several in one the last."""
        rows, columns = self.cells
        found = {}
        for name, box in zip(names, boxes, strict=True):
            place = cell(box, len(self.numbers) - 1)
            if place != OUT_OF_VIEW:
                right, down = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
                at = (min(int(down * rows), rows - 1), min(int(right * columns), columns - 1))
                found[at] = (name, place)
        return [found[at] for at in sorted(found)]

    def _erring(
        self, name: str, place: tuple[int, int], rng: np.random.Generator
    ) -> tuple[str, tuple[int, int]]:
        if rng.random() < MISREAD:
            alike = [other for other, ids in self.names.items() if ids[0] == self.names[name][0]]
            name = alike[int(rng.integers(len(alike)))]
        off = rng.choice((-1, 0, 1), size=2, p=(BESIDE / 2, 1 - BESIDE, BESIDE / 2))
        column, row = np.clip(np.array(place) + off, 0, len(self.numbers) - 1).tolist()
        return name, (column, row)
