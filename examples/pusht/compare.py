"""Success and coverage of `keystep eval` and of `lerobot-eval` on the same episodes, as a Markdown table.

    python examples/pusht/compare.py keystep.json lerobot/eval_info.json

LeRobot keeps the greatest reward of an episode, which is the coverage over 0.95, at most 1. Coverage is
compared up to that limit. Its file does not say the seeds: that they are ours is for the caller to see to.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from keystep.table_writer import markdown_table
from keystep.uncertainty import mean, paired_interval, standard_error, wilson_interval

SOLVED = 0.95
"""The coverage that ends an episode."""
Episodes = tuple[list[bool], np.ndarray]
"""Whether each was solved, and the greatest coverage of each."""


def main(ours: Annotated[Path, tyro.conf.Positional], theirs: Annotated[Path, tyro.conf.Positional]) -> None:
    """Prints the table; an error in one line where a file is another, or the episodes are not as many."""
    (solved, covered), (their_solved, their_covered) = read(ours, of_keystep), read(theirs, of_lerobot)
    if len(solved) != len(their_solved):
        raise SystemExit(f"{theirs}: expected {len(solved)} episodes as in {ours}, got {len(their_solved)}")
    low, high = paired_interval(their_solved, solved)
    change = 100 * (np.mean(solved) - np.mean(their_solved))
    rows = [
        ["keystep eval", _share(solved), _mean(covered)],
        ["lerobot-eval", _share(their_solved), _mean(their_covered)],
        [
            "difference",
            f"{change:+.1f} points ({100 * low:+.1f} .. {100 * high:+.1f})",
            _mean(covered - their_covered),
        ],
    ]
    header = [f"{len(solved)} episodes", "success (95 %)", "greatest coverage (± std. error)"]
    print(markdown_table(header, rows))


def read(path: Path, episodes: Callable[[Any], Episodes]) -> Episodes:
    """What a result file says of its episodes; SystemExit, one line, where it does not."""
    try:
        solved, covered = episodes(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise SystemExit(f"{path}: expected {episodes.__doc__}, got {what}") from None
    known = int(np.isfinite(covered).sum())
    if not solved or not len(solved) == len(covered) == known:
        raise SystemExit(f"{path}: expected a coverage of each of {len(solved)} episodes, got {known}")
    return solved, covered


def of_keystep(found: dict[str, Any]) -> Episodes:
    """one task of `keystep eval --measure coverage`"""
    if (measure := found["settings"]["measure"]) != "coverage":
        raise ValueError(f"measure {measure}")
    (task,) = found["tasks"]
    return task["solved"], np.minimum(np.array(task["measured"], float), SOLVED)


def of_lerobot(found: dict[str, Any]) -> Episodes:
    """one task of `lerobot-eval`"""
    (task,) = found["per_task"]
    metrics = task["metrics"]
    return metrics["successes"], SOLVED * np.array(metrics["max_rewards"], float)


def _share(solved: list[bool]) -> str:
    low, high = wilson_interval(sum(solved), len(solved))
    return f"{100 * np.mean(solved):.1f} % ({100 * low:.1f} .. {100 * high:.1f})"


def _mean(values: np.ndarray) -> str:
    found = values.tolist()
    return f"{mean(found):.3f} ± {standard_error(found) or 0.0:.3f}"


if __name__ == "__main__":
    tyro.cli(main)
