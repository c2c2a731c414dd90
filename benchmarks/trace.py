"""What a trace costs: of a span, of a tick without inference, and of a tick of a real bundle.

    python -m benchmarks.trace --ticks 2000

Bars: 1 us a span, 2 % of the mean tick of a bundle with its engine. The bundle runs traced and untraced in
turn, a round of each, in one process.
"""

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

import keystep
from benchmarks.cases import prepare_case
from benchmarks.harness import paired_ratio, write_result
from benchmarks.machine import REPOSITORY, describe_run
from benchmarks.programs import build, run_json
from keystep.evaluate.profile_run import Run, shares
from keystep.table_writer import table_of

SPAN_BAR_NS = 1000.0
TICK_BAR = 0.02


@dataclass(frozen=True)
class Options:
    bundle: Path = REPOSITORY / "bundles" / "franka3blocks-state.keystep"
    """Of whose ticks a trace is to take 2 % at most."""
    stub_bundle: Path | None = None
    """A bundle without images; default: the small benchmark policy. The stub engine runs no graph."""
    ticks: int = 16_000
    """Of the bundle, with and without a trace."""
    rounds: int = 200
    """Parts of them, in turn; the median of their ratios is reported."""
    stub_ticks: int = 200_000
    repetitions: int = 3
    """Runs of the C++ program; medians are reported."""
    output: Path = REPOSITORY / "benchmarks" / "results" / "trace.json"


def main(options: Options) -> None:
    """Measures all of it and writes the result."""
    describe_run()
    stub = options.stub_bundle or prepare_case("small") / "bundle.keystep"
    program = build("trace_overhead")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.pftrace"
        runs = [run_json(program, stub, options.stub_ticks, file) for _ in range(options.repetitions)]
        ticks = traced_ticks(options.bundle, options.ticks, options.rounds, file)
    ratio = paired_ratio(ticks["traced"], ticks["untraced"])
    middle = {name: float(np.median([run[name] for run in runs])) for name in runs[0]}
    within = middle["span_on_ns"] <= SPAN_BAR_NS
    rows = [
        {
            "what": "a span where nothing is traced",
            "untraced": "-",
            "traced": f"{middle['span_off_ns']:.1f} ns",
        },
        {"what": "a span", "untraced": "-", "traced": f"{middle['span_on_ns']:.1f} ns"},
        {
            "what": "a tick of the stub engine, median",
            "untraced": f"{middle['tick_us']:.3f} us",
            "traced": f"{middle['traced_tick_us']:.3f} us",
        },
        {
            "what": f"a tick of {options.bundle.name}, mean of a round, median of rounds",
            "untraced": f"{np.median(ticks['untraced']):,.1f} us",
            "traced": f"{np.median(ticks['traced']):,.1f} us",
        },
    ]
    report = (
        f"{table_of(rows)}\na span at most {SPAN_BAR_NS:.0f} ns: {'yes' if within else 'no'}; "
        f"traced over untraced tick "
        f"{ratio['median']:.4f} (95 %: {ratio['low']:.4f} .. {ratio['high']:.4f}), at most {1 + TICK_BAR}: "
        f"{'yes' if ratio['median'] <= 1 + TICK_BAR else 'no'}\n"
        f"{middle['bytes'] / middle['events']:.1f} bytes an event, {middle['dropped']:.0f} dropped\n"
    )
    print(report)
    settings = {"ticks": options.ticks, "stub_ticks": options.stub_ticks, "rounds": options.rounds}
    write_result(options.output, "trace", settings, {"cpp": runs, "ticks": ticks, "ratio": ratio}, report)


def traced_ticks(bundle: Path, ticks: int, rounds: int, file: Path) -> dict[str, list[float]]:
    """The mean tick of each round, us: without a trace and with one."""
    with ExitStack() as stack:
        policies = [stack.enter_context(keystep.load(bundle, trace=trace)) for trace in (None, file)]
        runs = [Run(policy, bundle, ticks) for policy in policies]
        for number, share in enumerate(shares(ticks, rounds)):
            for run in runs if number % 2 == 0 else reversed(runs):
                run.advance(share)
    untraced, traced = ([means["tick"] for means in run.rounds] for run in runs)
    return {"untraced": untraced, "traced": traced}


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
