"""Success by iteration, by family and by training steps (HD-ExpIt, Figures 3a, 7 and 9)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from keystep.evaluate.plots import COLOURS, MARKERS
from keystep.expit.captions import caption
from keystep.expit.cell_table import SEEDS, Cells, CellTable
from keystep.expit.finished import Evaluated, FinishedRun, by_kind, common, rows_of
from keystep.notebook import html_markdown, new_figure
from keystep.table_writer import markdown_table
from keystep.uncertainty import mean, standard_error

ITERATION = "iteration"
"""What is on the axis of most."""


@dataclass(frozen=True)
class Point:
    """A mean and what it is of.

    Attributes:
        iteration: t.
        x: where it is drawn; the iteration, or training steps.
        values: success rates, of seeds or of tasks.
    """

    iteration: int
    x: float
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return mean(self.values) or 0.0

    @property
    def error(self) -> float | None:
        """Standard error over the values; None of a single one."""
        return standard_error(self.values)

    def to_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        told = {"iteration": self.iteration, "x": self.x, "values": list(self.values)}
        return told | {"mean": self.mean, "standard_error": self.error}

    def told(self) -> str:
        """In percent."""
        error = "" if self.error is None else f" ± {100 * self.error:.1f}"
        return f"{100 * self.mean:.1f}{error} %"


@dataclass(frozen=True)
class CurveReport:
    """Curves by name; printable, and drawn with shaded standard errors.

    Attributes:
        x: what is on the axis.
        over: what the standard errors are over.
        caption: seeds, episodes, steps, machine.
    """

    title: str
    x: str
    over: str
    curves: dict[str, tuple[Point, ...]]
    caption: str

    def to_dict(self) -> dict[str, Any]:
        """All figures, for a JSON file."""
        curves = {name: [point.to_dict() for point in points] for name, points in self.curves.items()}
        told = {"title": self.title, "x": self.x, "standard_error_over": self.over, "caption": self.caption}
        return told | {"curves": curves}

    def markdown(self) -> str:
        """A row per curve, a column per iteration."""
        numbers = sorted({point.iteration for points in self.curves.values() for point in points})
        rows = []
        for name, points in self.curves.items():
            known = {point.iteration: point for point in points}
            rows.append([name, *(known[n].told() if n in known else "-" for n in numbers)])
            if self.x != ITERATION:
                steps = (f"{known[n].x:.0f}" if n in known else "-" for n in numbers)
                rows.append([f"{name}, training steps", *steps])
        table = markdown_table([self.title, *(f"iteration {number}" for number in numbers)], rows)
        return f"{table}\nMean ± standard error over {self.over}. {self.caption}\n"

    def plot(self) -> Any:
        """A matplotlib figure; against training steps also those of every iteration (Figure 9b)."""
        if self.x == ITERATION:
            figure = new_figure(5, 3.6)
            axes = figure.subplots()
        else:
            figure = new_figure(9, 3.6)
            axes, right = figure.subplots(1, 2)
            self._draw_steps(right)
        for index, (name, points) in enumerate(self.curves.items()):
            colour, x = COLOURS[index % 8], [point.x for point in points]
            middle = [100 * point.mean for point in points]
            axes.plot(x, middle, color=colour, marker=MARKERS[index % 8], label=name)
            errors = [100 * (point.error or 0.0) for point in points]
            low, high = ([m + sign * e for m, e in zip(middle, errors, strict=True)] for sign in (-1, 1))
            axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        if self.x == ITERATION:
            axes.set_xticks(sorted({point.iteration for points in self.curves.values() for point in points}))
        else:
            axes.set_xscale("log")
        axes.set_xlabel(self.x)
        axes.set_ylabel("success, %")
        axes.set_ylim(0, 105)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
        figure.supxlabel(f"± standard error over {self.over}", fontsize="x-small")
        return figure

    def _draw_steps(self, axes: Any) -> None:
        for index, (name, points) in enumerate(self.curves.items()):
            numbers, steps = [point.iteration for point in points], [point.x for point in points]
            axes.plot(numbers, steps, color=COLOURS[index % 8], marker=MARKERS[index % 8], label=name)
        axes.set_xticks(sorted({point.iteration for points in self.curves.values() for point in points}))
        axes.set_yscale("log")
        axes.set_xlabel(ITERATION)
        axes.set_ylabel("training steps so far")
        axes.grid(alpha=0.3)

    def _repr_html_(self) -> str:
        return html_markdown(self.markdown())


def success_curves(runs: Sequence[FinishedRun]) -> CurveReport:
    """By iteration, of every mode over its seeds (Figure 3a)."""
    return _over_seeds(runs, "success", ITERATION, lambda part: part.number)


def step_curves(runs: Sequence[FinishedRun]) -> CurveReport:
    """Against the training steps of planner and controller together (Figure 9)."""
    x = "training steps, planner and controller, all iterations so far"
    return _over_seeds(runs, "success by training steps", x, lambda part: part.steps)


def family_curves(runs: Sequence[FinishedRun]) -> CurveReport:
    """By family of tasks; each task's success is the mean over the seeds (Figure 7)."""
    groups = by_kind(runs)
    curves: dict[str, tuple[Point, ...]] = {}
    for kind, group in groups.items():
        for family, tasks in runs[0].families.items():
            name = family if len(groups) == 1 else f"{family}, {kind}"
            curves[name] = tuple(_of_tasks(group, tasks))
    told = _caption(runs)
    return CurveReport("success by family", ITERATION, "the tasks of a family", curves, told)


def _of_tasks(group: Sequence[FinishedRun], tasks: Sequence[str]) -> list[Point]:
    points = []
    for number in common(group):
        by_seed = [rates_of(run.evaluated[number], tasks) for run in group]
        means = tuple(sum(rates) / len(rates) for rates in zip(*by_seed, strict=True))
        points.append(Point(number, number, means))
    return points


def rates_of(part: Evaluated, tasks: Sequence[str]) -> list[float]:
    """Success of some of the tasks."""
    rates = {task["name"]: task["success_rate"] for task in part.result["tasks"]}
    return [float(rates[task]) for task in tasks]


def method_table(runs: Sequence[FinishedRun], chosen: Sequence[int] = ()) -> CellTable:
    """A row per method and iteration: success of all tasks and of every family (Table 8).

    Args:
        chosen: iterations; all when empty.
    """
    rows, families = rows_of(runs, chosen), runs[0].families
    cells: Cells = {}
    for row, parts in rows.items():
        cells[row, "all tasks"] = tuple(part.success for _, part in parts)
        for family, tasks in families.items():
            rates = (rates_of(part, tasks) for _, part in parts)
            cells[row, family] = tuple(sum(found) / len(found) for found in rates)
    results = [part.result for parts in rows.values() for _, part in parts]
    columns = ("all tasks", *families)
    return CellTable("success", tuple(rows), columns, cells, caption(runs, results))


def _over_seeds(
    runs: Sequence[FinishedRun], title: str, x: str, place: Callable[[Evaluated], float]
) -> CurveReport:
    curves = {}
    for kind, group in by_kind(runs).items():
        points = []
        for number in common(group):
            parts = [run.evaluated[number] for run in group]
            points.append(Point(number, place(parts[0]), tuple(part.success for part in parts)))
        curves[kind] = tuple(points)
    return CurveReport(title, x, SEEDS, curves, _caption(runs))


def _caption(runs: Sequence[FinishedRun]) -> str:
    parts = (run.evaluated[n] for group in by_kind(runs).values() for run in group for n in common(group))
    return caption(runs, [part.result for part in parts])
