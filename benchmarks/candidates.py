"""What best of N plans costs: N plans in one batch against N single ones, and the score beside them.

    python -m benchmarks.candidates --bundle bundles/franka3blocks-state.keystep --threads 1 2

The time per plan in a batch is also what plans of N episodes would cost in one batch: the denoise steps,
which are nearly all of a plan, do not ask whose plans they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

import keystep
from benchmarks.harness import interleave, paired_ratio, summarise, write_result
from benchmarks.machine import REPOSITORY, describe_run
from keystep.evaluate.golden_cases import GoldenCase, golden_cases
from keystep.table_writer import markdown_table

SHIPPED = REPOSITORY / "bundles" / "franka3blocks-state.keystep"


@dataclass(frozen=True)
class Options:
    bundle: Path = SHIPPED
    """With a planner."""
    counts: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Candidates."""
    threads: tuple[int, ...] = (1, 2)
    """Thread counts, each a comparison of its own."""
    engine: str = "auto"
    """Of keystep.load."""
    rounds: int = 200
    """Rounds; every contender runs once per round, in shuffled order."""
    seed: int = 0
    """Of the order and the noise."""
    output: Path = REPOSITORY / "benchmarks" / "results" / "candidates.json"
    """The JSON result; a Markdown report is written beside it."""


def main(options: Options) -> None:
    """Runs all comparisons and writes the result."""
    describe_run()
    settings = {**asdict(options), "bundle": options.bundle.name, "output": options.output.name}
    cases: list[dict[str, Any]] = []
    for threads in options.threads:
        cases.append(measure(threads, options))
        print(case_markdown(cases[-1]), flush=True)
        report = "\n".join(case_markdown(case) for case in cases)
        write_result(options.output, "candidates", settings, {"cases": cases}, report)


def measure(threads: int, options: Options) -> dict[str, Any]:
    """One thread count: milliseconds of a plan chosen from each N, and of N single plans."""
    policies = {
        count: keystep.load(options.bundle, threads=threads, engine=options.engine, planner_candidates=count)
        for count in options.counts
    }
    try:
        case = golden_cases(options.bundle, policies[options.counts[0]].manifest)[0]
        single = keystep.load(options.bundle, threads=threads, engine=options.engine)
        contenders = {f"batch {count}": chosen(policy, case) for count, policy in policies.items()}
        contenders["single"] = chosen(single, case)
        if threads == 1:  # of one thread the time that it computes says more, where others compute, too
            contenders |= {f"cpu {count}": computed(policy, case) for count, policy in policies.items()}
        samples = interleave(
            contenders, options.rounds, seed=options.seed, label=f"{threads} threads", settle_ms=2
        )
        rows = [row(count, samples, policies[count]) for count in options.counts]
        description = single.description
        single.close()
    finally:
        for policy in policies.values():
            policy.close()
    return {"threads": threads, "engine": description, "rows": rows, "samples": samples}


def chosen(policy: keystep.Runtime, case: GoldenCase) -> Callable[[int], float]:
    """Milliseconds of one plan in the loop: the stage `plan` of a tick that makes one."""
    policy.reset(instruction=case.instruction, seed=0)

    def call(_: int) -> float:
        total = 0.0
        for timed in (False, True):  # once untimed: the contender before has emptied the caches
            before = policy.latency().stages["plan"]
            policy.replan()
            policy.act(case.observation)
            after = policy.latency().stages["plan"]
            if timed:
                total = after.mean_us * after.count - before.mean_us * before.count
        return total / 1e3

    started = time.perf_counter()
    while time.perf_counter() - started < 0.2:  # caches, clock rate
        call(0)
    policy.reset_latency()
    return call


def computed(policy: keystep.Runtime, case: GoldenCase) -> Callable[[int], float]:
    """Milliseconds of processor time of one plan outside the loop."""

    def call(_: int) -> float:
        policy.predict_candidates(case.observation)
        started = time.process_time()
        policy.predict_candidates(case.observation)
        return (time.process_time() - started) * 1e3

    return call


def row(count: int, samples: dict[str, list[float]], policy: keystep.Runtime) -> dict[str, Any]:
    batch = samples[f"batch {count}"]
    several = [count * milliseconds for milliseconds in samples["single"]]
    score = policy.latency().stages["score"]
    cpu = samples.get(f"cpu {count}")
    return {
        "cpu_ms": summarise(cpu) if cpu else None,
        "cpu_single_over_batch": paired_ratio([count * ms for ms in samples["cpu 1"]], cpu) if cpu else None,
        "candidates": count,
        "batch_ms": summarise(batch),
        "per_plan_ms": summarise([milliseconds / count for milliseconds in batch]),
        "single_over_batch": paired_ratio(several, batch),
        "score_us": {"median": score.p50_us, "p99": score.p99_us},
        "allocations": policy.latency().allocations,
    }


def interval(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"


def case_markdown(case: dict[str, Any]) -> str:
    """A heading and the table of one thread count."""
    header = [
        "N", "plan of N, ms (p99)", "per candidate, ms", "N single plans over it [95 %]",
        "processor time, ms", "N single plans over it [95 %]", "score, us (p99)", "allocations",
    ]  # fmt: skip
    rows = []
    for found in case["rows"]:
        cpu = found["cpu_ms"]
        rows.append(
            [
                str(found["candidates"]),
                f"{found['batch_ms']['median']:.2f} ({found['batch_ms']['p99']:.2f})",
                f"{found['per_plan_ms']['median']:.2f}",
                interval(found["single_over_batch"]),
                f"{cpu['median']:.2f}" if cpu else "",
                interval(found["cpu_single_over_batch"]) if cpu else "",
                f"{found['score_us']['median']:.1f} ({found['score_us']['p99']:.1f})",
                str(found["allocations"]),
            ]
        )
    title = f"## {case['threads']} thread{'s' if case['threads'] > 1 else ''}, {case['engine']}"
    return f"{title}\n\n{markdown_table(header, rows)}\n"


if __name__ == "__main__":
    main(tyro.cli(Options))
