"""A chunk of ACT (d 512, 4 + 1 layers, chunks of 8, a 96 x 96 camera and its goal): keystep against ONNX
Runtime from Python on the same graph, and torch eager.

    python -m benchmarks.act --threads 2 1 --rounds 50
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks import compare
from benchmarks.act_contenders import CONTENDERS
from benchmarks.cases import prepare_case
from benchmarks.floors import graph_cost, measure_peaks
from benchmarks.harness import write_result
from benchmarks.loop import read_manifest
from benchmarks.machine import REPOSITORY, describe_run

REFERENCE = "torch-eager"


@dataclass(frozen=True)
class Options:
    threads: tuple[int, ...] = (2, 1)
    """Thread counts, each a comparison of its own."""
    contenders: tuple[str, ...] = tuple(CONTENDERS)
    """Which take part; torch-eager always does."""
    rounds: int = 50
    """Rounds; every contender runs once per round, in shuffled order."""
    warm_calls: int = 2
    """Untimed calls before each timed one: the contender before has emptied the caches."""
    seed: int = 0
    """Of the order and the images."""
    output: Path = REPOSITORY / "benchmarks" / "results" / "act.json"
    """The JSON result; a Markdown report is written beside it."""


def main(options: Options) -> None:
    """Runs all comparisons and writes the result."""
    describe_run()
    case = prepare_case("act")
    settings = {**asdict(options), "output": options.output.name}
    cases: list[dict[str, Any]] = []
    for threads in options.threads:
        cases.append(measure(case, threads, options))
        print(case_markdown(cases[-1]), flush=True)
        report = "\n".join(case_markdown(each) for each in cases)
        write_result(options.output, "act", settings, {"cases": cases}, report)


def measure(case: Path, threads: int, options: Options) -> dict[str, Any]:
    """One table: every contender with one thread count."""
    names = [name for name in CONTENDERS if name in (REFERENCE, *options.contenders)]
    race = compare.Race(
        module="benchmarks.act_contenders",
        case=case,
        names=names,
        references=dict.fromkeys(names, REFERENCE),
        threads=threads,
        rounds=options.rounds,
        warm_calls=options.warm_calls,
        seed=options.seed,
        label=f"act, {threads} threads",
    )
    cost = graph_cost(case / "bundle.keystep" / read_manifest(case)["graphs"]["act"]["file"])
    peaks = measure_peaks(cost.weight_bytes, threads)
    return {
        "threads": threads,
        "graph": asdict(cost),
        "peaks": asdict(peaks),
        "floor": cost.floor_ms(peaks, runs=1),
        "contenders": compare.run(race),
    }


def case_markdown(case: Mapping[str, Any]) -> str:
    """The table of one comparison; `x floor` is the distance to the higher of the two floors."""
    floor, peaks, cost = case["floor"], case["peaks"], case["graph"]
    return (
        f"## {case['threads']} threads\n\n"
        f"Floor: {floor['memory_ms']:.2f} ms to read {cost['weight_bytes'] / 1e6:.1f} MB of weights "
        f"({peaks['bytes_per_second'] / 1e9:.1f} GB/s), {floor['arithmetic_ms']:.2f} ms for "
        f"{cost['operations'] / 1e6:.0f} MFLOP ({peaks['operations_per_second'] / 1e9:.0f} GFLOP/s).\n\n"
        f"{compare.table(case['contenders'], max(floor.values()))}"
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
