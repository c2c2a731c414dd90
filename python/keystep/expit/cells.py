"""Further evaluations of a run's iterations, each kept in the run's `reports/` and played only once.

HD-ExpIt, Table 2 (any planner with any controller), Tables 3, 7 and 9, section 6.3.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keystep
from keystep.evaluate.settings import CHAIN_LENGTH, Evaluation
from keystep.expit.cell_table import Cells, CellTable
from keystep.expit.config import ExportSettings
from keystep.expit.evaluating import evaluate_into
from keystep.expit.finished import Evaluated, FinishedRun, by_kind, caption
from keystep.files import parse_json, sha256, write_json
from keystep.record.interrupts import Interrupts
from keystep.suites import suite_named
from keystep.uncertainty import mean

WAYS: dict[str, dict[str, Any]] = {
    "replanning": {"options": {"replan": True}},
    "no replanning": {"options": {"replan": False}},
    "ground truth": {"options": {"replan": False}, "changes": {"ground_truth": True, "guidance": None}},
}
"""Of Table 3: where subgoals come from."""


@dataclass(frozen=True)
class Extra:
    """How further evaluations differ from that of the run. None: as the run's.

    Attributes:
        episodes: per task, or chains.
        processes: simulators in parallel.
    """

    episodes: int | None = None
    processes: int = 1


def evaluation_like(run: FinishedRun, **changes: Any) -> Evaluation:
    """The episodes of a run's evaluations, changed."""
    settings, last = run.settings["evaluation"], run.evaluated[-1].folder.bundle
    tasks = settings["tasks"] or [task["name"] for task in keystep.read_manifest(last)["tasks"]]
    values: dict[str, Any] = {
        "episodes": settings["episodes"],
        "seed": settings["seed"],
        "guidance": settings["guidance"],
        "suite": run.settings["suite"],
        "env_kwargs": run.settings["env_kwargs"],
        "max_episode_steps": settings["max_episode_steps"],
        "fresh_resets": settings["resets"] == "fresh",
    }
    env = run.settings["env"] or suite_named(run.settings["suite"]).env_id
    return Evaluation(env, tuple(tasks), **values | changes)


def replanning_table(runs: Sequence[FinishedRun], extra: Extra) -> CellTable:
    """Every iteration with replanning, without, and led by ground-truth subgoals (Table 3, section 6.3).

    Raises:
        KeyboardInterrupt: after Ctrl-C; what was played is kept.
    """
    numbers = _common(_one_kind(runs))
    cells: Cells = {}
    for number in numbers:
        for way, settings in WAYS.items():
            reports = [_of_way(run, run.evaluated[number], way, settings, extra) for run in runs]
            cells[f"iteration {number}", way] = tuple(_rate(report) for report in reports)
    remarks = tuple(_alignment(f"iteration {number}", cells) for number in numbers)
    rows = tuple(f"iteration {number}" for number in numbers)
    return CellTable("success", rows, tuple(WAYS), cells, caption(runs), remarks=remarks)


def _of_way(
    run: FinishedRun, part: Evaluated, way: str, settings: Mapping[str, Any], extra: Extra
) -> dict[str, Any]:
    changes = dict(settings.get("changes", {})) | _episodes(extra)
    name = f"iteration-{part.number}-{way.replace(' ', '-')}"
    return _evaluated(run, name, part.folder.bundle, changes, settings["options"], extra.processes)


def _alignment(row: str, cells: Cells) -> str:
    """Section 6.3: the same controller led by its planner's plans, once each, and by ground truth."""
    planned, truth = (mean(cells[row, way]) or 0.0 for way in ("no replanning", "ground truth"))
    gain = f"{100 * (planned - truth):+.1f} points"
    return f"{row}: plans {100 * planned:.1f} %, ground truth {100 * truth:.1f} %: {gain}."


def cross_table(runs: Sequence[FinishedRun], extra: Extra) -> CellTable:
    """Planners of all iterations with controllers of all iterations (Table 2).

    Raises:
        KeyboardInterrupt: after Ctrl-C; what was played is kept.
    """
    numbers = _common(_one_kind(runs))
    cells: Cells = {}
    for planner in numbers:
        for controller in numbers:
            rates = tuple(_pair(run, planner, controller, extra) for run in runs)
            cells[f"planner {planner}", f"controller {controller}"] = rates
    rows, columns = (tuple(f"{part} {n}" for n in numbers) for part in ("planner", "controller"))
    return CellTable("success", rows, columns, cells, caption(runs))


def _pair(run: FinishedRun, planner: int, controller: int, extra: Extra) -> float:
    """Success of two networks; the bundle of a pair that no iteration has is made for the evaluation."""
    from keystep.export.bundle import export_bundle

    first, second = run.evaluated[planner].folder, run.evaluated[controller].folder
    options = {"replan": run.settings["evaluation"]["replan"]}
    with tempfile.TemporaryDirectory(prefix="keystep-curves-") as folder:
        bundle = first.bundle
        if planner != controller:
            bundle = Path(folder) / "pair.keystep"
            sampling = ExportSettings(**run.settings["export"]).options()
            export_bundle(second.controller, bundle, planner=first.planner, **sampling)
        name = f"planner-{planner}-controller-{controller}"
        return _rate(_evaluated(run, name, bundle, _episodes(extra), options, extra.processes))


def chain_table_of(runs: Sequence[FinishedRun], extra: Extra, length: int = CHAIN_LENGTH) -> CellTable:
    """Tasks in a row: the share of chains that reach 1, 2, .. and the mean length (Tables 7 and 9).

    A row for every kind of run and iteration, also of runs that collected from resets only.

    Raises:
        KeyboardInterrupt: after Ctrl-C; what was played is kept.
    """
    columns = (*(str(number) for number in range(1, length + 1)), "average length")
    cells: Cells = {}
    rows = []
    for kind, group in by_kind(runs).items():
        for number in _common(group):
            row = f"{kind}, iteration {number}"
            rows.append(row)
            reports = [_chains(run, run.evaluated[number], extra, length) for run in group]
            for place, column in enumerate(columns[:-1]):
                cells[row, column] = tuple(report["reached"][place] for report in reports)
            cells[row, columns[-1]] = tuple(report["average_length"] for report in reports)
    return CellTable("tasks in a row", tuple(rows), columns, cells, caption(runs), unit="")


def _chains(run: FinishedRun, part: Evaluated, extra: Extra, length: int) -> dict[str, Any]:
    changes = {"chain_length": length, "fresh_resets": False} | _episodes(extra)
    options = {"replan": run.settings["evaluation"]["replan"]}
    name = f"iteration-{part.number}-chains-of-{length}"
    return _evaluated(run, name, part.folder.bundle, changes, options, extra.processes)


def _evaluated(
    run: FinishedRun,
    name: str,
    bundle: Path,
    changes: Mapping[str, Any],
    options: Mapping[str, Any],
    processes: int,
) -> dict[str, Any]:
    """The report of an evaluation, from disk if it was played before with the same settings."""
    evaluation = evaluation_like(run, **changes)
    place = run.path / "reports" / f"{name}.json"
    made_of = {"bundle": sha256(bundle / "manifest.json"), "episodes": len(evaluation.jobs), **options}
    made_of |= {"settings": evaluation.describe(), "seed": evaluation.seed, "tasks": list(evaluation.tasks)}
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = parse_json(place.with_suffix(".of.json").read_bytes())
        if found == made_of:
            return dict(parse_json(place.read_bytes()))
    with Interrupts() as interrupts:
        what = f"{run.path.name} {name}"
        report = evaluate_into(
            place, bundle, evaluation, interrupts, options=options, processes=processes, what=what
        )
    if report is None:
        raise KeyboardInterrupt
    write_json(place.with_suffix(".of.json"), made_of)
    return dict(parse_json(place.read_bytes()))


def _episodes(extra: Extra) -> dict[str, Any]:
    return {} if extra.episodes is None else {"episodes": extra.episodes}


def _rate(report: Mapping[str, Any]) -> float:
    rate = report["total"]["success_rate"]
    return float("nan") if rate is None else float(rate)


def _one_kind(runs: Sequence[FinishedRun]) -> Sequence[FinishedRun]:
    """Raises ArgumentError for runs that differ in more than the seed."""
    kinds = list(by_kind(runs))
    if len(kinds) > 1:
        raise keystep.ArgumentError(f"folders: expected runs of one kind, got {' and '.join(kinds)}")
    return runs


def _common(runs: Sequence[FinishedRun]) -> range:
    """Iterations that all of them have."""
    return range(min(len(run.evaluated) for run in runs))
