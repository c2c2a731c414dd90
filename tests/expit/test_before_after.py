"""Plans of two iterations from equal contexts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from moon_suite import MoonEnv

import keystep
from keystep.cli import run as run_command
from keystep.evaluate.settings import EpisodeResult
from keystep.expit import ExpitConfig
from keystep.expit.before_after import example_jobs, plans_report
from keystep.expit.evaluating import Journal, evaluation_of
from keystep.expit.finished import open_runs

pytest.importorskip("PIL")


@pytest.fixture
def run(runs: dict[str, ExpitConfig], tmp_path: Path) -> Path:
    """With three episodes a task, of which the iterations solved others."""
    folder = Path(shutil.copytree(runs["ft-0"].output, tmp_path / "ft-0"))
    stored = json.loads((folder / "expit.json").read_text())
    stored["settings"]["evaluation"]["episodes"] = 3
    (folder / "expit.json").write_text(json.dumps(stored))
    evaluation = evaluation_of(stored["settings"], folder / "iteration-0" / "policy.keystep")
    solved = {0: {"Left": "010", "Right": "111"}, 2: {"Left": "011", "Right": "111"}}
    for number, tasks in solved.items():
        place = folder / f"iteration-{number}" / "evaluation.jsonl"
        place.unlink()
        journal = Journal(place, {})
        for job in evaluation.jobs:
            journal.add(EpisodeResult(job, int(tasks[job.tasks[0]][job.episode]), 7))
    return folder


class Grey:
    """Pictures of a point."""

    def seen(self, observation: Any) -> np.ndarray:
        return np.zeros((8, 8, 3), np.uint8)

    def imagined(self, subgoals: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [np.full((8, 8, 3), 200, np.uint8) for _ in subgoals["observation.state"]]


@pytest.fixture
def resets(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Tasks and seeds of the episodes that are recorded."""
    found: list[tuple[str, int]] = []

    class Told(MoonEnv):
        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            assert options is not None and seed is not None
            self.task = options["task"]
            found.append((self.task, seed))
            return super().reset(seed=seed)

    @contextmanager
    def opened(evaluation: Any, manifest: Any) -> Iterator[Any]:
        yield Told(), Grey()

    monkeypatch.setattr("keystep.expit.before_after._open_world", opened)
    return found


def test_what_only_the_later_one_solved_comes_first(run: Path) -> None:
    (opened,) = open_runs([run])
    evaluation = evaluation_of(opened.settings, opened.evaluated[0].folder.bundle)
    parts = (opened.evaluated[0], opened.evaluated[2])
    assert [job.episode for job in example_jobs(*parts, evaluation, "Left", 3)] == [2, 0, 1]
    assert [job.episode for job in example_jobs(*parts, evaluation, "Right", 1)] == [0]


def test_both_play_the_episodes_of_the_evaluation(run: Path, resets: list[tuple[str, int]]) -> None:
    report = plans_report(open_runs([run]))
    expected = [("Left", 10_000_004), ("Right", 10_000_001)]
    assert resets == expected * 2
    assert report.numbers == (0, 2)
    assert [(example.task, example.seed) for example in report.examples] == expected
    for example in report.examples:
        assert all(recording.plans for recording in example.recordings)
    told = report.to_dict()["examples"][0]
    assert told["iteration 0"]["actions"] == len(report.examples[0].recordings[0].ticks)


def test_as_files(run: Path, resets: list[tuple[str, int]], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    files = {kind: tmp_path / f"a.{kind}" for kind in ("json", "md", "png")}
    options = ["--json", files["json"], "--markdown", files["md"], "--plot", files["png"]]
    command = ["curves", "plans", str(run), "--task", "Left", "--each", "2", "--iterations", "0", "1"]
    assert run_command([*command, *map(str, options)]) == 0
    assert len(json.loads(files["json"].read_text())["examples"]) == 2
    assert "iteration 1" in files["md"].read_text()
    assert files["png"].read_bytes()[:4] == b"\x89PNG"


def test_what_cannot_be_compared_is_refused(run: Path, tmp_path: Path) -> None:
    opened = open_runs([run])
    with pytest.raises(keystep.ArgumentError, match="iterations: expected two of 0 to 2, got 0, 7"):
        plans_report(opened, (0, 7))
    with pytest.raises(keystep.ArgumentError, match="task: expected some of Left, Right, got 'Up'"):
        plans_report(opened, tasks=("Up",))
    with pytest.raises(keystep.ArgumentError, match="folders: expected one run, got 2"):
        plans_report([*opened, *opened])
