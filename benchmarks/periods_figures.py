"""Figures and tables of `benchmarks.periods`, from the slices of each loop."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.periods_slices import ASYNC, LEAD_IN_S
from keystep.table_writer import table_of

STALL_PERIODS = 1.5
"""An interval between two actions that is longer is a stall."""
SHOWN_S = 4.0
"""Of the first slice, kept action by action."""


def figures_of(slices: Sequence[Mapping[str, Any]], rate_hz: float) -> dict[str, Any]:
    """All figures of one loop with one policy.

    Intervals are between two actions of the policy, as the robot gets them; there is none between slices.
    """
    period_ms = 1e3 / rate_hz
    at_ms = [np.array(each["at_us"]) / 1e3 for each in slices]
    reports = [each["report"] for each in slices]
    intervals = np.concatenate([np.diff(at) for at in at_ms])
    due = sum(report["periods"] + report["skipped"] for report in reports)
    actions = sum(len(at) for at in at_ms)
    return {
        "slices": len(slices),
        "due": due,
        "actions": actions,
        "missed": due - actions,
        "skipped": sum(report["skipped"] for report in reports),
        "stalls": int((intervals > STALL_PERIODS * period_ms).sum()),
        "interval_ms": _spread(intervals),
        "stages_ms": _stages([each["stages"] for each in slices]),
        "underruns": _summed([each["telemetry"]["underruns"] for each in slices if each["telemetry"]]),
        "late_goals": sum(each["telemetry"]["late_goals"] for each in slices if each["telemetry"]),
        "max_delay": max((each["telemetry"]["max_delay"] for each in slices if each["telemetry"]), default=0),
        "system": _system(reports),
        "seconds": _seconds(at_ms, due / rate_hz / len(slices)),
        "first_ms": at_ms[0][at_ms[0] < 1e3 * SHOWN_S].tolist(),
    }


def _spread(values: np.ndarray) -> dict[str, float] | None:
    if not len(values):
        return None
    names = ("min", "avg", "p99", "max")
    found = (values.min(), values.mean(), np.percentile(values, 99), values.max())
    return dict(zip(names, map(float, found), strict=True))


def _stages(slices: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Of chunks and plans: medians over the slices of p50 and p99, and the longest of all."""
    found = {}
    for name in ("chunk", "plan"):
        mine = [each[name] for each in slices if name in each]
        if mine:
            middle = {p: float(np.median([each[f"{p}_us"] for each in mine])) / 1e3 for p in ("p50", "p99")}
            found[name] = middle | {"max": max(each["max_us"] for each in mine) / 1e3}
    return found


def _system(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the threads were given, and what became of it."""
    threads = [report["thread"] for report in reports]
    names = ("fifo_refusal", "cores_refusal", "memory_refusal", "stack_refusal")
    loads = [report[when][0] for report in reports for when in ("load_before", "load_after")]
    counts = ("involuntary_switches", "minor_faults", "major_faults", "overruns")
    return {
        "scheduling": sorted({_obtained(thread) for thread in threads}),
        "refusals": sorted({thread[name] for thread in threads for name in names if thread[name]}),
        "wake_p99_us": float(np.median([report["latency"]["p99_us"] for report in reports])),
        "wake_max_us": max(report["latency"]["max_us"] for report in reports),
        "load": [min(loads), max(loads)],
        **{name: sum(report[name] for report in reports) for name in counts},
    }


def _obtained(thread: Mapping[str, Any]) -> str:
    priority = f" {thread['priority']}" if thread["priority"] else ""
    return f"{thread['policy']}{priority}{', memory locked' if thread['memory_locked'] else ''}"


def _summed(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    return {name: sum(each[name] for each in counts) for name in counts[0]} if counts else {}


def _seconds(at_ms: Sequence[np.ndarray], slice_s: float) -> list[list[float]]:
    """[second of the loop's own time, longest interval that ended in it, ms], of each that has one."""
    longest: dict[int, float] = {}
    for number, at in enumerate(at_ms):
        ended = (number * slice_s + at[1:] / 1e3).astype(int)
        for second, interval in zip(ended.tolist(), np.diff(at).tolist(), strict=True):
            longest[second] = max(longest.get(second, 0.0), interval)
    return [[second, longest[second]] for second in sorted(longest)]


def limits_of(
    manifest: Mapping[str, Any], loop: str, rate_hz: float, request_below: int = 0
) -> dict[str, float]:
    """Milliseconds that a chunk, and a plan, may take without an underrun.

    In async mode a chunk has the actions that are left when it is asked for. These are half a chunk at most:
    of H rows that took d periods H - d are left, and the next one takes d, too. A plan has the actions of a
    whole plan, as it is asked for so early as recent ones took. In a synchronous loop each has one period.
    """
    chunk, planner, period_ms = manifest["chunk"], manifest["planner"], 1e3 / rate_hz
    if loop != ASYNC:
        return {"chunk": period_ms, **({"plan": period_ms} if planner else {})}
    rows = chunk["horizon"] - chunk["start"]
    # as the loop has it, cpp/src/loop/async/async_options.cpp
    below = request_below or max(rows - chunk["execute"] + 1, min(rows // 2 + 1, rows))
    limits = {"chunk": min(below - 1, rows // 2) * period_ms}
    if planner:
        limits["plan"] = planner["subgoals"] * planner["steps_per_subgoal"] * period_ms
    return limits


def report_markdown(policies: Mapping[str, Mapping[str, Any]], rate_hz: float) -> str:
    """Tables and remarks of all policies."""
    parts = []
    for name, policy in policies.items():
        loops = policy["loops"]
        tables = "\n".join(
            table_of([row(key, loops[key]) for key in loops]) for row in (_kept, _needed, _given)
        )
        remarks = [remark for key in loops for remark in _remarks(key, loops[key])]
        remarks += _commits(loops)
        lines = "".join(f"- {remark}\n" for remark in [*policy["notes"], *remarks])
        parts.append(f"## {name}\n\n{tables}\n{lines}")
    head = (
        f"Periods of {1e3 / rate_hz:g} ms. Missed: periods without an action of the policy, because the one "
        "before took too long (skipped) or there was none to take (underruns). Interval: between two actions "
        f"of the policy, as the robot gets them, ms. Stall: one of more than {STALL_PERIODS:g} periods. Each "
        f"slice of a run begins with {LEAD_IN_S:g} s that do not count, more where there was no action yet: "
        "warm-up, and the first chunk and plan, before which no policy has an action. Wake-up latencies are "
        "of all of it.\n\n"
    )
    return head + "\n".join(parts)


def _kept(name: str, loop: Mapping[str, Any]) -> dict[str, str]:
    spread = loop["interval_ms"]
    shown = {key: "-" if spread is None else f"{spread[key]:.2f}" for key in ("min", "avg", "p99", "max")}
    return {
        "loop": name,
        "periods": f"{loop['due']:,}",
        "missed": f"{loop['missed']:,} ({100 * loop['missed'] / loop['due']:.1f} %)",
        "skipped": f"{loop['skipped']:,}",
        "underruns": f"{loop['missed'] - loop['skipped']:,}",
        "stalls": f"{loop['stalls']:,}",
        **{f"interval {key}": value for key, value in shown.items()},
    }


def _needed(name: str, loop: Mapping[str, Any]) -> dict[str, str]:
    """Milliseconds: needed, at p99, and there."""
    row = {"loop": name}
    for what, has in loop["limits_ms"].items():
        needs = loop["stages_ms"].get(what)
        row |= {
            f"{what}, median ms": "-" if needs is None else f"{needs['p50']:,.2f}",
            f"{what}, p99 ms": "-" if needs is None else f"{needs['p99']:,.2f}",
            f"{what}, max ms": "-" if needs is None else f"{needs['max']:,.2f}",
            f"{what} has, ms": f"{has:,.0f}",
            f"margin of a {what}, ms": "-" if needs is None else f"{has - needs['p99']:,.0f}",
        }
    return row


def _given(name: str, loop: Mapping[str, Any]) -> dict[str, str]:
    system = loop["system"]
    low, high = system["load"]
    return {
        "loop": name,
        "scheduling obtained": "; ".join(system["scheduling"]),
        "awake after, p99 us": f"{system['wake_p99_us']:,.0f}",
        "max us": f"{system['wake_max_us']:,.0f}",
        "involuntary switches": f"{system['involuntary_switches']:,}",
        "page faults, minor / major": f"{system['minor_faults']:,} / {system['major_faults']:,}",
        "load": f"{low:.2f}..{high:.2f}",
    }


def _remarks(name: str, loop: Mapping[str, Any]) -> list[str]:
    found = [f"{name}: not obtained: {refusal}" for refusal in loop["system"]["refusals"]]
    for what, needs in loop["stages_ms"].items():
        has = loop["limits_ms"][what]
        if needs["p99"] > has:
            needed = f"needs {needs['p99']:,.1f} ms a {what} (p99), has {has:,.0f} ms"
            effect = "goals come late" if name == ASYNC and what == "plan" else "periods are missed"
            found.append(f"{name}: {needed}: {effect}")
    if name == ASYNC:
        causes = ", ".join(f"{count} {cause}" for cause, count in loop["underruns"].items() if count)
        found.append(
            f"{name}: underruns by cause: {causes or 'none'}; greatest delay {loop['max_delay']} actions; "
            f"{loop['late_goals']} actions for a late goal"
        )
    return found


def _commits(loops: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Of loops that were measured at different ones."""
    of = {name: loop["measured"]["commit"] for name, loop in loops.items()}
    return [f"{name}: commit {commit}" for name, commit in of.items()] if len(set(of.values())) > 1 else []
