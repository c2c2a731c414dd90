"""Further evaluations of a run's iterations, each kept in the run's `reports/` and played only once.

A report's folder is named after what it is of: other episodes, weights or settings are another one.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keystep.evaluate.rollout import Worker
from keystep.evaluate.settings import EpisodeResult, Evaluation
from keystep.expit.config import ExportSettings
from keystep.expit.evaluating import evaluate_into, evaluation_of, identity_of, is_of, read_journal
from keystep.expit.finished import Evaluated, FinishedRun
from keystep.expit.folder import WEIGHTS, locked
from keystep.expit.scoring import load_options
from keystep.files import parse_json, sha256
from keystep.record.interrupts import Interrupts

REPORT, EPISODES = "evaluation.json", "evaluation.jsonl"


@dataclass(frozen=True)
class Extra:
    """How further evaluations differ from those of the runs.

    Attributes:
        episodes: per task, or chains; as the runs' when None.
        processes: simulators in parallel.
        iterations: those that are shown; all when empty.
    """

    episodes: int | None = None
    processes: int = 1
    iterations: tuple[int, ...] = ()


@dataclass(frozen=True)
class PlayedReport:
    """An evaluation that was played.

    Attributes:
        report: as in evaluation.json.
        results: episode by episode.
    """

    evaluation: Evaluation
    report: dict[str, Any]
    results: Sequence[EpisodeResult]

    @property
    def rate(self) -> float | None:
        """Success, the mean over tasks, or the average length of chains; None of no episodes."""
        if "chains" in self.report:
            return float(self.report["average_length"])
        rate = self.report["total"]["success_rate"]
        return None if rate is None else float(rate)


@dataclass(frozen=True)
class BundleSource:
    """What is evaluated.

    Attributes:
        digest: of the bundle, or of what it is made of: the same on every machine.
        open: gives the bundle's folder, made if need be.
        scored: whether it has a scorer.
        own: folder of an iteration that may have evaluated it.
    """

    digest: str
    open: Callable[[], AbstractContextManager[Path]]
    scored: bool = False
    own: Path | None = None


def of_iteration(part: Evaluated) -> BundleSource:
    """The iteration's own bundle."""
    folder, bundle = part.folder, part.folder.bundle
    return BundleSource(
        sha256(bundle / "manifest.json"), lambda: nullcontext(bundle), folder.scored, folder.path
    )


def of_pair(planner: Evaluated, controller: Evaluated, export: Mapping[str, Any]) -> BundleSource:
    """The planner of one iteration and the controller of another, of this run or of two; made when needed."""
    if planner.folder.path == controller.folder.path:
        return of_iteration(planner)

    @contextmanager
    def made() -> Iterator[Path]:
        from keystep.export.bundle import export_bundle

        sampling: dict[str, Any] = ExportSettings(**export).options()
        with tempfile.TemporaryDirectory(prefix="keystep-curves-") as folder:
            bundle = Path(folder) / "pair.keystep"
            upper = {"planner": planner.folder.planner, "scorer": scorer}
            export_bundle(controller.folder.controller, bundle, **upper, **sampling)
            yield bundle

    scorer = planner.folder.scorer if planner.folder.scored else None
    parts = {"planner": planner.weights[0], "controller": controller.weights[1], "export": dict(export)}
    if scorer is not None:
        parts["scorer"] = sha256(scorer / WEIGHTS)
    return BundleSource(_digest(parts), made, scorer is not None)


@dataclass(frozen=True)
class CellOf:
    """What a cell of a table is an evaluation of.

    Attributes:
        run: in whose `reports/` it is kept.
        name: the first part of its folder's name.
        changes: fields of `Evaluation` that are not the run's.
        options: for `keystep.load`, in place of the run's.
        watched: what is looked at besides success; part of what it is an evaluation of.
        worker: what plays.
        known: episodes that need not be played.
    """

    run: FinishedRun
    name: str
    source: BundleSource
    changes: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    watched: Mapping[str, Any] = field(default_factory=dict)
    worker: type[Worker] = Worker
    known: Sequence[EpisodeResult] = ()


def played(cell: CellOf, extra: Extra) -> PlayedReport:
    """From disk if it was played before, by the run itself or for another table.

    Raises:
        KeyboardInterrupt: after Ctrl-C; what was played is kept.
        DatasetError: another process plays it now.
        ArgumentError: the policy cannot be evaluated so.
    """
    run = cell.run
    changes = dict(cell.changes) | ({} if extra.episodes is None else {"episodes": extra.episodes})
    evaluation = evaluation_of(run.settings, run.evaluated[-1].folder.bundle, **changes)
    options = load_options(run.settings["evaluation"], cell.source.scored) | dict(cell.options)
    identity = identity_of(cell.source.digest, evaluation, options) | dict(cell.watched)
    name = f"{cell.name}-{_digest(identity)[:10]}"
    own = [cell.source.own] if cell.source.own is not None else []
    for folder in (*own, *run.path.glob(f"reports/*-{_digest(identity)[:10]}")):
        with suppress(OSError, ValueError):
            if is_of(folder / EPISODES, identity):
                report = parse_json((folder / REPORT).read_bytes())
                return PlayedReport(evaluation, report, read_journal(folder / EPISODES))
    place = run.path / "reports" / name / REPORT
    with locked(place.parent), Interrupts() as interrupts, cell.source.open() as bundle:
        report = evaluate_into(
            place,
            bundle,
            evaluation,
            interrupts,
            options=options,
            processes=extra.processes,
            what=f"{run.path.name} {cell.name}",
            identity=identity,
            worker=cell.worker,
            known=cell.known,
        )
    if report is None:
        raise KeyboardInterrupt
    return PlayedReport(evaluation, report.to_dict(), read_journal(place.with_suffix(".jsonl")))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
