"""Expert iteration: evaluate, collect with the policy itself, learn from what succeeded, again.

HD-ExpIt, Algorithms 1 (standard) and 2 (ft), on one page.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keystep.data.errors import DatasetError
from keystep.expit import scoring
from keystep.expit.checks import check_run, check_settings
from keystep.expit.config import ExpitConfig
from keystep.expit.done import check_done
from keystep.expit.folder import (
    Iteration,
    locked,
    read_run,
    same_run,
    write_run,
)
from keystep.expit.settled import plain, require_same
from keystep.expit.stages import IterationWork
from keystep.files import recover_folder, replacing_folder
from keystep.machine import describe_machine
from keystep.record.interrupts import Interrupts

WAIT_SECONDS = 2.0
"""Between two looks at a D0 that another process writes."""


@dataclass(frozen=True)
class ExpitReport:
    """What a run came to.

    Attributes:
        success: rate of every iteration that is finished.
        interrupted: stopped by Ctrl-C or SIGTERM; call again to go on.
    """

    output: Path
    success: tuple[float, ...]
    interrupted: bool


def expit(config: ExpitConfig) -> ExpitReport:
    """Run, or go on with, an expert iteration in `config.output`.

    Every step of every iteration is done or not done by the iteration's `iteration.json`; of what is done the
    hash is compared. A killed run loses at most one episode and one checkpoint interval.

    Raises:
        ArgumentError: settings that a later step would refuse: before anything is created, or what depends on
            D0 before anything is trained.
        DatasetError: another process is at work in the folder, it is of other settings or of another D0, no
            rollout succeeded, what a step has left is of another run, or the disk is full. All that is done
            stays, and the run can go on.
    """
    check_settings(config)
    with locked(config.output), Interrupts() as interrupts:
        same_run(config)
        try:
            stopped = not _prepare(config, interrupts) or not _iterate(config, interrupts)
        except OSError as error:
            raise DatasetError(f"{config.output}: could not write: {error}; run again to go on") from error
        done = [Iteration(config.output, number) for number in range(config.iterations + 1)]
    success = (iteration.done["evaluation"]["success_rate"] for iteration in done if iteration.finished)
    return ExpitReport(config.output, tuple(success), stopped)


def _iterate(config: ExpitConfig, interrupts: Interrupts) -> bool:
    """All that is left to do; False when interrupted."""
    last: Iteration | None = None
    d0 = read_run(config.output)["dataset_sha256"]
    recover_folder(Iteration(config.output, 0).path)  # of a run that was killed
    if config.start is not None and not Iteration(config.output, 0).finished:
        _take_over(config)
    check_run(config)
    for number in range(config.iterations + 1):
        iteration = Iteration(config.output, number)
        work = IterationWork(config, iteration, last, interrupts)
        for name in iteration.stages:
            if name in iteration.done:
                check_done(iteration, name, last, config.mode, d0)
                continue
            facts = None if interrupts.requested else work.run(name)
            if facts is None:
                return False
            iteration.finish(name, facts, _made_of(config, number))
            _tell(iteration, name)
        last = iteration
    return True


def _prepare(config: ExpitConfig, interrupts: Interrupts) -> bool:
    """D0 is there, collected if need be, and is the one that the run began with; False when interrupted."""
    from keystep.data import DatasetReader

    known = read_run(config.output).get("dataset_sha256")
    options: dict[str, Any] = dict(config.demonstrations.collect)
    if options and known is None:
        options |= {"env_id": config.env} if config.env else {}
        options.setdefault("tasks", config.rollouts.tasks)
        options = _tuples(options) | {"suite": config.suite, "processes": config.processes}
        if not _collected(config.dataset, options, interrupts):
            return False
    digest = DatasetReader(config.dataset).sha256()
    if known not in (None, digest):
        raise DatasetError(
            f"demonstrations.dataset: expected the one that the run began with ({known[:12]}..), got "
            f"{config.dataset} ({digest[:12]}..); restore it, or take another output"
        )
    write_run(config, digest)
    return not interrupts.requested


def _collected(dataset: Path, options: dict[str, Any], interrupts: Interrupts) -> bool:
    """D0 is complete; False when interrupted. Waits while another run, which shares it, collects it."""
    from keystep.data.errors import DatasetBusyError
    from keystep.record.collect import collect

    told = False
    while not interrupts.requested:
        try:
            return not collect(dataset, **options).interrupted
        except DatasetBusyError:
            if not told:
                print(f"{dataset}: another process is writing it; waiting", flush=True)
            told = True
            time.sleep(WAIT_SECONDS)
    return False


def _tuples(options: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}


def _take_over(config: ExpitConfig) -> None:
    """Iteration 0 of another run, which must be what this run would do.

    Raises:
        DatasetError: it is not finished, or of other settings or data; this run has begun one of its own.
    """
    assert config.start is not None
    own = Iteration(config.output, 0)
    if own.path.exists():
        raise DatasetError(
            f"start: expected a run without an iteration 0, got {own.path}, which is not finished; leave "
            "start out to go on with it, or remove it"
        )
    other, stored = Iteration(config.start, 0), read_run(config.start)
    if not other.finished:
        raise DatasetError(f"start: expected a run whose iteration 0 is finished, got {config.start}")
    parts = ("seed", "suite", "env", "env_kwargs", "planner", "controller", "export", "evaluation")
    mine = plain(config)
    for name in parts:
        theirs = stored["settings"][name]
        if name in ("planner", "controller"):  # what is only of finetuning may differ
            theirs, mine[name] = ({**part, "finetune": {}} for part in (theirs, mine[name]))
        require_same(f"start: {config.start}: ", name, theirs, mine[name])
    digest = read_run(config.output)["dataset_sha256"]
    if stored["dataset_sha256"] != digest:
        raise DatasetError(f"start: expected a run of the same demonstrations, got {config.start}")
    without = shutil.ignore_patterns("training_state")
    with replacing_folder(own.path) as folder:
        shutil.copytree(other.path, folder, dirs_exist_ok=True, ignore=without)


def _made_of(config: ExpitConfig, number: int) -> dict[str, Any]:
    settings = plain(config)
    return {
        "mode": config.mode,
        "seeds": {
            "training": config.training_seed(number),
            "rollouts": plain(config.rollout_settings(number))["seed"] if number else None,
            "evaluation": config.evaluation.seed,
        },
        "settings": {key: settings[key] for key in ("rollouts", "scorer", "export", "evaluation")},
        "machine": describe_machine(),
    }


def _tell(iteration: Iteration, stage: str) -> None:
    facts = iteration.done[stage]
    told = {
        "rollouts": lambda: (
            f"{facts['episodes']} episodes"
            + (f", none of {', '.join(facts['without_success'])}" if facts.get("without_success") else "")
            + (", of which D0's are learned from" if "demonstrations" in facts else "")
        ),
        "planner": lambda: f"{facts['steps']} steps, loss {facts['train_loss']:.4f}",
        "controller": lambda: f"{facts['steps']} steps, loss {facts['train_loss']:.4f}",
        "scorer": lambda: scoring.told(facts),
        "bundle": lambda: str(iteration.bundle),
        "evaluation": lambda: f"success {100 * facts['success_rate']:.1f} % of {facts['episodes']} episodes",
    }
    print(f"iteration {iteration.number}: {stage}: {told[stage]()} ({facts['seconds']:.0f} s)", flush=True)
