"""Runs as their folders tell them: what curves and tables are made of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keystep
from keystep.expit.comparable import require_equal
from keystep.expit.folder import RUN, Iteration, iterations, read_run
from keystep.files import parse_json
from keystep.suites import suite_named
from keystep.suites.base import families


@dataclass(frozen=True)
class Evaluated:
    """One iteration of a run.

    Attributes:
        steps: optimiser steps of planner and controller so far, all iterations up to this one.
        result: evaluation.json.
    """

    number: int
    folder: Iteration
    steps: int
    result: dict[str, Any]

    @property
    def success(self) -> float:
        """Mean over tasks."""
        return float(self.result["total"]["success_rate"])

    @property
    def weights(self) -> tuple[str, str]:
        """Digests of planner and controller."""
        done = self.folder.done
        return done["planner"]["weights_sha256"], done["controller"]["weights_sha256"]


class FinishedRun:
    """What of a run is evaluated.

    Attributes:
        settings: of expit.json.
        dataset: digest of D0.
        kind: "standard", "ft" or "act-ft" ..: what is averaged over seeds.
        budget: training steps of iteration 0, planner and controller together (N_0).

    Raises:
        DatasetError: the folder is of no run.
        ArgumentError: no iteration is evaluated yet.
    """

    def __init__(self, path: Path) -> None:
        stored = read_run(path)
        self.path = path
        self.settings: dict[str, Any] = stored["settings"]
        self.dataset: str | None = stored.get("dataset_sha256")
        self.act: bool = self.settings["controller"]["kind"] == "act"
        self.resets_only = not self.settings["rollouts"].get("replayed_per_task", 1)
        mode = self.settings["mode"]
        self.kind = f"{'act-' * self.act}{mode}{' (resets only)' * self.resets_only}"
        self.seed: int = self.settings["seed"]
        self.budget: int = sum(
            self.settings[network]["training"]["steps"] for network in ("planner", "controller")
        )
        self.evaluated: list[Evaluated] = []
        steps = 0
        for iteration in iterations(path):
            if "evaluation" not in iteration.done:
                break
            steps += sum(iteration.done[network]["steps"] for network in ("planner", "controller"))
            result = parse_json((iteration.path / "evaluation.json").read_bytes())
            self.evaluated.append(Evaluated(iteration.number, iteration, steps, result))
        if not self.evaluated:
            raise keystep.ArgumentError(f"folders: expected runs with an iteration evaluated, got {path}")

    def named(self, number: int) -> str:
        """An iteration as the paper's tables call it: "HD-ExpIt-ft (iter 1)"."""
        act = "ACT-" * self.act
        if not number:
            return f"HD{act[:-1] and '-ACT'} (iter 0)"
        mode = "-ft" if self.settings["mode"] == "ft" else ""
        return f"HD-{act}ExpIt{mode}{' (reset only)' * self.resets_only} (iter {number})"

    @property
    def families(self) -> dict[str, list[str]]:
        """Of the tasks that are evaluated, in their order."""
        known = families(suite_named(self.settings["suite"]))
        found: dict[str, list[str]] = {}
        for task in self.evaluated[0].result["tasks"]:
            name = task["name"]
            found.setdefault(known.get(name, name.partition("_")[0]), []).append(name)
        return found


def open_runs(paths: Sequence[Path], budget: int | None = None) -> list[FinishedRun]:
    """Of these folders: runs that can be compared, evaluated on the same episodes.

    Args:
        paths: of runs, or of folders with runs in them, of which those with an iteration evaluated are taken.
        budget: N_0 of the runs: those in a folder that have another are left out.

    Raises:
        ArgumentError: none, one twice, two of one kind and seed, a run of another budget, or settings that
            differ: which one.
        DatasetError: a folder without runs.
    """
    if not paths:
        raise keystep.ArgumentError("folders: expected at least one, got none")
    runs = [run for path in paths for run in _opened(path, budget)]
    budgets = sorted({run.budget for run in runs})
    if len(budgets) > 1:
        known = " or ".join(map(str, budgets))
        raise keystep.ArgumentError(f"budget: expected {known}, as the runs have different ones, got none")
    seen: dict[tuple[str, int], Path] = {}
    for run in runs:
        if (run.kind, run.seed) in seen:
            got = f"{seen[run.kind, run.seed]} and {run.path}, both {run.kind} of seed {run.seed}"
            raise keystep.ArgumentError(f"folders: expected runs that differ in mode or seed, got {got}")
        seen[run.kind, run.seed] = run.path
    for one, other in itertools.combinations(runs, 2):
        require_equal(one, other)
    return runs


def _opened(path: Path, budget: int | None) -> list[FinishedRun]:
    """The run of a folder, or the runs in it."""
    inside = [] if (path / RUN).exists() else sorted(part.parent for part in path.glob(f"*/{RUN}"))
    if not inside:
        run = FinishedRun(path)
        if budget not in (None, run.budget):
            raise keystep.ArgumentError(
                f"budget: expected {run.budget}, the training steps of iteration 0 of {path}, got {budget}"
            )
        return [run]
    runs = [FinishedRun(part) for part in inside if "evaluation" in Iteration(part, 0).done]
    if not runs:
        raise keystep.ArgumentError(f"folders: expected runs with an iteration evaluated, got {path}")
    chosen = [run for run in runs if budget in (None, run.budget)]
    if not chosen:
        known = " or ".join(str(number) for number in sorted({run.budget for run in runs}))
        raise keystep.ArgumentError(f"budget: expected {known}, as the runs in {path}, got {budget}")
    return chosen


def by_kind(runs: Sequence[FinishedRun]) -> dict[str, list[FinishedRun]]:
    """Runs that differ in the seed only."""
    found: dict[str, list[FinishedRun]] = {}
    for run in runs:
        found.setdefault(run.kind, []).append(run)
    return found


def common(runs: Sequence[FinishedRun]) -> range:
    """Iterations that all of them have."""
    return range(min(len(run.evaluated) for run in runs))


Rows = dict[str, list[tuple[FinishedRun, Evaluated]]]


def rows_of(runs: Sequence[FinishedRun], chosen: Sequence[int] = ()) -> Rows:
    """The runs' iterations as the rows of the paper's tables, a value for every seed.

    Runs that began with the same weights share their iteration 0.

    Args:
        chosen: iterations; all when empty.

    Raises:
        ArgumentError: one that no run has.
    """
    rows: Rows = {}
    for group in by_kind(runs).values():
        for number in common(group):
            if chosen and number not in chosen:
                continue
            for run in group:
                parts = rows.setdefault(run.named(number), [])
                if all(other.weights != run.evaluated[number].weights for _, other in parts):
                    parts.append((run, run.evaluated[number]))
    for number in chosen:
        if all(number not in common(group) for group in by_kind(runs).values()):
            last = max(common(group)[-1] for group in by_kind(runs).values())
            raise keystep.ArgumentError(f"iterations: expected some of 0 to {last}, got {number}")
    first = [row for row, parts in rows.items() if not parts[0][1].number]
    return {row: rows[row] for row in (*first, *(row for row in rows if row not in first))}
