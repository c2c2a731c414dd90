"""Planner and controller together: time per action, keystep against PyTorch with diffusers' schedulers.

    python -m benchmarks.hierarchy --cases shipped image --threads 2 1 --rounds 20

Measured per action over whole plans of M subgoals held for n actions, text and planner included. Also: what
DDPM 100 costs on the same bundle, what guidance costs of a plan, and the heap allocations of replanning.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import tyro

import keystep
from benchmarks import compare
from benchmarks.cases import prepare_case, prepare_shipped_hierarchy
from benchmarks.floors import graph_cost, measure_peaks
from benchmarks.harness import paired_ratio, write_result
from benchmarks.hierarchy_contenders import make_inputs
from benchmarks.loop import read_manifest
from benchmarks.machine import REPOSITORY, describe_run
from keystep.table_writer import table_of

REFERENCE = "torch-eager"
PLANS_DDPM, BOTH_DDPM = "keystep, plans by DDPM 100", "keystep, both by DDPM 100"
GUIDED, UNGUIDED = "plan, guided", "plan, guidance 0"
CONTENDERS = {
    "shipped": (REFERENCE, compare.OURS, PLANS_DDPM, BOTH_DDPM),
    "image": (REFERENCE, compare.OURS, PLANS_DDPM),
}
BARS = {REFERENCE: 4.0, PLANS_DDPM: 2.7, BOTH_DDPM: 2.7}
GUIDANCE_BAR = 2.1


@dataclass(frozen=True)
class Options:
    cases: tuple[str, ...] = tuple(CONTENDERS)
    """shipped: franka3blocks-state and its checkpoints, or its sizes with random weights where those are
    missing; image: a planner of 64 x 64 images, random weights."""
    threads: tuple[int, ...] = (2, 1)
    """Thread counts, each a comparison of its own."""
    rounds: int = 20
    """Rounds; every contender runs once per round, in shuffled order."""
    image_rounds: int = 3
    """The same of the case `image`, whose plans take much longer."""
    warm_calls: int = 1
    """Untimed calls before each timed one: the contender before has emptied the caches."""
    seed: int = 0
    """Of the order and the noise."""
    output: Path = REPOSITORY / "benchmarks" / "results" / "hierarchy.json"
    """The JSON result; a Markdown report is written beside it."""


def main(options: Options) -> None:
    """Runs all comparisons and writes the result."""
    describe_run()
    cases: list[dict[str, Any]] = []
    settings = {**asdict(options), "output": options.output.name}
    for name in options.cases:
        case, weights = find_case(name)
        allocations = count_allocations(case)
        for threads in options.threads:
            found = measure(name, case, threads, options)
            cases.append({"name": name, "weights": weights, **found, "allocations": allocations})
            print(case_markdown(cases[-1]), flush=True)
            report = "\n".join(case_markdown(each) for each in cases)
            write_result(options.output, "hierarchy", settings, {"cases": cases}, report)


def find_case(name: str) -> tuple[Path, str]:
    """The folder of a case, and whose weights it has."""
    if name not in CONTENDERS:
        raise ValueError(f"cases: expected {' or '.join(CONTENDERS)}, got {name!r}")
    shipped = prepare_shipped_hierarchy() if name == "shipped" else None
    if shipped is not None:
        return shipped, "the shipped ones"
    return prepare_case("image-hierarchy" if name == "image" else "state-hierarchy"), "random"


def measure(name: str, case: Path, threads: int, options: Options) -> dict[str, Any]:
    """Both races of one case and thread count: whole hierarchies, and plans alone."""
    planner = read_manifest(case)["planner"]
    rounds = options.image_rounds if name == "image" else options.rounds
    race = compare.Race(
        module="benchmarks.hierarchy_contenders",
        case=case,
        names=CONTENDERS[name],
        references=dict.fromkeys((REFERENCE, compare.OURS), REFERENCE),
        threads=threads,
        rounds=rounds,
        warm_calls=options.warm_calls,
        seed=options.seed,
        label=f"{name}, {threads} threads",
        per=planner["subgoals"] * planner["steps_per_subgoal"],
    )
    plans = replace(
        race, names=(GUIDED, UNGUIDED), references={}, label=f"{race.label}, plans", rounds=3 * rounds, per=1
    )
    return {
        "threads": threads,
        "actions_per_plan": race.per,
        "guidance": planner["sampler"]["guidance"],
        **floors(case, threads),
        "contenders": compare.run(race),
        "plans": compare.run(plans),
    }


def floors(case: Path, threads: int) -> dict[str, Any]:
    """What an action cannot go below here: all graphs but `text`, which runs once per episode."""
    manifest = read_manifest(case)
    planner = manifest["planner"]
    chunks = planner["subgoals"] * ceil(planner["steps_per_subgoal"] / manifest["chunk"]["execute"])
    runs = {
        "plan_encode": 1,
        "plan_film": 1,
        "plan_denoise": planner["sampler"]["inference_steps"],
        "encode": chunks,
        "film": chunks,
        "denoise": chunks * manifest["sampler"]["inference_steps"],
    }
    actions = planner["subgoals"] * planner["steps_per_subgoal"]
    graphs, floor = {}, {"memory_ms": 0.0, "arithmetic_ms": 0.0}
    for name in runs.keys() & manifest["graphs"].keys():
        file = case / "bundle.keystep" / manifest["graphs"][name]["file"]
        cost = graph_cost(file, rows=2 if planner["sampler"]["guidance"] else 1)
        peaks = measure_peaks(cost.weight_bytes, threads)
        graphs[name] = {**asdict(cost), "runs_per_plan": runs[name], "peaks": asdict(peaks)}
        for bound, milliseconds in cost.floor_ms(peaks, runs[name]).items():
            floor[bound] += milliseconds / actions
    return {"graphs": graphs, "floor": floor}


def count_allocations(case: Path) -> dict[str, int]:
    """Heap allocations of keystep's own code in an episode that replans, by itself and when asked."""
    text, observations, seed = make_inputs(case, 0)
    with keystep.load(case / "bundle.keystep", threads=1, planner_steps=2, replan=True) as runtime:
        runtime.reset(instruction=text, seed=seed)
        for observation in observations:
            runtime.act(observation)
        runtime.reset_latency()
        for observation in observations:  # the first plan is used up: begins with a new one
            runtime.act(observation)
        runtime.replan()
        runtime.act(observations[0])
        report = runtime.latency()
    return {"ticks": report.actions, "plans": report.plans, "allocations": report.allocations}


def case_markdown(case: Mapping[str, Any]) -> str:
    """The tables of one comparison."""
    floor, counted = case["floor"], case["allocations"]
    return (
        f"## {case['name']}, {case['threads']} threads\n\n"
        f"Milliseconds per action over whole plans of {case['actions_per_plan']} actions; "
        f"weights: {case['weights']}. Floor of an action: {floor['memory_ms']:.4f} ms to read the weights "
        f"of all graph runs of a plan, {floor['arithmetic_ms']:.4f} ms for their operations.\n\n"
        f"{compare.table(case['contenders'], max(floor.values()), digits=3)}\n"
        f"{table_of(bars(case))}\n"
        f"{counted['allocations']} heap allocations in {counted['ticks']} ticks "
        f"that made {counted['plans']} plans.\n"
    )


def bars(case: Mapping[str, Any]) -> list[dict[str, str]]:
    """What was to be reached, and what was. The ratios are medians over the rounds."""
    times = {entry["name"]: entry["times_keystep"] for entry in case["contenders"]}
    rows = [
        _bar(f"{name}, times keystep", times[name], f"at least {bar}", times[name]["median"] >= bar)
        for name, bar in BARS.items()
        if name in times
    ]
    guided, unguided = (entry["samples_ms"] for entry in case["plans"])
    ratio = paired_ratio(guided, unguided)
    medians = " : ".join(f"{entry['ms']['median']:.2f} ms" for entry in case["plans"])
    figure = f"a plan with guidance {case['guidance']}, times one with 0 ({medians})"
    return [*rows, _bar(figure, ratio, f"less than {GUIDANCE_BAR}", ratio["median"] < GUIDANCE_BAR)]


def _bar(figure: str, ratio: Mapping[str, float], bar: str, within: bool) -> dict[str, str]:
    measured = "{median:.2f} ({low:.2f}-{high:.2f})".format(**ratio)
    return {"figure": figure, "measured (95 %)": measured, "bar": bar, "within": "yes" if within else "no"}


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
