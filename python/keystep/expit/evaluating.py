"""An evaluation that goes on where it was stopped: every episode is kept when it is over."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keystep
from keystep.bars import progress_bar
from keystep.evaluate.parallel import play
from keystep.evaluate.protocols import Report
from keystep.evaluate.protocols import report as report_of
from keystep.evaluate.rollout import check
from keystep.evaluate.settings import EpisodeResult, Evaluation, Job
from keystep.files import sha256, write_json, write_text
from keystep.record.interrupts import Interrupts


class Stopped(Exception):
    """Ctrl-C between two episodes."""


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
) -> Report | None:
    """Plays what is missing and writes the report.

    Args:
        place: of the report, NAME.json; beside it NAME.jsonl keeps the episodes.
        options: for `keystep.load`.
        begin: called with the number of episodes and of those that were there already.

    Returns:
        None when it was interrupted.

    Raises:
        ArgumentError: the policy cannot be evaluated so.
    """
    options = {"threads": 1, **(options or {})}
    check(keystep.read_manifest(bundle), evaluation)
    journal = Journal(place.with_suffix(".jsonl"), _identity(bundle, evaluation, options))
    total = len(evaluation.jobs)
    if begin is not None:
        begin(total, len(journal.results))
    with progress_bar() as progress:
        bar = progress.add_task(what, total=total, completed=len(journal.results))

        def keep(result: EpisodeResult) -> None:
            journal.add(result)
            progress.update(bar, advance=1)
            if interrupts.requested:
                raise Stopped

        try:
            done = tuple(journal.results)
            opener = functools.partial(keystep.load, bundle, **options)
            played = play(opener, evaluation, processes, keep, done=done)
        except Stopped:
            return None
    report = report_of(evaluation, played)
    report.settings.update({"bundle": bundle.name, **options})
    write_json(place, report.to_dict())
    return report


class Journal:
    """One line of JSON per episode. What belongs to another evaluation, or was cut off, is left out."""

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self.results: list[EpisodeResult] = []
        head = json.dumps(identity, sort_keys=True)
        lines = _lines(path)
        if lines[:1] == [head]:
            with suppress(ValueError, TypeError, KeyError):
                for line in lines[1:]:
                    self.results.append(_result(json.loads(line)))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(f"{line}\n" for line in (head, *map(_line, self.results))))

    def add(self, result: EpisodeResult) -> None:
        """On disk when this returns. Raises OSError."""
        self.results.append(result)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{_line(result)}\n")
            file.flush()
            os.fsync(file.fileno())


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        return []


def _line(result: EpisodeResult) -> str:
    return json.dumps(asdict(result))


def _result(values: dict[str, Any]) -> EpisodeResult:
    job = values.pop("job")
    return EpisodeResult(Job(job["noise_seed"], job["episode"], tuple(job["tasks"])), **values)


def _identity(bundle: Path, evaluation: Evaluation, options: Mapping[str, Any]) -> dict[str, Any]:
    settings = evaluation.describe() | {"env": evaluation.env, "seed": evaluation.seed}
    settings |= {"tasks": list(evaluation.tasks), "episodes": evaluation.episodes, **options}
    return {"bundle": sha256(bundle / "manifest.json"), "settings": settings}
