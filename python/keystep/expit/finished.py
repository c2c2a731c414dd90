"""Runs as their folders tell them: what curves and tables are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keystep
from keystep.expit.folder import Iteration, iterations, read_run
from keystep.files import parse_json


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

    def of_family(self, name: str) -> list[float]:
        """Success of the tasks of a family, `lift` for example."""
        tasks = [task for task in self.result["tasks"] if task["name"].partition("_")[0] == name]
        return [float(task["success_rate"]) for task in tasks]


class FinishedRun:
    """What of a run is evaluated.

    Attributes:
        kind: "standard", "ft" or "act-ft" ..: what is averaged over seeds.

    Raises:
        DatasetError: the folder is of no run.
        ArgumentError: no iteration is evaluated yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings: dict[str, Any] = read_run(path)["settings"]
        mode, controller = self.settings["mode"], self.settings["controller"]["kind"]
        reset_only = not self.settings["rollouts"].get("replayed_per_task", 1)
        act = "act-" if controller == "act" else ""
        self.kind = f"{act}{mode}{' (resets only)' if reset_only else ''}"
        self.seed: int = self.settings["seed"]
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

    @property
    def families(self) -> list[str]:
        """In the order of the tasks."""
        tasks = self.evaluated[0].result["tasks"]
        return list(dict.fromkeys(task["name"].partition("_")[0] for task in tasks))


def open_runs(paths: Sequence[Path]) -> list[FinishedRun]:
    """Of these folders, evaluated on the same episodes.

    Raises:
        ArgumentError: none, one twice, two of one kind and seed, or evaluations that differ: which setting.
    """
    if not paths:
        raise keystep.ArgumentError("folders: expected at least one, got none")
    runs = [FinishedRun(path) for path in paths]
    seen: dict[tuple[str, int], Path] = {}
    for run in runs:
        if (run.kind, run.seed) in seen:
            got = f"{seen[run.kind, run.seed]} and {run.path}, both {run.kind} of seed {run.seed}"
            raise keystep.ArgumentError(f"folders: expected runs that differ in mode or seed, got {got}")
        seen[run.kind, run.seed] = run.path
        first, own = runs[0].settings["evaluation"], run.settings["evaluation"]
        for name, value in first.items():
            if own.get(name) != value:
                got = f"{own.get(name)!r} in {run.path}"
                raise keystep.ArgumentError(f"evaluation.{name}: expected {value!r} in all runs, got {got}")
    return runs


def by_kind(runs: Sequence[FinishedRun]) -> dict[str, list[FinishedRun]]:
    """Runs that differ in the seed only."""
    found: dict[str, list[FinishedRun]] = {}
    for run in runs:
        found.setdefault(run.kind, []).append(run)
    return found


def caption(runs: Sequence[FinishedRun]) -> str:
    """Where the figures come from, in a sentence: seeds, episodes, steps and machine."""
    told = []
    for kind, group in by_kind(runs).items():
        seeds, steps = _listed(run.seed for run in group), _listed(part.steps for part in group[0].evaluated)
        told.append(f"{kind}: seeds {seeds}, training steps of planner and controller, summed, {steps}")
    machine = runs[0].evaluated[0].result["machine"]
    where = "; ".join(f"{name} {machine[name]}" for name in ("cpu", "commit") if machine.get(name))
    settings = runs[0].settings["evaluation"]
    episodes = f"{settings['episodes']} episodes a task from seed {settings['seed']}"
    return f"{'; '.join(told)}. {episodes}, {settings['resets']} resets. {where}."


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
