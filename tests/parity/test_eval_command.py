"""`keystep eval` on the real simulator: the runtime and the PyTorch reference live the same episodes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("mani_skill")

import keystep
from keystep import cli
from keystep.evaluate.environments import make_env
from keystep.export.bundle import export_bundle
from keystep.models import (
    PLANNER_PRESETS,
    PRESETS,
    load_policy,
    make_model,
    random_checkpoint,
    save_checkpoint,
    state_feature,
)
from keystep.models.checkpoint import TEXT_ENCODER
from keystep.models.reference import ReferencePolicy
from keystep.models.text import load_text_encoder
from keystep.suites.franka3blocks import ACTION_HOLD, ACTION_NAMES, STATE_NAMES, TASKS
from keystep.suites.franka3blocks.demonstrations import rollout_expert
from keystep.suites.franka3blocks.subgoals import ExpertSubgoals

ENV_ID = "keystep/Franka3Blocks-v1"


def franka_checkpoint(folder: Path, **changes: object) -> Path:
    """A tiny controller of random weights that speaks Franka-3Blocks."""
    seen = (state_feature(len(STATE_NAMES)),)
    config = replace(PRESETS["tiny"], observation=seen, action_dim=len(ACTION_NAMES), **changes)
    random_checkpoint(folder, config)
    policy, checkpoint = load_policy(folder)
    action = checkpoint.action | {
        "min": [-1.0] * 7,
        "max": [1.0] * 7,
        "hold": {"mode": "values", "values": [float(x) for x in ACTION_HOLD]},
    }
    tasks = [{"name": name, "instruction": task.instruction} for name, task in TASKS.items()]
    save_checkpoint(folder, replace(checkpoint, tasks=tasks, action=action), policy.state_dict())
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(checkpoint, bundle) of a flat policy."""
    folder = tmp_path_factory.mktemp("franka")
    checkpoint = franka_checkpoint(folder / "checkpoint", tasks=len(TASKS))
    return checkpoint, export_bundle(checkpoint, folder / "franka.keystep")


@pytest.fixture(scope="module")
def hierarchy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """(planner's checkpoint, controller's checkpoint, bundle)."""
    folder = tmp_path_factory.mktemp("hierarchy")
    controller = franka_checkpoint(folder / "controller", goal="observation")
    _, checkpoint = load_policy(controller)
    encoder = load_text_encoder()
    config = replace(PLANNER_PRESETS["tiny"], text_tokens=encoder.tokens, text_width=encoder.width)
    save_checkpoint(folder / "planner", replace(checkpoint, config=config), make_model(config).state_dict())
    encoder.save(folder / "planner" / TEXT_ENCODER)
    bundle = export_bundle(controller, folder / "tiny.keystep", planner=folder / "planner")
    return folder / "planner", controller, bundle


def test_runtime_and_reference_agree_at_every_step(trained: tuple[Path, Path]) -> None:
    checkpoint, bundle = trained
    reference = ReferencePolicy(checkpoint)
    with keystep.load(bundle, threads=1) as policy:
        env = make_env(ENV_ID, policy.manifest)
        observation, _ = env.reset(seed=3, options={"task": "push_red_left"})
        for either in (policy, reference):
            either.reset(task="push_red_left", seed=3, episode=2)
        for _ in range(100):
            action = policy.act(observation)
            np.testing.assert_allclose(action, reference.act(observation), atol=1e-4)
            observation, *_ = env.step(action)
        env.close()


def test_eval_of_both_writes_comparable_results(trained: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    checkpoint, bundle = trained
    common = ["eval", str(bundle), "--episodes", "2", "--tasks", "lift_red", "stack", "--seed", "7", "--json"]
    assert cli.run([*common, str(tmp_path / "runtime.json")]) == 0
    assert cli.run([*common, str(tmp_path / "reference.json"), "--reference", str(checkpoint)]) == 0
    assert "4 episodes of 2 tasks: about" in capsys.readouterr().out  # the cost comes before the work
    runtime, reference = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("runtime", "reference")
    )
    assert [task["name"] for task in runtime["tasks"]] == ["lift_red", "stack"]
    assert runtime["tasks"] == reference["tasks"]  # random weights solve nothing, in both
    assert runtime["latency"] and not reference["latency"]
    assert "onnxruntime" in runtime["description"] and "PyTorch" in reference["description"]
    several = [
        *common,
        str(tmp_path / "none.json"),
        "--reference",
        str(checkpoint),
        "--planner-candidates",
        "4",
    ]
    assert cli.run(several) == 2
    assert "planner_candidates: expected 1 with a reference, got 4" in capsys.readouterr().err


# ---- what the protocols need of the environment


def test_a_task_starts_from_the_scene_as_it_stands(trained: tuple[Path, Path]) -> None:
    env = make_env(ENV_ID, keystep.read_manifest(trained[1])).unwrapped
    env.reset(seed=5, options={"task": "lift_red"})
    for _ in range(10):
        seen, *_ = env.step(np.array([1, 0, -1, 0, 0, 0, 1], np.float32))
    observation, info = env.set_task("push_green_left")
    np.testing.assert_array_equal(observation["observation.state"], seen["observation.state"])
    assert info["task"] == "push_green_left" and info["elapsed_steps"] == 0 and not info["success"]
    np.testing.assert_array_equal(env.start.cubes, env.scene().cubes)
    with pytest.raises(ValueError, match="task: expected one of"):
        env.set_task("dance")
    env.close()


def test_success_of_a_later_task_counts_from_its_start(trained: tuple[Path, Path]) -> None:
    """A cube that was pushed left already must be pushed again."""
    env = make_env(ENV_ID, keystep.read_manifest(trained[1])).unwrapped
    pushed = rollout_expert(env, "push_red_left", seed=5)
    assert pushed is not None and pushed["success"].any()
    env.set_task("push_red_left")
    assert env.step(np.zeros(7, np.float32))[4]["success"] is False
    env.close()


def test_ground_truth_is_where_the_expert_passes(hierarchy: tuple[Path, Path, Path]) -> None:
    manifest = keystep.read_manifest(hierarchy[2])
    demonstrator = ExpertSubgoals(make_env(ENV_ID, manifest), manifest["planner"])
    given = demonstrator.subgoals("lift_blue", seed=11)
    assert given is not None
    env = make_env(ENV_ID, manifest)
    shown = rollout_expert(env, "lift_blue", seed=11)
    assert shown is not None
    np.testing.assert_array_equal(
        given["observation.state"], shown["observation.state"][[8, 16, 24, 32, 40, 48, 56, 63]]
    )
    for either in (demonstrator, env):
        either.close()


# ---- commands for subgoal policies


def test_eval_of_a_hierarchy(hierarchy: tuple[Path, Path, Path], tmp_path: Path, capsys) -> None:
    planner, controller, bundle = hierarchy
    common = ["eval", str(bundle), "--episodes", "1", "--tasks", "lift_red"]
    for options in (
        ["--reference", str(planner), str(controller), "--planner-steps", "2", "--inference-steps", "2"],
        ["--subgoals", "ground_truth", "--replan", "off", "--planner-steps", "2"],
        ["--phrasing", "held_out", "--guidance", "0", "--planner-sampler", "ddpm", "--planner-steps", "4"],
    ):
        assert cli.run([*common, *options, "--json", str(tmp_path / "eval.json")]) == 0
        assert "1 episodes of 1 tasks: about" in capsys.readouterr().out
    settings = json.loads((tmp_path / "eval.json").read_text())["settings"]
    assert (settings["phrasing"], settings["guidance"], settings["planner_steps"]) == ("held_out", 0.0, 4)
    assert settings["instructions"]["lift_red"]


def test_figure_10(hierarchy: tuple[Path, Path, Path], tmp_path: Path, capsys) -> None:
    planner, controller, bundle = hierarchy
    path = tmp_path / "fig10.json"
    options = ["--reference", str(planner), str(controller), "--tasks", "lift_red", "--episodes", "1"]
    samplers = [
        "--ddpm",
        "8",
        "--ddim",
        "4",
        "--controller-steps",
        "4",
        "--threads",
        "1",
        "--json",
        str(path),
    ]
    assert cli.run(["fig10", str(bundle), *options, *samplers]) == 0
    out = capsys.readouterr().out
    assert "| DDPM 8 |" in out and "; controller DDPM 4; " in out
    result = json.loads(path.read_text())
    assert result["settings"]["controller"] == "DDPM 4"
    for sampler in result["samplers"]:
        assert sampler["max_difference"] < 1e-3 and sampler["times_reference"] > 0  # both did the same


def test_plans_without_a_driver(hierarchy: tuple[Path, Path, Path], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("keystep.suites.headless.missing_driver", lambda: "none, for this test")
    options = ["--task", "stack", "--no-video", "--planner-steps", "2", "--output", str(tmp_path)]
    assert cli.run(["plans", str(hierarchy[2]), *options]) == 0
    recording = json.loads((tmp_path / "stack.json").read_text())
    assert len(recording["plans_ms"]) == 6 and min(recording["plans_ms"]) > 0  # 360 actions, 64 a plan
    assert (tmp_path / "stack.png").read_bytes().startswith(b"\x89PNG")


def test_cross_exports_the_pair(hierarchy: tuple[Path, Path, Path], tmp_path: Path, capsys) -> None:
    planner, controller, _ = hierarchy
    path = tmp_path / "cross.json"
    pair = ["--planners", str(planner), "--controllers", str(controller), "--planner-steps", "2"]
    assert cli.run(["cross", *pair, "--episodes", "1", "--tasks", "stack", "--json", str(path)]) == 0
    assert "| planner \\ controller | controller |" in capsys.readouterr().out
    (result,) = json.loads(path.read_text())["pairs"]
    assert (result["planner"], result["controller"]) == ("planner", "controller")
