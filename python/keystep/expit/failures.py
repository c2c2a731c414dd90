"""The failed episodes of a run's evaluations, played again and counted by kind (HD-ExpIt, appendix F.7)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keystep
from keystep.evaluate.failures import SOLVED, FailureWorker, failure_kinds
from keystep.evaluate.plots import COLOURS
from keystep.evaluate.settings import EpisodeResult
from keystep.expit.captions import caption
from keystep.expit.evaluating import read_journal
from keystep.expit.finished import Evaluated, FinishedRun, rows_of
from keystep.expit.played import EPISODES, CellOf, Extra, of_iteration, played
from keystep.notebook import html_markdown, new_figure
from keystep.suites import suite_named
from keystep.table_writer import markdown_table

ALL = "all"


@dataclass(frozen=True)
class FailureReport:
    """Failed episodes by kind.

    Attributes:
        kinds: columns.
        counts: by method and family of tasks (and `ALL`), of all seeds together, how many of each kind.
        failed: by the same, failed episodes and all of them.
        episodes: one for each that was watched.
    """

    kinds: tuple[str, ...]
    counts: dict[tuple[str, str], Counter[str]]
    failed: dict[tuple[str, str], tuple[int, int]]
    episodes: tuple[dict[str, Any], ...]
    caption: str

    def to_dict(self) -> dict[str, Any]:
        """All counts and episodes, for a JSON file."""
        rows = [
            {
                "row": row,
                "family": family,
                "failed": self.failed[row, family][0],
                "episodes": self.failed[row, family][1],
                "watched": sum(counts.values()),
                "kinds": {kind: counts[kind] for kind in self.kinds},
            }
            for (row, family), counts in self.counts.items()
        ]
        return {"kinds": list(self.kinds), "rows": rows, "caption": self.caption} | {
            "episodes": list(self.episodes)
        }

    def markdown(self) -> str:
        """A row per method and family, a column per kind."""
        rows = []
        for (row, family), counts in self.counts.items():
            failed, total = self.failed[row, family]
            told = [f"{failed} of {total}", str(sum(counts.values()))]
            rows.append([f"{row}, {family}", *told, *(str(counts[kind]) for kind in self.kinds)])
        table = markdown_table(["failures", "failed", "watched", *self.kinds], rows)
        return f"{table}\nEpisodes of all seeds. {self.caption}\n"

    def plot(self) -> Any:
        """A matplotlib figure: per method a bar of the share of episodes that failed, by kind."""
        rows = [row for row, family in self.counts if family == ALL]
        figure = new_figure(2.5 + 1.1 * len(rows), 3.8)
        axes = figure.subplots()
        bottom = [0.0] * len(rows)
        for index, kind in enumerate(self.kinds):
            shares = [self._share(row, kind) for row in rows]
            hatch = "//" if index >= len(COLOURS) else None
            axes.bar(rows, shares, 0.6, bottom, color=COLOURS[index % 8], label=kind, hatch=hatch)
            bottom = [low + share for low, share in zip(bottom, shares, strict=True)]
        axes.set_xticks(range(len(rows)), rows, rotation=20, ha="right", fontsize="small")
        axes.set_ylabel("episodes that failed, %")
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        figure.legend(loc="outside right upper", fontsize="small")
        return figure

    def _share(self, row: str, kind: str) -> float:
        """In percent of all episodes; the watched ones stand for the others."""
        counts, (failed, total) = self.counts[row, ALL], self.failed[row, ALL]
        watched = sum(counts.values())
        return 100 * counts[kind] / watched * failed / total if watched else 0.0

    def _repr_html_(self) -> str:
        return html_markdown(self.markdown())


def failure_report(runs: Sequence[FinishedRun], extra: Extra) -> FailureReport:
    """Of every iteration. `extra.episodes`: failed episodes of a task that are watched; all when None.

    Raises:
        ArgumentError: the suite does not tell kinds of failure, or an evaluation has no episodes left.
        KeyboardInterrupt: after Ctrl-C; what was played is kept.
    """
    kinds = failure_kinds(suite_named(runs[0].settings["suite"]))
    families = {task: family for family, tasks in runs[0].families.items() for task in tasks}
    counts: dict[tuple[str, str], Counter[str]] = {}
    failed: dict[tuple[str, str], tuple[int, int]] = {}
    episodes = []
    rows = rows_of(runs, extra.iterations)
    for row, parts in rows.items():
        for family in (*runs[0].families, ALL):
            counts[row, family], failed[row, family] = Counter(), (0, 0)
        for run, part in parts:
            everything, watched = _watched(run, part, extra)
            for result in everything:
                for family in (families[result.task], ALL):
                    lost, total = failed[row, family]
                    failed[row, family] = lost + (not result.success), total + 1
            for result in watched:
                for family in (families[result.task], ALL):
                    counts[row, family][result.failure] += 1
                where = {"row": row, "run": run.path.name, "iteration": part.number, "task": result.task}
                where |= {"episode": result.episode, "noise_seed": result.job.noise_seed}
                episodes.append(where | {"steps": result.steps, "kind": result.failure})
    seen = {episode["kind"] for episode in episodes}
    shown = tuple(kind for kind in kinds if kind != SOLVED or kind in seen)
    told = caption(runs, [part.result for parts in rows.values() for _, part in parts])
    return FailureReport(shown, counts, failed, tuple(episodes), told)


def _watched(
    run: FinishedRun, part: Evaluated, extra: Extra
) -> tuple[list[EpisodeResult], list[EpisodeResult]]:
    """The iteration's evaluation, and its failures as they went when they were played again."""
    everything = read_journal(part.folder.path / EPISODES)
    if not everything:
        wanted = "the episodes of the evaluation"
        raise keystep.ArgumentError(f"{part.folder.path / EPISODES}: expected {wanted}, got none")
    chosen = []
    seen: Counter[str] = Counter()
    for result in sorted(everything, key=lambda one: (one.job.noise_seed, one.episode)):
        if not result.success and (extra.episodes is None or seen[result.task] < extra.episodes):
            seen[result.task] += 1
            chosen.append(result.job)
    if not chosen:
        return everything, []
    known = [result for result in everything if result.job not in chosen]
    cell = CellOf(
        run,
        f"iteration-{part.number}-failures",
        of_iteration(part),
        watched={"failures": extra.episodes},
        worker=FailureWorker,
        known=known,
    )
    return everything, list(played(cell, Extra(processes=extra.processes)).results)
