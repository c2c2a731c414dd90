"""Planners that write code, at run time: steps of a call that goes on and key-steps, by way to answer.

    PYTHONPATH=tests/support python -m benchmarks.writing --preset tiny --rounds 30

The planner is taught one episode by heart (tests/support/taught_code.py), so that drafts are accepted.
All samples are of our runtime; transformers' `generate` is not beside it yet.
"""

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import tyro
from taught_code import EPISODE, TASK, observed, taught_checkpoint

import keystep
from benchmarks.harness import Contender, interleave, paired_ratio, summarise, write_result
from benchmarks.machine import REPOSITORY, describe_run
from keystep.export.code_bundle import export_code_bundle, load_code_planning
from keystep.table_writer import table_of

WAYS = ("draft", "early_stop", "greedy")
REPLY_TOKENS = 48


@dataclass(frozen=True)
class Options:
    preset: str = "tiny"
    """Or tiny's small relatives: micro, micro-state."""
    rounds: int = 30
    """Episodes of each contender."""
    threads: tuple[int, ...] = (1, 2)
    output: Path = REPOSITORY / "benchmarks" / "results" / "writing.json"
    folder: Path = REPOSITORY / "build" / "benchmark-cases" / "writing"
    """Of the checkpoint and its bundles."""


def main(options: Options) -> None:
    """Measures every way, precision and number of threads, and writes the result."""
    describe_run()
    checkpoint = options.folder / options.preset
    if not (checkpoint / "model.safetensors").exists():
        taught_checkpoint(checkpoint, options.preset)
    planning = load_code_planning(checkpoint, REPLY_TOKENS)
    seen = [observed(planning, lesson) for lesson in EPISODE]
    goes_on: dict[str, list[float]] = {}
    key_steps: dict[str, list[float]] = {}

    def contender(name: str, planner: keystep.CodeRuntime, ready: bool) -> Contender:
        def episode(_: int) -> float:
            planner.reset(TASK)
            times: dict[bool, list[float]] = {False: [], True: []}
            for observation in seen:
                start = perf_counter()
                reply = planner.ask(observation)
                times[reply.key_step].append((perf_counter() - start) * 1e3)
                if ready:
                    planner.prepare()
            goes_on.setdefault(name, []).append(float(np.median(times[False])))
            key_steps.setdefault(name, []).append(float(np.median(times[True])))
            return goes_on[name][-1]

        return episode

    contenders = {}
    for precision in ("fp32", "int8"):
        path = options.folder / f"{options.preset}-{precision}.keystep"
        if not path.exists():
            export_code_bundle(checkpoint, path, precision=precision, reply_tokens=REPLY_TOKENS)
        for threads in options.threads:
            for way in WAYS:
                for ready in (False, True) if way == "draft" else (False,):
                    name = f"{precision}, {threads}, {way}{', prepared' if ready else ''}"
                    planner = keystep.load(path, way=way, threads=threads)
                    contenders[name] = contender(name, planner, ready)
    for episode in contenders.values():
        episode(0)
    goes_on.clear()
    key_steps.clear()
    interleave(contenders, options.rounds, seed=0, label="episodes")
    rows = [_row(name, goes_on, key_steps) for name in contenders]
    note = f"`{options.preset}`, taught one episode by heart. Medians of episodes' median steps, ms.\n\n"
    settings = {"preset": options.preset, "rounds": options.rounds, "weights": "taught one episode"}
    write_result(
        options.output,
        "writing",
        settings,
        {"goes_on": goes_on, "key_steps": key_steps},
        note + table_of(rows),
    )
    print(note + table_of(rows))


def _row(name: str, goes_on: dict[str, list[float]], key_steps: dict[str, list[float]]) -> dict[str, str]:
    best = ", ".join([*name.split(", ")[:2], "draft"])
    ratio = paired_ratio(goes_on[name], goes_on[best])
    on, key = summarise(goes_on[name]), summarise(key_steps[name])
    return {
        "precision, threads, way": name,
        "goes on": f"{on['median']:.2f}",
        "p99": f"{on['p99']:.2f}",
        "times draft": f"{ratio['median']:.2f} ({ratio['low']:.2f} .. {ratio['high']:.2f})",
        "key-step": f"{key['median']:.2f}",
        "its p99": f"{key['p99']:.2f}",
    }


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
