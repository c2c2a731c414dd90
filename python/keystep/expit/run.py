"""Expert iteration: evaluate, collect with the policy itself, learn from what succeeded, again.

HD-ExpIt, Algorithms 1 (standard) and 2 (ft), on one page.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keystep.data.errors import DatasetError
from keystep.expit import scoring
from keystep.expit.config import ExpitConfig
from keystep.expit.folder import (
    Iteration,
    locked,
    plain,
    read_run,
    require_same,
    same_run,
    write_run,
)
from keystep.expit.stages import MANIFEST, WEIGHTS, IterationWork
from keystep.files import replacing_folder, sha256
from keystep.machine import describe_machine
from keystep.record.interrupts import Interrupts


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
        DatasetError: another process is at work in the folder, it is of other settings or of another D0, no
            rollout succeeded, what a step has left is of another run, or the disk is full. All that is done
            stays, and the run can go on.
    """
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
    for number in range(config.iterations + 1):
        iteration = Iteration(config.output, number)
        if number == 0 and config.start is not None and not iteration.finished:
            iteration = _taken_over(config, iteration)
        work = IterationWork(config, iteration, last, interrupts)
        for name in iteration.stages:
            if name in iteration.done:
                _check(iteration, name)
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
    from keystep.record.collect import collect

    known = read_run(config.output).get("dataset_sha256")
    options: dict[str, Any] = dict(config.demonstrations.collect)
    if options and known is None:
        options |= {"env_id": config.env} if config.env else {}
        options.setdefault("tasks", config.rollouts.tasks)
        options = _tuples(options) | {"suite": config.suite, "processes": config.processes}
        report = collect(config.dataset, **options)
        if report.interrupted:
            return False
    digest = DatasetReader(config.dataset).sha256()
    if known not in (None, digest):
        raise DatasetError(
            f"demonstrations.dataset: expected the one that the run began with ({known[:12]}..), got "
            f"{config.dataset} ({digest[:12]}..)"
        )
    write_run(config, digest)
    return not interrupts.requested


def _tuples(options: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}


def _taken_over(config: ExpitConfig, iteration: Iteration) -> Iteration:
    """Iteration 0 of another run, which must be what this run would do.

    Raises:
        DatasetError: it is not finished, or of other settings or data.
    """
    assert config.start is not None
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
    shutil.rmtree(iteration.path, ignore_errors=True)
    without = shutil.ignore_patterns("training_state")
    with replacing_folder(iteration.path) as folder:
        shutil.copytree(other.path, folder, dirs_exist_ok=True, ignore=without)
    return Iteration(config.output, 0)


def _check(iteration: Iteration, stage: str) -> None:
    """What is done is still what it was. Raises DatasetError."""
    from keystep.data import DatasetReader

    facts = iteration.done[stage]
    if stage == "rollouts":
        _same(iteration.rollouts, facts["dataset_sha256"], DatasetReader(iteration.rollouts).sha256())
    elif stage in ("planner", "controller", "scorer") and "weights_sha256" in facts:
        _same_file(getattr(iteration, stage) / WEIGHTS, facts["weights_sha256"])
    elif stage == "bundle":
        _same_file(iteration.bundle / MANIFEST, facts["manifest_sha256"])


def _same_file(path: Path, known: str) -> None:
    _same(path, known, sha256(path) if path.is_file() else "none")


def _same(path: Path, known: str, found: str) -> None:
    if found != known:
        iteration = next(part for part in path.parts[::-1] if part.startswith("iteration-"))
        mend = f"restore it, or remove {iteration} and those after it to make them again"
        raise DatasetError(f"{path}: expected what this run made ({known[:12]}..), got {found[:12]}; {mend}")


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
        ),
        "planner": lambda: f"{facts['steps']} steps, loss {facts['train_loss']:.4f}",
        "controller": lambda: f"{facts['steps']} steps, loss {facts['train_loss']:.4f}",
        "scorer": lambda: scoring.told(facts),
        "bundle": lambda: str(iteration.bundle),
        "evaluation": lambda: f"success {100 * facts['success_rate']:.1f} % of {facts['episodes']} episodes",
    }
    print(f"iteration {iteration.number}: {stage}: {told[stage]()} ({facts['seconds']:.0f} s)", flush=True)
