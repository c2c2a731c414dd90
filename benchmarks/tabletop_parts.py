"""What `benchmarks.tabletop` measures, each part in a process of its own that prints a line of JSON.

python -m benchmarks.tabletop_parts executor '{"repetitions": 2}'
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from keystep.code.executor import Executor
from keystep.code.grammar import parse
from keystep.code.language import ACTIONS
from keystep.code.outcome import CallResult, Outcome
from keystep.data.writer import DatasetWriter
from keystep.processes import Workers
from keystep.record.collect import collect_from
from keystep.suites import suite_named
from keystep.suites.tabletop import TASKS
from keystep.suites.tabletop.contacts import Contacts
from keystep.suites.tabletop.environment import TabletopEnv
from keystep.suites.tabletop.oracle.episodes import play
from keystep.suites.tabletop.oracle.texts import text_episode

WARM_SEED = 10_000
"""Seeds from here on are played untimed."""


def one_core() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def resident_kb() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError("/proc/self/status: expected VmRSS, got none")


# ---- episodes


def episodes(seeds: int, every: int) -> dict[str, Any]:
    """Oracle episodes in state mode, all tasks mixed, on one core; resident memory after every so many."""
    one_core()
    envs = {task: TabletopEnv(task, terminate_on_success=False) for task in TASKS}
    for env in envs.values():
        play(env, WARM_SEED)
    played: list[dict[str, Any]] = []
    memory = [(0, resident_kb())]
    for seed in range(seeds):
        for task, env in envs.items():
            played.append(timed_episode(env, task, seed))
            if len(played) % every == 0:
                memory.append((len(played), resident_kb()))
    return {"episodes": played, "memory": memory}


def pictures(seeds: int, size: int, tasks: Sequence[str]) -> dict[str, Any]:
    """The same with the pictures of both cameras at every step; one environment is open at a time."""
    one_core()
    played = []
    for task in tasks:
        env = TabletopEnv(task, obs_mode="rgb", image_size=size, terminate_on_success=False)
        play(env, WARM_SEED)
        played += [timed_episode(env, task, seed) for seed in range(seeds)]
        env.close()
    return {"episodes": played}


def timed_episode(env: TabletopEnv, task: str, seed: int) -> dict[str, Any]:
    start = time.perf_counter_ns()
    episode = play(env, seed)
    milliseconds = (time.perf_counter_ns() - start) / 1e6
    return {
        "task": task,
        "seed": seed,
        "ms": milliseconds,
        "steps": episode.steps,
        "success": episode.success,
    }


# ---- collection


def collection(processes: int, tasks: Sequence[str], count: int, started: float) -> dict[str, Any]:
    """Episodes per second into a new dataset: of a whole process since `started` (s since the epoch), and of
    a pool whose workers have played before.
    """
    source = suite_named("tabletop").source(tasks, 0, "state", 128)
    with tempfile.TemporaryDirectory() as folder:
        report = collect_from(source, folder, count, processes)
        whole_s = time.time() - started
    with (
        tempfile.TemporaryDirectory() as folder,
        DatasetWriter(folder, source.spec) as writer,
        Workers(source.open_rollout, processes) as workers,
    ):
        list(workers.run((tasks[0], WARM_SEED + seed) for seed in range(4 * processes)))
        start = time.perf_counter()
        played = sum(collect_warm(workers, writer, source.spec.features, task, count) for task in tasks)
        warm_s = time.perf_counter() - start
    return {"whole": sum(report.attempts.values()) / whole_s, "warm": played / warm_s}


def collect_warm(workers: Workers, writer: DatasetWriter, features: Any, task: str, count: int) -> int:
    for (_, seed), frames in workers.run((task, seed) for seed in range(count)):
        if frames is not None:
            columns = {key: frames[key] for key in features}
            writer.add_episode(
                columns, task, seed, instruction=frames["instruction"], extras=frames["extras"]
            )
    return count


# ---- executor


class Nothing:
    """An API that does nothing, in no time."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        result = CallResult(Outcome.SUCCESS, steps=1) if name in ACTIONS else None
        return lambda **arguments: result


def executor(repetitions: int) -> dict[str, Any]:
    """Microseconds per key-step (one action each) of all programs: all of it, and reading the text alone."""
    codes = [code for task in TASKS for code in text_episode(task, 0).keysteps]
    whole: list[float] = []
    reading: list[float] = []
    for _ in range(repetitions):
        running = Executor(Nothing())
        for code in codes:
            start = time.perf_counter_ns()
            running.run(code)
            middle = time.perf_counter_ns()
            parse(code)
            whole.append((middle - start) / 1e3)
            reading.append((time.perf_counter_ns() - middle) / 1e3)
    return {"keysteps": len(codes), "whole_us": whole, "parse_us": reading}


# ---- breakdown


class Clock:
    """Time spent in methods, by name; what one of them calls counts for it, too."""

    def __init__(self) -> None:
        self.ns: dict[str, int] = {}

    @contextmanager
    def watch(self, *methods: tuple[Any, str]) -> Iterator[None]:
        originals = [(owner, name, getattr(owner, name)) for owner, name in methods]
        for owner, name, original in originals:
            setattr(owner, name, self._timed(name, original))
        yield
        for owner, name, original in originals:
            setattr(owner, name, original)

    def _timed(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        self.ns[name] = 0

        @wraps(original)
        def run(*arguments: Any, **keywords: Any) -> Any:
            start = time.perf_counter_ns()
            try:
                return original(*arguments, **keywords)
            finally:
                self.ns[name] += time.perf_counter_ns() - start

        return run


def breakdown(tasks: Sequence[str], seeds: int) -> dict[str, Any]:
    """Microseconds per control step of oracle episodes, by part; milliseconds of a reset."""
    one_core()
    rows = []
    for task in tasks:
        env = TabletopEnv(task, terminate_on_success=False)
        play(env, WARM_SEED)
        rows += [{"task": task, "seed": seed, **parts_of(env, seed)} for seed in range(seeds)]
        env.close()
    return {"rows": rows}


def parts_of(env: TabletopEnv, seed: int) -> dict[str, float]:
    clock = Clock()
    kind = type(env.simulation)
    methods = [
        (Contacts, "note"),
        (Contacts, "begin_step"),
        (env, "step"),
        (env, "reset"),
        (env, "observation"),
    ]
    methods += [(kind, "drive"), (kind, "follow"), (kind, "set_drive_targets")]
    start = time.perf_counter_ns()
    with clock.watch(*methods):
        episode = play(env, seed)
    total, ns = time.perf_counter_ns() - start, clock.ns
    contacts = ns["note"] + ns["begin_step"]
    seen = ns["observation"] * episode.steps / (episode.steps + 1)  # `reset` makes one, too
    parts = {
        "PhysX, 5 steps": ns["drive"] - contacts - ns["set_drive_targets"],
        "drive targets": ns["set_drive_targets"],
        "contacts": contacts,
        "inverse kinematics": ns["follow"],
        "observation": seen,
        "world and predicate": ns["step"] - ns["drive"] - ns["follow"] - seen,
        "oracle and trace": total - ns["reset"] - ns["step"],
    }
    steps = {name: value / 1e3 / episode.steps for name, value in parts.items()}
    return {**steps, "PhysX alone": physics_alone(env, seed), "reset ms": ns["reset"] / 1e6}


def physics_alone(env: TabletopEnv, seed: int, steps: int = 100) -> float:
    """Microseconds of 5 simulation steps while nothing moves and nothing is read."""
    env.reset(seed=seed)
    physics = env.simulation.scene.px
    start = time.perf_counter_ns()
    for _ in range(5 * steps):
        physics.step()
    return (time.perf_counter_ns() - start) / 1e3 / steps


PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    "episodes": episodes,
    "pictures": pictures,
    "collection": collection,
    "executor": executor,
    "breakdown": breakdown,
}

if __name__ == "__main__":
    print(json.dumps(PARTS[sys.argv[1]](**json.loads(sys.argv[2]))))
