"""A chunk beside other work: median and p99 of keystep's engine, by how long its waiting threads spin and
whether they are pinned, and of ONNX Runtime, beside 0, 1 and 2 processes that never rest.

    python -m benchmarks.native_contention --busy 0 1 2 --size small --rounds 200
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks import compare
from benchmarks.cases import prepare_case
from benchmarks.harness import write_result
from benchmarks.machine import REPOSITORY, describe_run
from benchmarks.native_contenders import ONNXRUNTIME, make_inputs, native
from keystep.table_writer import table_of

__all__ = ["CONTENDERS", "make_inputs"]
REFERENCE = "onnxruntime"
SPIN_US = (0, 20, 100, 1000)
CONTENDERS = {
    REFERENCE: ONNXRUNTIME,
    **{
        f"native, spin {spin} us" + (", pinned" if pinned else ""): native(
            "fp32", spin_us=spin, pin_threads=pinned
        )
        for spin in SPIN_US
        for pinned in (False, True)
    },
}


@dataclass(frozen=True)
class Options:
    busy: tuple[int, ...] = (0, 1, 2)
    """Numbers of competing processes, each a comparison of its own."""
    size: str = "small"
    """U-Net size: small, medium or paper."""
    threads: int = 2
    """Threads of every contender."""
    rounds: int = 200
    """Rounds; every contender runs once per round, in shuffled order."""
    warm_calls: int = 1
    """Untimed calls before each timed one: the contender before has emptied the caches."""
    seed: int = 0
    """Of the order, the observations and the noise."""
    output: Path = REPOSITORY / "benchmarks" / "results" / "native-contention.json"
    """The JSON result; a Markdown report is written beside it."""


def main(options: Options) -> None:
    """Runs all comparisons and writes the result after each."""
    describe_run()
    settings = {**asdict(options), "output": options.output.name}
    cases: list[dict[str, Any]] = []
    for count in options.busy:
        cases.append({"busy": count, "contenders": measure(count, options)})
        print(case_markdown(cases[-1]), flush=True)
        report = "\n".join(map(case_markdown, cases))
        write_result(options.output, "native-contention", settings, {"cases": cases}, report)


def measure(count: int, options: Options) -> list[dict[str, Any]]:
    """All contenders beside `count` busy processes."""
    race = compare.Race(
        module="benchmarks.native_contention",
        case=prepare_case(options.size),
        names=tuple(CONTENDERS),
        references=dict.fromkeys(CONTENDERS, REFERENCE),
        threads=options.threads,
        rounds=options.rounds,
        warm_calls=options.warm_calls,
        seed=options.seed,
        label=f"beside {count} busy",
    )
    with busy_processes(count):
        return compare.run(race)


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Each wants a whole core, all the time."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def case_markdown(case: Mapping[str, Any]) -> str:
    rows = [
        {
            "contender": each["name"],
            **{
                f"{label} ms": f"{each['ms'][key]:.2f}"
                for label, key in (("median", "median"), ("p90", "p90"), ("p99", "p99"), ("max", "max"))
            },
        }
        for each in case["contenders"]
    ]
    return f"## Beside {case['busy']} busy processes\n\n{table_of(rows)}"


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
