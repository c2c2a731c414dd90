"""keystep trace"""

from __future__ import annotations

from json import dumps as to_text
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from keystep.bars import progress_bar
from keystep.commands.options import save_figure
from keystep.evaluate.trace_export import chrome_trace
from keystep.evaluate.trace_plot import durations_us, plot_trace
from keystep.evaluate.trace_reader import TraceFile, read_trace
from keystep.files import write_text
from keystep.table_writer import print_table


def main(
    file: Annotated[Path, tyro.conf.Positional],
    json: Path | None = None,
    plot: Path | None = None,
    first: int | None = None,
    count: int = 24,
) -> None:
    """What a trace holds, as a table, a picture or JSON. https://ui.perfetto.dev opens the file itself.

    Args:
        file: what `keystep.load(trace=..)` or `keystep profile --trace` wrote.
        json: write it in the format of Chrome's trace viewer.
        plot: draw a PNG: a timeline of some ticks, what each took, a histogram per stage.
        first: index of the first tick of the timeline; by default one that plans, in the middle.
        count: ticks of the timeline.
    """
    trace = read(file)
    show(trace)
    if json is not None:
        write_text(json, to_text(chrome_trace(trace), allow_nan=False))
    if plot is not None:
        save_figure(plot, plot_trace(trace, first, count))


def read(file: Path) -> TraceFile:
    """Under a bar: a second of a fast loop takes several to read."""
    with progress_bar() as progress:
        bar = progress.add_task("bytes", total=file.stat().st_size)
        return read_trace(file, lambda count: progress.advance(bar, count))


def show(trace: TraceFile) -> None:
    """Prints the spans of a trace, and what its counters reached."""
    rows = []
    for name, values in durations_us(trace).items():
        cells = [f"{value:,.2f}" for value in (*np.quantile(values, (0.5, 0.99)), values.max())]
        rows.append([name, str(values.size), *cells, f"{values.sum() / 1e3:,.2f}"])
    print_table(["span", "count", "p50 us", "p99 us", "max us", "total ms"], rows)
    for name, series in trace.counters.items():
        if series.values:
            print(f"{name}: {min(series.values)}..{max(series.values)} {series.unit}")
    still_open = sum(found.end_ns is None for found in trace.slices)
    if still_open or not trace.complete:
        print(f"the trace ends within {still_open} spans" + ("" if trace.complete else " and a packet"))
