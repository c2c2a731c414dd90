"""Rollouts of a point, which are its demonstrations: for the tests of the loop around them.

`install()` puts them in the place of `keystep.record.rollouts`, in this process.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import keystep
from keystep.data.errors import DatasetError
from keystep.record.collect import collect
from keystep.record.plans_tried import PlansWriter

MODULE = "keystep.record.rollouts"
FAILING = "KEYSTEP_TEST_FAILING_TASKS"
"""Environment variable: tasks without a success, with commas between them."""
PERFECT = "KEYSTEP_TEST_PERFECT"
"""Environment variable: all plans that are tried succeed."""


@dataclass(frozen=True)
class FakeSettings:
    suite: str = "franka3blocks"
    env_id: str = ""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    tasks: tuple[str, ...] | None = None
    reset_per_task: int = 50
    replayed_per_task: int = 50
    trials: int = 5
    guidance: float | None = 3.0
    min_steps: int = 50
    planner_candidates: int = 1
    planner_score: str = "bundle"
    seed: int = 0
    max_contexts: int = 500

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise DatasetError(f"trials: expected a whole number from 1, got {self.trials!r}")


@dataclass
class FakeCount:
    task: str
    kind: str
    wanted: int
    contexts: int
    trials: int
    successes: int


@dataclass
class FakeReport:
    counts: list[FakeCount]
    interrupted: bool = False


def collect_fakes(
    bundle: Path,
    output: Path,
    settings: FakeSettings,
    *,
    replay: Sequence[Path] = (),
    processes: int = 1,
    cluster: str | None = None,
    workers: int = 0,
    tried: Path | None = None,
) -> FakeReport:
    """Demonstrations from other resets; the bundle must be there, and the replayed datasets."""
    manifest = keystep.read_manifest(bundle)
    assert all((path / "meta" / "info.json").exists() for path in replay)
    failing = os.environ.get(FAILING, "").split(",")
    wanted = settings.reset_per_task + settings.replayed_per_task
    known = settings.tasks or ("Left", "Right")
    tasks = [task for task in known if task not in failing]
    done = FakeReport(
        [FakeCount(t, "reset", wanted, 2 * wanted, 3 * wanted, wanted * (t in tasks)) for t in known]
    )
    if tasks:
        first_seed = 1000 * (1 + settings.seed)
        report = collect(output, suite=settings.suite, tasks=tasks, episodes=wanted, seed=first_seed)
        done.interrupted = report.interrupted
    if tried is not None:
        try_plans(tried, manifest, known, settings)
    return done


def try_plans(folder: Path, manifest: dict[str, Any], tasks: Sequence[str], settings: FakeSettings) -> None:
    """Plans, of which those succeed that end to the right of where they began."""
    rng = np.random.default_rng(settings.seed)
    with PlansWriter(folder, manifest) as writer:
        spec = writer.spec
        for context in range(20):
            seen = rng.normal(size=spec.width).astype(np.float32)
            for trial in range(settings.trials):
                plan = rng.normal(size=(spec.subgoals, spec.width)).astype(np.float32)
                good = PERFECT in os.environ or bool(plan[-1, 0] > seen[0])
                writer.add(
                    {spec.subgoal: plan},
                    {spec.subgoal: seen},
                    task=tasks[context % len(tasks)],
                    success=good,
                    context=f"reset-{settings.seed}-{context}",
                    trial=trial,
                )


def demonstrations(output: Path) -> Path:
    """Two of each task."""
    collect(output, suite="moon.suite", episodes=2)
    return output


@contextmanager
def installed() -> Iterator[None]:
    """For a while."""
    before = sys.modules.get(MODULE)
    install()
    try:
        yield
    finally:
        del sys.modules[MODULE]
        if before is not None:
            sys.modules[MODULE] = before


def install() -> None:
    module = types.ModuleType(MODULE)
    names = {"RolloutSettings": FakeSettings, "collect_rollouts": collect_fakes}
    vars(module).update(names, check_rollouts=lambda settings, manifest: None)
    sys.modules[MODULE] = module
