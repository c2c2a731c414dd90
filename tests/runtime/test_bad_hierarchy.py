"""A hierarchy whose manifest, graphs and options disagree: real graphs, and one clear message each."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keystep

pytest.importorskip("torch")

from hierarchy_fixture import (
    CONTROLLERS,
    PLANNERS,
    STEPS,
    SUBGOALS,
    Checkpoints,
)

from keystep.export.bundle import export_bundle

Manifest = dict[str, Any]
STATE = {"observation.state": np.zeros(26, np.float32)}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    checkpoint = Checkpoints(folder)
    pair = checkpoint(CONTROLLERS["state"]), checkpoint(PLANNERS["without dropout"])
    return export_bundle(pair[0], folder / "x.keystep", planner=pair[1])


def in_graphs(manifest: Manifest, role: str, shape: list[int], graph: str = "plan_") -> None:
    for name, entry in manifest["graphs"].items():
        for tensor in entry["inputs"] + entry["outputs"]:
            if name.startswith(graph) and tensor["role"] == role:
                tensor["shape"] = shape


def another_m(manifest: Manifest) -> None:
    manifest["planner"]["subgoals"] = SUBGOALS + 2


def another_m_everywhere(manifest: Manifest) -> None:
    another_m(manifest)
    for role in ("sample", "model_output"):
        in_graphs(manifest, role, [1, SUBGOALS + 2, 26])


def another_m_of_the_unet(manifest: Manifest) -> None:
    another_m_everywhere(manifest)
    manifest["planner"]["unet"]["horizon"] = SUBGOALS + 2


def shorter_than_a_chunk(manifest: Manifest) -> None:
    manifest["planner"]["steps_per_subgoal"] = 2


def rows_that_are_not_there(manifest: Manifest) -> None:
    manifest["planner"]["guided"] = True


def rows_that_are_not_in_the_file(manifest: Manifest) -> None:
    rows_that_are_not_there(manifest)
    for name, entry in manifest["graphs"].items():
        for tensor in entry["inputs"] + entry["outputs"]:
            planned = name == "text" or name.startswith("plan_")
            if planned and tensor["role"] in ("sample", "model_output", "condition"):
                tensor["shape"][0] = 2


def narrower_goal(manifest: Manifest) -> None:
    in_graphs(manifest, "goal.state", [1, 25], "encode")


def guidance_without_dropout(manifest: Manifest) -> None:
    manifest["planner"]["sampler"]["guidance"] = 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (another_m, "graphs.plan_denoise.inputs[0].shape: expected [1, 6, 26] (sample), got [1, 4, 26]"),
        (another_m_everywhere, "planner.unet.horizon: expected 6 (graphs.plan_denoise), got 4"),
        (
            another_m_of_the_unet,
            "expected [1, 6, 26] with a symbolic first axis (manifest), got [-1, 4, 26] (graph)",
        ),
        (shorter_than_a_chunk, "planner.steps_per_subgoal: expected at least 3 (chunk.execute"),
        (rows_that_are_not_there, "expected [2, 4, 26] (sample), got [1, 4, 26]"),
        (
            rows_that_are_not_in_the_file,
            "graphs.text.outputs[0].shape: expected [2, 16] (manifest), got [1, 16] (graph)",
        ),
        (narrower_goal, "graphs.encode.inputs[1].shape: expected [1, 26] (goal.state), got [1, 25]"),
        (guidance_without_dropout, "planner.sampler.guidance: expected 0 (trained without dropout"),
    ],
)
def test_manifest_that_disagrees(
    change: Callable[[Manifest], None], message: str, exported: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "x.keystep"
    shutil.copytree(exported, bundle)
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(keystep.BundleError, match=re.escape(message)):
        keystep.load(bundle, threads=1, engine="onnxruntime")  # it reads every graph file


def test_an_episode_that_is_refused_leaves_the_one_before(exported: Path) -> None:
    """The runtime with real graphs; the stub's cases are in test_subgoals."""
    given = np.zeros((SUBGOALS, 26), np.float32)
    spoiled = given.copy()
    spoiled[2, 5] = np.nan
    refused: list[tuple[dict[str, Any], str]] = [
        ({"task": ""}, "task: expected a task or an instruction, got none"),
        ({"instruction": "a" * 10_000}, "instruction: expected at most 1000 bytes, got 10000"),
        ({"instruction": b"lift\xff"}, "instruction: expected"),
        ({"instruction": "\udcff"}, "instruction: expected UTF-8"),
        ({"instruction": "lift it", "guidance": 1.0}, "guidance: expected 0"),
        (
            {"instruction": "lift it", "subgoals": {"observation.state": given[1:]}},
            "subgoals: expected 4, got 3",
        ),
        ({"instruction": "lift it", "subgoals": {"observation.state": spoiled}}, "subgoals[2].state[5]"),
        (
            {"instruction": "lift it", "subgoals": {"observation.state": given[:, 1:].copy()}},
            "expected shape (subgoals, 26)",
        ),
    ]
    with keystep.load(exported, threads=1) as policy:
        policy.reset(instruction="Lift the red block.", seed=1)
        wanted = [policy.act(STATE) for _ in range(STEPS + 1)]
        policy.reset(instruction="Lift the red block.", seed=1)
        got = [policy.act(STATE)]
        for arguments, message in refused:
            with pytest.raises(keystep.ArgumentError, match=re.escape(message)):
                policy.reset(**arguments)
        got += [policy.act(STATE) for _ in range(STEPS)]
    np.testing.assert_array_equal(got, wanted)
