"""Planners and controllers that make no bundle: each is refused with one message, and nothing is written."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from hierarchy_fixture import (
    CAMERA,
    CONTROLLERS,
    PLANNERS,
    STEPS,
    Checkpoints,
)
from safetensors.torch import load_file, save_file

from keystep.export.bundle import export_bundle
from keystep.export.manifest import ExportError
from keystep.models import CheckpointError, camera_feature, state_feature
from keystep.models.text import TextEncoderError, load_text_encoder
from keystep.models.text.corpus_encoder import CorpusConfig, CorpusEncoder

_STATE, _IMAGES = CONTROLLERS["state"], CONTROLLERS["images"]
MISFITS: dict[str, Any] = {
    "goalless": replace(_STATE, goal="none"),
    "tasked": replace(_STATE, tasks=2),
    "narrow": replace(_STATE, observation=(state_feature(25),)),
    "seeing": replace(_IMAGES, observation=(state_feature(26), CAMERA)),
    "wide": replace(_IMAGES, observation=(camera_feature("static", 16, 24),)),
    "wrist": replace(_IMAGES, observation=(camera_feature("wrist", 16, 16),)),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return Checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.mark.parametrize(
    ("planner", "controller", "message"),
    [
        (
            "state",
            "goalless",
            "goal: expected goal.state as the planner imagines it, got a controller with none",
        ),
        (
            "images",
            "state",
            "goal: expected goal.images.static as the planner imagines it, got a controller with",
        ),
        ("state", "seeing", "got a controller with goal.state, goal.images.static"),
        ("images", "wrist", "got a controller with goal.images.wrist"),
        ("state", "narrow", "goal: expected the planner's (26,), got (25,)"),
        ("images", "wide", "goal: expected the planner's (3, 16, 16), got (3, 16, 24)"),
        ("state", "tasked", "tasks: expected a controller that is told none, got 2"),
    ],
)
def test_pairs_that_do_not_fit(
    planner: str, controller: str, message: str, checkpoint: Checkpoints, tmp_path: Path
) -> None:
    pair = checkpoint(MISFITS.get(controller) or CONTROLLERS[controller]), checkpoint(PLANNERS[planner])
    with pytest.raises(ExportError, match=re.escape(message)):
        export_bundle(pair[0], tmp_path / "x.keystep", planner=pair[1])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("planner", "controller", "options", "message"),
    [
        ("state", "state", {"execute": STEPS + 1}, "execute: expected 1..5 (steps_per_subgoal), got 6"),
        (
            "state",
            "act",
            {"inference_steps": 5},
            "sampler: expected none (ACT takes one step), got inference",
        ),
        (
            "without dropout",
            "state",
            {"planner_sampler": {"guidance": 1.0}},
            "planner.sampler.guidance: expected 0 for a planner trained without text_dropout, got 1.0",
        ),
        (
            "state",
            "state",
            {"planner_sampler": {"guidance": -1.0}},
            "planner.sampler.guidance: expected a value in [0, 1000000], got -1",
        ),
        (
            "state",
            "state",
            {"planner_sampler": {"kind": "euler"}},
            "planner.sampler.kind: expected ddpm | ddim | flow_euler, got 'euler'",
        ),
        (
            "state",
            "state",
            {"planner_sampler": {"inference_steps": 101}},
            "planner.sampler.inference_steps: expected 1..100 (train_steps), got 101",
        ),
        (
            "state",
            "state",
            {"planner_sampler": {"prediction": "epsilon"}},
            "planner.sampler.prediction: expected 'v_prediction' as trained, got 'epsilon'",
        ),
        ("state", "state", {"planner_sampler": {"steps": 9}}, "planner.sampler.steps: expected a field"),
        (
            None,
            "state",
            {"planner_sampler": {"guidance": 1.0}},
            "planner_sampler: expected none for a policy",
        ),
        (
            None,
            "state",
            {"constrained": True},
            "constrained: expected False for a policy that writes no code, got True",
        ),
    ],
)
def test_bad_options(
    planner: str | None,
    controller: str,
    options: dict[str, Any],
    message: str,
    checkpoint: Checkpoints,
    tmp_path: Path,
) -> None:
    upper = checkpoint(PLANNERS[planner]) if planner else None
    with pytest.raises(ExportError, match=re.escape(message)):
        export_bundle(checkpoint(CONTROLLERS[controller]), tmp_path / "x.keystep", planner=upper, **options)
    assert list(tmp_path.iterdir()) == []


def test_levels_that_were_swapped(checkpoint: Checkpoints, tmp_path: Path) -> None:
    planner, controller = checkpoint(PLANNERS["state"]), checkpoint(CONTROLLERS["state"])
    with pytest.raises(
        CheckpointError, match=r"kind: expected a controller \(diffusion or act\), got planner"
    ):
        export_bundle(planner, tmp_path / "x.keystep")
    with pytest.raises(CheckpointError, match="kind: expected a planner, got diffusion"):
        export_bundle(controller, tmp_path / "x.keystep", planner=controller)
    with pytest.raises(
        CheckpointError, match=r"checkpoint: expected .*nowhere/policy\.json, got no such file"
    ):
        export_bundle(controller, tmp_path / "x.keystep", planner=tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def no_text_encoder(folder: Path) -> None:
    shutil.rmtree(folder / "text_encoder")


def another_text_encoder(folder: Path) -> None:
    words = load_text_encoder().vocabulary
    CorpusEncoder(words, CorpusConfig(tokens=5, width=8, heads=2)).save(folder / "text_encoder")


def unknown_text_encoder(folder: Path) -> None:
    path = folder / "text_encoder" / "text_encoder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"kind": "elmo"}))


def damaged_text_encoder(folder: Path) -> None:
    (folder / "text_encoder" / "model.safetensors").write_bytes(b"")


def spoiled_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["project.bias"][0] = float("nan")
    save_file(weights, folder / "model.safetensors")


def other_joints(folder: Path) -> None:
    document = json.loads((folder / "policy.json").read_text())
    document["observation"][0]["names"][0] = "elbow"
    (folder / "policy.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (no_text_encoder, CheckpointError, "text_encoder: expected the planner's text encoder, got no such"),
        (another_text_encoder, CheckpointError, "expected 24 tokens of 64 values, got 5 of 8"),
        (
            unknown_text_encoder,
            TextEncoderError,
            "kind: expected one of corpus, clip, t5, minilm, got 'elmo'",
        ),
        (damaged_text_encoder, TextEncoderError, "expected sha256"),
        (spoiled_weights, CheckpointError, "project.bias: expected finite weights, got NaN or Inf"),
        (
            other_joints,
            ExportError,
            "observation.state.names: expected the planner's ['elbow', 'state_1'",
        ),
    ],
)
def test_planners_that_are_not_whole(
    damage: Callable[[Path], None],
    error: type[Exception],
    message: str,
    checkpoint: Checkpoints,
    tmp_path: Path,
) -> None:
    planner = tmp_path / "planner"
    shutil.copytree(checkpoint(PLANNERS["state"]), planner)
    damage(planner)
    with pytest.raises(error, match=re.escape(message)):
        export_bundle(checkpoint(CONTROLLERS["state"]), tmp_path / "x.keystep", planner=planner)
    assert [path.name for path in tmp_path.iterdir()] == ["planner"]
