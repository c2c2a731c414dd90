"""Success and coverage of `keystep eval` and of `lerobot-eval` on the same episodes, as a Markdown table.

    python examples/pusht/compare.py keystep.json lerobot/eval_info.json

LeRobot keeps the greatest reward of an episode, which is the coverage over 0.95, at most 1. Coverage is
compared up to that limit.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from keystep.table_writer import markdown_table
from keystep.uncertainty import mean, paired_interval, standard_error, wilson_interval

SOLVED = 0.95
"""The coverage that ends an episode."""


def main(ours: Annotated[Path, tyro.conf.Positional], theirs: Annotated[Path, tyro.conf.Positional]) -> None:
    """Prints the table; an error where the episodes are not the same."""
    (task,) = json.loads(ours.read_text())["tasks"]
    (told,) = json.loads(theirs.read_text())["per_task"]
    solved = [task["solved"], told["metrics"]["successes"]]
    covered = [np.minimum(task["measured"], SOLVED), SOLVED * np.array(told["metrics"]["max_rewards"])]
    if len(solved[0]) != len(solved[1]):
        raise SystemExit(f"episodes: expected {len(solved[0])} as of {ours}, got {len(solved[1])}")
    rows = [
        [name, _share(those), _mean(values)]
        for name, those, values in zip(("keystep eval", "lerobot-eval"), solved, covered, strict=True)
    ]
    low, high = paired_interval(solved[1], solved[0])
    change = 100 * (np.mean(solved[0]) - np.mean(solved[1]))
    rows.append(
        [
            "difference",
            f"{change:+.1f} points ({100 * low:+.1f} .. {100 * high:+.1f})",
            _mean(covered[0] - covered[1]),
        ]
    )
    print(
        markdown_table(
            [f"{len(solved[0])} episodes", "success (95 %)", "greatest coverage (± std. error)"], rows
        )
    )


def _share(solved: list[bool]) -> str:
    low, high = wilson_interval(sum(solved), len(solved))
    return f"{100 * np.mean(solved):.1f} % ({100 * low:.1f} .. {100 * high:.1f})"


def _mean(values: np.ndarray) -> str:
    found = values.tolist()
    return f"{mean(found):.3f} ± {standard_error(found) or 0.0:.3f}"


if __name__ == "__main__":
    tyro.cli(main)
