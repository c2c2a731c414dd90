"""keystep soak"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated

import tyro

import keystep
from keystep.bars import progress_bar
from keystep.commands.options import Engine, refuse_writers
from keystep.evaluate.soak import Soak, soak
from keystep.evaluate.soak_report import RATE_HZ, SoakReport
from keystep.files import check_outputs, write_json


def main(
    bundle: Annotated[Path | None, tyro.conf.Positional] = None,
    hours: float = 1.0,
    seed: int = 0,
    schedules: int = 40,
    ticks: int | None = None,
    threads: bool = False,
    engine: Engine = "auto",
    close_ms: float = 100.0,
    json: Path | None = None,
) -> SoakReport:
    """Disturb the asynchronous loop for hours of virtual time, and check every tick (docs/soak.md).

    Args:
        bundle: the bundle's folder; stand-ins whose actions tell where they come from when not given.
        hours: of virtual time at 60 ticks a second, over all schedules; with threads of as many ticks.
        seed: of the first schedule; the others have the seeds after it.
        schedules: how many; each draws its delays, faults, interrupts, merge and underrun rules.
        ticks: of each schedule, in place of hours.
        threads: real threads in real time, somebody else who interrupts, hung engines, sinks that fail.
        engine: of a bundle; stub: faults are injected, too.
        close_ms: how long close may take with threads, besides one call of the engine.
        json: write what was drawn, done and found to this file.
    """
    for name, value, least in (("schedules", schedules, 1), ("seed", seed, 0), ("ticks", ticks, 1)):
        if value is not None and value < least:
            raise keystep.ArgumentError(f"{name}: expected {least} or more, got {value}")
    if ticks is None:
        if not (math.isfinite(hours) and hours > 0):
            raise keystep.ArgumentError(f"hours: expected more than 0, got {hours}")
        ticks = max(1, round(hours * 3600 * RATE_HZ / schedules))
    check_outputs(json=json)
    refuse_writers(*filter(None, (bundle,)))
    what = Soak(bundle, engine, seed, schedules, ticks, threads, close_ms)
    with progress_bar() as progress:
        bar = progress.add_task("ticks", total=schedules * ticks)
        report = soak(what, lambda count: progress.advance(bar, count))
    print(report)
    if json is not None:
        write_json(json, report.to_dict())
    if report.violation is not None:
        print(f"violated: {report.violation}; again: {repeat(what, report.violation.seed)}", file=sys.stderr)
        sys.exit(1)
    return report


def repeat(what: Soak, seed: int) -> str:
    """The command line that plays exactly the schedule of `seed` again."""
    words = ["keystep", "soak", *([] if what.bundle is None else [str(what.bundle), "--engine", what.engine])]
    words += ["--seed", str(seed), "--schedules", "1", "--ticks", str(what.ticks)]
    return " ".join(words + ["--threads"] * what.threads)
