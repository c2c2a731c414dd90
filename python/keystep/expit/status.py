"""How far a run is, read from its folder by anybody at any time."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from keystep.data import DatasetError, DatasetReader
from keystep.expit.config import network_steps
from keystep.expit.folder import STAGES, Counts, Iteration, is_locked, iterations, read_run
from keystep.table_writer import markdown_table


@dataclass(frozen=True)
class Work:
    """A step that is to do, or half done.

    Attributes:
        amount: steps of training, episodes of evaluation, 1 of the others.
        have: of them, done.
    """

    iteration: int
    stage: str
    amount: int
    have: int = 0


class Status:
    """A run as its folder tells it. Raises DatasetError for a folder that is none."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.settings: dict[str, Any] = read_run(run)["settings"]
        self.iterations = iterations(run)
        self.running = is_locked(run)

    def left(self) -> list[Work]:
        """What is still to do, in order."""
        work = []
        for number in range(self.settings["iterations"] + 1):
            iteration = Iteration(self.run, number)
            for stage in iteration.stages:
                if stage not in iteration.done:
                    amount = self._amount(stage, number)
                    work.append(Work(number, stage, amount, min(self._have(iteration, stage), amount)))
        return work

    def seconds_left(self) -> tuple[float, list[str]]:
        """From the rates measured so far, and the steps of which none is known."""
        rates, total, unknown = self._rates(), 0.0, []
        for work in self.left():
            if work.stage in rates:
                total += rates[work.stage] * (work.amount - work.have)
            elif work.stage not in unknown:
                unknown.append(work.stage)
        return total, unknown

    def _amount(self, stage: str, number: int) -> int:
        settings = self.settings
        if stage in ("planner", "controller"):
            first, share = settings[stage]["training"]["steps"], settings[f"finetune_{stage}"]
            return network_steps(settings["mode"], first, number, growth=settings["growth"], share=share)
        if stage == "rollouts":
            wanted = settings["rollouts"]["reset_per_task"] + settings["rollouts"]["replayed_per_task"]
            return max(1, wanted * self._tasks(stage))
        return settings["evaluation"]["episodes"] * self._tasks(stage) if stage == "evaluation" else 1

    def _tasks(self, part: str) -> int:
        """Named, or those of D0; of the suite until that is there."""
        from keystep.suites import suite_named

        chosen = self.settings[part].get("tasks")
        return len(chosen) if chosen else self._known or len(suite_named(self.settings["suite"]).tasks)

    @cached_property
    def _known(self) -> int:
        """Tasks of D0, 0 without it."""
        place = self.settings["demonstrations"]["dataset"]
        with suppress(DatasetError):
            return len(
                {task["name"] for task in DatasetReader(Path(place or self.run / "demonstrations")).tasks}
            )
        return 0

    def _have(self, iteration: Iteration, stage: str) -> int:
        if stage in ("planner", "controller"):
            return int(_last_row(getattr(iteration, stage)).get("step", 0))
        if stage == "rollouts":
            return sum(count["successes"] for count in iteration.counts())
        if stage == "evaluation":
            with suppress(OSError):
                return max(0, len((iteration.path / "evaluation.jsonl").read_text().splitlines()) - 1)
        return 0

    def _rates(self) -> dict[str, float]:
        """Seconds for one unit of each kind of step, the newest measurement of each."""
        found: dict[str, float] = {}
        for iteration in self.iterations:
            for stage in ("planner", "controller"):
                row = _last_row(getattr(iteration, stage))
                if row.get("step"):
                    found[stage] = row["seconds"] / row["step"]
            for stage, facts in iteration.done.items():
                if stage not in ("planner", "controller"):
                    amount = facts.get("episodes", self._amount(stage, iteration.number))
                    if gained := facts.get("gained", amount):  # in the seconds of the last start
                        found[stage] = facts["seconds"] / gained
            found |= dict(self._running_rate(iteration))
        return found

    def _running_rate(self, iteration: Iteration) -> Iterator[tuple[str, float]]:
        """Of collecting or evaluating at this moment."""
        progress = iteration.progress()
        if not self.running or progress is None or progress["stage"] not in ("rollouts", "evaluation"):
            return
        gained = self._have(iteration, progress["stage"]) - progress["have"]
        if gained > 0 and progress["stage"] not in iteration.done:
            yield progress["stage"], (time.time() - progress["since"]) / gained


def _last_row(checkpoint: Path) -> dict[str, float]:
    """Step and seconds of the last row of a training's curves; empty without one."""
    with suppress(OSError, ValueError, KeyError), (checkpoint / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
        if rows:
            return {"step": int(rows[-1]["step"]), "seconds": float(rows[-1]["seconds"])}
    return {}


def status_text(run: Path) -> str:
    """What `keystep expit --status` prints."""
    status = Status(run)
    left = status.left()
    if not left:
        now = "finished"
    else:
        work = left[0]
        verb = "at work on" if status.running else "stopped before the end of"
        now = f"{verb} iteration {work.iteration}, {work.stage}: {work.have} of {work.amount}"
    lines = [f"{run}: {status.settings['mode']}, seed {status.settings['seed']}: {now}", "", _stages(status)]
    for iteration in status.iterations:
        if counts := iteration.counts():
            lines += [f"rollouts of iteration {iteration.number}", "", _rollouts(counts)]
    if left:
        seconds, unknown = status.seconds_left()
        more = f"; not measured yet: {', '.join(unknown)}" if unknown else ""
        lines.append(f"time left: about {_duration(seconds)}{more}")
    return "\n".join(lines).rstrip("\n")


def _stages(status: Status) -> str:
    rows = []
    stages = [stage for stage in STAGES if stage != "scorer" or status.settings.get("scorer")]
    for iteration in status.iterations:
        cells = [str(iteration.number)]
        for stage in stages:
            facts = iteration.done.get(stage)
            if facts is None:
                have = status._have(iteration, stage) if stage in iteration.stages else 0
                cells.append(f"{have} ..." if have else "-")
            elif stage == "evaluation":
                cells.append(f"{100 * facts['success_rate']:.1f} %")
            elif "skipped" in facts:
                cells.append("none")
            else:
                cells.append(str(facts.get("steps", facts.get("episodes", "done"))))
        rows.append(cells)
    titles = {"planner": "planner steps", "controller": "controller steps", "evaluation": "success"}
    return markdown_table(["iteration", *(titles.get(stage, stage) for stage in stages)], rows)


def _rollouts(counts: Counts) -> str:
    rows = [
        [count["task"], count["kind"], *(str(count[name]) for name in ("contexts", "trials", "successes"))]
        for count in counts
    ]
    totals = [str(sum(count[name] for count in counts)) for name in ("contexts", "trials", "successes")]
    header = ["task", "context", "contexts tried", "trials", "successes"]
    return markdown_table(header, [*rows, ["**all**", "", *totals]])


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
