"""An evaluation that goes on where it was stopped: every episode is kept when it is over."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keystep
from keystep.bars import progress_bar
from keystep.evaluate.benchmark import of_benchmark
from keystep.evaluate.parallel import play
from keystep.evaluate.protocols import Report
from keystep.evaluate.protocols import report as report_of
from keystep.evaluate.rollout import Worker, check
from keystep.evaluate.settings import EpisodeResult, Evaluation, Job
from keystep.evaluate.worlds import other_world
from keystep.files import sha256, write_json, write_text
from keystep.record.interrupts import Interrupts
from keystep.suites import suite_named


class Stopped(Exception):
    """Ctrl-C between two episodes."""


def evaluation_of(settings: Mapping[str, Any], bundle: Path, **changes: Any) -> Evaluation:
    """The episodes that every iteration of a run is evaluated on.

    Args:
        settings: of the run, as in expit.json (`keystep.expit.folder.plain` of its config).
        bundle: whose tasks they are, unless the settings name some.
        changes: fields of `Evaluation` in place of the run's.

    Raises:
        ArgumentError: there are no such episodes.
    """
    return evaluation_for(settings, keystep.read_manifest(bundle), **changes)


def evaluation_for(settings: Mapping[str, Any], manifest: dict[str, Any], **changes: Any) -> Evaluation:
    """`evaluation_of` a bundle with this manifest."""
    own = settings["evaluation"]
    tasks = own["tasks"] or [task["name"] for task in manifest["tasks"]]
    values: dict[str, Any] = {
        "episodes": own["episodes"],
        "seed": own["seed"],
        "guidance": own["guidance"],
        "suite": settings["suite"],
        "env_kwargs": dict(settings["env_kwargs"]),
        "max_episode_steps": own["max_episode_steps"],
        "fresh_resets": own["resets"] == "fresh",
    }
    env = settings["env"] or suite_named(settings["suite"]).env_id
    return of_benchmark(Evaluation(env, tuple(tasks), **values | changes), manifest)


def evaluate_into(
    place: Path,
    bundle: Path,
    evaluation: Evaluation,
    interrupts: Interrupts,
    *,
    options: Mapping[str, Any] | None = None,
    processes: int = 1,
    what: str = "evaluation",
    begin: Callable[[int, int], None] | None = None,
    identity: Mapping[str, Any] | None = None,
    worker: type[Worker] = Worker,
    known: Sequence[EpisodeResult] = (),
) -> Report | None:
    """Plays what is missing and writes the report.

    Args:
        place: of the report, NAME.json; beside it NAME.jsonl keeps the episodes.
        options: for `keystep.load`.
        begin: called with the number of episodes and of those that were there already.
        identity: what it is an evaluation of, as `identity_of`; of the bundle's manifest when not given.
        worker: what plays.
        known: episodes whose results are known and not kept in the journal.

    Returns:
        None when it was interrupted.

    Raises:
        ArgumentError: the policy cannot be evaluated so.
    """
    options = {"threads": 1, **(options or {})}
    check(keystep.read_manifest(bundle), evaluation)
    identity = identity or identity_of(sha256(bundle / "manifest.json"), evaluation, options)
    journal = Journal(place.with_suffix(".jsonl"), identity)
    total, have = len(evaluation.jobs) - len(known), len(journal.results)
    if begin is not None:
        begin(total, have)
    with progress_bar() as progress:
        bar = progress.add_task(what, total=total, completed=have)

        def keep(result: EpisodeResult) -> None:
            journal.add(result)
            progress.update(bar, advance=1)
            if interrupts.requested:
                raise Stopped

        try:
            opener = functools.partial(keystep.load, bundle, **options)
            done = (*known, *journal.results)
            played = play(opener, evaluation, processes, keep, done=done, worker=worker)
        except Stopped:
            return None
    report = report_of(evaluation, played)
    report.settings.update({"bundle": bundle.name, **options})
    if other := other_world(keystep.read_manifest(bundle), evaluation.env):
        report.settings["other_world"] = other
    write_json(place, report.to_dict())
    return report


class Journal:
    """One line of JSON per episode. What belongs to another evaluation, or was cut off, is left out."""

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        head = _head(identity)
        self.results = read_journal(path, identity)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{line}\n" for line in (head, *map(_line, self.results)))
        if not path.exists() or path.read_bytes() != text.encode():
            write_text(path, text)

    def add(self, result: EpisodeResult) -> None:
        """On disk when this returns. Raises OSError."""
        self.results.append(result)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{_line(result)}\n")
            file.flush()
            os.fsync(file.fileno())


def read_journal(path: Path, identity: Mapping[str, Any] | None = None) -> list[EpisodeResult]:
    """The episodes of a journal, each once; none if it is not there, or not of the `identity` given."""
    try:
        head, *lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError, ValueError):
        return []
    found: dict[Job, EpisodeResult] = {}
    if identity is None or head == _head(identity):
        with suppress(ValueError, TypeError, KeyError):
            for line in lines:
                result = _result(json.loads(line))
                found.setdefault(result.job, result)
    return list(found.values())


def is_of(path: Path, identity: Mapping[str, Any]) -> bool:
    """Whether a journal is there and of this identity."""
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline().rstrip("\n") == _head(identity)
    except (FileNotFoundError, UnicodeDecodeError):
        return False


def _head(identity: Mapping[str, Any]) -> str:
    return json.dumps(identity, sort_keys=True)


def _line(result: EpisodeResult) -> str:
    return json.dumps(asdict(result))


def _result(values: dict[str, Any]) -> EpisodeResult:
    job = values.pop("job")
    return EpisodeResult(Job(job["noise_seed"], job["episode"], tuple(job["tasks"])), **values)


def identity_of(bundle: str, evaluation: Evaluation, options: Mapping[str, Any]) -> dict[str, Any]:
    """What an evaluation is of; `bundle` is the digest of its manifest, or of what it is made of."""
    settings = evaluation.describe() | {"env": evaluation.env, "seed": evaluation.seed}
    settings |= {"tasks": list(evaluation.tasks), "episodes": evaluation.episodes}
    return {"bundle": bundle, "settings": settings | {"threads": 1, **options}}
