"""A policy at 50 Hz for minutes, by three loops in turn: keystep async, keystep lockstep, and a synchronous
torch loop, which is what people run today.

    python -m benchmarks.periods                                   # 90 minutes
    python -m benchmarks.periods --seconds 10 --slice-seconds 5    # a look
    python -m benchmarks.periods --policies unet-70m --loops async --append    # a piece, 10 minutes

Each loop has a process of its own and runs a slice of `slice_seconds` while the others sleep, until it has
run for `seconds`. A slice is one run on one grid: two seconds of warm-up, and until there was an action of
the policy, which do not count; then the periods that do. Slices are kept in build/periods until all of the
run is measured: Ctrl-C writes what there is, and the same command goes on from there.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

import keystep
from benchmarks.harness import write_result
from benchmarks.machine import REPOSITORY, describe_run
from benchmarks.periods_figures import figures_of, limits_of, report_markdown
from benchmarks.periods_plot import save_plot
from benchmarks.periods_policies import SHIPPED, UNET, Policy, find_policy
from benchmarks.periods_process import LoopProcess
from benchmarks.periods_slices import ASYNC, LEAD_IN_S, LOCKSTEP, LOOPS, TORCH, Spec
from benchmarks.periods_store import Store, check_bundles, kept_results, merged_results
from keystep.bars import progress_bar
from keystep.files import parse_json
from keystep.machine import usable_cores
from keystep.record.bundles import bundle_digest

NAMES = {"async": ASYNC, "lockstep": LOCKSTEP, "torch": TORCH}


@dataclass(frozen=True)
class Options:
    policies: tuple[str, ...] = (*SHIPPED, UNET)
    """The shipped bundles by name, `unet-70m` (random weights), or folders of bundles, beside which torch
    finds its weights: `checkpoint`, or `planner` and `controller`."""
    loops: tuple[Literal["async", "lockstep", "torch"], ...] = ("async", "lockstep", "torch")
    """Which take part."""
    rate_hz: float = 50.0
    """Periods a second."""
    seconds: float = 600.0
    """Of each loop with each policy."""
    slice_seconds: float = 30.0
    """Of one turn."""
    threads: int = 0
    """Of every engine. 0: in async mode all cores but one, which is left to the tick; else all cores."""
    precision: Literal["bundle", "fp32", "bf16", "int8"] = "bundle"
    """Of keystep's own engine; torch stays at fp32."""
    engine: str = "auto"
    """Of keystep; stub computes nothing."""
    fifo_priority: int = 80
    """SCHED_FIFO for the thread that ticks in async mode; 0: not asked for. A loop that computes inside its
    period does not get it: it would keep everything else from the machine."""
    lock_memory: bool = True
    """mlockall, in async mode."""
    cores: tuple[int, ...] = ()
    """For the thread that ticks in async mode; none: any."""
    fresh: bool = False
    """Forget slices that an earlier, unfinished run of the same settings left."""
    append: bool = False
    """Into the results that are there, of other policies and loops: a long run in pieces. They have to be of
    this machine, the same rate, seconds and slices."""
    redraw: bool = False
    """Measure nothing: the picture of the results that are there."""
    output: Path = REPOSITORY / "benchmarks" / "results" / "periods.json"
    """The JSON result; a Markdown report is written beside it."""
    plot: Path = REPOSITORY / "docs" / "periods.png"
    store: Path = REPOSITORY / "build" / "periods"
    """Folder of the slices of a run that is not finished."""


def main(options: Options) -> int:
    """Measures what is not there yet, writes the results, and returns the exit status."""
    check(options)
    if options.redraw:
        result = parse_json(options.output.read_bytes())
        save_plot(options.plot, result["policies"], result["settings"]["rate_hz"])
        return 0
    describe_run()
    kept = kept_results(options.output, _common(options)) if options.append else {}
    policies = {name: find_policy(name, torch="torch" in options.loops) for name in options.policies}
    check_bundles(kept, {policy.name: bundle_digest(policy.bundle) for policy in policies.values()})
    stores = {name: Store(options.store, _identity(options, policy)) for name, policy in policies.items()}
    if options.fresh:
        for store in stores.values():
            store.clear()
    interrupted = False
    try:
        measure(policies, stores, options)
    except KeyboardInterrupt:
        interrupted = True
    results = results_of(policies, stores, options)
    if results:
        publish(merged_results(kept, results), options)
    if interrupted:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    for store in stores.values():
        store.clear()
    return 0


def check(options: Options) -> None:
    """Raises ArgumentError for what cannot be measured."""
    for name in ("rate_hz", "seconds", "slice_seconds"):
        if not 0 < getattr(options, name) < float("inf"):
            raise keystep.ArgumentError(f"{name}: expected more than 0, got {getattr(options, name):g}")
    if options.rate_hz * options.slice_seconds < 2:
        raise keystep.ArgumentError(
            f"slice_seconds: expected at least two periods, got {options.slice_seconds:g}"
        )
    if not options.loops or not options.policies:
        raise keystep.ArgumentError("loops, policies: expected at least one of each, got none")


def spec_of(options: Options, policy: Policy, loop: str) -> Spec:
    """What one loop runs."""
    beside = max(1, usable_cores() - 1) if loop == ASYNC else 0
    load: dict[str, Any] = {"threads": options.threads or beside, "engine": options.engine}
    if options.precision != "bundle":
        load["precision"] = options.precision
    clock: dict[str, Any] = {}
    if loop == ASYNC:
        clock = {"fifo_priority": options.fifo_priority, "lock_memory": options.lock_memory}
        clock["cores"] = list(options.cores)
    return Spec(loop, str(policy.bundle), options.rate_hz, policy.torch, load, clock)


def measure(policies: dict[str, Policy], stores: dict[str, Store], options: Options) -> None:
    """Slices in turn; policies one after the other."""
    turns = _turns(options)
    with progress_bar() as progress:
        for name, policy in policies.items():
            store, loops = stores[name], _loops(options, policy)
            missing = [(turn, loop) for turn in range(turns) for loop in loops if not store.has(loop, turn)]
            bar = progress.add_task(
                name, total=turns * len(loops), completed=turns * len(loops) - len(missing)
            )
            with ExitStack() as stack:
                running: dict[str, LoopProcess] = {}
                for turn, loop in missing:
                    if loop not in running:
                        running[loop] = stack.enter_context(LoopProcess(spec_of(options, policy, loop)))
                    store.put(loop, turn, running[loop].slice(_periods(options)))
                    progress.advance(bar)


def results_of(
    policies: dict[str, Policy], stores: dict[str, Store], options: Options
) -> dict[str, dict[str, Any]]:
    """Figures of every policy that has at least one slice."""
    found = {}
    for name, policy in policies.items():
        manifest = keystep.read_manifest(policy.bundle)
        loops = {}
        for loop in _loops(options, policy):
            if slices := stores[name].slices(loop, _turns(options)):
                spec = spec_of(options, policy, loop)
                loops[loop] = figures_of(slices, options.rate_hz) | {
                    "limits_ms": limits_of(manifest, loop, options.rate_hz),
                    "options": spec.options,
                    "measured": {key: describe_run()[key] for key in ("commit", "dirty", "started")},
                }
        if loops:
            found[policy.name] = {
                "bundle_sha256": bundle_digest(policy.bundle),
                "notes": [*_chunk_note(manifest), *policy.notes],
                "loops": loops,
            }
    return found


def publish(results: dict[str, dict[str, Any]], options: Options) -> None:
    """Prints the report, writes it, the JSON and the picture."""
    settings = {**asdict(options), "output": options.output.name, "plot": options.plot.name, "store": ""}
    settings |= {"policies": list(results), **_common(options)}
    report = report_markdown(results, options.rate_hz)
    print(report, flush=True)
    write_result(options.output, "periods", settings, {"policies": results}, report)
    save_plot(options.plot, results, options.rate_hz)


def _common(options: Options) -> dict[str, Any]:
    """What has to be the same for figures to stand in one table."""
    names = ("rate_hz", "seconds", "slice_seconds")
    return {name: getattr(options, name) for name in names} | {"lead_in_s": LEAD_IN_S}


def _loops(options: Options, policy: Policy) -> list[str]:
    asked = [NAMES[name] for name in options.loops]
    return [loop for loop in LOOPS if loop in asked and (loop != TORCH or policy.torch)]


def _turns(options: Options) -> int:
    return max(1, round(options.seconds / options.slice_seconds))


def _periods(options: Options) -> int:
    return round(options.slice_seconds * options.rate_hz)


def _chunk_note(manifest: dict[str, Any]) -> Iterator[str]:
    chunk, planner = manifest["chunk"], manifest["planner"]
    plans = (
        f"; plans of {planner['subgoals']} subgoals, {planner['steps_per_subgoal']} actions each"
        if planner
        else ""
    )
    yield f"chunks of {chunk['horizon']} actions, of which {chunk['execute']} are executed in lockstep{plans}"


def _identity(options: Options, policy: Policy) -> Sequence[Any]:
    """What has to be the same for slices to belong together."""
    specs = [asdict(spec_of(options, policy, loop)) for loop in _loops(options, policy)]
    return [specs, options.slice_seconds, keystep.read_manifest(policy.bundle), describe_run()["commit"]]


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Options, description=__doc__)))
    except keystep.Error as error:
        sys.exit(f"error: {error}")
