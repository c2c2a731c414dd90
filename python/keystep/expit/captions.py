"""Where figures come from, in a sentence: seeds, episodes, training steps and machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keystep.expit.finished import FinishedRun, by_kind, common


def caption(runs: Sequence[FinishedRun], reports: Iterable[Mapping[str, Any]]) -> str:
    """Of figures that were played.

    Args:
        reports: as in evaluation.json, of all that the figures are made of.
    """
    reports = list(reports)
    played = dict.fromkeys(told_episodes(report) for report in reports)
    machines = dict.fromkeys(told_machine(report.get("machine") or {}) for report in reports)
    return f"{told_runs(runs)} {'; '.join(filter(None, played))}. {'; '.join(filter(None, machines))}."


def told_runs(runs: Sequence[FinishedRun]) -> str:
    """Seeds and steps of every kind of run."""
    told = []
    for kind, group in by_kind(runs).items():
        numbers = common(group)
        steps = _listed(group[0].evaluated[number].steps for number in numbers)
        several = f" to {numbers[-1]}" if len(numbers) > 1 else ""
        told.append(
            f"{kind}: seeds {_listed(run.seed for run in group)}, training steps of planner and controller, "
            f"summed, after iterations 0{several}: {steps}"
        )
    return f"{'; '.join(told)}."


def told_episodes(report: Mapping[str, Any]) -> str:
    """What was played for a report: "20 episodes a task from seed 10000000, fresh resets"."""
    settings = report["settings"]
    where = f"from seed {report['seed']}, {settings['resets']} resets"
    if "chains" in report:
        return f"{len(report['chains'])} chains of {settings['chain_length']} tasks {where}"
    counts = {task["episodes"] + task["skipped"] for task in report["tasks"]}
    return f"{' to '.join(map(str, sorted({min(counts), max(counts)})))} episodes a task {where}"


def told_machine(machine: Mapping[str, Any]) -> str:
    """Processor, cores and the commit of keystep."""
    return ", ".join(f"{name} {machine[name]}" for name in ("cpu", "cores", "commit") if machine.get(name))


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
