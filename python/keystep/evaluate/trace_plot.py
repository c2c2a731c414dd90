"""Pictures and figures of a trace: the timeline of some ticks, what each took, a histogram per stage."""

from __future__ import annotations

from typing import Any

import numpy as np

import keystep
from keystep.evaluate.trace_reader import Slice, TraceFile
from keystep.notebook import new_figure

TICK, WAIT = "tick", "interrupt to action"
STAGES = ("observe", "plan", "score", "encode", "denoise", "gate")
COLOURS = {
    "tick": "#d9d9d9",
    "plan": "#7b3294",
    "plan encode": "#c2a5cf",
    "score": "#e7298a",
    "chunk": "#bdbdbd",
    "observe": "#1b9e77",
    "encode": "#2b8cbe",
    "denoise": "#e6842a",
    "denoise step": "#fdbf6f",
    "action": "#525252",
    "gate": "#a6761d",
    WAIT: "#cb181d",
}
"""One colour per span; others share one."""
OTHER = "#969696"
_SHOWN_TICKS = 24


def ticks_of(trace: TraceFile) -> list[Slice]:
    """The ticks that ended. Raises ArgumentError where there is none."""
    ticks = [found for found in trace.slices if found.name == TICK and found.end_ns is not None]
    if not ticks:
        raise keystep.ArgumentError("trace: expected spans called tick, got none")
    return ticks


def durations_us(trace: TraceFile) -> dict[str, np.ndarray]:
    """Of every kind of span that ended, in microseconds; float64, in the order of the trace."""
    found: dict[str, list[float]] = {}
    for span in trace.slices:
        if span.end_ns is not None:
            found.setdefault(span.name, []).append(span.duration_us)
    return {name: np.asarray(values) for name, values in found.items()}


def plot_trace(trace: TraceFile, first: int | None = None, count: int = _SHOWN_TICKS) -> Any:
    """A matplotlib figure. Needs matplotlib.

    Args:
        first: index of the first tick of the timeline; None: one that plans, in the middle of the trace.
        count: ticks that the timeline shows.

    Raises:
        ArgumentError: there is no such tick.
    """
    ticks = ticks_of(trace)
    if count < 1:
        raise keystep.ArgumentError(f"count: expected at least 1, got {count}")
    if first is None:
        first = _interesting(trace, ticks)
    if not 0 <= first < len(ticks):
        raise keystep.ArgumentError(f"first: expected a tick in 0..{len(ticks) - 1}, got {first}")
    shown = ticks[first : first + count]
    figure = new_figure(10, 9)
    upper, middle, lower = figure.subplots(3, 1, height_ratios=(1.2, 1, 1.3))
    _timeline(upper, trace, shown)
    _bars(middle, trace, shown, first)
    _histograms(lower, trace)
    return figure


def _interesting(trace: TraceFile, ticks: list[Slice]) -> int:
    """A tick of the second half that plans, or else one that samples a chunk."""
    half = ticks[len(ticks) // 2]
    for name in ("plan", "encode", TICK):
        starts = [s.start_ns for s in trace.slices if s.name == name and s.start_ns >= half.start_ns]
        if starts:
            index = np.searchsorted([tick.start_ns for tick in ticks], starts[0], side="right") - 1
            return max(int(index) - 1, 0)
    return 0


def _timeline(axes: Any, trace: TraceFile, shown: list[Slice]) -> None:
    """A row for each depth of each track: bars of spans, by their colours. Idle time is left out."""
    begin, end = shown[0].start_ns, shown[-1].end_ns
    assert end is not None
    within = [s for s in trace.slices if s.end_ns and s.end_ns > begin and s.start_ns < end]
    lanes = [(trace.tracks.index(span.track), span.depth) for span in within]
    rows = sorted(set(lanes))
    starts, ends = _busy([span for span in within if span.name != WAIT], begin, end)
    named: set[str] = set()
    for span, lane in zip(within, lanes, strict=True):
        left, right = _squeezed(np.asarray([span.start_ns, span.end_ns]).clip(begin, end), starts, ends)
        label = None if span.name in named else span.name
        bar = (rows.index(lane) - 0.45, 0.9)
        colour = COLOURS.get(span.name, OTHER)
        axes.broken_barh([(left, right - left)], bar, color=colour, ec="white", lw=0.15, label=label)
        named.add(span.name)
    axes.set_yticks(range(len(rows)), [trace.tracks[track] if depth == 0 else "" for track, depth in rows])
    axes.invert_yaxis()
    idle = (end - begin - (ends - starts).sum()) / 1e6
    axes.set_xlabel(f"ms; {len(shown)} ticks, {idle:,.1f} ms between them are left out")
    axes.set_xlim(0, (ends - starts).sum() / 1e6)
    axes.legend(fontsize="x-small", ncols=6, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def _busy(spans: list[Slice], begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """When something ran on some track: starts and ends of intervals that do not touch, int64 ns."""
    starts: list[int] = []
    ends: list[int] = []
    for span in sorted(spans, key=lambda span: span.start_ns):
        first, last = max(span.start_ns, begin), min(span.end_ns or end, end)
        if ends and first <= ends[-1]:
            ends[-1] = max(ends[-1], last)
        else:
            starts.append(first)
            ends.append(last)
    return np.asarray(starts), np.asarray(ends)


def _squeezed(times: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Milliseconds of the intervals before each of `times` (ns)."""
    elapsed = np.concatenate([[0], np.cumsum(ends - starts)])
    index = np.searchsorted(starts, times, side="right") - 1
    return (elapsed[index] + np.minimum(times, ends[index]) - starts[index]) / 1e6


def _bars(axes: Any, trace: TraceFile, shown: list[Slice], first: int) -> None:
    """What each tick took, stage upon stage; of stages that lie in another only the outer one."""
    numbers = np.arange(first, first + len(shown))
    starts = np.asarray([tick.start_ns for tick in shown])
    ends = np.asarray([tick.end_ns for tick in shown])
    taken = {name: np.zeros(len(shown)) for name in STAGES if name != "score"}
    for span in trace.slices:
        index = int(np.searchsorted(starts, span.start_ns, side="right")) - 1
        if span.name in taken and index >= 0 and span.end_ns and span.end_ns <= ends[index]:
            taken[span.name][index] += span.duration_us / 1e3
    total = np.asarray([tick.duration_us / 1e3 for tick in shown])
    taken["tick"] = np.maximum(total - sum(taken.values()), 0)
    below = np.zeros(len(shown))
    for name, values in taken.items():
        label = "the rest" if name == TICK else name
        if values.any():
            axes.bar(numbers, values, bottom=below, color=COLOURS[name], label=label, width=0.9)
        below += values
    axes.set_xlabel("tick")
    axes.set_ylabel("ms")
    axes.legend(fontsize="x-small", ncols=7)


def _histograms(axes: Any, trace: TraceFile) -> None:
    """How long the spans of each stage lasted; a row each, logarithmic, its median marked."""
    found = {name: values for name, values in durations_us(trace).items() if name in (*STAGES, TICK)}
    found = {name: found[name] for name in (*STAGES, TICK) if name in found}
    least = max(min(values.min() for values in found.values()), 1e-2)
    most = max(values.max() for values in found.values())
    edges = np.geomspace(least * 0.9, max(most, least) * 1.1, 81)
    for row, (name, values) in enumerate(found.items()):
        counts, _ = np.histogram(values.clip(least), edges)
        height = 0.85 * counts / counts.max()
        axes.bar(edges[:-1], -height, np.diff(edges), row + 0.45, align="edge", color=COLOURS[name])
        axes.plot([np.median(values)] * 2, [row - 0.45, row + 0.45], color="black", lw=1)
    labels = [f"{name} ({values.size})" for name, values in found.items()]
    axes.set_yticks(range(len(found)), labels)
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set_xlabel("us; the line is the median")
    axes.grid(axis="x", alpha=0.3)
