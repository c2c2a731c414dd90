"""keystep curves"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from keystep.commands.options import OutputOptions


@dataclass(frozen=True)
class OfRuns:
    """What all of them take."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Of keystep expit; runs that differ in the seed only are averaged."""
    output: Annotated[OutputOptions, tyro.conf.arg(name="")] = field(default_factory=OutputOptions)


@dataclass(frozen=True)
class PlayedOfRuns(OfRuns):
    """What has to be played, once: it is kept in the runs' reports/."""

    episodes: int | None = None
    """Per task, or chains; as the run's when not given."""
    processes: int = 1
    """Simulators run in parallel."""


@dataclass(frozen=True)
class Success(OfRuns):
    """Success by iteration, of every mode over its seeds (HD-ExpIt, Figure 3a and Table 8)."""


@dataclass(frozen=True)
class Families(OfRuns):
    """Success by iteration and family of tasks (Figure 7)."""


@dataclass(frozen=True)
class Steps(OfRuns):
    """Success against training steps (Figure 9)."""


@dataclass(frozen=True)
class Starts(OfRuns):
    """Where demonstrations and rollouts start: principal components of the first states (Figure 8)."""

    key: str = "observation.state"
    """Vector that the components are of."""


@dataclass(frozen=True)
class Replanning(PlayedOfRuns):
    """Every iteration with replanning, without, and with ground-truth subgoals (Table 3, section 6.3)."""


@dataclass(frozen=True)
class Cross(PlayedOfRuns):
    """Planners of all iterations with controllers of all iterations (Table 2)."""


@dataclass(frozen=True)
class Chains(PlayedOfRuns):
    """Tasks in a row by iteration, also of runs that collect from resets only (Tables 7 and 9)."""

    length: int = 5
    """Tasks of a chain."""


What = Success | Families | Steps | Starts | Replanning | Cross | Chains


def main(what: Annotated[What, tyro.conf.arg(name="")]) -> None:
    """Curves and tables of finished runs of keystep expit, as in HD-ExpIt."""
    report = made(what)
    print(report.markdown())
    what.output.write(report.to_dict(), report.markdown(), report.plot)


def made(what: What) -> Any:
    """The report that is asked for."""
    from keystep.expit import cells, curves, starts
    from keystep.expit.finished import open_runs

    runs = open_runs(what.folders)
    if isinstance(what, Success):
        return curves.success_curves(runs)
    if isinstance(what, Families):
        return curves.family_curves(runs)
    if isinstance(what, Steps):
        return curves.step_curves(runs)
    if isinstance(what, Starts):
        return starts.start_report(runs, what.key)
    extra = cells.Extra(what.episodes, what.processes)
    if isinstance(what, Replanning):
        return cells.replanning_table(runs, extra)
    if isinstance(what, Cross):
        return cells.cross_table(runs, extra)
    return cells.chain_table_of(runs, extra, what.length)
