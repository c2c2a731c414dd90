"""keystep replies"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from keystep.commands.sight_table import print_sight
from keystep.files import check_outputs, write_json
from keystep.table_writer import print_table

COLUMNS = {
    "replies": "asked",
    "exact": "exact",
    "keysteps": "calls",
    "keystep_recall": "recall",
    "keystep_precision": "precision",
    "offset_median": "late",
    "cell_near": "cells",
}
"""Figures that are shown, and what they are called."""


def main(
    checkpoint: Annotated[Path, tyro.conf.Positional],
    dataset: tuple[Path, ...],
    episodes: Literal["held-out", "all"] = "held-out",
    every: int = 4,
    pictures: int = 8,
    device: str = "cpu",
    output: Path | None = None,
) -> None:
    """What a planner that writes code answers on demonstrations, compared with them, per task.

    Nothing is simulated: at each step it is asked as in training, with the demonstration's memory, and before
    each key-step, when it comes. Then it is asked what it sees, with each picture and without: where what is,
    and key-steps. docs/code_planner.md says what the figures are.

    Args:
        checkpoint: folder of `keystep train code-planner`.
        dataset: folders of demonstrations with code.
        episodes: held-out: those of its dataset that it was not trained on; all: of any dataset.
        every: of the steps at which a call goes on, one of so many is asked about.
        pictures: of each episode, about which it is asked what it sees; 0: it is not asked.
        device: of torch, cpu or cuda.
        output: file for all figures, as JSON.
    """
    from keystep.train.code_held_out import evaluate_code_planner

    check_outputs(output=output)
    found = evaluate_code_planner(checkpoint, dataset, episodes, every, device=device, pictures=pictures)
    if output is not None:
        write_json(output, found)
    names = sorted(found, key=lambda name: (name == "all", name))
    rows = [[name, *(_told(found[name][key]) for key in COLUMNS)] for name in names]
    print_table(["task", *COLUMNS.values()], rows, section=len(rows) - 1)
    if "sight" in found["all"]:
        print()
        print_sight(found["all"]["sight"])


def _told(figure: Any) -> str:
    if figure is None:
        return "-"
    return f"{figure:.2f}" if isinstance(figure, float) else str(figure)
