"""The tabletop suite and its oracle: time per episode, collection, the executor's own cost, memory.

    python -m benchmarks.tabletop [--quick]

Bars: 300 ms an episode in state mode, 1.5 s with two cameras of 128 px on one core, 1.7 times as many
episodes per second by two processes, 200 us of our own per call of generated code.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks.harness import paired_ratio, summarise, write_result
from benchmarks.machine import REPOSITORY, describe_run
from keystep.suites.tabletop import TASKS
from keystep.suites.tabletop.source import package_versions
from keystep.table_writer import table_of

STATE_BAR_MS, PICTURES_BAR_MS, COLLECTION_BAR, CALL_BAR_US = 300.0, 1500.0, 1.7, 200.0
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "LP_NUM_THREADS": "0",
}  # LP: the software renderer draws where it is called
COLLECTED = ("PlaceOnTop", "Swap", "SortByTexture")
BROKEN_DOWN = ("Pick", "PlaceNextTo", "Push", "SingleStack", "BalanceScale", "SortByTexture")
SETTLED_EPISODES = 100
"""Before these a process still grows: its 31 environments build their second and third scenes."""


@dataclass(frozen=True)
class Options:
    quick: bool = False
    """A look in a minute instead of a measurement; goes to build/."""
    seeds: int = 17
    """Episodes per task in state mode: 527, whose memory is followed, too."""
    picture_seeds: int = 2
    """The same with pictures."""
    image_size: int = 128
    rounds: int = 3
    """Of the collection: each collects with one process and with two."""
    episodes: int = 10
    """Per task and collection."""
    output: Path = REPOSITORY / "benchmarks" / "results" / "tabletop.json"


QUICK = Options(True, 1, 1, 128, 1, 6, REPOSITORY / "build" / "benchmarks" / "tabletop-quick.json")


def main(options: Options) -> None:
    """Runs all parts, one after the other, and writes the result."""
    describe_run()
    options = QUICK if options.quick else options
    options.output.parent.mkdir(parents=True, exist_ok=True)
    few = BROKEN_DOWN[:3] if options.quick else BROKEN_DOWN
    parts: dict[str, Any] = {
        "state": run_part("episodes", seeds=options.seeds, every=10 if options.quick else 50),
        "pictures": run_part(
            "pictures",
            seeds=options.picture_seeds,
            size=options.image_size,
            tasks=few if options.quick else list(TASKS),
        ),
        "collection": collections(options),
        "executor": run_part("executor", repetitions=10 if options.quick else 50),
        "breakdown": run_part("breakdown", tasks=few, seeds=1 if options.quick else 5),
    }
    report = report_markdown(parts)
    print(report)
    settings = {**asdict(options), "output": options.output.name}
    executor = {name: _figures(value) for name, value in parts["executor"].items()}
    body = {"packages": package_versions(), **parts, "executor": executor}
    write_result(options.output, "tabletop", settings, body, report)


def run_part(part: str, **arguments: Any) -> dict[str, Any]:
    """The answer of a fresh process."""
    print(f"{part} ...", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks.tabletop_parts", part, json.dumps(arguments)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{part}: exit status {done.returncode}\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def collections(options: Options) -> list[dict[str, Any]]:
    """Rounds of one process and two, over the same seeds; the order changes from round to round."""
    tasks = COLLECTED[:1] if options.quick else COLLECTED
    rounds = []
    for index in range(options.rounds):
        found = {}
        for processes in (1, 2) if index % 2 == 0 else (2, 1):
            arguments = {"tasks": tasks, "count": options.episodes, "started": time.time()}
            found[str(processes)] = run_part("collection", processes=processes, **arguments)
        rounds.append(found)
    return rounds


# ---- what is reported


def report_markdown(parts: Mapping[str, Any]) -> str:
    state, pictures, executor = parts["state"], parts["pictures"], parts["executor"]
    return "\n".join(
        [
            table_of(bars(state, pictures, parts["collection"], executor)),
            collection_text(parts["collection"]),
            executor_text(executor),
            memory_text(state["memory"]),
            "## A control step\n",
            breakdown_text(parts["breakdown"]["rows"]),
            "## By task\n",
            table_of(by_task(state["episodes"], pictures["episodes"])),
        ]
    )


def bars(state: Any, pictures: Any, collected: Any, executor: Any) -> list[dict[str, str]]:
    """What was to be reached, and what was."""
    rows = [
        _timed("episode, state, ms", [one["ms"] for one in state["episodes"]], STATE_BAR_MS),
        _timed("episode, 2 pictures, ms", [one["ms"] for one in pictures["episodes"]], PICTURES_BAR_MS),
        _timed("call of generated code, us", executor["whole_us"], CALL_BAR_US),
    ]
    ratio = speed_up(collected, "warm")["median"]
    within = "yes" if ratio >= COLLECTION_BAR else "no"
    bar = f"at least {COLLECTION_BAR}"
    figure = "collection, 2 processes over 1"
    rows.append(
        {"figure": figure, "median": f"{ratio:.2f}", "p90": "", "p99": "", "bar": bar, "within": within}
    )
    return rows


def _timed(figure: str, samples: Sequence[float], bar: float) -> dict[str, str]:
    found = summarise(samples)
    shown = {name: f"{found[name]:.0f}" for name in ("median", "p90", "p99")}
    within = "yes" if found["median"] <= bar else "no"
    return {"figure": figure, **shown, "bar": f"at most {bar:.0f}", "within": within}


def speed_up(collected: Sequence[Mapping[str, Any]], how: str) -> dict[str, float]:
    """Episodes per second of two processes over those of one, within rounds."""
    two, one = ([found[processes][how] for found in collected] for processes in ("2", "1"))
    return paired_ratio(two, one)


def collection_text(collected: Sequence[Mapping[str, Any]]) -> str:
    def row(name: str, how: str) -> dict[str, str]:
        rates = {
            processes: np.median([found[processes][how] for found in collected]) for processes in ("1", "2")
        }
        ratio = "{median:.2f} ({low:.2f}-{high:.2f})".format(**speed_up(collected, how))
        return {"collection, episodes per second": name, "1 process": f"{rates['1']:.2f}",
                "2 processes": f"{rates['2']:.2f}", "times": ratio}  # fmt: skip

    return table_of([row("workers have played before", "warm"), row("with start-up", "whole")])


def executor_text(executor: Mapping[str, Any]) -> str:
    whole, reading = (summarise(executor[name])["median"] for name in ("whole_us", "parse_us"))
    return (
        f"A call of generated code costs {whole:.0f} us of our own, {reading:.0f} us of them to read its "
        f"text ({executor['keysteps']} key-steps of {len(TASKS)} programs).\n"
    )


def memory_text(memory: Sequence[tuple[int, int]]) -> str:
    """Resident memory over the episodes of one process, and its slope once the process has settled."""
    rows = [{"episodes": str(count), "resident MB": f"{kb / 1024:.1f}"} for count, kb in memory]
    settled = [point for point in memory if point[0] >= SETTLED_EPISODES]
    if len(settled) < 3:
        return f"{table_of(rows)}\nToo few episodes for a slope.\n"
    counts, sizes = np.transpose(settled)
    slope = np.polyfit(counts, sizes, 1)[0]
    return f"{table_of(rows)}\nSlope from episode {SETTLED_EPISODES} on: {slope:.1f} KB per episode.\n"


def breakdown_text(rows: Sequence[Mapping[str, Any]]) -> str:
    names = [name for name in rows[0] if name not in ("task", "seed")]
    medians = {name: float(np.median([row[name] for row in rows])) for name in names}
    floor, reset = medians.pop("PhysX alone"), medians.pop("reset ms")
    total = sum(medians.values())
    table = table_of(
        [
            {"part": name, "us": f"{value:.0f}", "share": f"{value / total:.0%}"}
            for name, value in [*medians.items(), ("sum", total)]
        ]
    )
    return (
        f"{table}\nMedians over {len(rows)} episodes, by timers around methods. PhysX is what is left of the "
        "control period without contacts and drive targets; world and predicate, of a step without the rest; "
        f"oracle and trace, of an episode without steps and reset. Floor: PhysX alone, 5 steps at rest, "
        f"{floor:.0f} us. A reset takes {reset:.1f} ms.\n"
    )


def by_task(
    state: Sequence[Mapping[str, Any]], pictures: Sequence[Mapping[str, Any]]
) -> list[dict[str, str]]:
    rows = []
    for task in TASKS:
        mine = [one for one in state if one["task"] == task]
        found = summarise([one["ms"] for one in mine])
        drawn = [one["ms"] for one in pictures if one["task"] == task]
        rows.append(
            {
                "task": task,
                "ms": f"{found['median']:.0f}",
                "p90": f"{found['p90']:.0f}",
                "with pictures, ms": f"{np.median(drawn):.0f}" if drawn else "",
                "steps": f"{np.median([one['steps'] for one in mine]):.0f}",
                "solved": f"{sum(one['success'] for one in mine)}/{len(mine)}",
            }
        )
    return rows


def _figures(value: Any) -> Any:
    """Samples by the thousand become their summary."""
    return summarise(value) if isinstance(value, list) else value


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
