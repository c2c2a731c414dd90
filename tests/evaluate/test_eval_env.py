"""`keystep eval` in environments that know nothing of keystep."""

from __future__ import annotations

import json

import numpy as np
import pytest

import keystep

pytest.importorskip("gymnasium")

import other_envs
from eval_runs import run, state_bundle
from other_envs import LENGTH
from stub_bundle import camera_entry, stub_manifest, write_stub_bundle

from keystep.evaluate import Evaluation, evaluate
from keystep.evaluate.environments import ObservationReader, make_env, solved, step_limit
from keystep.evaluate.parallel import Played
from keystep.evaluate.report import task_report
from keystep.evaluate.rollout import Worker
from keystep.evaluate.settings import EpisodeResult


def test_a_plain_environment(capsys, bundle, tmp_path):
    """A Box observation of float64, info["is_success"], no limit, and options for its constructor."""
    path = tmp_path / "result.json"
    options = ("--env", "other_envs:OtherPlain-v0", "--episodes", 2, "--json", path)
    status, out, err = run(capsys, bundle, *options, "--env-kwargs", "size=3", "label=[1, 2]")
    assert status == 0, err
    assert "--max-episode-steps limits an episode" in out
    report = json.loads(path.read_text())
    assert report["settings"]["env_kwargs"] == {"size": 3, "label": [1, 2]}
    assert [task["successes"] for task in report["tasks"]] == [2, 2]
    assert [task["mean_steps"] for task in report["tasks"]] == [3, 3]  # the first success ends an episode
    status, _, err = run(capsys, bundle, *options, "--env-kwargs", '{"size": 7}')
    assert status == 0 and json.loads(path.read_text())["tasks"][0]["successes"] == 0


def test_a_bundle_without_tasks(capsys, tmp_path):
    folder = state_bundle(tmp_path / "plain.keystep", tasks=[])
    with keystep.load(folder, engine="stub") as policy:
        worker = Worker(policy, Evaluation("other_envs:OtherPlain-v0", ("unnamed",), 1))
        worker.run(worker.evaluation.jobs[0])
        assert worker.env.unwrapped.options is None
    status, out, err = run(capsys, folder, "--env", "other_envs:OtherPlain-v0", "--episodes", 3)
    assert status == 0 and "unnamed" in out, err


def test_success_by_termination(bundle):
    with keystep.load(bundle, engine="stub") as policy:
        report = evaluate(policy, "other_envs:OtherSilent-v0", ["lift_red"], 4, 10, success_key="terminated")
        assert report.tasks[0].solved == (True, False, True, False)
        with pytest.raises(keystep.ArgumentError, match="expected 'success' or 'is_success' in info, got 'd"):
            evaluate(policy, "other_envs:OtherSilent-v0", ["lift_red"], 1)
        with pytest.raises(keystep.ArgumentError, match="expected 'height' in info, got 'distance'; --s"):
            evaluate(policy, "other_envs:OtherSilent-v0", ["lift_red"], 1, success_key="height")


def test_only_the_key_that_is_asked_for_is_looked_at(capsys, bundle):
    """info["success"] is a score there."""
    options = ("--env", "other_envs:OtherScored-v0", "--episodes", 1)
    status, out, err = run(capsys, bundle, *options, "--success-key", "solved")
    assert status == 0 and "a step, 6 steps if not solved" in out, err
    with keystep.load(bundle, engine="stub") as policy:
        report = evaluate(policy, "other_envs:OtherScored-v0", ["lift_red"], 2, success_key="solved")
        assert (report.tasks[0].successes, report.tasks[0].mean_steps) == (2, other_envs.LENGTH)
    status, _, err = run(capsys, bundle, *options)
    assert status == 2 and "info['success']: expected true or false, got 0.4" in err


def test_what_an_episode_measures(capsys, bundle, tmp_path):
    """The greatest of its steps, also where it is not solved."""
    path, table = tmp_path / "result.json", tmp_path / "result.md"
    options = ("--env", "other_envs:OtherClimber-v0", "--episodes", 4, "--max-episode-steps", LENGTH)
    wanted = (*options, "--tasks", "lift_red", "--seed", 10, "--measure")
    status, out, err = run(capsys, bundle, *wanted, "height", "--json", path, "--markdown", table)
    assert status == 0 and "greatest height (mean ± std. error)" in out and "3.5000 ± 0.2887" in out, err
    report = json.loads(path.read_text())
    task = report["tasks"][0]
    assert task["measured"] == [3, 4, 3, 4] and task["solved"] == [True, False, True, False]
    assert report["total"]["measured_mean"] == 3.5 and report["settings"]["measure"] == "height"
    assert "; 3.5000 ± 0.2887" in table.read_text() and "each episode's greatest height" in table.read_text()
    chain = ("--protocol", "lh-mtlc", "--chain-length", 2)
    for name, told in (("depth", "measure: expected 'depth' in info, got 'is_"), ("name", "a finite number")):
        status, _, err = run(capsys, bundle, *wanted, name)
        assert status == 2 and told in err
    status, _, err = run(capsys, bundle, *options, *chain, "--measure", "height")
    assert status == 2 and "measure: expected single tasks, got chains" in err
    run(capsys, bundle, *options, "--json", path)
    assert "measured" not in path.read_text()


def test_what_was_not_measured_keeps_its_place():
    """The episode of a policy that failed at once: beside `solved` it is None, not the next one's."""
    evaluation = Evaluation("other_envs:OtherClimber-v0", ("a",), 3, measure="height")
    found = [(1, 5, "", 4.0), (0, 0, "engine_failure", None), (1, 2, "", 3.0)]
    results = [
        EpisodeResult(job, reached, steps, fault, measured=value)
        for job, (reached, steps, fault, value) in zip(evaluation.jobs, found, strict=True)
    ]
    (task,) = task_report(evaluation, Played(results, 1.0, machine={})).tasks
    assert task.measured == (4.0, None, 3.0) and task.solved == (True, False, True)
    assert task.measured_mean == 3.5 and task.to_dict()["measured"] == [4.0, None, 3.0]


def test_an_environment_is_found_in_the_package_of_its_namespace(capsys, bundle, tmp_path, monkeypatch):
    (tmp_path / "far_moon").mkdir()
    lines = "import gymnasium, other_envs", "gymnasium.register('far_moon/Plain-v0', other_envs.Plain)"
    (tmp_path / "far_moon/__init__.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    options = ("--episodes", 1, "--max-episode-steps", 6)
    status, _, err = run(capsys, bundle, "--env", "far_moon/Plain-v0", *options)
    assert status == 0, err
    for name in ("no_moon", "__main__"):
        status, _, err = run(capsys, bundle, "--env", f"{name}/Plain-v0", *options)
        assert status == 2 and err.startswith("error: env: ") and name in err
    (tmp_path / "new_moon.py").write_text("import no_such_library")
    status, _, err = run(capsys, bundle, "--env", "new_moon/Plain-v0", *options)
    words = "env: expected a package that can be imported for new_moon/Plain-v0, got 'new_moon' (ModuleNotF"
    assert status == 2 and words in err


@pytest.mark.parametrize(
    ("info", "key", "result"),
    [
        ({"success": True}, None, True),
        ({"success": False, "is_success": True}, None, False),
        ({"is_success": 1.0}, None, True),
        ({"success": np.array([0])}, None, False),
        ({"reached": np.bool_(True), "success": False}, "reached", True),
        ({"success": True}, "terminated", False),
        ({}, None, None),
        ({"success": True}, "other", None),
    ],
)
def test_what_solved_means(info, key, result):
    assert solved(info, terminated=False, key=key) is result


@pytest.mark.parametrize("value", ["maybe", None, 0.5, np.nan, np.ones(2), object()])
def test_success_is_true_or_false(value):
    with pytest.raises(keystep.ArgumentError, match=r"info\['success'\]: expected true or false"):
        solved({"success": value}, terminated=False, key=None)


def test_limits(bundle):
    manifest = keystep.read_manifest(bundle)
    assert step_limit(make_env("other_envs:OtherEndless-v0", manifest)) is None
    assert step_limit(make_env("other_envs:OtherLimited-v0", manifest)) == 5
    assert step_limit(make_env("other_envs:OtherLimited-v0", manifest, max_episode_steps=3)) == 3
    assert step_limit(make_env("fake_env:keystep-test/Reach-v0", manifest)) == 20
    with keystep.load(bundle, engine="stub") as policy:
        evaluation = Evaluation("other_envs:OtherEndless-v0", ("lift_red",), 1, max_episode_steps=4)
        worker = Worker(policy, evaluation)
        assert worker.run(evaluation.jobs[0]).steps == 4


def test_two_cameras_of_their_own_sizes(tmp_path):
    manifest = stub_manifest()
    graphs = manifest["graphs"]
    wrist = "observation.images.wrist"
    tensor = {"name": wrist, "dtype": "float32", "shape": [1, 3, 4, 4], "role": wrist}
    graphs["encode"]["inputs"].append(tensor)
    observation = [*manifest["observation"], camera_entry("wrist") | {"shape": [4, 4, 3]}]
    changes = {"observation": observation, "graphs": graphs}
    folder = write_stub_bundle(tmp_path / "two.keystep", **changes)
    with keystep.load(folder, engine="stub") as policy:
        report = evaluate(policy, "other_envs:OtherDicts-v0", ["lift_red"], 1)
        assert report.tasks[0].successes == 1
        with pytest.raises(keystep.ArgumentError, match=r"observation\.images\.static: expected one of"):
            evaluate(policy, "other_envs:OtherOneCamera-v0", ["lift_red"], 1)


def test_the_only_camera(stub_bundle):
    with keystep.load(stub_bundle, engine="stub") as policy:
        assert evaluate(policy, "other_envs:OtherOneCamera-v0", ["lift_red"], 1).tasks[0].successes == 1
        words = r"observation: expected a dict with observation\.state, observation\.images\.static, got one"
        with pytest.raises(keystep.ArgumentError, match=words):
            evaluate(policy, "other_envs:OtherPlain-v0", ["lift_red"], 1)


def test_what_is_read_is_what_the_runtime_takes():
    read = ObservationReader(stub_manifest())
    seen = read({"state": [1, 2, 3, 4], "images": {"static": other_envs.IMAGE[:, ::-1]}, "more": {"x": 1}})
    assert seen["observation.state"].dtype == np.float32
    assert seen["observation.images.static"].flags.c_contiguous
    ours = {"observation.state": np.zeros(4, np.float32), "observation.images.static": other_envs.IMAGE}
    assert read({**ours, "state": np.ones(4)})["observation.state"] is ours["observation.state"]


def test_a_camera_has_its_whole_name():
    """Dots are part of it: two cameras that end alike are two."""
    cameras = ("left.rgb", "right.rgb")
    read = ObservationReader({"observation": [camera_entry(name) for name in cameras]})
    left, right = (np.full((6, 8, 3), value, np.uint8) for value in (1, 2))
    for seen in (
        {"left": {"rgb": left}, "right": {"rgb": right}},
        {"pixels": {"left.rgb": left, "right.rgb": right}, "rgb": right},
        {"images": {"left.rgb": left}, "observation.images.right.rgb": right},
    ):
        values = {key: image[0, 0, 0] for key, image in read(seen).items()}
        assert values == {"observation.images.left.rgb": 1, "observation.images.right.rgb": 2}
    with pytest.raises(keystep.ArgumentError, match=r"observation\.images\.left\.rgb: expected one of"):
        read({"rgb": left})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--env", "nomod:Env"], "env: expected a module that can be imported before ':', got 'nomod'"),
        (["--env", "no.such.mod:Env-v0"], "got 'no.such.mod' (ModuleNotFoundError"),
        (["--env", "other_envs:OtherAbsent-v0"], "env: "),
        (["--env", "OtherAbsent"], "env: "),
        (["--env", "other_envs:OtherLost-v0"], "no_such_module"),
        (
            ["--env", "other_envs:OtherButtons-v0"],
            "env: expected actions of the policy's shape (3,)",
        ),
        (["--env", "other_envs:OtherPlain-v0", "--env-kwargs", "colour=red"], "env_kwargs: "),
        (["--env", "other_envs:OtherPlain-v0", "--env-kwargs", "red"], "env_kwargs: expected NAME=VALUE"),
        (["--env", "other_envs:OtherPlain-v0", "--env-kwargs", "{"], "env_kwargs: expected a JSON object"),
        (["--env", "other_envs:OtherPlain-v0", "--protocol", "lh-mtlc", "--chain-length", "2"], "set_task"),
        (
            ["--env", "other_envs:OtherPlain-v0", "--max-episode-steps", "0"],
            "max_episode_steps: expected",
        ),
        (
            ["--env", "other_envs:OtherLimited-v0", "--success-key", "strange"],
            "info['strange']: expected",
        ),
    ],
)
def test_refusals_are_one_line(capsys, bundle, arguments, words):
    status, _, err = run(capsys, bundle, "--episodes", "1", *arguments)
    last = err.splitlines()[-1]
    assert status == 2 and last.startswith("error: ") and words in last and "Traceback" not in err


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("true", True),
        ("False", False),
        ("None", None),
        ("null", None),
        ("top", "top"),
        ("a=b", "a=b"),
    ],
)
def test_values_of_options(text, value):
    from keystep.commands.options import parse_env_kwargs

    assert parse_env_kwargs([f"name={text}"]) == {"name": value}


def test_a_module_of_the_current_folder(capsys, bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = "import gymnasium, other_envs\ngymnasium.register('Here-v0', entry_point=other_envs.Plain)\n"
    (tmp_path / "env_of_this_folder.py").write_text(module)
    status, _, err = run(capsys, bundle, "--env", "env_of_this_folder:Here-v0", "--episodes", "1")
    assert status == 0, err
