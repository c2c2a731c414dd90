"""What best of N plans gains: success of one plan, of the medoid of N, and of the learned choice of N.

    python -m benchmarks.best_of_n --bundle bundles/franka3blocks-state.keystep --processes 2

Every way plays the same episodes (fresh resets, which nothing was trained or tuned on), and the first of
N plans has the noise of the single one, so differences are of pairs. What is played is kept beside the
result: the same command goes on with the next episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import keystep
from benchmarks.harness import write_result
from benchmarks.machine import REPOSITORY, describe_run
from keystep.evaluate.settings import Evaluation
from keystep.expit.evaluating import Journal, evaluate_into
from keystep.files import parse_json
from keystep.record.best_of_n import has_scorer
from keystep.record.interrupts import Interrupts
from keystep.suites import suite_named
from keystep.table_writer import markdown_table
from keystep.uncertainty import Z_95, wilson_interval

SHIPPED = REPOSITORY / "bundles" / "franka3blocks-state.keystep"


@dataclass(frozen=True)
class Options:
    bundle: Path = SHIPPED
    """With a planner; `learned` is played where it has a scorer."""
    candidates: int = 16
    """N."""
    tasks: tuple[str, ...] = ()
    """All of the bundle when empty."""
    episodes: int = 100
    """Per task."""
    seed: int = 30_000_000
    """Of the first reset: other episodes than `keystep eval` and `keystep expit` play by default."""
    guidance: float | None = None
    """Of the planner; as the bundle says when not given."""
    max_episode_steps: int | None = None
    """The environment's own limit when not given; 65 with --no-replan is a trial of a collection."""
    replan: bool = True
    """Plan again when a plan is used up."""
    suite: str = "franka3blocks"
    """The simulated world."""
    env: str = ""
    """Gymnasium environment; the suite's when empty."""
    processes: int = 1
    """Simulators run in parallel."""
    output: Path = REPOSITORY / "benchmarks" / "results" / "best_of_n.json"
    """The JSON result; a Markdown report is written beside it, and the episodes in a folder of its name."""


def main(options: Options) -> None:
    """Plays what is missing and writes the result."""
    describe_run()
    manifest = keystep.read_manifest(options.bundle)
    tasks = options.tasks or tuple(task["name"] for task in manifest["tasks"])
    evaluation = Evaluation(
        options.env or suite_named(options.suite).env_id,
        tasks,
        options.episodes,
        options.seed,
        guidance=options.guidance,
        suite=options.suite,
        max_episode_steps=options.max_episode_steps,
        fresh_resets=True,
    )
    solved = {name: played(name, more, evaluation, options) for name, more in ways(options).items()}
    settings = {**asdict(options), "bundle": options.bundle.name, "output": options.output.name}
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}
    rows = [row(name, values, solved["one plan"]) for name, values in solved.items()]
    report = table(rows, tasks)
    print(report)
    write_result(options.output, "best_of_n", settings, {"rows": rows}, report)


def ways(options: Options) -> dict[str, dict[str, Any]]:
    """By name what `keystep.load` is told."""
    several = {"planner_candidates": options.candidates}
    found: dict[str, dict[str, Any]] = {
        "one plan": {},
        f"medoid of {options.candidates}": several | {"planner_score": "density"},
    }
    if has_scorer(keystep.read_manifest(options.bundle)):
        found[f"learned choice of {options.candidates}"] = several | {"planner_score": "learned"}
    return found


def played(
    name: str, more: dict[str, Any], evaluation: Evaluation, options: Options
) -> dict[str, list[bool]]:
    """By task whether each episode was solved, in the order of the resets."""
    place = options.output.with_suffix("") / f"{name.replace(' ', '-')}.json"
    with Interrupts() as interrupts:
        report = evaluate_into(
            place,
            options.bundle,
            evaluation,
            interrupts,
            options={"replan": options.replan, **more},
            processes=options.processes,
            what=name,
        )
    if report is None:
        raise SystemExit("stopped; run again to go on")
    lines = place.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
    results = Journal(place.with_suffix(".jsonl"), parse_json(lines[0])).results
    found: dict[str, dict[int, bool]] = {task: {} for task in evaluation.tasks}
    for result in results:
        found[result.job.tasks[0]][result.episode] = result.success
    return {task: [outcome[episode] for episode in sorted(outcome)] for task, outcome in found.items()}


def row(name: str, solved: dict[str, list[bool]], plain: dict[str, list[bool]]) -> dict[str, Any]:
    """Success of one way, and its gain on one plan."""
    every = [outcome for outcomes in solved.values() for outcome in outcomes]
    low, high = wilson_interval(sum(every), len(every))
    return {
        "way": name,
        "episodes": len(every),
        "success": sum(every) / len(every),
        "interval": [low, high],
        "gain": gain(every, [outcome for outcomes in plain.values() for outcome in outcomes]),
        "tasks": {task: sum(outcomes) / len(outcomes) for task, outcomes in solved.items()},
    }


def gain(ours: Sequence[bool], plain: Sequence[bool]) -> dict[str, float]:
    """Mean difference of equal episodes, and the half width of its 95 % interval (normal, of pairs)."""
    pairs = np.asarray(ours, np.float64) - np.asarray(plain, np.float64)
    error = float(pairs.std(ddof=1) / np.sqrt(len(pairs))) if len(pairs) > 1 else float("nan")
    return {"mean": float(pairs.mean()), "half_width": Z_95 * error}


def table(rows: Sequence[dict[str, Any]], tasks: Sequence[str]) -> str:
    header = ["", "episodes", "success [95 %]", "gain on one plan, points [95 %]", *tasks]
    cells = []
    for found in rows:
        low, high = (100 * end for end in found["interval"])
        points, half = 100 * found["gain"]["mean"], 100 * found["gain"]["half_width"]
        more = (
            ""
            if found["way"] == "one plan"
            else f"{points:+.1f} [{points - half:+.1f}, {points + half:+.1f}]"
        )
        success = f"{100 * found['success']:.1f} % [{low:.1f}, {high:.1f}]"
        each = [f"{100 * found['tasks'][task]:.0f} %" for task in tasks]
        cells.append([found["way"], str(found["episodes"]), success, more, *each])
    return f"{markdown_table(header, cells)}\n"


if __name__ == "__main__":
    main(tyro.cli(Options))
