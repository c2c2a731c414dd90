"""The paper's figures of the tasks, to stand beside ours.

They are not the same thing: the paper's are of a planner, a vision-language model, whose code ClevrSkills'
oracle executes in ClevrSkills' tasks; ours are of our oracle with its own programs in our tasks. So they
stand beside ours and are no mark to reach.

Sources: From Code to Action, table 2 (appendix D, 100 seeds) for 30 tasks; table 1 (64 seeds, column
VLM + Oracle) for PushToTarget, which has no number of actions.

Where the paper's mean rows disagree with its own rows of tasks: it prints 88.3 % for level 0 and 72.6 % and
5.3 actions over all levels, but the rows give 90.1 %, 72.0 % and 5.65. The other means agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True)
class PaperRow:
    """Of the paper's tables.

    Attributes:
        name: as printed there.
        level: 0, 1 or 2.
        success: percent.
        calls: average number of calls of the API; None where there is none.
    """

    name: str
    level: int
    success: float
    calls: float | None


TABLE_2: dict[str, PaperRow] = {
    "Pick": PaperRow("Pick", 0, 99, 2),
    "PlaceOnTop": PaperRow("Place on top", 0, 84, 2.4),
    "PlaceNextTo": PaperRow("Place next to", 0, 96, 2),
    "Rotate": PaperRow("Rotate", 0, 83, 3),
    "ThrowAt": PaperRow("Throw at", 0, 71, 3),
    "ThrowToTopple": PaperRow("Throw to topple", 0, 91, 3),
    "Touch": PaperRow("Touch", 0, 94, 1.9),
    "Push": PaperRow("Push", 0, 93, 2.8),
    "Topple": PaperRow("Topple", 0, 100, 2.9),
    "PickPlaceOnTop": PaperRow("Pick and place on top", 1, 79, 5.3),
    "PickPlaceNextTo": PaperRow("Pick and place next to", 1, 96, 4.2),
    "FollowOrder": PaperRow("Follow_order", 1, 83, 5.2),
    "FollowOrderRestore": PaperRow("Follow_order_and_restore", 1, 55, 8.4),
    "Neighbour": PaperRow("Neighbour", 1, 50, 7.2),
    "NovelAdjective": PaperRow("NovelAdjective", 1, 31, 4.6),
    "NovelNoun": PaperRow("NovelNoun", 1, 58, 4.1),
    "NovelNounAdjective": PaperRow("NovelNounAdjective", 1, 56, 4.2),
    "RotateRestore": PaperRow("Rotate and restore", 1, 72, 4.9),
    "RotateSymmetry": PaperRow("Rotate symmetry", 1, 58, 5.9),
    "SingleStack": PaperRow("Stack", 1, 90, 7.9),
    "ReverseStack": PaperRow("Stack in reversed order", 1, 79, 7.5),
    "SortByTexture": PaperRow("Sort by texture", 1, 41, 8.2),
    "Swap": PaperRow("Swap", 1, 84, 11.2),
    "ThrowOnto": PaperRow("Throw onto", 1, 100, 2),
    "BalanceScale": PaperRow("Balance scale", 2, 44, 10.8),
    "StackSorted": PaperRow("Stack sorted_by_texture", 2, 57, 9.5),
    "StackTopple": PaperRow("Stack and topple", 2, 81, 9.9),
    "SwapByPushing": PaperRow("Swap by pushing", 2, 7, 9.8),
    "SwapRotate": PaperRow("Swap and rotate", 2, 83, 11.3),
    "ThrowSort": PaperRow("Throw and sort", 2, 46, 4.5),
}
"""By our names of the tasks."""

PRINTED_MEANS: dict[int | None, tuple[float, float]] = {
    None: (72.6, 5.3),
    0: (88.3, 2.6),
    1: (68.8, 6.05),
    2: (53.0, 9.3),
}
"""Table 2's mean rows by level, None for all: success in percent and calls. See above for what is wrong."""

TABLE_1: dict[str, float] = {
    "PlaceNextTo": 83.1,
    "PlaceOnTop": 75.0,
    "Topple": 100,
    "Push": 91.5,
    "SingleStack": 81.5,
    "StackTopple": 71.0,
    "PushToTarget": 75.3,
    "Pick": 87.0,
    "ReverseStack": 80.0,
    "NovelNoun": 63.4,
}
"""Table 1, column VLM + Oracle: success in percent on 64 seeds, mean 80.8."""

PAPER: dict[str, PaperRow] = {**TABLE_2, "PushToTarget": PaperRow("PushToTarget", 1, 75.3, None)}
"""Both tables."""


def means(tasks: Iterable[str]) -> tuple[float, float] | None:
    """Success (percent) and calls over the rows of table 2 among some of our tasks; None without any."""
    rows = [TABLE_2[task] for task in tasks if task in TABLE_2]
    if not rows:
        return None
    return fmean(row.success for row in rows), fmean(row.calls for row in rows if row.calls is not None)
