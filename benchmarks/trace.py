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
from benchmarks.harness import write_result
from benchmarks.machine import REPOSITORY, describe_run
from benchmarks.programs import build, run_json
from keystep.evaluate.profile import ROUNDS, Run, shares
from keystep.evaluate.profile_comparison import StageRatio, compare_rounds
from keystep.table_writer import table_of

SPAN_BAR_NS = 1000.0
TICK_BAR = 0.02


@dataclass(frozen=True)
class Options:
    bundle: Path = REPOSITORY / "bundles" / "franka3blocks-state.keystep"
    """Of whose ticks a trace is to take 2 % at most."""
    stub_bundle: Path | None = None
    """A bundle without images; default: the small benchmark policy. The stub engine runs no graph."""
    ticks: int = 2000
    """Of the bundle, with and without a trace."""
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
        tick = traced_tick(options.bundle, options.ticks, file)
    middle = {name: float(np.median([run[name] for run in runs])) for name in runs[0]}
    within = middle["span_on_ns"] <= SPAN_BAR_NS
    interval = "-" if tick.low is None else f"{tick.low:.4f} .. {tick.high:.4f}"
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
            "what": f"a tick of {options.bundle.name}, mean",
            "untraced": f"{tick.a_us:,.1f} us",
            "traced": f"{tick.b_us:,.1f} us",
        },
    ]
    report = (
        f"{table_of(rows)}\na span at most {SPAN_BAR_NS:.0f} ns: {'yes' if within else 'no'}; "
        f"traced over untraced tick {tick.ratio:.4f} (95 %: {interval}), at most {1 + TICK_BAR}: "
        f"{'yes' if tick.ratio <= 1 + TICK_BAR else 'no'}\n"
        f"{middle['bytes'] / middle['events']:.1f} bytes an event, {middle['dropped']:.0f} dropped\n"
    )
    print(report)
    settings = {"ticks": options.ticks, "stub_ticks": options.stub_ticks, "rounds": ROUNDS}
    write_result(options.output, "trace", settings, {"cpp": runs, "tick": vars(tick)}, report)


def traced_tick(bundle: Path, ticks: int, file: Path) -> StageRatio:
    """The mean tick with a trace over that without."""
    with ExitStack() as stack:
        policies = [stack.enter_context(keystep.load(bundle, trace=trace)) for trace in (None, file)]
        runs = [Run(policy, bundle, ticks) for policy in policies]
        for number, share in enumerate(shares(ticks, ROUNDS)):
            for run in runs if number % 2 == 0 else reversed(runs):
                run.advance(share)
    found = compare_rounds(runs[0].rounds, runs[1].rounds, paired=True)
    return next(stage for stage in found if stage.stage == "tick")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
