"""keystep.evaluate: comparisons of planners, controllers and samplers."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest

import keystep

pytest.importorskip("gymnasium")

from fake_env import ENV_ID, TASKS, FakeHierarchy, made_up_report

from keystep.evaluate import Evaluation, cross
from keystep.evaluate.cross import names
from keystep.evaluate.planner_speed import SpeedReport, TimedEpisode, compare_samplers
from keystep.evaluate.tables import cross_markdown, speed_markdown

# ---- planners with controllers


def test_cross_evaluation_pairs_everything(tmp_path):
    planners = [tmp_path / "a" / "planner", tmp_path / "b" / "planner"]
    controllers = [tmp_path / "dp", tmp_path / "act"]
    exported = []

    def export(planner: Path, controller: Path, output: Path) -> Path:
        exported.append((planner, controller))
        output.mkdir()
        (output / "pair").write_text(f"{planner} {controller}")
        return output

    def run(bundle: Path):
        solved = "a/planner" in (bundle / "pair").read_text()
        return made_up_report({"stack": [solved] * 4})

    reports = list(cross(planners, controllers, export, run))
    assert [len(report.pairs) for report in reports] == [1, 2, 3, 4]
    assert exported == [(planner, controller) for planner in planners for controller in controllers]
    table = cross_markdown(reports[-1]).splitlines()
    assert table[0] == "| planner \\ controller | dp | act |"
    assert table[2].startswith("| a/planner | 100.0 % (") and table[3].startswith("| b/planner | 0.0 % (")
    assert cross_markdown(reports[0]).splitlines()[3] == "| b/planner |  |  |"  # not done yet
    json.dumps(reports[-1].to_dict(), allow_nan=False)
    pytest.importorskip("matplotlib")
    from keystep.evaluate.plots import cross_figure

    texts = [text.get_text() for text in cross_figure(reports[2]).axes[0].texts]
    assert len(texts) == 3 and texts[0].startswith("100.0 %")


def test_pairs_that_do_not_fit_stay_empty(tmp_path):
    def export(planner: Path, controller: Path, output: Path) -> Path:
        if controller.name == "small":
            raise ValueError("goal.state: expected 43 values,\ngot 7")
        return output

    reports = list(
        cross(
            [tmp_path / "p"],
            [tmp_path / "small", tmp_path / "dp"],
            export,
            lambda _: made_up_report({"stack": [True]}),
        )
    )
    assert [len(report.pairs) for report in reports] == [1, 2]
    for report in reports:
        assert "\n- p with small: goal.state: expected 43 values, got 7\n" in cross_markdown(report)
        json.dumps(report.to_dict(), allow_nan=False)
    assert cross_markdown(reports[-1]).splitlines()[2].startswith("| p |  | 100.0 %")
    pytest.importorskip("matplotlib")
    from keystep.evaluate.plots import cross_figure

    assert [len(cross_figure(report).axes[0].texts) for report in reports] == [0, 1]


def test_ctrl_c_shows_the_pairs_that_are_done(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tyro")
    from keystep import cli

    def export(planner: Path, controller: Path, output: Path) -> Path:
        if controller.name == "b":
            raise KeyboardInterrupt
        raise ValueError("it does not fit")

    monkeypatch.setattr("keystep.commands.cross.export_pair", export)
    options = ["--json", str(tmp_path / "cross.json")]
    assert cli.run(["cross", "--planners", "p", "--controllers", "a", "b", *options]) == 130
    assert "| planner \\ controller | a | b |" in capsys.readouterr().out
    (pair,) = json.loads((tmp_path / "cross.json").read_text())["pairs"]
    assert pair["error"] == "it does not fit" and pair["report"] is None


def test_names_tell_folders_apart(tmp_path):
    assert names([tmp_path / "x" / "p", tmp_path / "y" / "p"]) == ("x/p", "y/p")
    with pytest.raises(keystep.ArgumentError, match="twice"):
        names([tmp_path, tmp_path])
    with pytest.raises(keystep.ArgumentError, match="at least one"):
        names([])


# ---- Figure 10


def test_samplers_play_the_same_episodes_and_the_reference_their_observations():
    runtimes = {"DDPM 100": FakeHierarchy(), "DDIM 10": FakeHierarchy(shift=1.0)}
    references = {"DDPM 100": FakeHierarchy(), "DDIM 10": FakeHierarchy(shift=1.25)}
    evaluation = Evaluation(ENV_ID, TASKS[:2], 3, seed=3)
    reports = list(compare_samplers(runtimes, references, evaluation, reference_episodes=2))
    assert len(reports) == 6
    report = reports[-1]
    for name, episodes in report.episodes.items():
        assert [(e.task, e.episode) for e in episodes] == [(t, i) for t in TASKS[:2] for i in range(3)]
        assert [e.reference_seconds is not None for e in episodes] == [True, True, False] * 2
        taken = sum(e.actions for e in episodes if e.reference_seconds is not None)
        assert len(references[name].observations) == taken + 1  # one of the warm-up
    assert report.difference("DDPM 100") == 0 and report.difference("DDIM 10") == pytest.approx(0.25)
    assert report.times_first("DDPM 100") == 1.0 and report.common == (0, 1, 3, 4)
    assert report.success("DDIM 10")[0] > report.success("DDPM 100")[0]
    json.dumps(report.to_dict(), allow_nan=False)
    table = speed_markdown(report)
    assert "PyTorch : runtime" in table and "PyTorch ms (4 common)" in table and table.count("\n| DD") == 2
    alone = list(compare_samplers(runtimes, {}, evaluation, reference_episodes=2))[-1]
    assert "PyTorch" not in speed_markdown(alone) and "controller" not in speed_markdown(alone)
    alone.settings["controller"] = "DDPM 100"
    assert "; controller DDPM 100; " in speed_markdown(alone)
    pytest.importorskip("matplotlib")
    from keystep.evaluate.plots import speed_figure

    assert len(speed_figure(report).axes) == 2 and len(speed_figure(alone).axes) == 2


def test_times_are_of_all_actions():
    """An episode that is solved at once pays for its whole plan with few actions: no median of ratios."""
    played = (
        TimedEpisode("stack", 0, True, 1, 1.0, reference_seconds=4.0),
        TimedEpisode("stack", 1, False, 9, 1.0, reference_seconds=6.0),
        TimedEpisode("stack", 2, False, 10, 6.0),
    )
    fast = tuple(replace(episode, seconds=episode.seconds / 2) for episode in played)
    report = SpeedReport({"DDPM 100": played, "DDIM 10": fast})
    assert report.runtime_ms("DDPM 100") == pytest.approx(400) and report.times_first("DDIM 10") == 2
    assert report.common == (0, 1)
    assert report.common_ms("DDPM 100") == pytest.approx(200)  # the same observations as the reference
    assert report.reference_ms("DDPM 100") == pytest.approx(1000)
    assert report.times_reference("DDPM 100") == pytest.approx(5)
    assert report.times_reference("DDIM 10") == pytest.approx(10)


def test_a_fault_is_a_failure():
    """Of its episode only, and the reference is not compared where the runtime gave up."""

    class Failing(FakeHierarchy):
        def reset(self, task=None, **options):
            super().reset(task, **options)
            self.fault_at = 1 if options["episode"] == 1 else -1

    evaluation = Evaluation(ENV_ID, TASKS[:1], 3, seed=3)
    runtimes = {"DDPM 100": FakeHierarchy(shift=1), "DDIM 10": Failing(shift=1)}
    references = {name: FakeHierarchy(shift=1) for name in runtimes}
    report = list(compare_samplers(runtimes, references, evaluation, 3))[-1]
    failed = report.episodes["DDIM 10"][1]
    assert (failed.success, failed.fault, failed.reference_seconds) == (False, "rejected_plan", None)
    assert report.common == (0, 2) and report.faults("DDIM 10") == 1
    assert ", 1 faults |" in speed_markdown(report)
    always = {"DDIM 10": FakeHierarchy(fault_at=0)}
    report = list(compare_samplers(always, {}, evaluation, 0))[-1]
    assert report.runtime_ms("DDIM 10") is None and report.success("DDIM 10")[0] == 0
    json.dumps(report.to_dict(), allow_nan=False)
    assert speed_markdown(report).count("| - |") == 1


@pytest.mark.parametrize(
    ("own", "options", "wanted"),
    [
        ("ddim", ("ddpm", 0), ("ddpm", 100)),
        ("ddpm", ("ddpm", 0), ("ddpm", 100)),
        ("ddim", ("ddpm", 50), ("ddpm", 50)),
        ("ddim", ("ddim", 0), ("ddim", 10)),
        ("ddim", ("bundle", 0), ("ddim", 10)),
        ("ddpm", ("bundle", 7), ("ddpm", 7)),
    ],
)
def test_the_controller_of_figure_10(own, options, wanted):
    """DDPM with all its steps unless something else is asked for, as in the paper."""
    from keystep.commands.fig10 import controller_sampler

    sampler = {"kind": own, "train_steps": 100, "inference_steps": 10}
    assert controller_sampler({"sampler": sampler}, *options) == wanted
    assert controller_sampler({"sampler": None}, "ddpm", 0) == ("bundle", 0)
    for kind in ("ddim", "flow_euler", "typo"):
        with pytest.raises(keystep.ArgumentError, match="controller: expected one that has a sampler"):
            controller_sampler({"sampler": None}, kind, 0)


class Interrupting(FakeHierarchy):
    """Its third episode is the one in which somebody presses Ctrl-C."""

    def reset(self, *arguments, **options):
        super().reset(*arguments, **options)
        if len(self.resets) == 5:  # after the cost and the warm-up
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_keeps_the_finished_episodes():
    pytest.importorskip("tyro")
    from keystep.commands import fig10

    policies = {"DDPM 100": Interrupting(), "DDIM 10": FakeHierarchy()}
    report = fig10.run(policies, {}, Evaluation(ENV_ID, TASKS[:2], 5, seed=3), reference_episodes=0)
    assert report.count == 3
    assert all(len(episodes) == 3 for episodes in report.episodes.values())
