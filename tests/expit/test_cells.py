"""Tables of further episodes: each is played once, and its caption says what was played."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from expit_runs import FILE
from moon_suite import MoonEnv

import keystep
from keystep.cli import run as run_command
from keystep.data import DatasetError
from keystep.evaluate.settings import EpisodeResult, Job
from keystep.expit import ExpitConfig, expit
from keystep.expit.cells import (
    ONCE,
    REPLANNING,
    TRUTH,
    alignment_table,
    chain_table_of,
    contexts_table,
    cross_table,
    replanning_table,
)
from keystep.expit.evaluating import Journal, read_journal
from keystep.expit.failures import failure_report
from keystep.expit.finished import open_runs
from keystep.expit.folder import locked
from keystep.expit.played import Extra

Runs = dict[str, ExpitConfig]


@pytest.fixture
def run(runs: Runs, tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs["ft-0"].output, tmp_path / "ft-0"))


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Jobs that are played."""
    from keystep.evaluate.rollout import Worker

    jobs: list[Job] = []
    real = Worker.run
    monkeypatch.setattr(Worker, "run", lambda self, job: (jobs.append(job), real(self, job))[1])
    return jobs


@pytest.fixture
def demonstrated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ground truth for the resets with even seeds."""

    class Straight:
        def subgoals(self, task: str, seed: int) -> dict[str, np.ndarray] | None:
            goal = np.zeros((4, 4), np.float32)
            return None if seed % 2 else {"observation.state": goal}

        def close(self) -> None: ...

    monkeypatch.setattr("moon_suite.Moon.demonstrator", lambda self, env, planner: Straight())


def table(make: Callable[..., Any], *runs: Path, extra: Extra | None = None, **more: Any) -> Any:
    return make(open_runs(runs), Extra() if extra is None else extra, **more)


def test_every_cell_is_played_once_and_the_runs_own_evaluation_is_one(
    run: Path, played: list[Job], demonstrated: None
) -> None:
    report = table(replanning_table, run)
    assert len(played) == 3 * 2 * 2  # iterations, two ways, tasks: replanning was evaluated by the run
    assert len(report.cells) == 9
    result = json.loads((run / "iteration-1" / "evaluation.json").read_text())
    assert report.cells["HD-ExpIt-ft (iter 1)", REPLANNING] == (result["total"]["success_rate"],)
    again = table(replanning_table, run)
    assert again == report
    assert len(played) == 12


def test_other_episodes_are_another_cell(run: Path, played: list[Job]) -> None:
    few, many = (Extra(episodes=number, iterations=(1,)) for number in (2, 3))
    two = table(cross_table, run, extra=few)
    assert len(played) == 2 * 2
    three = table(cross_table, run, extra=many)
    assert len(played) == 4 + 2 * 3
    assert table(cross_table, run, extra=few) == two
    assert len(played) == 10
    assert "2 episodes a task from seed 10000000, fresh resets" in two.caption
    assert "3 episodes a task from seed 10000000, fresh resets" in three.caption


def test_a_cell_goes_on_after_a_stop(run: Path, played: list[Job]) -> None:
    extra = Extra(episodes=2, iterations=(1,))
    report = table(cross_table, run, extra=extra)
    (place,) = (run / "reports").glob("planner-of-*")
    (place / "evaluation.json").unlink()
    lines = (place / "evaluation.jsonl").read_text().splitlines(keepends=True)
    (place / "evaluation.jsonl").write_text("".join(lines[:4]) + lines[4][:10])  # killed while it wrote
    assert table(cross_table, run, extra=extra) == report
    assert len(played) == 4 + 1


def test_a_cell_that_is_at_work_is_refused(run: Path) -> None:
    extra = Extra(episodes=2, iterations=(1,))
    table(cross_table, run, extra=extra)
    (place,) = (run / "reports").glob("planner-of-*")
    (place / "evaluation.json").unlink()
    with locked(place), pytest.raises(DatasetError, match="got one at work"):
        table(cross_table, run, extra=extra)


def test_an_episode_that_two_wrote_counts_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.jsonl", {"of": 1})
    job = Job(1, 2, ("Left",))
    journal.add(EpisodeResult(job, 1, 5))
    journal.add(EpisodeResult(job, 0, 9))
    journal.add(EpisodeResult(Job(1, 3, ("Left",)), 0, 9, failure="dropped"))
    assert [(result.steps, result.failure) for result in read_journal(journal.path)] == [
        (5, ""),
        (9, "dropped"),
    ]
    assert read_journal(journal.path, {"of": 2}) == []


def test_alignment_compares_the_episodes_that_both_have(
    run: Path, played: list[Job], demonstrated: None
) -> None:
    report = table(alignment_table, run, extra=Extra(episodes=3, iterations=(1,)))
    row = "HD-ExpIt-ft (iter 1)"
    # Fresh resets of two tasks: all seeds of one are even, those of the other odd.
    assert report.remarks == (f"{row}: 3 of 6 episodes.",)
    plans, truth, difference = (report.mean(row, column) for column in report.columns)
    assert difference == pytest.approx(plans - truth)
    assert report.over == "the episodes"
    count = len(played)
    table(replanning_table, run, extra=Extra(episodes=3, iterations=(1,)))
    assert len(played) == count + 3 * 2  # with replanning; the others are there


def test_ground_truth_of_no_episode_is_an_empty_cell(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Never:
        def subgoals(self, task: str, seed: int) -> None: ...

        def close(self) -> None: ...

    monkeypatch.setattr("moon_suite.Moon.demonstrator", lambda self, env, planner: Never())
    places = {kind: str(tmp_path / f"a.{kind}") for kind in ("json", "markdown")}
    options = [part for kind, place in places.items() for part in (f"--{kind}", place)]
    for what in ("replanning", "alignment"):
        assert run_command(["curves", what, str(run), "--iterations", "0", *options]) == 0
        assert " - |" in Path(places["markdown"]).read_text()
        assert json.loads(Path(places["json"]).read_text())["cells"]


def test_act_is_a_kind_beside_two_others(
    run: Path, runs: Runs, make_config: Callable[..., ExpitConfig], tmp_path: Path
) -> None:
    text = FILE.replace('"d0"', json.dumps(str(runs["ft-0"].dataset)))
    text = text.replace("[controller]", '[controller]\nkind = "act"\npreset = "act-tiny"')
    act = make_config(text, output=str(tmp_path / "act-ft-0"), iterations=1)
    expit(act)
    other = Path(shutil.copytree(runs["standard-0"].output, tmp_path / "standard-0"))
    report = table(cross_table, run, other, act.output, extra=Extra(iterations=(1,)))
    names = {"HD-ExpIt-ft (iter 1)", "HD-ExpIt (iter 1)", "HD-ACT-ExpIt-ft (iter 1)"}
    assert set(report.rows) == set(report.columns) == names
    assert len(report.cells) == 9
    assert all(len(values) == 1 for values in report.cells.values())


def test_several_kinds_pair_the_seeds_that_they_share(run: Path, runs: Runs, played: list[Job]) -> None:
    other = runs["standard-0"].output
    try:
        report = table(cross_table, run, other, extra=Extra(iterations=(2,)))
        assert table(cross_table, run, other, extra=Extra(iterations=(2,))) == report
    finally:
        shutil.rmtree(other / "reports", ignore_errors=True)
    names = ("HD-ExpIt-ft (iter 2)", "HD-ExpIt (iter 2)")
    assert report.rows == report.columns == names
    assert {pair: len(values) for pair, values in report.cells.items()} == {
        (low, high): 1 for low in names for high in names
    }
    assert len(played) == 2 * 2  # tasks; the diagonal was evaluated by the runs
    assert "ft: seeds 0" in report.caption
    assert "standard: seeds 0" in report.caption


@pytest.fixture
def chained(monkeypatch: pytest.MonkeyPatch) -> None:
    def set_task(self: Any, task: str) -> Any:
        self.task, self.steps = task, 0
        return self.observation(), {}

    monkeypatch.setattr(MoonEnv, "set_task", set_task, raising=False)


def test_chains_say_that_they_are_chains(run: Path, chained: None, played: list[Job]) -> None:
    report = table(chain_table_of, run, extra=Extra(episodes=3), length=2)
    assert report.columns == ("1", "2", "average length")
    assert "3 chains of 2 tasks from seed 10000000, shared resets" in report.caption
    for row in report.rows:
        reached = [report.mean(row, column) for column in ("1", "2")]
        assert report.mean(row, "average length") == pytest.approx(sum(reached))
    assert len(played) == 3 * 3


def test_resets_only_are_beside_the_others_as_multiples(run: Path, tmp_path: Path, chained: None) -> None:
    with pytest.raises(keystep.ArgumentError, match="folders: expected a run that collects from resets only"):
        table(contexts_table, run, length=2)
    only = Path(shutil.copytree(run, tmp_path / "only"))
    stored = json.loads((only / "expit.json").read_text())
    stored["settings"]["rollouts"]["replayed_per_task"] = 0
    (only / "expit.json").write_text(json.dumps(stored))
    report = table(contexts_table, run, only, extra=Extra(episodes=2), length=2)
    row = "HD-ExpIt-ft (reset only) (iter 1)"
    assert row in report.rows
    assert report.bases[row] == "HD (iter 0)"
    first = report.mean("HD (iter 0)", "1")
    assert report.factor(row, "1") == (pytest.approx(report.mean(row, "1") / first) if first else None)


def test_chains_need_an_environment_that_knows_tasks(run: Path) -> None:
    with pytest.raises(keystep.ArgumentError, match=r"set_task|env"):
        table(chain_table_of, run, length=2)


# ---- kinds of failure


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the point: whether it went to the wrong side."""

    def failure(self: Any, task: str, seen: Any) -> str:
        way = (seen[-1][0] - seen[0][0]) * (-1 if task == "Left" else 1)
        assert len(seen) == 41
        return "too slow" if way > 0 else "wrong side"

    monkeypatch.setattr("moon_suite.Moon.failure_kinds", ("too slow", "wrong side"), raising=False)
    monkeypatch.setattr("moon_suite.Moon.failure", failure, raising=False)


def test_failures_are_played_again_and_counted(run: Path, kinds: None, played: list[Job]) -> None:
    places = [run / f"iteration-{number}" / "evaluation.jsonl" for number in range(3)]
    failed = [[result.job for result in read_journal(place) if not result.success] for place in places]
    assert any(failed)
    report = table(failure_report, run)
    assert played == [job for number in range(3) for job in failed[number]]
    for number, row in enumerate(("HD (iter 0)", "HD-ExpIt-ft (iter 1)", "HD-ExpIt-ft (iter 2)")):
        assert report.failed[row, "all"] == (len(failed[number]), 2)
        assert sum(report.counts[row, "all"].values()) == len(failed[number])
        by_family = [sum(report.counts[row, family].values()) for family in ("Left", "Right")]
        assert sum(by_family) == len(failed[number])
    assert {episode["kind"] for episode in report.episodes} <= {"too slow", "wrong side"}
    assert report.kinds == ("too slow", "wrong side", "policy fault")
    count = len(played)
    assert table(failure_report, run).to_dict() == report.to_dict()
    assert len(played) == count


def test_failures_as_files(
    run: Path, kinds: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    files = {kind: tmp_path / f"a.{kind}" for kind in ("json", "md", "png")}
    options = ["--json", files["json"], "--markdown", files["md"], "--plot", files["png"], "--episodes", "1"]
    assert run_command(["curves", "failures", str(run), *map(str, options)]) == 0
    assert files["md"].read_text() in capsys.readouterr().out
    assert files["png"].read_bytes()[:4] == b"\x89PNG"
    assert json.loads(files["json"].read_text())["rows"]


def test_a_suite_that_tells_no_failures_is_refused(run: Path) -> None:
    with pytest.raises(keystep.ArgumentError, match="suite: expected one that tells kinds of failure"):
        table(failure_report, run)


def test_ways_of_table_3_are_columns(run: Path, demonstrated: None) -> None:
    report = table(replanning_table, run, extra=Extra(iterations=(0,)))
    assert report.columns == (REPLANNING, ONCE, TRUTH)
    assert report.rows == ("HD (iter 0)",)
