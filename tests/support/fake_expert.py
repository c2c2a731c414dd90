"""An expert without a simulator, importable by spawned processes."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np

from keystep.data import Column, DatasetSpec
from keystep.record.collect import collect_from
from keystep.suites.base import Rollout, Source

TASKS = {"lift": "Lift the block.", "push": "Push the block."}
SPEC = DatasetSpec(
    60, {"observation.state": Column("float32", (2,)), "action": Column("float32", (1,))}, TASKS
)


def open_fake(
    failing: str = "",
    die_at: int | None = None,
    signal_at: int | None = None,
    hang_at: int | None = None,
) -> Rollout:
    """An expert that fails on seeds divisible by 3, and always on the task `failing`.

    On the seed `die_at` its process ends, on `hang_at` it never comes back; on `signal_at` the collecting
    process gets a Ctrl-C.
    """

    def rollout(task: str, seed: int) -> dict | None:
        while seed == hang_at:
            time.sleep(1)
        if seed == die_at:
            os._exit(1)
        if seed == signal_at:
            parent = multiprocessing.parent_process()
            os.kill(os.getpid() if parent is None else parent.pid, signal.SIGINT)
        if seed % 3 == 0 or task == failing:
            return None
        rng = np.random.default_rng([seed, len(task)])
        length = 4 + seed % 5
        frames = {"observation.state": (length, 2), "action": (length, 1)}
        return {key: rng.normal(size=shape).astype(np.float32) for key, shape in frames.items()}

    return rollout


def fake_source(**options: object) -> Source:
    return Source(SPEC, functools.partial(open_fake, **options), {"lift": 0, "push": 1}, 2)


def collect_forever(path: Path) -> None:
    collect_from(fake_source(), path, 10**6, processes=2)
