"""Tables of further evaluations: HD-ExpIt, Tables 2, 3, 7 and 9, section 6.3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keystep
from keystep.evaluate.settings import CHAIN_LENGTH
from keystep.expit.captions import caption
from keystep.expit.cell_table import SEEDS, Cells, CellTable
from keystep.expit.finished import Evaluated, FinishedRun, Rows, rows_of
from keystep.expit.played import CellOf, Extra, PlayedReport, of_iteration, of_pair, played
from keystep.uncertainty import clustered_error, mean

REPLANNING, ONCE, TRUTH = "replanning", "no replanning", "ground truth"
WAYS: dict[str, dict[str, Any]] = {
    REPLANNING: {"options": {"replan": True}},
    ONCE: {"options": {"replan": False}},
    TRUTH: {"options": {"replan": False}, "changes": {"ground_truth": True, "guidance": None}},
}
"""Of Table 3: where subgoals come from."""
LENGTH = "average length"


def replanning_table(runs: Sequence[FinishedRun], extra: Extra) -> CellTable:
    """Every iteration with replanning, without, and led by ground-truth subgoals (Table 3).

    Ground truth is of the episodes that the expert solves; their number is told.

    Raises:
        KeyboardInterrupt: after Ctrl-C; what was played is kept.
    """
    cells: Cells = {}
    reports: list[PlayedReport] = []
    remarks = []
    rows = rows_of(runs, extra.iterations)
    for row, parts in rows.items():
        for way in WAYS:
            found = [_of_way(run, part, way, extra) for run, part in parts]
            cells[row, way] = _rates(found)
            reports += found
            if way == TRUTH and (skipped := sum(result.skipped for one in found for result in one.results)):
                count = sum(len(one.results) for one in found)
                remarks.append(f"{row}: ground truth for {count - skipped} of {count} episodes.")
    told = caption(runs, [one.report for one in reports])
    return CellTable("success", tuple(rows), tuple(WAYS), cells, told, remarks=tuple(remarks))


def _of_way(run: FinishedRun, part: Evaluated, way: str, extra: Extra) -> PlayedReport:
    name = f"iteration-{part.number}-{way.replace(' ', '-')}"
    return played(CellOf(run, name, of_iteration(part), **WAYS[way]), extra)


def alignment_table(runs: Sequence[FinishedRun], extra: Extra) -> CellTable:
    """The same controller led by its planner's plans, once each, and by ground truth (section 6.3).

    Both on the episodes that have a demonstration. The standard error of a single seed is over its episodes.

    Raises:
        KeyboardInterrupt: after Ctrl-C; what was played is kept.
    """
    columns = ("plans", TRUTH, "difference")
    cells: Cells = {}
    errors: dict[tuple[str, str], float | None] = {}
    reports: list[dict[str, Any]] = []
    rows, remarks = rows_of(runs, extra.iterations), []
    single = all(len(parts) == 1 for parts in rows.values())
    for row, parts in rows.items():
        pairs = [(_of_way(run, part, ONCE, extra), _of_way(run, part, TRUTH, extra)) for run, part in parts]
        compared = [_paired(plans, truth) for plans, truth in pairs]
        reports += [one.report for pair in pairs for one in pair]
        for place, column in enumerate(columns):
            groups = [[_column(task, place) for task in tasks] for tasks in compared]
            means = [mean([mean(list(task.values())) or 0.0 for task in tasks]) for tasks in groups if tasks]
            cells[row, column] = tuple(value for value in means if value is not None)
            if single and groups[0]:
                errors[row, column] = clustered_error(groups[0])
        count = sum(len(task) for tasks in compared for task in tasks)
        remarks.append(f"{row}: {count} of {sum(len(one.results) for _, one in pairs)} episodes.")
    over = "the episodes" if single else SEEDS
    return CellTable(
        "success, replanning off",
        tuple(rows),
        columns,
        cells,
        caption(runs, reports),
        remarks=tuple(remarks),
        over=over,
        errors=errors,
        signed=(columns[-1],),
    )


Paired = dict[int, tuple[float, float]]
"""Success with plans and with ground truth, by the seed of the reset."""


def _paired(plans: PlayedReport, truth: PlayedReport) -> list[Paired]:
    """Task by task, the episodes that both have."""
    known = {result.job: result.success for result in plans.results}
    found: dict[str, Paired] = {}
    for result in truth.results:
        if not result.skipped and result.job in known:
            seed = truth.evaluation.reset_seed(result.job)
            pair = (float(known[result.job]), float(result.success))
            found.setdefault(result.job.tasks[0], {})[seed] = pair
    return list(found.values())


def _column(task: Paired, place: int) -> dict[int, float]:
    return {seed: (*pair, pair[0] - pair[1])[place] for seed, pair in task.items()}


def cross_table(runs: Sequence[FinishedRun], extra: Extra, length: int = 1) -> CellTable:
    """Planners of all iterations with controllers of all iterations, also of different kinds (Table 2).

    Of several kinds of runs the seeds that all of them have are paired.

    Args:
        length: tasks in a row; 1: success of single tasks.

    Raises:
        ArgumentError: the kinds have no seed in common.
        KeyboardInterrupt: after Ctrl-C; what was played is kept.
    """
    shared = set.intersection(*({r.seed for r in runs if r.kind == kind} for kind in {r.kind for r in runs}))
    if not shared:
        told = ", ".join(f"{run.seed} of {run.kind}" for run in runs)
        raise keystep.ArgumentError(f"folders: expected a seed that all kinds of runs have, got {told}")
    chosen = [run for run in runs if run.seed in shared]
    rows = {name: _by_seed(parts) for name, parts in rows_of(chosen, extra.iterations).items()}
    changes = {} if length == 1 else {"chain_length": length, "fresh_resets": False}
    cells: Cells = {}
    reports = []
    for low, controllers in rows.items():
        for high, planners in rows.items():
            found = []
            for seed in sorted(controllers.keys() & planners.keys()):
                run, controller = controllers[seed]
                name = f"planner-of-{planners[seed][0].path.name}-{planners[seed][1].number}"
                source = of_pair(planners[seed][1], controller, run.settings["export"])
                cell = CellOf(run, f"{name}-controller-{controller.number}", source, changes)
                found.append(played(cell, extra))
            cells[low, high] = _rates(found)
            reports += [one.report for one in found]
    names, told = tuple(rows), caption(chosen, reports)
    remark = ("Controllers down, planners across.",)
    if length == 1:
        return CellTable("success", names, names, cells, told, remarks=remark)
    return CellTable(LENGTH, names, names, cells, told, lengths=names, remarks=remark)


def _by_seed(parts: Sequence[tuple[FinishedRun, Evaluated]]) -> dict[int, tuple[FinishedRun, Evaluated]]:
    return {run.seed: (run, part) for run, part in parts}


def chain_table_of(
    runs: Sequence[FinishedRun], extra: Extra, length: int = CHAIN_LENGTH, multiples: bool = False
) -> CellTable:
    """Tasks in a row: the share of chains that reach 1, 2, .. and the mean length (Table 7).

    Args:
        multiples: also tell each as a multiple of iteration 0 (Table 9).

    Raises:
        KeyboardInterrupt: after Ctrl-C; what was played is kept.
    """
    columns = (*(str(number) for number in range(1, length + 1)), LENGTH)
    cells: Cells = {}
    rows, reports = rows_of(runs, extra.iterations), []
    changes = {"chain_length": length, "fresh_resets": False}
    for row, parts in rows.items():
        found = []
        for run, part in parts:
            name = f"iteration-{part.number}-chains-of-{length}"
            found.append(played(CellOf(run, name, of_iteration(part), changes), extra).report)
        for place, column in enumerate(columns[:-1]):
            cells[row, column] = tuple(report["reached"][place] for report in found)
        cells[row, LENGTH] = tuple(report[LENGTH.replace(" ", "_")] for report in found)
        reports += found
    bases = _bases(rows) if multiples else {}
    told = caption(runs, reports)
    shape = (tuple(rows), columns, cells, told, (LENGTH,))
    return CellTable("tasks in a row", *shape, bases=bases, curves=True)


def contexts_table(runs: Sequence[FinishedRun], extra: Extra, length: int = CHAIN_LENGTH) -> CellTable:
    """Chains of runs that collect from resets only, beside those that collect from both (Table 9).

    Raises:
        ArgumentError: no run collects from resets only.
        KeyboardInterrupt: after Ctrl-C; what was played is kept.
    """
    if not any(run.resets_only for run in runs):
        wanted = "a run that collects from resets only (rollouts.replayed_per_task = 0)"
        raise keystep.ArgumentError(f"folders: expected {wanted} among them, got none")
    return chain_table_of(runs, extra, length, multiples=True)


def _bases(rows: Rows) -> Mapping[str, str]:
    """Of every later iteration the row of iteration 0 of its kind of controller."""
    first = {parts[0][0].act: row for row, parts in rows.items() if not parts[0][1].number}
    return {
        row: first[parts[0][0].act]
        for row, parts in rows.items()
        if parts[0][1].number and parts[0][0].act in first
    }


def _rates(found: Sequence[PlayedReport]) -> tuple[float, ...]:
    return tuple(one.rate for one in found if one.rate is not None)
