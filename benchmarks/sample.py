"""The 10-step DDIM sample of three U-Net sizes: keystep against what users run today.

    python -m benchmarks.sample --sizes small medium paper --threads 1 2 --rounds 20

Each contender predicts the same chunks from the same observations and noise. Outputs are compared in every
round; one that differs from torch by more than 1e-4 ends the run.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks import compare
from benchmarks.cases import SIZES, prepare_case
from benchmarks.contenders import CONTENDERS, read_manifest
from benchmarks.floors import graph_cost, measure_peaks
from benchmarks.harness import write_result
from benchmarks.machine import REPOSITORY, describe_machine
from benchmarks.openvino_env import PYTHON as OPENVINO_PYTHON

REFERENCE = "torch-eager"


@dataclass(frozen=True)
class Options:
    sizes: tuple[str, ...] = tuple(SIZES)
    """U-Net sizes, of small (128-256-384), medium (256-512-1024) and paper (512-1024-2048)."""
    threads: tuple[int, ...] = (1, 2)
    """Thread counts, each a comparison of its own."""
    contenders: tuple[str, ...] = tuple(CONTENDERS)
    """Which take part; torch-eager always does, keystep-openvino needs `benchmarks.openvino_env`."""
    rounds: int = 20
    """Rounds; every contender runs once per round, in shuffled order."""
    warm_calls: int = 1
    """Untimed calls before each timed one: the contender before has emptied the caches."""
    seed: int = 0
    """Of the order, the observations and the noise."""
    output: Path = REPOSITORY / "benchmarks" / "results" / "sample.json"
    """The JSON result; a Markdown report is written beside it."""


def main(options: Options) -> None:
    """Runs all comparisons and writes the result."""
    describe_machine()
    cases = []
    for size in options.sizes:
        for threads in options.threads:
            cases.append(measure(size, threads, options))
            print(case_markdown(cases[-1]), flush=True)
            report = "\n".join(case_markdown(case) for case in cases)
            settings = {**asdict(options), "output": options.output.name}
            write_result(
                options.output, "sample", settings, {"cases": cases}, report
            )  # Ctrl-C keeps what is done


def measure(size: str, threads: int, options: Options) -> dict[str, Any]:
    """One table: every contender on one size and thread count."""
    case = prepare_case(size)
    names = [name for name in CONTENDERS if name in (REFERENCE, *options.contenders)]
    if not OPENVINO_PYTHON.exists():
        names = [name for name in names if name != "keystep-openvino"]
    race = compare.Race(
        module="benchmarks.contenders",
        case=case,
        names=names,
        references=dict.fromkeys(names, REFERENCE),
        threads=threads,
        rounds=options.rounds,
        warm_calls=options.warm_calls,
        seed=options.seed,
        label=f"{size}, {threads} threads",
        pythons={"keystep-openvino": OPENVINO_PYTHON},
    )
    return {
        "size": size,
        "down_dims": SIZES[size],
        "threads": threads,
        **floors(case, threads),
        "contenders": compare.run(race),
    }


def floors(case: Path, threads: int) -> dict[str, Any]:
    """What the denoise steps cannot go below here."""
    manifest = read_manifest(case)
    cost = graph_cost(case / "bundle.keystep" / manifest["graphs"]["denoise"]["file"])
    peaks = measure_peaks(cost.weight_bytes, threads)
    floor = cost.floor_ms(peaks, manifest["sampler"]["inference_steps"])
    return {"denoise_step": asdict(cost), "peaks": asdict(peaks), "floor": floor}


def case_markdown(case: dict[str, Any]) -> str:
    """The table of one comparison; `x floor` is the distance to the higher of the two floors."""
    floor, peaks, cost = case["floor"], case["peaks"], case["denoise_step"]
    dims = "-".join(map(str, case["down_dims"]))
    return (
        f"## {case['size']} ({dims}), {case['threads']} threads\n\n"
        f"Floor: {floor['memory_ms']:.2f} ms to read {cost['weight_bytes'] / 1e6:.1f} MB of weights a step "
        f"({peaks['bytes_per_second'] / 1e9:.1f} GB/s), {floor['arithmetic_ms']:.2f} ms for "
        f"{cost['operations'] / 1e6:.0f} MFLOP a step ({peaks['flops'] / 1e9:.0f} GFLOP/s).\n\n"
        f"{compare.table(case['contenders'], max(floor.values()))}"
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
