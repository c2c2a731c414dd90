"""Contexts without a policy or simulator, importable by spawned processes and by the workers of a cluster."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keystep.data import Column, DatasetSpec
from keystep.record.contexts import Contexts, KeptState, StartContext
from keystep.record.player import Attempt, ContextResult
from keystep.record.pools import open_pool
from keystep.record.rollout_settings import RolloutReport, RolloutSettings
from keystep.record.rollouts import collect_contexts
from keystep.record.schedule import RolloutSchedule
from keystep.suites import suite_named

SUITE = suite_named("franka3blocks")
TASKS = ("lift_red", "push_red_left", "stack")
SPEC = DatasetSpec(
    60,
    {"observation.state": Column("float32", (2,)), "action": Column("float32", (1,))},
    {task: SUITE.instruction(task) for task in TASKS},
    extras=("end_state", "success_state", "context"),
)
SETTINGS = RolloutSettings(tasks=TASKS, reset_per_task=6, replayed_per_task=4, max_contexts=40)


def open_fake_player(
    bundle: Path, seconds: float = 0.0, die_at: int | None = None, marks: Path | None = None
) -> Callable[[StartContext], ContextResult]:
    """A player whose results depend on the context alone: a third of the trials succeeds, of stack none.

    Args:
        bundle: of which a file is read, so that it must be there.
        seconds: that each context takes.
        die_at: the context of this number, of lift_red from resets, ends the process, the first time if there
            are marks.
        marks: folder, in which each context that was begun leaves a file with the process's number.
    """
    (bundle / "manifest.json").read_bytes()

    def run(context: StartContext) -> ContextResult:
        time.sleep(seconds)
        fatal = context.key == ("lift_red", "reset", die_at)
        if marks is not None:
            mark = marks / f"{context.task}-{context.kind}-{context.number}"
            fatal = fatal and not mark.exists()
            mark.write_text(str(os.getpid()))
        if fatal:
            os._exit(1)
        first = {"observation.state": np.full(2, context.seed % 97, np.float32)}
        if context.number == 1:
            return ContextResult(first, solved_at_start=True)
        attempts = []
        for trial in range(5):
            rng = np.random.default_rng((context.seed, trial))
            success = context.task != "stack" and rng.random() < 1 / 3
            attempts.append(Attempt(trial, success, 60, {"observation.state": rng.normal(size=(8, 2))}))
            if success:
                length = 50 + trial
                frames = {"observation.state": (length, 2), "action": (length, 1)}
                columns = {key: rng.normal(size=shape).astype(np.float32) for key, shape in frames.items()}
                end = {"world": {"env_id": "fake", "simulator": "none"}, "state": {"seed": context.seed}}
                return ContextResult(first, tuple(attempts), columns, end)
        return ContextResult(first, tuple(attempts))

    return run


def fake_bundle(folder: Path) -> Path:
    """What the fake player reads."""
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text('{"name": "fake"}\n')
    (folder / "policy.onnx").write_bytes(b"weights")
    return folder


def fake_schedule(settings: RolloutSettings = SETTINGS) -> RolloutSchedule:
    kept = [KeptState("0" * 64, episode, {"world": {}, "state": {}}) for episode in range(12)]
    return RolloutSchedule(Contexts(SUITE, TASKS, settings.seed, kept), TASKS, settings)


def collect_fake(
    output: Path,
    processes: int = 1,
    cluster: str | None = None,
    on_result=None,
    before_counts=None,
    **options: object,
) -> RolloutReport:
    """Collect from the fake player; its bundle stands beside `output`."""
    work = functools.partial(_opened, options)
    pool = open_pool(work, fake_bundle(output.parent / "fake.keystep"), processes, cluster)
    return collect_contexts(pool, output, SPEC, fake_schedule(), on_result, before_counts)


def _opened(options: dict, bundle: Path) -> Callable[[StartContext], ContextResult]:
    return open_fake_player(bundle, **options)


if __name__ == "__main__":
    collect_fake(Path(sys.argv[1]), int(sys.argv[2]), seconds=float(sys.argv[3]))
