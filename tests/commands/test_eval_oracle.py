"""keystep eval --act oracle: a table with means and a blind row, files, refusals. Nothing is simulated."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")
pytest.importorskip("torch", reason="training packages are not installed")

from keystep import ArgumentError, cli
from keystep.commands import eval_oracle
from keystep.commands.eval_oracle import SIGHTED, rows, sight
from keystep.suites.tabletop import TASKS
from keystep.suites.tabletop.oracle import paper
from keystep.suites.tabletop.oracle import report as report_module
from keystep.suites.tabletop.oracle.results import OracleReport, OracleResult, Trial


def report_of(solved: dict[str, int], episodes: int = 4, played: int | None = None) -> OracleReport:
    results = tuple(
        OracleResult.of(
            task,
            [Trial(task, seed, seed < count, 3, 40, 5.0, "no room" * (seed >= count)) for seed in range(4)],
        )
        for task, count in solved.items()
    )
    planned = episodes * len(solved)
    return OracleReport(results, 7, episodes, 1, 1.0, planned if played is None else played, planned)


def test_every_mean_is_of_its_tasks_and_the_blind_stand_beside() -> None:
    solved = {task: 4 for task in TASKS} | {"Pick": 2}
    blind = {task: 4 for task in TASKS} | dict.fromkeys(SIGHTED, 1)
    found = {row[0]: row for row in rows({"sighted": report_of(solved), "blind": report_of(blind)})}
    assert len(found) == 31 + 6
    assert found["Pick"][1] == "2/4" and found["Pick"][-2:] == ["99", "2"]
    assert found["mean of table 1"][1] == "95.0" and found["mean of table 1"][-2:] == ["80.8", "-"]
    assert found["mean of sight matters"][1] == "100.0" and found["mean of sight matters"][4] == "25.0"
    assert found["mean of all"][1] == f"{100 * 30.5 / 31:.1f}"
    assert sum(paper.TABLE_1.values()) / len(paper.TABLE_1) == pytest.approx(80.8, abs=0.05)
    assert set(SIGHTED) < set(TASKS) and not set(SIGHTED) & set(paper.TABLE_1)


def test_what_sight_is_worth_is_the_difference_of_means_with_its_interval() -> None:
    assert sight({"sighted": report_of({"Pick": 4})}) == {}
    blind = {task: 4 for task in TASKS} | dict.fromkeys(SIGHTED, 1)
    reports = {"sighted": report_of({task: 4 for task in TASKS}), "blind": report_of(blind)}
    found = sight(reports)
    assert set(found) == {"level 0", "level 1", "level 2", "table 1", "sight matters", "all"}
    assert found["sight matters"]["points"] == 75 and found["table 1"]["points"] == 0
    assert 0 < found["sight matters"]["low"] < 75 < found["sight matters"]["high"] < 100
    assert found["table 1"]["low"] < 0 < found["table 1"]["high"]
    seen, alone = report_of({"Pick": 4}), report_of({"Pick": 1})
    (low, high), sure = (alone.tasks[0].low, alone.tasks[0].high), seen.tasks[0].low
    one = sight({"sighted": seen, "blind": alone})["played"]
    assert one["low"] == pytest.approx(75 - 100 * ((1 - sure) ** 2 + (high - 0.25) ** 2) ** 0.5)
    assert one["high"] == pytest.approx(75 + 100 * (0.25 - low))


def test_of_some_tasks_there_are_only_the_means_that_they_make() -> None:
    found = rows({"sighted": report_of({"Pick": 3, "Touch": 1})})
    assert [row[0] for row in found] == ["Pick", "Touch", "mean of played"]
    assert all(row[4:6] == ["-", "-"] for row in found)
    level = {name: 4 for name, task in TASKS.items() if task.level == 1}
    found = rows({"sighted": report_of({"Pick": 3} | level)})
    assert [row[0] for row in found[-2:]] == ["mean of level 1", "mean of played"]


def test_a_name_is_no_markup(
    played: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("w[bold]x", "w[x]", "w[red"):
        folder = tmp_path / name
        folder.mkdir()
        for file in ("model.safetensors", "policy.json"):
            (folder / file).write_bytes(b"{}")
        assert asked(folder) == 0 and f"checkpoint {name}, sha256 " in capsys.readouterr().out


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """What is played, by a planner that is none, and evaluations that are made up."""
    calls: list[Any] = []
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "policy.json").write_bytes(b"{}")
    opened = SimpleNamespace(grid=32, image_size=64)
    monkeypatch.setattr("keystep.train.code_acting.CheckpointPlanner", lambda folder: opened)
    picture = np.ones((64, 64, 3), np.float32)
    monkeypatch.setattr(eval_oracle, "mean_picture", lambda *what: calls.append(what) or picture)

    def evaluate(*what: Any, keep: Any) -> OracleReport:
        calls.append(what)
        return report_of({"Pick": 1 if isinstance(what[-1], eval_oracle.Blind) else 4})

    monkeypatch.setattr(eval_oracle, "evaluate_oracle", evaluate)
    return calls


def asked(folder: Path, *more: str) -> int:
    """The command's exit status; its files are a.json and a.md."""
    files = ["--json", str(folder / "a.json"), "--markdown", str(folder / "a.md")]
    options = ["--suite", "tabletop", "--act", "oracle", "--tasks", "Pick", "--episodes", "4"]
    return cli.run(["eval", str(folder), *options, *files, *more])


def test_an_interrupt_ends_with_130_and_says_that_more_was_planned(
    played: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = report_of({"Pick": 3, "Touch": 1}, played=6)
    monkeypatch.setattr(eval_oracle, "evaluate_oracle", lambda *what, keep: played.append(what) or part)
    assert asked(tmp_path, "--blind") == 130
    assert len(played) == 2  # the mean picture and the planner with sight
    assert json.loads((tmp_path / "a.json").read_text())["unfinished"]


def test_what_was_played_with_sight_is_kept_when_the_blind_one_fails(
    played: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate(*what: Any, keep: Any) -> OracleReport:
        if isinstance(what[-1], eval_oracle.Blind):
            raise RuntimeError("a worker died")
        return report_of({"Pick": 4})

    monkeypatch.setattr(eval_oracle, "evaluate_oracle", evaluate)
    assert asked(tmp_path, "--blind") == 2
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["sighted"]["tasks"][0]["successes"] == 4 and "blind" not in found
    assert found["unfinished"], "the blind one was planned"
    assert "- blind: not played yet\n" in (tmp_path / "a.md").read_text()


@pytest.mark.parametrize("fails", ["sighted", "blind"])
@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_an_error_leaves_the_episodes_that_were_played(
    played: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str, at: int
) -> None:
    """Of two tasks with two episodes each, the episode number `at` fails, with sight or without."""
    monkeypatch.setattr(eval_oracle, "evaluate_oracle", report_module.evaluate_oracle)
    told: list[str] = []

    class Player:
        def __init__(self, opened: Any, grid: int) -> None:
            self.blind = isinstance(opened, eval_oracle.Blind)

        def __call__(self, task: str, seed: int) -> Trial:
            if self.blind == (fails == "blind"):
                told.append(task)
                if len(told) > at:
                    raise RuntimeError("the simulator died")
            return Trial(task, seed, True, 3, 40, 5.0)

    monkeypatch.setattr(report_module, "ReplyPlayer", Player)
    (tmp_path / "a.json").write_text("{}")
    assert asked(tmp_path, "--blind", "--tasks", "Pick", "Touch", "--episodes", "2") == 2
    found = json.loads((tmp_path / "a.json").read_text())
    if fails == "sighted" and not at:
        assert found == {}, "there is nothing to write"
        return
    assert found["unfinished"] and found[fails]["played"] == at and found[fails]["planned"] == 4
    assert [row["task"] for row in found[fails]["tasks"]] == ["Pick"] * (at > 1)
    begun = [(row["task"], row["episodes"]) for row in found[fails]["begun"]]
    assert begun == [("Pick", 1)] * (at == 1) + [("Touch", 1)] * (at == 3)
    text = (tmp_path / "a.md").read_text()
    assert f"- {fails}: interrupted after {at} of 4 episodes" in text
    if fails == "sighted":
        assert ("| Touch | 1/1 |" in text) == (at == 3) and "- blind: not played yet" in text
    else:
        assert "| Touch | 2/2 |" in text and "not played yet" not in text
        assert ("| Pick | 2/2 | 34.2-100.0 | 3.0 | 1/1 |" in text) == (at == 1)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (["--plot", "a.png"], "plot"),
        (["--latency", "chunk=3"], "latency"),
        (["--protocol", "lh-mtlc"], "protocol"),
        (["--noise-seeds", "1", "2"], "noise_seeds"),
        (["--threads", "7"], "threads"),
        (["--threads", "0"], "threads"),
        (["--guidance", "0"], "guidance"),
        (["--max-episode-steps", "0"], "max_episode_steps"),
        (["--also-in", ""], "also_in"),
        (["--also-in", "there"], "also_in"),
        (["--rerun", "a.rrd"], "rerun"),
    ],
)
def test_what_means_nothing_to_the_oracle_is_refused(
    played: list[Any], tmp_path: Path, options: list[str], field: str, capsys: pytest.CaptureFixture
) -> None:
    assert asked(tmp_path, *options) == 2
    assert f"{field}: expected none with act oracle" in capsys.readouterr().err and not played


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tasks", "Pickk"], "task: expected Pick, got 'Pickk'"),
        (["--episodes", "0"], "episodes: expected at least 1, got 0"),
        (["--processes", "0"], "processes: expected at least 1, got 0"),
        (["--seed", "-1"], "seed: expected 0 to 2^63 - 1, got -1"),
    ],
)
def test_what_cannot_be_played_is_refused_before_pictures_are_drawn(
    played: list[Any], tmp_path: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json").write_text("of an earlier run")
    assert asked(tmp_path, "--blind", *options) == 2
    assert capsys.readouterr().err == f"error: {words}\n" and not played
    assert (tmp_path / "a.json").read_text() == "of an earlier run"


@pytest.mark.parametrize("option", ["--json", "--markdown"])
def test_a_file_that_cannot_be_written_is_known_before_anything_is_opened(
    played: list[Any], tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(tmp_path, option, str(tmp_path)) == 2
    words = f"{option[2:]}: expected a file that can be written, got {tmp_path}: it is a folder"
    assert words in capsys.readouterr().err and not played


def test_a_file_that_cannot_be_written_at_the_end_does_not_stop_the_other(
    played: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*what: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("keystep.commands.options.write_json", full)
    assert asked(tmp_path) == 2 and "| Pick | 4/4 |" in (tmp_path / "a.md").read_text()


def test_blind_is_of_the_oracle(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.run(["eval", str(tmp_path), "--blind"]) == 2
    assert "blind: expected act oracle beside it, got policy" in capsys.readouterr().err


def test_the_command_plays_with_sight_and_without_and_writes_both(
    played: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert asked(tmp_path, "--blind") == 0
    (mean, sighted, blind) = played
    assert sighted[:5] == (("Pick",), 4, 10_000_000, 1, 32) == blind[:5]
    assert mean[0] == tuple(TASKS) and mean[1] + eval_oracle.MEAN_SCENES < 10_000_000  # of no evaluation
    document = json.loads((tmp_path / "a.json").read_text())
    assert not document["unfinished"] and document["grid"] == 32 and len(document["weights_sha256"]) == 64
    assert (
        document["sighted"]["tasks"][0]["successes"] == 4 and document["blind"]["tasks"][0]["successes"] == 1
    )
    assert "Pick" in capsys.readouterr().out and "no room" not in (tmp_path / "a.md").read_text()
    assert "| Pick | 4/4 |" in (tmp_path / "a.md").read_text()
    assert document["planner"] == "checkpoint" and document["sight"]["played"]["points"] == 75
    assert "- sight, played: +75.0 points (" in (tmp_path / "a.md").read_text()


def test_what_cannot_be_played_is_refused(played: list[Any], tmp_path: Path) -> None:
    from keystep.commands.options import OutputOptions

    def evaluate(folders: list[Path], suite: str) -> None:
        eval_oracle.evaluate(folders, suite, (), 4, 0, 1, False, OutputOptions())

    with pytest.raises(ArgumentError, match="bundles: expected one with act oracle, got 2"):
        evaluate([tmp_path, tmp_path], "tabletop")
    with pytest.raises(ArgumentError, match="suite: expected tabletop with act oracle, got franka3blocks"):
        evaluate([tmp_path], "franka3blocks")
    assert not played
