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
    """Runs of keystep expit, or folders of runs; those that differ in the seed only are averaged."""
    budget: int | None = None
    """Training steps of iteration 0, planner and controller together: the runs in a folder that have others
    are left out."""
    output: Annotated[OutputOptions, tyro.conf.arg(name="")] = field(default_factory=OutputOptions)


@dataclass(frozen=True)
class Success(OfRuns):
    """Success by iteration, of every mode over its seeds (HD-ExpIt, Figure 3a)."""


@dataclass(frozen=True)
class Families(OfRuns):
    """Success by iteration and family of tasks (Figure 7)."""


@dataclass(frozen=True)
class Methods(OfRuns):
    """Success of all tasks and of every family, a row per method and iteration (Table 8)."""

    iterations: tuple[int, ...] = ()
    """That are shown; all when empty."""


@dataclass(frozen=True)
class Steps(OfRuns):
    """Success against training steps, and the steps of every iteration (Figure 9)."""


@dataclass(frozen=True)
class Starts(OfRuns):
    """Where demonstrations and rollouts start: principal components of the states (Figure 8)."""

    key: str = "observation.state"
    """Vector that the components are of."""


@dataclass(frozen=True)
class Plans(OfRuns):
    """Plans of two iterations from equal contexts, and what became of them (Figure 11)."""

    iterations: tuple[int, ...] = ()
    """Two of them; the first and the last when empty."""
    task: tuple[str, ...] = ()
    """Names; the first of every family when empty."""
    each: int = 1
    """Episodes of a task: those that only the later iteration solved come first."""


@dataclass(frozen=True)
class PlayedOfRuns(OfRuns):
    """What has to be played, once: it is kept in the runs' reports/."""

    episodes: int | None = None
    """Per task, or chains; as the runs' when not given."""
    iterations: tuple[int, ...] = ()
    """That are shown; all when empty."""
    processes: int = 1
    """Simulators run in parallel."""


@dataclass(frozen=True)
class Replanning(PlayedOfRuns):
    """Every iteration with replanning, without, and with ground-truth subgoals (Table 3)."""


@dataclass(frozen=True)
class Alignment(PlayedOfRuns):
    """Plans against ground-truth subgoals on the same episodes, replanning off (section 6.3)."""


@dataclass(frozen=True)
class Cross(PlayedOfRuns):
    """Planners of all iterations and kinds with controllers of all (Table 2)."""

    length: int = 1
    """Tasks in a row; 1: success of single tasks."""


@dataclass(frozen=True)
class Chains(PlayedOfRuns):
    """Tasks in a row by method and iteration (Table 7)."""

    length: int = 5
    """Tasks of a chain."""


@dataclass(frozen=True)
class ContextsOfRuns(PlayedOfRuns):
    """Chains of runs that collect from resets only beside others, in multiples of iteration 0 (Table 9)."""

    length: int = 5
    """Tasks of a chain."""


@dataclass(frozen=True)
class FailuresOfRuns(OfRuns):
    """Kinds of failure, counted: failed episodes are played again and looked at (appendix F.7)."""

    episodes: int | None = None
    """Failed episodes of a task and iteration that are looked at; all when not given."""
    iterations: tuple[int, ...] = ()
    """That are shown; all when empty."""
    processes: int = 1
    """Simulators run in parallel."""


@dataclass(frozen=True)
class Runs:
    """Make the runs of all curves, one after the other; run again to go on."""

    config: tyro.conf.Positional[Path]
    """TOML, as of keystep expit; examples/curves.toml."""
    output: Path | None = None
    """Folder of the runs; the file's output when not given."""
    only: tuple[str, ...] = ()
    """Some of ft-0, act-ft-0, resets-ft-0, standard-0, ft-1, ft-2; all when empty."""
    budget: int | None = None
    """Training steps of iteration 0, planner and controller together; those of the others follow."""
    preset: str | None = None
    """What the file's settings are on top of."""
    iterations: int | None = None
    """After iteration 0."""
    processes: int | None = None
    """Simulators run in parallel."""


Kept = Success | Families | Methods | Steps | Starts | Plans
Played = (
    Replanning
    | Alignment
    | Cross
    | Chains
    | Annotated[ContextsOfRuns, tyro.conf.subcommand("contexts")]
    | Annotated[FailuresOfRuns, tyro.conf.subcommand("failures")]
)


def main(what: Annotated[Kept | Played | Runs, tyro.conf.arg(name="")]) -> Any:
    """Curves and tables of finished runs of keystep expit, as in HD-ExpIt."""
    if isinstance(what, Runs):
        return run_all(what)
    report = made(what)
    print(report.markdown())
    what.output.write(report.to_dict(), report.markdown(), report.plot)
    return None


def run_all(what: Runs) -> Any:
    """The report of the last run that was at work."""
    from keystep.expit import expit
    from keystep.expit.series import series

    options = {name: getattr(what, name) for name in ("budget", "preset", "iterations", "processes")}
    report = None
    for name, config in series(what.config, what.output, what.only, **options):
        print(f"{name}: {config.told_steps()}", flush=True)
        report = expit(config)
        told = ", ".join(f"{100 * rate:.1f} %" for rate in report.success)
        print(f"{report.output}: success by iteration: {told or 'none yet'}", flush=True)
        if report.interrupted:
            print("stopped; run again to go on")
            break
    return report


def made(what: Kept | Played) -> Any:
    """The report that is asked for."""
    from keystep.expit.finished import open_runs

    runs = open_runs(what.folders, what.budget)
    return _of_kept(what, runs) if isinstance(what, Kept) else _of_played(what, runs)


def _of_kept(what: Kept, runs: list[Any]) -> Any:
    """From what the runs have written."""
    from keystep.expit import before_after, curves, starts

    match what:
        case Success():
            return curves.success_curves(runs)
        case Families():
            return curves.family_curves(runs)
        case Methods():
            return curves.method_table(runs, what.iterations)
        case Steps():
            return curves.step_curves(runs)
        case Starts():
            return starts.start_report(runs, what.key)
        case Plans():
            return before_after.plans_report(runs, what.iterations, what.task, what.each)


def _of_played(what: Played, runs: list[Any]) -> Any:
    """From further episodes."""
    from keystep.expit import cells
    from keystep.expit.played import Extra

    extra = Extra(what.episodes, what.processes, what.iterations)
    match what:
        case Replanning():
            return cells.replanning_table(runs, extra)
        case Alignment():
            return cells.alignment_table(runs, extra)
        case Cross():
            return cells.cross_table(runs, extra, what.length)
        case Chains():
            return cells.chain_table_of(runs, extra, what.length)
        case ContextsOfRuns():
            return cells.contexts_table(runs, extra, what.length)
        case FailuresOfRuns():
            from keystep.expit.failures import failure_report

            return failure_report(runs, extra)
