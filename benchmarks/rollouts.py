"""Collection of rollouts: what one costs and what it is made of, one process, two, and Ray.

    python -m benchmarks.rollouts --rollouts 300

All rollouts have the full 65 steps (none is kept), planning included. Bars: 20 a second on one core, 1.7
times as many with two processes. The parts are processor time of one process, the kinds of collection are
wall time.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import tyro

from benchmarks.harness import write_result
from benchmarks.machine import REPOSITORY, describe_run
from keystep.record.contexts import Contexts
from keystep.record.player import RolloutPlayer
from keystep.record.rollouts import RolloutSettings, collect_rollouts
from keystep.suites import suite_named
from keystep.table_writer import table_of

BAR_PER_SECOND = 20.0
BAR_RATIO = 1.7


@dataclass(frozen=True)
class Options:
    bundle: Path = REPOSITORY / "bundles" / "franka3blocks-state.keystep"
    rollouts: int = 300
    """Of each kind of collection, about."""
    processes: tuple[int, ...] = (1, 2)
    ray: bool = True
    """Also over a Ray cluster of this machine, with the most of `processes`."""
    output: Path = REPOSITORY / "benchmarks" / "results" / "rollouts.json"


def main(options: Options) -> None:
    """Measures parts and kinds of collection, and writes the result."""
    describe_run()
    suite = suite_named("franka3blocks")
    tasks = tuple(suite.tasks)
    contexts = max(1, options.rollouts // (5 * len(tasks)))
    settings = RolloutSettings(success_frames=64, replayed_per_task=0, max_contexts=contexts)
    costs = parts(options.bundle, replace(settings, trials=1))
    rows = [{"part": name, "ms of one core": f"{value:.1f}"} for name, value in costs.items()]
    report = table_of(rows)
    speeds = {}
    for processes in options.processes:
        speeds[_named(processes)] = speed(options.bundle, settings, processes, None)
    if options.ray:
        speeds["Ray"] = speed(options.bundle, settings, max(options.processes), "local")
    first = next(iter(speeds.values()))
    rows = [
        {"collection": name, "rollouts a second": f"{value:.1f}", "times": f"{value / first:.2f}"}
        for name, value in speeds.items()
    ]
    report += (
        f"\n{table_of(rows)}\nBars: {BAR_PER_SECOND:g} a second, {BAR_RATIO:g} times with two processes.\n"
    )
    print(report)
    told = {"rollouts": options.rollouts, "trials": 5}
    write_result(options.output, "rollouts", told, {"parts_ms": costs, "per_second": speeds}, report)


def _named(processes: int) -> str:
    return "1 process" if processes == 1 else f"{processes} processes"


def parts(bundle: Path, settings: RolloutSettings) -> dict[str, float]:
    """Median processor time of a rollout in milliseconds, and of what it is made of."""
    player = RolloutPlayer(bundle, settings)
    spent: dict[str, float] = {}
    env, policy = player._env, player._policy
    for owner, name, part in ((env, "reset", "reset"), (env, "step", "simulator"), (policy, "act", "policy")):
        setattr(owner, name, _timed(getattr(owner, name), part, spent))
    contexts = Contexts(suite_named("franka3blocks"), ["push_red_left", "stack"], 0, [])
    samples = []
    for number in range(25):
        for task in ("push_red_left", "stack"):
            spent.clear()
            began = time.process_time()
            result = player.run(contexts.context(task, "reset", number))
            if result.attempts and number > 1:
                samples.append({**spent, "rollout": time.process_time() - began})
    return {
        part: 1e3 * median(sample[part] for sample in samples)
        for part in ("reset", "policy", "simulator", "rollout")
    }


def _timed(call: Callable[..., Any], part: str, spent: dict[str, float]) -> Callable[..., Any]:
    def timed(*arguments: Any, **options: Any) -> Any:
        began = time.process_time()
        result = call(*arguments, **options)
        spent[part] = spent.get(part, 0.0) + time.process_time() - began
        return result

    return timed


def speed(bundle: Path, settings: RolloutSettings, processes: int, cluster: str | None) -> float:
    """Rollouts a second, from the first result on: simulators and policy take seconds to open."""
    ends: list[float] = []
    counted: list[int] = []

    def note(_: Any, result: Any) -> None:
        ends.append(time.perf_counter())
        counted.append(len(result.attempts))

    with TemporaryDirectory() as folder:
        output = Path(folder) / "d"
        collect_rollouts(bundle, output, settings, processes=processes, cluster=cluster, on_result=note)
    skip = 2 * processes  # jobs that began while others were opening
    return sum(counted[skip:]) / (ends[-1] - ends[skip - 1])


if __name__ == "__main__":
    main(tyro.cli(Options))
