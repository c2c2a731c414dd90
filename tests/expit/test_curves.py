"""Curves and tables of finished runs: figures of their evaluations, and nothing is played twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keystep
from keystep.cli import run as run_command
from keystep.expit import ExpitConfig
from keystep.expit.cells import Extra, chain_table_of, cross_table, replanning_table
from keystep.expit.curves import family_curves, step_curves, success_curves
from keystep.expit.finished import FinishedRun, open_runs
from keystep.expit.starts import start_report

Runs = dict[str, ExpitConfig]
RATES = {"ft-0": [0.5, 0.75, 1.0], "ft-1": [0.25, 0.5, 0.5]}


@pytest.fixture
def seeds(runs: Runs, tmp_path: Path) -> list[Path]:
    """The ft run as of two seeds, with other rates of success in their evaluations."""
    found = []
    for seed, (name, rates) in enumerate(RATES.items()):
        folder = shutil.copytree(runs["ft-0"].output, tmp_path / name)
        settings = json.loads((folder / "expit.json").read_text())
        settings["settings"]["seed"] = seed
        (folder / "expit.json").write_text(json.dumps(settings))
        for number, rate in enumerate(rates):
            change(folder / f"iteration-{number}" / "evaluation.json", rate)
        found.append(folder)
    return found


def change(place: Path, rate: float) -> None:
    result = json.loads(place.read_text())
    result["total"]["success_rate"] = rate
    for offset, task in zip((-0.1, 0.1), result["tasks"], strict=True):
        task["success_rate"] = rate + offset
    place.write_text(json.dumps(result))


def test_success_is_the_mean_over_seeds_with_its_standard_error(seeds: list[Path]) -> None:
    report = success_curves(open_runs(seeds))
    points = report.curves["ft"]
    assert [point.mean for point in points] == pytest.approx([0.375, 0.625, 0.75])
    assert points[0].error == pytest.approx(np.std([0.5, 0.25], ddof=1) / np.sqrt(2))
    assert "| ft | 37.5 ± 12.5 % | 62.5 ± 12.5 % | 75.0 ± 25.0 % |" in report.markdown()
    assert "ft: seeds 0, 1" in report.markdown()
    assert "fresh resets" in report.caption


def test_modes_are_curves_of_their_own_and_steps_add_up(seeds: list[Path], runs: Runs) -> None:
    report = step_curves(open_runs([*seeds, runs["standard-0"].output]))
    assert {name: [point.x for point in points] for name, points in report.curves.items()} == {
        "ft": [24, 27, 30],
        "standard": [24, 60, 108],
    }
    assert report.curves["standard"][0].error is None


def test_families_are_tasks_over_seeds(seeds: list[Path]) -> None:
    report = family_curves(open_runs(seeds))
    assert list(report.curves) == ["Left", "Right"]
    assert report.curves["Left"][2].values == pytest.approx((0.75 - 0.1,))


def test_the_commands_write_markdown_json_and_a_picture(
    seeds: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    for what in ("success", "families", "steps", "starts"):
        files = {kind: tmp_path / f"{what}.{kind}" for kind in ("json", "md", "png")}
        options = ["--json", files["json"], "--markdown", files["md"], "--plot", files["png"]]
        assert run_command(["curves", what, *map(str, seeds), *map(str, options)]) == 0
        assert files["md"].read_text() in capsys.readouterr().out
        assert json.loads(files["json"].read_text())
        assert files["png"].read_bytes()[:4] == b"\x89PNG"


def test_starts_are_of_demonstrations_and_contexts(runs: Runs) -> None:
    report = start_report(open_runs([runs["ft-0"].output]))
    assert {kind: len(rows) for kind, rows in report.points.items()} == {
        "demonstrations": 4,
        "reset contexts": 8,
    }
    assert 0 < sum(report.explained) <= 1 + 1e-9


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Jobs that are played."""
    from keystep.evaluate.rollout import Worker

    jobs: list[Any] = []
    real = Worker.run
    monkeypatch.setattr(Worker, "run", lambda self, job: (jobs.append(job), real(self, job))[1])
    return jobs


def table(make: Callable[..., Any], run: Path, **more: Any) -> Any:
    return make(open_runs([run]), Extra(episodes=1), **more)


def test_every_cell_is_played_once_and_goes_on_after_a_stop(
    runs: Runs, tmp_path: Path, played: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import keystep.expit.cells as cells

    monkeypatch.delitem(cells.WAYS, "ground truth")  # the point has no demonstrator
    monkeypatch.setattr(cells, "_alignment", lambda row, found: row)
    run = shutil.copytree(runs["ft-0"].output, tmp_path / "ft-0")
    report = table(replanning_table, run)
    assert len(played) == 3 * 2 * 2  # iterations, ways, tasks
    assert len(report.cells) == 6
    again = table(replanning_table, run)
    assert again == report
    assert len(played) == 12
    place = run / "reports" / "iteration-1-no-replanning"
    place.with_suffix(".json").unlink()
    lines = place.with_suffix(".jsonl").read_text().splitlines(keepends=True)
    place.with_suffix(".jsonl").write_text("".join(lines[:2]) + lines[2][:10])  # killed while it wrote
    assert table(replanning_table, run) == report
    assert len(played) == 13


def test_planners_and_controllers_of_all_iterations(runs: Runs, tmp_path: Path, played: list[Any]) -> None:
    run = shutil.copytree(runs["ft-0"].output, tmp_path / "ft-0")
    shutil.rmtree(run / "iteration-2")
    report = table(cross_table, run)
    assert len(played) == 4 * 2
    assert set(report.cells) == {(f"planner {p}", f"controller {c}") for p in (0, 1) for c in (0, 1)}


def test_runs_that_cannot_be_compared_are_refused(runs: Runs, seeds: list[Path], tmp_path: Path) -> None:
    with pytest.raises(keystep.ArgumentError, match="folders: expected at least one, got none"):
        open_runs([])
    with pytest.raises(keystep.ArgumentError, match="folders: expected runs that differ in mode or seed"):
        open_runs([seeds[0], runs["ft-0"].output])
    other = shutil.copytree(runs["standard-0"].output, tmp_path / "other")
    settings = json.loads((other / "expit.json").read_text())
    settings["settings"]["evaluation"]["episodes"] = 7
    (other / "expit.json").write_text(json.dumps(settings))
    with pytest.raises(keystep.ArgumentError, match=r"evaluation.episodes: expected 1 in all runs, got 7"):
        open_runs([seeds[0], other])
    with pytest.raises(
        keystep.ArgumentError, match="folders: expected runs of one kind, got ft and standard"
    ):
        replanning_table(open_runs([seeds[0], runs["standard-0"].output]), Extra())
    shutil.rmtree(seeds[1] / "iteration-0")
    with pytest.raises(keystep.ArgumentError, match="folders: expected runs with an iteration evaluated"):
        FinishedRun(seeds[1])


def test_chains_need_an_environment_that_knows_tasks(runs: Runs, tmp_path: Path) -> None:
    run = shutil.copytree(runs["ft-0"].output, tmp_path / "ft-0")
    with pytest.raises(keystep.ArgumentError, match=r"set_task|env"):
        table(chain_table_of, run, length=2)
