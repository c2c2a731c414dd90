"""A chunk of a 1-D U-Net policy by 10 DDIM steps: keystep's own engine against what users run today.

    python -m benchmarks.native --sizes small medium paper --threads 1 2 --rounds 20

Each contender predicts the same chunks from the same observations and noise. Outputs are compared in every
round; one with fp32 weights that differs from torch by more than 1e-4 ends the run, others have their error
reported. OpenVINO takes part where `benchmarks.openvino_env` was run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks import compare, native_openvino
from benchmarks.cases import SIZES, prepare_case
from benchmarks.harness import paired_ratio, write_result
from benchmarks.loop import Scaling, read_manifest
from benchmarks.machine import REPOSITORY, describe_run
from benchmarks.native_contenders import CONTENDERS
from benchmarks.native_floors import chunk_floors
from benchmarks.openvino_env import PYTHON as OPENVINO_PYTHON
from keystep.table_writer import table_of

REFERENCE = "torch-eager"
LEGEND = """\
`times torch` and `times OpenVINO` say how many times as fast a contender is, as the median ratio of the same
rounds (95 % bootstrap interval); OpenVINO's is its fastest of the same precision. `x floor` is the distance
to the floor of the contender's precision. `error` is the greatest difference to torch over torch's greatest
action, `rms` the root of its mean square over that of torch's actions, both in the network's units. `load`
leaves out imports; `peak MB` is of the contender's whole process, loading included.
"""


@dataclass(frozen=True)
class Options:
    sizes: tuple[str, ...] = tuple(SIZES)
    """U-Net sizes, of small (128-256-384), medium (256-512-1024) and paper (512-1024-2048)."""
    threads: tuple[int, ...] = (1, 2)
    """Thread counts, each a comparison of its own."""
    contenders: tuple[str, ...] = tuple(CONTENDERS)
    """Which take part; torch-eager always does."""
    rounds: int = 20
    """Rounds; every contender runs once per round, in shuffled order."""
    warm_calls: int = 1
    """Untimed calls before each timed one: the contender before has emptied the caches."""
    seed: int = 0
    """Of the order, the observations and the noise."""
    output: Path = REPOSITORY / "benchmarks" / "results" / "native.json"
    """The JSON result; a Markdown report is written beside it."""


def main(options: Options) -> None:
    """Runs all comparisons and writes the result after each: Ctrl-C keeps what is done."""
    describe_run()
    unknown = set(options.contenders) - CONTENDERS.keys()
    if unknown:
        raise SystemExit(f"contenders: expected some of {', '.join(CONTENDERS)}, got {', '.join(unknown)}")
    settings = {**asdict(options), "output": options.output.name}
    cases: list[dict[str, Any]] = []
    for size in options.sizes:
        for threads in options.threads:
            cases.append(measure(size, threads, options))
            print(case_markdown(cases[-1]), flush=True)
            report = "\n".join([LEGEND, *map(case_markdown, cases)])
            write_result(options.output, "native", settings, {"cases": cases}, report)


def measure(size: str, threads: int, options: Options) -> dict[str, Any]:
    """One table: every contender on one size and thread count."""
    case = prepare_case(size)
    names = [name for name in CONTENDERS if name in (REFERENCE, *options.contenders)]
    missing = [name for name in names if CONTENDERS[name].python and not OPENVINO_PYTHON.exists()]
    names = [name for name in names if name not in missing]
    if any(name.startswith("openvino-int8") for name in names):
        native_openvino.prepare(case)
    race = compare.Race(
        module="benchmarks.native_contenders",
        case=case,
        names=names,
        references=dict.fromkeys(names, REFERENCE),
        threads=threads,
        rounds=options.rounds,
        warm_calls=options.warm_calls,
        seed=options.seed,
        label=f"{size}, {threads} threads",
        normalize=Scaling(read_manifest(case)).normalized_action,
    )
    figures = compare.run(race)
    ran = [figure for figure in figures if "left_out" not in figure]
    return {
        "size": size,
        "down_dims": SIZES[size],
        "threads": threads,
        "floors": chunk_floors(case, threads),
        "contenders": [figure | ratios(figure, ran) for figure in ran],
        "left_out": {
            **{figure["name"]: figure["left_out"] for figure in figures if "left_out" in figure},
            **dict.fromkeys(missing, "benchmarks.openvino_env was not run"),
        },
    }


def ratios(figure: Mapping[str, Any], ran: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many times as fast as torch, and as OpenVINO at its fastest with weights of the same precision."""
    rivals = [
        other
        for other in ran
        if other["name"].startswith("openvino-") and other["precision"] == figure["precision"]
    ]
    best = min(rivals, key=lambda other: float(other["ms"]["median"]), default=None)
    torch = next(other for other in ran if other["name"] == REFERENCE)
    found: dict[str, Any] = {"times_torch": paired_ratio(torch["samples_ms"], figure["samples_ms"])}
    if best is not None:
        found["times_openvino"] = paired_ratio(best["samples_ms"], figure["samples_ms"])
        found["openvino"] = best["name"]
    return found


def case_markdown(case: Mapping[str, Any]) -> str:
    """The floors and the table of one comparison."""
    dims = "-".join(map(str, case["down_dims"]))
    left_out = "".join(f"\nLeft out: {name} ({reason}).\n" for name, reason in case["left_out"].items())
    return (
        f"## {case['size']} ({dims}), {case['threads']} threads\n\n"
        f"{table_of([_floor_row(*item) for item in case['floors'].items()])}\n"
        f"{table_of([_row(figure, case['floors']) for figure in case['contenders']])}{left_out}"
    )


def _floor_row(precision: str, floor: Mapping[str, Any]) -> dict[str, str]:
    peaks, step = floor["peaks"], floor["step"]
    return {
        "floor": precision,
        "MB a step": f"{step['weight_bytes'] / 1e6:.1f}",
        "GB/s": f"{peaks['bytes_per_second'] / 1e9:.1f}",
        "memory ms": f"{floor['memory_ms']:.2f}",
        "MOP a step": f"{step['operations'] / 1e6:.0f}",
        "GOP/s": f"{peaks['operations_per_second'] / 1e9:.0f}",
        "arithmetic ms": f"{floor['arithmetic_ms']:.2f}",
        "read fastest by": peaks["how"],
    }


def _row(figure: Mapping[str, Any], floors: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    times = figure["ms"]
    return {
        "contender": figure["name"],
        "median ms": f"{times['median']:.2f}",
        "p99": f"{times['p99']:.2f}",
        "times torch (95 %)": _ratio(figure["times_torch"]),
        "times OpenVINO (95 %)": _ratio(figure["times_openvino"]) if "times_openvino" in figure else "",
        "x floor": f"{times['median'] / floors[figure['precision']]['floor_ms']:.2f}",
        "error": f"{figure['max_relative']:.1e}",
        "rms": f"{figure['rms_relative']:.1e}",
        "load s": f"{figure['load_ms'] / 1e3:.2f}",
        "peak MB": f"{figure['peak_rss_mb']:.0f}",
    }


def _ratio(ratio: Mapping[str, float]) -> str:
    return "{median:.2f} ({low:.2f}-{high:.2f})".format(**ratio)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
