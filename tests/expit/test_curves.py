"""Curves and tables of finished runs: figures of their evaluations, and nothing is played twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keystep
from keystep.cli import run as run_command
from keystep.expit import ExpitConfig
from keystep.expit.curves import family_curves, method_table, step_curves, success_curves
from keystep.expit.finished import FinishedRun, open_runs, rows_of
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
    assert "1 episodes a task from seed 10000000, fresh resets" in report.caption
    assert "cores" in report.caption


def test_modes_are_curves_of_their_own_and_steps_add_up(seeds: list[Path], runs: Runs) -> None:
    report = step_curves(open_runs([*seeds, runs["standard-0"].output]))
    assert {name: [point.x for point in points] for name, points in report.curves.items()} == {
        "ft": [24, 27, 30],
        "standard": [24, 60, 108],
    }
    assert report.curves["standard"][0].error is None
    assert "| ft, training steps | 24 | 27 | 30 |" in report.markdown()


def test_families_are_tasks_over_seeds(seeds: list[Path]) -> None:
    report = family_curves(open_runs(seeds))
    assert list(report.curves) == ["Left", "Right"]
    assert report.curves["Left"][2].values == pytest.approx((0.75 - 0.1,))


def test_the_commands_write_markdown_json_and_a_picture(
    seeds: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    for what in ("success", "families", "methods", "steps", "starts"):
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
        "last states of demonstrations": 4,
        "rollouts kept, reset contexts": 8,
    }
    assert 0 < sum(report.explained) <= 1 + 1e-9
    for told in ("seeds 0", "training steps", "Contexts of seeds 1, 2", "cores"):
        assert told in report.caption


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
    shutil.rmtree(seeds[1] / "iteration-0")
    with pytest.raises(keystep.ArgumentError, match="folders: expected runs with an iteration evaluated"):
        FinishedRun(seeds[1])


def set_settings(folder: Path, **changes: Any) -> Path:
    """By dotted names with __ for the dots."""
    stored = json.loads((folder / "expit.json").read_text())
    for key, value in changes.items():
        *tables, name = key.split("__")
        inner = stored["settings"]
        for table in tables:
            inner = inner[table]
        inner[name] = value
    (folder / "expit.json").write_text(json.dumps(stored))
    return folder


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"rollouts__guidance": 1.0}, "rollouts.guidance: expected 3.0 in all runs of one kind, got 1.0"),
        ({"growth": 2.0}, "growth: expected 0.5 in all runs of one kind, got 2.0"),
        ({"planner__finetune": {"learning_rate": 1e-3}}, "planner.finetune: expected {} in all runs of one"),
        ({"planner__training__batch_size": 7}, "planner.batch_size: expected 16 in all runs of one"),
        ({"evaluation__seed": 3}, "evaluation.seed: expected 10000000 in all runs, got 3"),
    ],
)  # fmt: skip
def test_runs_of_one_kind_differ_in_the_seed_only(
    seeds: list[Path], changes: dict[str, Any], expected: str
) -> None:
    set_settings(seeds[1], **changes)
    with pytest.raises(keystep.ArgumentError) as caught:
        open_runs(seeds)
    assert expected in str(caught.value)
    assert str(seeds[1]) in str(caught.value)


def test_what_says_where_and_how_far_may_differ(seeds: list[Path]) -> None:
    free = {"iterations": 9, "processes": 7, "planner__training__threads": 3, "rollouts__max_contexts": 3}
    set_settings(seeds[1], **free)
    assert len(open_runs(seeds)) == 2


def test_another_d0_is_refused(seeds: list[Path]) -> None:
    stored = json.loads((seeds[1] / "expit.json").read_text())
    (seeds[1] / "expit.json").write_text(json.dumps(stored | {"dataset_sha256": "0" * 64}))
    with pytest.raises(keystep.ArgumentError, match="demonstrations: expected one D0"):
        open_runs(seeds)


def test_other_kinds_may_collect_otherwise_but_not_learn_d0_otherwise(
    seeds: list[Path], runs: Runs, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(runs["standard-0"].output, tmp_path / "other"))
    set_settings(other, rollouts__guidance=1.0)
    assert len(open_runs([*seeds, other])) == 3
    set_settings(other, planner__training__learning_rate=1.0)
    with pytest.raises(keystep.ArgumentError, match=r"planner\.learning_rate: expected .*, got 1\.0"):
        open_runs([*seeds, other])


def test_a_budget_chooses_among_the_runs_of_a_folder(
    seeds: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [run.budget for run in open_runs([tmp_path])] == [24, 24]
    set_settings(seeds[1], planner__training__steps=88)
    with pytest.raises(keystep.ArgumentError, match="budget: expected 24 or 100, as the runs"):
        open_runs([tmp_path])
    assert [run.path.name for run in open_runs([tmp_path], 24)] == ["ft-0"]
    assert [run.path.name for run in open_runs([tmp_path], 100)] == ["ft-1"]
    assert run_command(["curves", "success", str(tmp_path), "--budget", "7"]) == 2
    assert "budget: expected 24 or 100, as the runs in" in capsys.readouterr().err
    assert run_command(["curves", "success", *map(str, seeds), "--budget", "24"]) == 2
    assert "budget: expected 100, the training steps of iteration 0 of" in capsys.readouterr().err


def test_a_run_that_has_no_evaluation_yet_is_left_out_of_its_folder(
    seeds: list[Path], tmp_path: Path
) -> None:
    shutil.rmtree(seeds[1] / "iteration-0")
    assert [run.path.name for run in open_runs([tmp_path])] == ["ft-0"]


def test_methods_are_rows_and_iteration_0_is_one(seeds: list[Path], runs: Runs) -> None:
    opened = open_runs([*seeds, runs["standard-0"].output])
    rows = rows_of(opened)
    assert list(rows) == [
        "HD (iter 0)",
        *(f"HD-ExpIt{mode} (iter {number})" for mode in ("-ft", "") for number in (1, 2)),
    ]
    assert len(rows["HD (iter 0)"]) == 1  # copies of one run, with the same weights
    table = method_table(opened, chosen=(0, 2))
    assert table.columns == ("all tasks", "Left", "Right")
    assert table.rows == ("HD (iter 0)", "HD-ExpIt-ft (iter 2)", "HD-ExpIt (iter 2)")
    assert table.mean("HD-ExpIt-ft (iter 2)", "all tasks") == pytest.approx(1.0)
    with pytest.raises(keystep.ArgumentError, match="iterations: expected some of 0 to 2, got 5"):
        rows_of(opened, (5,))
