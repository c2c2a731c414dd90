"""Our own cost of a control period: a tick that takes its action from the chunk, with the stub engine.

In async mode: any tick, 100 us after the one before, while the real engine makes chunks on other threads; and
what passes between an interrupt and the first new action while the engine takes no time.

    python -m benchmarks.overhead --ticks 200000

Measured in C++ (with every heap allocation counted) and from Python. Bars: 5 us median and no allocation in
C++, 2 us median and 20 us p99 in async mode, 100 us median for an interrupt, 20 us median from Python.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import keystep
from benchmarks.cases import prepare_case
from benchmarks.harness import summarise, write_result
from benchmarks.machine import REPOSITORY, describe_run
from benchmarks.programs import build, run_json
from keystep.evaluate.profile_run import renews_chunk
from keystep.features import feature_of
from keystep.libraries import find_onnxruntime
from keystep.table_writer import table_of

CPP_BAR_US = 5.0
ASYNC_BAR_US, ASYNC_P99_BAR_US = 2.0, 20.0
INTERRUPT_BAR_US = 100.0
PYTHON_BAR_US = 20.0


@dataclass(frozen=True)
class Options:
    bundle: Path | None = None
    """A bundle without images; default: the small benchmark policy. The stub engine runs no graph."""
    ticks: int = 200_000
    """Ticks per repetition; in async mode a tenth of them."""
    repetitions: int = 5
    """C++ and Python take turns this often; the medians of the repetitions are reported."""
    output: Path = REPOSITORY / "benchmarks" / "results" / "overhead.json"


def main(options: Options) -> None:
    """Measures both sides in turn and writes the result."""
    describe_run()
    bundle = options.bundle or prepare_case("small") / "bundle.keystep"
    program = build("tick_overhead")
    os.environ["KEYSTEP_ONNXRUNTIME"] = str(find_onnxruntime())
    cpp, beside, interrupted, python = [], [], [], []
    for _ in range(options.repetitions):
        cpp.append(run_json(program, bundle, options.ticks))
        beside.append(run_json(program, bundle, options.ticks // 10, "async", "auto"))
        interrupted.append(run_json(program, bundle, options.ticks // 20, "interrupts", "stub"))
        python.append(python_act(bundle, options.ticks))
    rows = [
        _row("C++ tick", cpp, CPP_BAR_US),
        _row("C++ tick, async", beside, ASYNC_BAR_US, ASYNC_P99_BAR_US),
        _interrupt_row(interrupted),
        _row("Python act", python, PYTHON_BAR_US),
    ]
    report = (
        f"{table_of(rows)}\n"
        f"{_total(beside, 'chunks')} chunks were made beside {_total(beside, 'ticks')} ticks in async mode; "
        f"longest of those ticks {max(run['max_us'] for run in beside):,.0f} us, "
        f"{_total(beside, 'involuntary_switches')} involuntary switches. Of each C++ time "
        f"{cpp[0]['clock_us']:.3f} us are the clock itself.\n"
    )
    print(report)
    settings = {"ticks": options.ticks, "repetitions": options.repetitions}
    write_result(
        options.output,
        "overhead",
        settings,
        {"cpp": cpp, "async": beside, "interrupts": interrupted, "python": python},
        report,
    )


def python_act(bundle: Path, ticks: int) -> dict[str, float]:
    """Microseconds of `Runtime.act` where no chunk is sampled."""
    times: list[int] = []
    with keystep.load(bundle, engine="stub") as runtime:
        manifest: dict[str, Any] = runtime.manifest
        state_size = feature_of(manifest, "observation.state")[0].width
        observation = {"observation.state": np.full(state_size, 0.1, np.float32)}
        runtime.reset(task=runtime.task_names[0] if runtime.task_names else None)
        for index in range(ticks):
            start = time.perf_counter_ns()
            runtime.act(observation)
            elapsed = time.perf_counter_ns() - start
            if not renews_chunk(manifest, index):
                times.append(elapsed)
    found = summarise([elapsed / 1e3 for elapsed in times])
    return {f"{name}_us": found[name] for name in ("median", "p90", "p99", "min", "max")}


def _total(runs: list[dict[str, Any]], field: str) -> int:
    return sum(run[field] for run in runs)


def _median(runs: list[dict[str, Any]], field: str) -> float:
    return float(np.median([run[field] for run in runs]))


def _row(side: str, runs: list[dict[str, Any]], bar: float, p99_bar: float | None = None) -> dict[str, str]:
    """Medians of the repetitions, and all allocations."""
    median, p99 = _median(runs, "median_us"), _median(runs, "p99_us")
    within = median <= bar and (p99_bar is None or p99 <= p99_bar)
    allocations = "-"
    if all("allocations" in run for run in runs):
        allocations = f"{_total(runs, 'allocations')} in {_total(runs, 'ticks')}"
        within = within and _total(runs, "allocations") == 0
    return {
        "side": side,
        "median us": f"{median:.3f}",
        "bar us": f"{bar:.0f}",
        "p99 us": f"{p99:.3f}",
        "p99 bar us": "-" if p99_bar is None else f"{p99_bar:.0f}",
        "allocations": allocations,
        "within": "yes" if within else "no",
    }


def _interrupt_row(runs: list[dict[str, Any]]) -> dict[str, str]:
    """From an interrupt to the first new action where the engine takes no time: what is our own."""
    ours, allocations = _median(runs, "median_us"), _total(runs, "allocations")
    return {
        "side": "interrupt to first new action, stub engine",
        "median us": f"{ours:.1f}",
        "bar us": f"{INTERRUPT_BAR_US:.0f}",
        "p99 us": f"{_median(runs, 'p99_us'):.1f}",
        "p99 bar us": "-",
        "allocations": f"{allocations} in {_total(runs, 'interrupts')}",
        "within": "yes" if ours <= INTERRUPT_BAR_US and not allocations else "no",
    }


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
