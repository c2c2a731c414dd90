"""All runs of the curves, one after the other; example and script name what is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from expit_runs import FILE

import keystep
from keystep.cli import run as run_command
from keystep.commands import curves
from keystep.expit.config import ExpitConfig
from keystep.expit.run import ExpitReport
from keystep.expit.series import SERIES, config_of_series, series

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(FILE)
    return path


def test_what_every_run_is(file: Path, tmp_path: Path) -> None:
    made = dict(series(file, tmp_path / "all"))
    assert list(made) == list(SERIES)
    assert [(c.mode, c.seed) for c in made.values()] == [
        ("ft", 0), ("ft", 0), ("ft", 0), ("standard", 0), ("ft", 1), ("ft", 2)
    ]  # fmt: skip
    first = made["ft-0"]
    for name, config in made.items():
        assert config.output == tmp_path / "all" / name
        assert config.dataset == first.dataset == tmp_path / "d0"
        assert config.evaluation == first.evaluation
        assert config.planner.training.steps == config.controller.training.steps == 12
        assert config.start == (tmp_path / "all/ft-0" if name in ("resets-ft-0", "standard-0") else None)
    assert made["act-ft-0"].controller.kind == "act"
    assert made["act-ft-0"].controller.training.chunk_lengths == (2, 4)  # the file's
    kept, both = made["resets-ft-0"].rollouts, first.rollouts
    assert (kept.reset_per_task, kept.replayed_per_task) == (2, 0)
    assert kept.max_contexts == 2 * both.max_contexts
    assert both.reset_per_task + both.replayed_per_task == 2


def test_d0_is_shared_also_without_a_name(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(FILE.replace('dataset = "d0"\n', ""))
    shared = {config.dataset for _, config in series(path, tmp_path / "all")}
    assert shared == {tmp_path / "all" / "demonstrations"}


def test_a_budget_is_of_every_run(file: Path, tmp_path: Path) -> None:
    for _, config in series(file, tmp_path, budget=10):
        assert config.planner.training.steps + config.controller.training.steps == 10


def test_some_of_them_and_no_others(file: Path, tmp_path: Path) -> None:
    assert [name for name, _ in series(file, tmp_path, only=("ft-1",))] == ["ft-1"]
    with pytest.raises(keystep.ArgumentError, match=r"only: expected some of ft-0, .*, got 'ft-9'"):
        list(series(file, tmp_path, only=("ft-9",)))


def test_the_command_stops_with_the_run_that_stops(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def run(config: ExpitConfig) -> ExpitReport:
        done.append(config.output.name)
        return ExpitReport(config.output, (0.5,), config.output.name == "resets-ft-0")

    monkeypatch.setattr("keystep.expit.expit", run, raising=False)
    assert run_command(["curves", "runs", str(file), "--output", str(tmp_path / "all")]) == 130
    assert done == ["ft-0", "act-ft-0", "resets-ft-0"]
    assert run_command(["curves", "runs", str(file), "--only", "ft-1", "--budget", "10"]) == 0
    assert done[3:] == ["ft-1"]


def test_the_example_is_of_the_issues_sizes() -> None:
    path = ROOT / "examples" / "curves.toml"
    for name in SERIES:
        config = config_of_series(path, name, Path("/runs"))
        assert config.iterations == 3
        assert config.planner.training.steps == config.controller.training.steps == 4000
        assert config.planner.training.preset == "small"


def test_the_script_asks_for_runs_and_commands_that_there_are() -> None:
    """A name that is wrong would be found after hours."""
    text = (ROOT / "scripts" / "curves.sh").read_text()
    named = set(re.findall(r'"\$runs"?/([a-z0-9-]+)', text))
    assert named <= set(SERIES)
    assert named == set(SERIES)
    kinds: Any = (*get_args(curves.Kept), *get_args(curves.Played))
    names = {getattr(kind, "__origin__", kind).__name__ for kind in kinds}
    commands = {name.removesuffix("OfRuns").lower() for name in names}
    assert set(re.findall(r"(?m)^curve [\w-]+ (\w+)", text)) == commands
