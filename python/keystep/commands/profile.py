"""keystep profile"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

import keystep
from keystep.commands.options import Engine, Isa, Precision, engine_options, refuse_writers, save_figure
from keystep.commands.trace import read
from keystep.evaluate.profile import profile
from keystep.evaluate.profile_comparison import ProfileComparison, compare_bundles, compare_files
from keystep.evaluate.trace_plot import plot_trace
from keystep.files import check_outputs, write_json


def main(
    bundle: Annotated[Path | None, tyro.conf.Positional] = None,
    ticks: int = 2000,
    threads: int = 0,
    provider: str = "cpu",
    inference_steps: int = 0,
    engine: Engine = "auto",
    precision: Precision = "bundle",
    isa: Isa = "best",
    planner_candidates: int = 1,
    planner_score: Literal["bundle", "learned", "density"] = "bundle",
    mode: Literal["lockstep", "async"] = "lockstep",
    merge: str = "",
    merge_decay: Literal["exponential", "linear"] | None = None,
    merge_overlap: int | None = None,
    plan_ahead: int | None = None,
    rate: float | None = None,
    fifo_priority: int = 0,
    cores: tuple[int, ...] = (),
    lock_memory: bool = False,
    trace: Path | None = None,
    plot: Path | None = None,
    compare: tuple[Path, Path] | None = None,
    json: Path | None = None,
) -> None:
    """Measure a bundle on this machine, without a simulator: latency, time per action, allocations, memory.

    Args:
        bundle: the bundle's folder.
        ticks: control periods to run on the observations of the golden data.
        threads: threads inside an operator or a native U-Net; 0: one per physical core.
        provider: cpu, openvino, cuda or tensorrt.
        inference_steps: denoise steps; 0: as the bundle says.
        engine: auto, native, onnxruntime, or stub to measure the loop alone; see `keystep.load`.
        precision: of native U-Nets: fp32, bf16 or int8; as the bundle says.
        isa: instructions of the native kernels; the best that this CPU has.
        planner_candidates: plans sampled at once, of which the best is followed; the stages `plan` and, in
            it, `score` show what a plan costs.
        planner_score: what is best; by the bundle's scorer, if it has one.
        mode: lockstep computes inside the tick; async on threads of their own (docs/real_time.md), ticked in
            one run of the policy's own clock.
        merge: in async mode, how chunks join; this and the next three as `keystep.load` has them.
        merge_decay: of x0blend, how the old chunk's weight falls.
        merge_overlap: of x0blend, the first row of a new chunk that is wholly new.
        plan_ahead: in async mode, a planner is asked so many actions before its goal is used up.
        rate: ticks a second; as fast as they go when not given, in async mode the bundle's control rate.
        fifo_priority: in async mode, SCHED_FIFO for the clock's thread; 0: not asked for.
        cores: in async mode, that the clock's thread is to run on.
        lock_memory: in async mode, mlockall.
        trace: write what each tick took to this file, for https://ui.perfetto.dev and `keystep trace`.
        plot: draw a timeline of ticks and a histogram per stage into this PNG file.
        compare: two bundles, measured in turn, or two files that --json wrote: how many times as long each
            stage of the second takes.
        json: also write the figures to this file.
    """
    refuse_writers(*filter(None, (bundle, *(compare or ()))))
    options: dict[str, Any] = {"threads": threads, "provider": provider, "inference_steps": inference_steps}
    options |= engine_options(engine, precision, isa)
    if mode != "lockstep":
        options["mode"] = mode
    loop = {
        "merge": merge or None,
        "merge_decay": merge_decay,
        "merge_overlap": merge_overlap,
        "plan_ahead": plan_ahead,
    }
    options |= {name: value for name, value in loop.items() if value is not None}
    asked = {"fifo_priority": fifo_priority, "cores": cores, "lock_memory": lock_memory}
    thread = {name: value for name, value in asked.items() if value}
    if planner_candidates != 1:
        options["planner_candidates"] = planner_candidates
    if planner_score != "bundle":
        options["planner_score"] = planner_score
    check_outputs(json=json, plot=plot)
    if compare is not None:
        _refuse_with_compare(bundle=bundle, trace=trace, plot=plot, **thread)
        found = _compare(*compare, ticks, rate, options)
        print(found)
        if json is not None:
            write_json(json, found.to_dict())
        return
    if bundle is None:
        raise keystep.ArgumentError("bundle: expected a folder, or --compare A B, got none")
    with tempfile.TemporaryDirectory() as folder:
        if plot is not None and trace is None:
            trace = Path(folder) / "run.pftrace"
        if trace is not None:
            options["trace"] = trace
        report = profile(bundle, ticks, rate_hz=rate, thread=thread, **options)
        print(report)
        if json is not None:
            write_json(json, report.to_dict())
        if plot is not None:
            assert trace is not None
            save_figure(plot, plot_trace(read(trace)))


def _refuse_with_compare(**given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise keystep.ArgumentError(f"{name}: expected none with --compare, got {value}")


def _compare(a: Path, b: Path, ticks: int, rate: float | None, options: dict[str, Any]) -> ProfileComparison:
    kinds = [path.is_dir() for path in (a, b)]
    if all(kinds):
        return compare_bundles(a, b, ticks, rate, **options)
    if any(kinds):
        raise keystep.ArgumentError(f"compare: expected two bundles or two JSON files, got {a} and {b}")
    return compare_files(a, b)
