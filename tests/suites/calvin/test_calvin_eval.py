"""CALVIN's protocols through the loop: fixed settings, chains, what results say, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eval_runs import run, state_bundle
from stub_bundle import state_entry

pytest.importorskip("gymnasium")
pytest.importorskip("yaml")

from fake_calvin import frame

import keystep
from keystep import cli
from keystep.evaluate import EvaluationReport, evaluate_chains
from keystep.evaluate.benchmark import of_benchmark
from keystep.evaluate.protocols import run as run_protocol
from keystep.evaluate.settings import Evaluation
from keystep.suites.calvin import ENV_ID, layout
from keystep.suites.calvin.evaluation import RecordedSubgoals, fixed_starts
from keystep.suites.calvin.rules import start_scenes
from keystep.suites.calvin.sequences import SceneChain, digest, write_chains
from keystep.suites.calvin.settings import read_settings, write_settings
from keystep.suites.calvin.tasks import TASKS

FIRST = next(iter(TASKS))
SCENE = next(scene for scene in start_scenes() if scene["slider"] == "right" and scene["drawer"] == "closed")


class Scripted:
    """Knows its task by the words it is told, and drives the fake's slider and drawer."""

    MOVES = {"move_slider_left": (0, -1.0), "open_drawer": (1, -1.0), "turn_on_led": (2, -1.0)}  # noqa: RUF012

    def __init__(self) -> None:
        observation = [state_entry(layout.STATE_NAMES)]
        names = list(layout.ACTION_NAMES["relative"])
        tasks = [{"name": task, "instruction": task} for task in TASKS]
        self.manifest = {
            "name": "scripted", "family": "subgoal", "goal": "text", "observation": observation,
            "planner": {"subgoals": 1, "steps_per_subgoal": 8}, "action": {"names": names}, "tasks": tasks,
        }  # fmt: skip
        self.told: list[dict[str, Any]] = []

    def reset(self, **options: Any) -> None:
        self.told.append(options)
        self.task = options.get("task") or options["instruction"].rpartition(" ")[2]

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        action = np.zeros(7, np.float32)
        if self.task in self.MOVES:
            axis, value = self.MOVES[self.task]
            action[axis] = value
        action[6] = -1
        return action


@pytest.fixture
def settings(validation: Path, tmp_path: Path) -> Path:
    counts = write_settings(validation, tmp_path / "settings.json")
    assert counts == {**dict.fromkeys(TASKS, 2), FIRST: 3}
    return tmp_path / "settings.json"


@pytest.fixture
def sequences(tmp_path: Path) -> Path:
    chains = [
        SceneChain(SCENE, ("move_slider_left", "open_drawer", "turn_on_led")),
        SceneChain(SCENE, ("open_drawer", "turn_on_lightbulb", "move_slider_left")),
    ]
    write_chains(tmp_path / "sequences.json", chains)
    return tmp_path / "sequences.json"


def test_settings_are_the_starts_of_segments(settings: Path) -> None:
    found = read_settings(settings)
    assert [len(listed) for listed in found.values()] == [3] + [2] * 33
    second = found[FIRST][1]
    assert (second.start, second.stop) == (68, 70)
    np.testing.assert_array_equal(second.robot_obs, frame(68)["robot_obs"])
    np.testing.assert_array_equal(second.scene_obs, frame(68)["scene_obs"])


def test_mtlc_starts_from_the_settings(calvin: dict[str, Any], settings: Path) -> None:
    kwargs = calvin | {"settings": str(settings), "obs_mode": "state"}
    starts = fixed_starts("MTLC", kwargs)
    assert (starts.option, starts.max_steps, starts.counts[FIRST]) == ("setting", 240, 3)
    policy, tasks = Scripted(), ("move_slider_left", "open_drawer", FIRST)
    evaluation = of_benchmark(
        Evaluation(ENV_ID, tasks, 30, suite="calvin", env_kwargs=kwargs), policy.manifest
    )
    assert evaluation.starts == starts and evaluation.max_episode_steps == 240
    assert (
        evaluation.describe()["resets"]
        == replace(evaluation, fresh_resets=True).describe()["resets"]
        == "fixed"
    )
    report = run_protocol(policy, replace(evaluation, max_episode_steps=30))
    assert isinstance(report, EvaluationReport)
    assert [(task.successes, task.episodes) for task in report.tasks] == [(2, 2), (2, 2), (0, 3)]
    assert {options["instruction"] for options in policy.told} == {f"unseen of {task}" for task in tasks}
    assert len(report.tasks[0].by_reset) == 2 and not set(report.tasks[0].by_reset) & set(
        report.tasks[1].by_reset
    )  # tasks share no start
    assert [family.name for family in report.families] == ["slider", "drawer", "rotate"]
    written = json.loads(json.dumps(report.to_dict()))["settings"]["fixed_starts"]
    assert written == dict(starts.origin) and written["renderer"] == "cpu" and len(written["settings"]) == 64


def test_lh_mtlc_plays_the_chains(calvin: dict[str, Any], sequences: Path) -> None:
    kwargs = calvin | {"sequences": str(sequences), "obs_mode": "state"}
    starts = fixed_starts("LH-MTLC", kwargs)
    assert starts.max_steps == 360 and not starts.origin["chains_are_the_public_ones"]
    policy = Scripted()
    options: dict[str, Any] = {"suite": "calvin", "env_kwargs": kwargs, "starts": starts, "length": 3}
    # Each task needs 8 or fewer steps, all three more than the limit: it is of one task.
    report = evaluate_chains(policy, ENV_ID, tuple(TASKS), chains=2, max_episode_steps=12, **options)
    assert [(chain.job.tasks, chain.reached) for chain in report.chains] == [
        (chain, reached) for chain, reached in zip(starts.chains, (3, 1), strict=True)
    ]
    assert report.settings["fixed_starts"]["chains"] == digest_of(sequences)
    with pytest.raises(keystep.ArgumentError, match="episodes: expected at most 2 fixed chains, got 3"):
        evaluate_chains(policy, ENV_ID, tuple(TASKS), chains=3, **options)
    with pytest.raises(keystep.ArgumentError, match="chain_length: expected 3, got 5"):
        evaluate_chains(policy, ENV_ID, tuple(TASKS), chains=2, **(options | {"length": 5}))
    with pytest.raises(keystep.ArgumentError, match="tasks: expected all of the fixed chains, got none of"):
        evaluate_chains(policy, ENV_ID, tuple(TASKS)[:9], chains=2, **options)


def digest_of(path: Path) -> str:
    from keystep.suites.calvin.sequences import read_chains

    return digest(read_chains(path))


def test_other_chains_or_settings_are_refused_by_hash(calvin: dict[str, Any], sequences: Path) -> None:
    kwargs = calvin | {"sequences": str(sequences)}
    found = fixed_starts("LH-MTLC", kwargs).origin
    again = fixed_starts("LH-MTLC", kwargs | {"expected": {"sequences": found["sequences"]}})
    assert again.origin == found
    with pytest.raises(
        keystep.ArgumentError, match=r"expected.sequences: expected '00', got .* would not compare"
    ):
        fixed_starts("LH-MTLC", kwargs | {"expected": {"sequences": "00"}})


def test_ground_truth_is_what_was_recorded(calvin: dict[str, Any], settings: Path, validation: Path) -> None:
    import gymnasium

    kwargs = calvin | {"settings": str(settings), "dataset": str(validation), "image_size": 8}
    env = gymnasium.make(ENV_ID, **kwargs)
    planner = {"subgoal": "observation.images.static", "subgoals": 3, "steps_per_subgoal": 1}
    truth = RecordedSubgoals(env, planner)
    seen = truth.subgoals(FIRST, 1)
    assert seen is not None and seen["observation.images.static"].shape == (3, 8, 8, 3)
    assert seen["observation.images.static"][:, 0, 0, 0].tolist() == [69, 69, 69]
    assert truth.subgoals(FIRST, 3) is None
    scene = RecordedSubgoals(env, planner | {"subgoal": "observation.scene"}).subgoals(FIRST, 0)
    assert scene is not None and scene["observation.scene"].dtype == np.float32
    with pytest.raises(keystep.ArgumentError, match="ground_truth: expected a subgoal that CALVIN records"):
        RecordedSubgoals(env, planner | {"subgoal": "observation.depth"})


def test_ground_truth_of_another_split_is_refused(
    calvin: dict[str, Any], settings: Path, split: Path
) -> None:
    """Frames are known by number: those of the training split would be of other tasks."""
    import gymnasium

    env = gymnasium.make(ENV_ID, **(calvin | {"settings": str(settings), "dataset": str(split)}))
    planner = {"subgoal": "observation.state", "subgoals": 3, "steps_per_subgoal": 1}
    with pytest.raises(
        keystep.ArgumentError, match=r"dataset: expected the split that .*settings.json is of \(validation, "
    ):
        RecordedSubgoals(env, planner)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda v: v | {"version": 9}, "format: expected keystep-calvin-settings version 1"),
        (lambda v: v | {"settings": {}}, "settings: expected CALVIN's 34 tasks, got others"),
        (lambda v: v["settings"].update({FIRST: []}) or v, f"settings.{FIRST}: expected a list of settings"),
        (lambda v: v["settings"].update({FIRST: [1]}) or v, r"\[0\]: expected an object, got 1"),
        (lambda v: v["settings"][FIRST][0].pop("robot_obs") and v, r"\[0\].robot_obs: expected 15 finite"),
        (
            lambda v: v["settings"][FIRST][0].update(frames=3) or v,
            r"\[0\].frames: expected first frame and end",
        ),
    ],
)
def test_settings_that_are_none(settings: Path, changed: Any, message: str) -> None:
    settings.write_text(json.dumps(changed(json.loads(settings.read_text()))))
    with pytest.raises(keystep.ArgumentError, match=message):
        read_settings(settings)


def bundle(folder: Path) -> Path:
    return state_bundle(folder, tasks=[{"name": task, "instruction": task} for task in list(TASKS)[:5]])


def test_eval_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setattr(sys, "path", [path for path in sys.path if "calvin_env" not in path])
    status, _, err = run(capsys, bundle(tmp_path / "p.keystep"), "--suite", "calvin")
    assert status == 2 and err.startswith("error: calvin_env: expected an installed package")
    assert err.count("\n") == 1


def test_eval_asks_for_the_file_of_the_protocol(
    calvin: dict[str, Any], settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    given = [f"{name}={value}" for name, value in calvin.items()]
    policy = bundle(tmp_path / "p.keystep")
    status, _, err = run(capsys, policy, "--suite", "calvin", "--env-kwargs", *given)
    assert status == 2 and "env_kwargs: expected MTLC's fixed settings" in err
    options = ("--suite", "calvin", "--protocol", "lh-mtlc", "--env-kwargs", *given)
    status, _, err = run(capsys, policy, *options)
    assert status == 2 and "env_kwargs: expected LH-MTLC's chains" in err
    options = ("--suite", "calvin", "--env-kwargs", *given, f"settings={settings}")
    status, _, err = run(capsys, policy, *options)
    assert status == 2 and "actions of the policy's shape (3,)" in err  # all else is there
    status, _, err = run(capsys, policy, *options, "--resets", "fresh")
    assert (
        status == 2 and err == "error: resets: expected shared, as keystep/CALVIN-v0 fixes them, got fresh\n"
    )
    status, _, err = run(capsys, policy, *options, "--also-in", "x/Y-v0")
    assert status == 2 and "protocol: expected mtlc by seeds with also_in, got fixed starts" in err


def test_the_sentences_are_those_of_the_options(
    calvin: dict[str, Any], checkout: Path, settings: Path, tmp_path: Path
) -> None:
    """Whatever --phrasing says, and also where CALVIN's own file is not there."""
    from keystep.commands.eval import ProtocolOptions

    mine = tmp_path / "mine.yaml"
    mine.write_text(json.dumps({task: [f"mine of {task}"] for task in TASKS}))
    (checkout.parent / "calvin_models/conf/annotations/new_playtable_validation.yaml").unlink()
    given = calvin | {"settings": settings, "unseen_sentences": mine}
    kwargs = tuple(f"{name}={value}" for name, value in given.items())
    for phrasing in ("canonical", "held_out"):
        options = ProtocolOptions(suite="calvin", env_kwargs=kwargs, tasks=(FIRST,), phrasing=phrasing)  # type: ignore[arg-type]
        evaluation = options.evaluation(Scripted().manifest)
        assert evaluation.instructions == {FIRST: (f"mine of {FIRST}",)} and evaluation.kinds == ()


def test_the_commands(validation: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.run(["calvin", "settings", str(validation), str(tmp_path / "s.json"), "--per-task", "3"]) == 0
    out = capsys.readouterr().out
    assert "69 settings of 34 tasks" in out and f"{FIRST}: only" not in out and "open_drawer: only 2" in out
    assert cli.run(["calvin", "sequences", str(tmp_path / "c.json"), "--chains", "2"]) == 0
    assert "2 chains, sha256" in capsys.readouterr().out
