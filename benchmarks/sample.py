"""The 10-step DDIM sample of three U-Net sizes: keystep against what users run today.

    python -m benchmarks.sample --sizes small medium paper --threads 1 2 --rounds 20

Each contender predicts the same chunks from the same observations and noise. Outputs are compared in every
round; one that differs from torch by more than 1e-4 ends the run.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks.cases import SIZES, prepare_case
from benchmarks.contenders import CONTENDERS, read_manifest
from benchmarks.floors import graph_cost, measure_peaks
from benchmarks.harness import interleave, markdown_table, paired_ratio, summarise, write_result
from benchmarks.machine import REPOSITORY, describe_machine
from benchmarks.openvino_env import PYTHON as OPENVINO_PYTHON
from benchmarks.worker import Worker

REFERENCE = "torch-eager"
OURS = "keystep"
TOLERANCE = 1e-4


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
            cases.append(compare(size, threads, options))
            print(case_markdown(cases[-1]), flush=True)
            report = "\n".join(case_markdown(case) for case in cases)
            settings = {**asdict(options), "output": options.output.name}
            write_result(
                options.output, "sample", settings, {"cases": cases}, report
            )  # Ctrl-C keeps what is done


def compare(size: str, threads: int, options: Options) -> dict[str, Any]:
    """One table: every contender on one size and thread count."""
    case = prepare_case(size)
    names = [name for name in CONTENDERS if name in (REFERENCE, *options.contenders)]
    if not OPENVINO_PYTHON.exists():
        names = [name for name in names if name != "keystep-openvino"]
    workers: dict[str, Worker] = {}
    try:
        for name in names:
            python = OPENVINO_PYTHON if name == "keystep-openvino" else None
            workers[name] = Worker(name, case, threads, python)
        outputs = {name: {-1: workers[name].predict(options.seed, calls=2)} for name in names}
        for name in names:
            max_difference(name, outputs)  # raises before any time is spent on a wrong answer

        def turn(name: str) -> Callable[[int], float]:
            def run(round_index: int) -> float:
                answer = workers[name].predict(options.seed + 1 + round_index, options.warm_calls + 1)
                outputs[name][round_index] = answer
                return float(answer["ms"])

            return run

        turns = {name: turn(name) for name in names}
        samples = interleave(turns, options.rounds, seed=options.seed, label=f"{size}, {threads} threads")
    finally:
        for worker in workers.values():
            worker.close()
    return {
        "size": size,
        "down_dims": SIZES[size],
        "threads": threads,
        **floors(case, threads),
        "contenders": [
            {
                "name": name,
                "description": workers[name].description,
                "ms": summarise(samples[name]),
                "times_keystep": paired_ratio(samples[name], samples.get(OURS, samples[name])),
                "max_abs_difference": max_difference(name, outputs),
                "peak_rss_mb": max(answer["peak_rss_mb"] for answer in outputs[name].values()),
                "samples_ms": samples[name],
            }
            for name in names
        ],
    }


def max_difference(name: str, outputs: dict[str, dict[int, Any]]) -> float:
    """Largest difference of any action value from the reference, over all rounds. Raises when not equal."""
    worst = 0.0
    for round_index, answer in outputs[name].items():
        reference = np.asarray(outputs[REFERENCE][round_index]["actions"])
        worst = max(worst, float(np.abs(np.asarray(answer["actions"]) - reference).max()))
    if not worst <= TOLERANCE:
        raise AssertionError(
            f"{name}: expected the actions of {REFERENCE} within {TOLERANCE}, got {worst:.3g} off"
        )
    return worst


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
    bound = max(floor.values())
    rows = [
        {
            "contender": contender["name"],
            "median ms": f"{contender['ms']['median']:.2f}",
            "p90": f"{contender['ms']['p90']:.2f}",
            "p99": f"{contender['ms']['p99']:.2f}",
            "times keystep (95 %)": "{median:.2f} ({low:.2f}-{high:.2f})".format(
                **contender["times_keystep"]
            ),
            "x floor": f"{contender['ms']['median'] / bound:.2f}",
            "max difference": f"{contender['max_abs_difference']:.1e}",
            "peak MB": f"{contender['peak_rss_mb']:.0f}",
        }
        for contender in case["contenders"]
    ]
    dims = "-".join(map(str, case["down_dims"]))
    return (
        f"## {case['size']} ({dims}), {case['threads']} threads\n\n"
        f"Floor: {floor['memory_ms']:.2f} ms to read {cost['weight_bytes'] / 1e6:.1f} MB of weights a step "
        f"({peaks['bytes_per_second'] / 1e9:.1f} GB/s), {floor['arithmetic_ms']:.2f} ms for "
        f"{cost['operations'] / 1e6:.0f} MFLOP a step ({peaks['flops'] / 1e9:.0f} GFLOP/s).\n\n"
        f"{markdown_table(rows)}"
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
