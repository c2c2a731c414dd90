"""A run on disk: who is at work in it, what it was made with, and what of each iteration is done.

OUTPUT/
  expit.json                   settings, and the digest of D0
  demonstrations/              D0, unless it is elsewhere
  iteration-0/                 learned from D0
    planner/  controller/      checkpoints
    scorer/                    of plans, from iteration 1 on, if the run has one
    policy.keystep/            the bundle
    evaluation.json            success per task
    iteration.json             what is done, and what of
  iteration-1/
    rollouts/                  R, a dataset
    demonstrations/            of D0, for tasks of which R has none
    tried/                     the plans of all trials, failures included, for a scorer
    ..                         as above
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import keystep
from keystep.data.errors import DatasetError
from keystep.expit.config import ExpitConfig
from keystep.expit.settled import plain, require_same
from keystep.files import parse_json, write_json

FORMAT, VERSION = "keystep-expit", 1
RUN, ITERATION, PROGRESS = "expit.json", "iteration.json", "progress.json"
ROLLOUT_COUNTS = "meta/keystep_rollouts.json"
WEIGHTS, MANIFEST = "model.safetensors", "manifest.json"
Counts = list[dict[str, Any]]
"""Of rollouts, by task and kind: task, kind, contexts, trials, successes."""
TRIES, WAIT_SECONDS = 20, 0.05
"""For a lock: who looks whether it is taken holds it for a moment."""
STAGES = ("rollouts", "planner", "controller", "scorer", "bundle", "evaluation")
"""Of an iteration, in order. The first has no rollouts and no scorer; others a scorer if the run has one."""


class Iteration:
    """One iteration's folder.

    Attributes:
        number: t.
        done: by stage what came of it; a stage that is not there is still to do.
    """

    def __init__(self, run: Path, number: int) -> None:
        self.path = run / f"iteration-{number}"
        self.number = number
        run_settings = (_read(run / RUN, RUN) or {}).get("settings", {})
        self._without = [] if number else ["rollouts"]
        self._without += [] if number and run_settings.get("scorer") else ["scorer"]
        self._record = _read(self.path / ITERATION, ITERATION) or {}
        self.done: dict[str, dict[str, Any]] = self._record.get("done", {})

    @property
    def stages(self) -> tuple[str, ...]:
        """What there is to do."""
        return tuple(stage for stage in STAGES if stage not in self._without)

    @property
    def finished(self) -> bool:
        return all(stage in self.done for stage in self.stages)

    @property
    def planner(self) -> Path:
        return self.path / "planner"

    @property
    def controller(self) -> Path:
        return self.path / "controller"

    @property
    def scorer(self) -> Path:
        return self.path / "scorer"

    @property
    def scored(self) -> bool:
        """Whether a scorer was trained, which the bundle then has."""
        return "weights_sha256" in self.done.get("scorer", {})

    @property
    def rollouts(self) -> Path:
        return self.path / "rollouts"

    @property
    def demonstrations(self) -> Path:
        return self.path / "demonstrations"

    @property
    def tried(self) -> Path:
        return self.path / "tried"

    @property
    def bundle(self) -> Path:
        return self.path / "policy.keystep"

    def counts(self) -> Counts:
        """What came of the contexts so far."""
        if "rollouts" in self.done:
            return list(self.done["rollouts"]["counts"])
        with suppress(OSError, ValueError, KeyError, TypeError):
            return list(parse_json((self.rollouts / ROLLOUT_COUNTS).read_bytes())["counts"])
        return []

    def begin(self, stage: str, total: int, have: int) -> None:
        """For who looks at it from outside: what is at work since when, and how far it was then."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / PROGRESS, {"stage": stage, "since": time.time(), "have": have, "total": total})

    def progress(self) -> dict[str, Any] | None:
        """What `begin` wrote last."""
        return _read(self.path / PROGRESS, None)

    def finish(self, stage: str, facts: Mapping[str, Any], made_of: Mapping[str, Any]) -> None:
        """A stage is done once this is on disk.

        Args:
            facts: what came of it.
            made_of: of the whole iteration: settings, seeds, versions.
        """
        self.done[stage] = dict(facts)
        record = {"format": FORMAT, "version": VERSION, "iteration": self.number, **made_of}
        self._record = record | {"done": self.done}
        write_json(self.path / ITERATION, self._record)


def iterations(run: Path) -> list[Iteration]:
    """Those that were begun, in order."""
    found: list[Iteration] = []
    while (run / f"iteration-{len(found)}").is_dir():
        found.append(Iteration(run, len(found)))
    return found


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """No other process is in the folder. The lock goes with the process, however it ends.

    Raises:
        DatasetError: another one is, or the folder cannot be written to.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(run / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise DatasetError(f"{run}: expected a folder to write to, got {error}") from None
    try:
        if not _taken(descriptor):
            process = os.read(descriptor, 20).decode(errors="replace").strip() or "?"
            wanted = "no other run in this folder"
            raise DatasetError(f"{run}: expected {wanted}, got one at work (process {process})")
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    for attempt in range(TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if attempt + 1 < TRIES:
                time.sleep(WAIT_SECONDS)
    return False


def is_locked(run: Path) -> bool:
    """Whether a process is at work in the folder."""
    try:
        descriptor = os.open(run / ".lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def same_run(config: ExpitConfig) -> None:
    """Whether the folder is empty or of the same settings; those are written down.

    Raises:
        DatasetError: the folder is of another run: which setting differs.
    """
    place = config.output / RUN
    settings = plain(config)
    stored = _read(place, RUN)
    if stored is None:
        begun = iterations(config.output)
        if begun:
            wanted = f"the settings of {begun[0].path.name}"
            raise DatasetError(f"{place}: expected {wanted}, got no such file; take another folder")
        write_run(config, None)
        return
    require_same(f"{place}: ", "", {"scorer": None} | stored["settings"], settings)
    write_run(config, stored.get("dataset_sha256"))


def write_run(config: ExpitConfig, dataset: str | None) -> None:
    """expit.json, which has what may change as it is now."""
    document = {"format": FORMAT, "version": VERSION, "dataset_sha256": dataset, "settings": plain(config)}
    write_json(config.output / RUN, document)


def read_run(run: Path) -> dict[str, Any]:
    """expit.json. Raises DatasetError for a folder that is none of expert iteration."""
    found = _read(run / RUN, RUN)
    if found is None:
        raise DatasetError(f"folder: expected one of keystep expit, got {run}, which has no {RUN}")
    return found


def _read(path: Path, name: str | None) -> dict[str, Any] | None:
    """A JSON object; None if it is not there, and of progress if it is damaged.

    Raises:
        DatasetError: damaged, or of a newer version.
    """
    try:
        found = parse_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        if name is None:
            return None
        raise DatasetError(f"{path}: expected JSON, got {error}") from None
    if name is None:
        return found if isinstance(found, dict) else None
    if not isinstance(found, dict) or found.get("format") != FORMAT or found.get("version") != VERSION:
        version = keystep.__version__
        raise DatasetError(f"{path}: expected {FORMAT} of version {VERSION} (keystep {version}), got another")
    return found
