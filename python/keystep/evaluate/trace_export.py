"""A trace as JSON, in the format of Chrome's trace viewer.

Format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU (Trace Event Format).
"""

from __future__ import annotations

from itertools import count, pairwise
from typing import Any

from keystep.evaluate.trace_reader import Slice, TraceFile


def chrome_trace(trace: TraceFile) -> dict[str, Any]:
    """A JSON object that https://ui.perfetto.dev and chrome://tracing open.

    The events of the format: "X" for spans, "i", "C", "s" and "f" for the arrows of flows.

    Times are microseconds with three digits behind the point: no nanosecond is lost. A span that did not end
    is a "B".
    """
    return {"traceEvents": _events(trace), "displayTimeUnit": "ns"}


def _events(trace: TraceFile) -> list[dict[str, Any]]:
    name, pid = trace.process
    threads = {track: number for number, track in enumerate(trace.tracks, 1)}

    def event(kind: str, called: str, time_ns: int, track: str | None = None, **more: Any) -> dict[str, Any]:
        thread = {} if track is None else {"tid": threads[track]}
        return {"ph": kind, "name": called, "ts": time_ns / 1e3, "pid": pid, **thread, **more}

    events = [event("M", "process_name", 0, args={"name": name})]
    events += [event("M", "thread_name", 0, track, args={"name": track}) for track in threads]
    for found in trace.slices:
        arguments = {} if found.argument is None else {"args": {found.argument: found.number}}
        if found.end_ns is None:
            events.append(event("B", found.name, found.start_ns, found.track, **arguments))
        else:
            duration = {"dur": (found.end_ns - found.start_ns) / 1e3}
            events.append(event("X", found.name, found.start_ns, found.track, **duration, **arguments))
    for instant in trace.instants:
        arguments = {} if instant.argument is None else {"args": {instant.argument: instant.number}}
        events.append(event("i", instant.name, instant.time_ns, instant.track, s="t", **arguments))
    for called, series in trace.counters.items():
        for time_ns, value in zip(series.times_ns, series.values, strict=True):
            events.append(event("C", called, time_ns, args={series.unit: value}))
    numbers = count(1)
    for first, second in arrows(trace):
        number = next(numbers)
        for kind, end in (("s", first), ("f", second)):
            more = {"bp": "e"} if kind == "f" else {}
            events.append(event(kind, "flow", end.start_ns, end.track, cat="flow", id=number, **more))
    return events


def arrows(trace: TraceFile) -> list[tuple[Slice, Slice]]:
    """The spans of each flow, one to the next."""
    flows: dict[int, list[Slice]] = {}
    for found in sorted(trace.slices, key=lambda found: found.start_ns):
        for flow in found.flows:
            flows.setdefault(flow, []).append(found)
    return [pair for spans in flows.values() for pair in pairwise(spans)]
