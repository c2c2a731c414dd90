"""Suites: fixed seeds, one protocol, and a third one that somebody else wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from eval_runs import run, state_bundle
from stub_bundle import stub_manifest

pytest.importorskip("gymnasium")

import gymnasium

from keystep import cli
from keystep.data import DatasetError, DatasetReader
from keystep.data.action_law import BEFORE_LAWS
from keystep.record.collect import collect
from keystep.suites import SUITES, franka3blocks, suite_named, tabletop
from keystep.suites.base import TASK, attempt, first_seed, numbered
from keystep.suites.calvin import tasks as calvin
from keystep.suites.franka3blocks import instructions
from keystep.suites.franka3blocks import layout as franka3blocks_layout
from keystep.suites.tabletop import layout as tabletop_layout

EACH = pytest.mark.parametrize("name", SUITES)
MODULE = "moon_worlds.moon"


@pytest.fixture
def moon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of the user's with a suite of its own."""
    (tmp_path / "moon_worlds").mkdir()
    (tmp_path / "moon_worlds/moon.py").write_text("from moon_suite import SUITE\n")
    monkeypatch.syspath_prepend(tmp_path)
    for task in ("Left", "Right"):
        gymnasium.registry.pop(f"moon/Side{task}-v0", None)
    return MODULE


def test_the_seeds_of_today_stay() -> None:
    """Datasets are continued by them. A new task gets a number of its own; these never change."""
    franka, table = suite_named("franka3blocks"), suite_named("tabletop")
    assert (franka.seed_stride, table.seed_stride) == (10, 31)
    assert list(franka.tasks.items())[::3] == [
        ("lift_red", 0), ("push_red_left", 3), ("push_green_right", 6), ("stack", 9)
    ]  # fmt: skip
    assert table.tasks["Pick"] == list(tabletop.TASKS).index("Pick")
    assert [table.source(["Swap"], 7, "state", 16).first_seeds["Swap"]] == [7 + table.tasks["Swap"]]


@EACH
def test_no_seed_of_today_moves(name: str) -> None:
    """The law that datasets were collected by."""
    suite = suite_named(name)
    assert suite.seed_stride >= len(suite.tasks)
    for task, number in suite.tasks.items():
        assert numbered(suite, [task], 13) == {task: 13 + number}
    for k in (0, 1, 7, 999_999):
        for number in suite.tasks.values():
            assert attempt(number + suite.seed_stride * k, suite.seed_stride) == k


@pytest.mark.parametrize("stride", [1, 2, 10, 31, 100])
def test_tasks_that_are_added_meet_no_seed_of_another(stride: int) -> None:
    """Seeds of two tasks are equal only if they agree modulo the stride: each such pair is looked at."""
    episodes = 1_000_000
    firsts = {number: first_seed(number, stride) for number in range(201)}
    for number, first in firsts.items():
        assert (
            attempt(first, stride) == 0 and attempt(first + stride * (episodes - 1), stride) == episodes - 1
        )
        for other in range(number):
            distance = first - firsts[other]
            assert distance > 0
            assert distance % stride or distance >= stride * episodes


@EACH
def test_all_tasks_have_a_number_each(name: str) -> None:
    suite = suite_named(name)
    known = {"calvin": calvin.TASKS, "franka3blocks": franka3blocks.TASKS, "tabletop": tabletop.TASKS}[name]
    assert suite.name == name and dict(suite.tasks) == {task: i for i, task in enumerate(known)}
    assert len(set(suite.tasks.values())) == len(suite.tasks)


@EACH
def test_every_task_has_an_environment(name: str) -> None:
    suite = suite_named(name)
    suite.register()
    for task in suite.tasks:
        assert gymnasium.spec(suite.env_id.replace(TASK, task)).entry_point is not None


@EACH
def test_a_suite_is_loaded_without_a_simulator(name: str) -> None:
    code = f"import sys; from keystep.suites import suite_named; suite_named({name!r}).register()"
    code += "; print(sorted({'torch', 'mani_skill', 'sapien', 'pybullet', 'calvin_env'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_sentences() -> None:
    suite = suite_named("franka3blocks")
    assert suite.held_out_kinds == instructions.HELD_OUT_KINDS
    assert suite.phrasings("stack")[0] == suite.instruction("stack")
    assert not set(suite.phrasings("stack")) & set(suite.held_out("stack"))
    assert suite.meaning("push_red_right") == {"verb": 1, "colour": 0, "side": 2}
    meanings = [tuple(suite.meaning(task).values()) for task in suite.tasks]
    assert len(set(meanings)) == len(meanings)
    table = suite_named("tabletop")
    for sentences in (table.phrasings, table.held_out, table.meaning):
        with pytest.raises(KeyError):
            sentences("Pick")


def test_the_laws_of_older_datasets_are_those_of_their_worlds() -> None:
    assert BEFORE_LAWS == franka3blocks_layout.ACTION_LAW == tabletop_layout.ACTION_LAW


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("moon", "suite: expected calvin or franka3blocks or tabletop, or a module with SUITE, got 'moon'"),
        ("no.such", r"suite: expected a module with SUITE, got 'no.such' \(No module named 'no'\)"),
        ("json.decoder", r"suite: expected a module with SUITE, got 'json.decoder' \(.*no attribute 'SUITE'"),
    ],
)
def test_suites_that_are_none(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        suite_named(name)
    with pytest.raises(DatasetError, match=message):
        collect(tmp_path / "d", suite=name)
    assert not (tmp_path / "d").exists()


def test_a_suite_of_somebody_else_is_collected(moon: str, tmp_path: Path) -> None:
    report = collect(tmp_path / "d", suite=moon, episodes=2, seed=5)
    assert report.episodes == 4
    reader = DatasetReader(tmp_path / "d")
    assert [(episode.task, episode.seed) for episode in reader.episodes()] == [
        ("Left", 5), ("Left", 7), ("Right", 6), ("Right", 8)
    ]  # fmt: skip
    with pytest.raises(DatasetError, match="expert_noise: expected none, as suite moon_worlds"):
        collect(tmp_path / "e", suite=moon, expert_noise=(0.1,))
    with pytest.raises(DatasetError, match="tasks: expected some of Left, Right, got 'Up'"):
        collect(tmp_path / "e", suite=moon, tasks=["Up"])


def test_it_is_evaluated_each_task_in_its_environment(moon: str, tmp_path: Path, capsys, monkeypatch) -> None:
    played = []
    manifest = stub_manifest()
    tasks = [{"name": name, "instruction": f"Go to the {name.lower()}."} for name in ("Left", "Right")]
    bundle = state_bundle(tmp_path / "policy.keystep", tasks=tasks, **{"name": manifest["name"]})
    import moon_suite

    real = moon_suite.MoonEnv.reset

    def noted(self, *, seed=None, options=None):
        played.append((self.task, seed))
        return real(self, seed=seed, options=options)

    monkeypatch.setattr(moon_suite.MoonEnv, "reset", noted)
    path = tmp_path / "report.json"
    options = ("--suite", moon, "--episodes", 2, "--seed", 3, "--json", path)
    status, _, err = run(capsys, bundle, *options)
    assert status == 0, err
    report = json.loads(path.read_text())
    assert [task["name"] for task in report["tasks"]] == ["Left", "Right"]
    assert report["env"] == "moon/Side<Task>-v0"
    assert played[-4:] == [("Left", 3), ("Left", 4), ("Right", 3), ("Right", 4)]


def test_tasks_of_another_suite(moon: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    bundle = state_bundle(tmp_path / "policy.keystep")
    status, _, err = run(capsys, bundle, "--suite", moon, "--episodes", 1)
    assert status == 2 and "tasks: expected some of moon_suite's (Left, Right), got 'lift_red'" in err


def test_ground_truth_needs_demonstrations_with_subgoals() -> None:
    with pytest.raises(DatasetError, match="suite: expected one with a demonstrator, got calvin"):
        collect(Path("nowhere"), suite="calvin")
    with pytest.raises(ValueError, match="ground_truth: expected a suite whose demonstrations have subgoals"):
        suite_named("tabletop").demonstrator(None, {})


def test_the_command_names_the_suites(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        cli.run(["eval", "--help"])
    assert "--suite" in capsys.readouterr().out


def test_observations_are_numbers() -> None:
    """Of the fake suite: what its tests rely on."""
    from moon_suite import MoonEnv

    first, second = (MoonEnv("Left").reset(seed=1)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
