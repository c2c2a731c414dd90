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
from keystep.envs import ACTION_HOLD, ACTION_NAMES, STATE_NAMES, TASKS
from keystep.evaluate.rollout import make_env
from keystep.export.bundle import export_bundle
from keystep.models import PRESETS, load_policy, random_checkpoint, save_checkpoint
from keystep.models.reference import ReferencePolicy

ENV_ID = "keystep/Franka3Blocks-v0"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(checkpoint, bundle) of random weights that speak Franka-3Blocks."""
    folder = tmp_path_factory.mktemp("franka")
    config = replace(
        PRESETS["tiny"], state_dim=len(STATE_NAMES), action_dim=len(ACTION_NAMES), tasks=len(TASKS)
    )
    random_checkpoint(folder / "checkpoint", config)
    policy, checkpoint = load_policy(folder / "checkpoint")
    action = checkpoint.action | {
        "min": [-1.0] * 7,
        "max": [1.0] * 7,
        "hold": [float(x) for x in ACTION_HOLD],
    }
    tasks = [{"name": name, "instruction": task.instruction} for name, task in TASKS.items()]
    checkpoint = replace(checkpoint, tasks=tasks, action=action)
    save_checkpoint(folder / "checkpoint", checkpoint, policy.state_dict())
    return folder / "checkpoint", export_bundle(folder / "checkpoint", folder / "franka.keystep")


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
    assert "4 episodes of 2 tasks: at most" in capsys.readouterr().out  # the cost comes before the work
    runtime, reference = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("runtime", "reference")
    )
    assert [task["name"] for task in runtime["tasks"]] == ["lift_red", "stack"]
    assert runtime["tasks"] == reference["tasks"]  # random weights solve nothing, in both
    assert runtime["latency"] and not reference["latency"]
    assert "onnxruntime" in runtime["description"] and "PyTorch" in reference["description"]
