"""Exporting hierarchies: what is written, and that nothing is ever left half-written."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keystep
from keystep.features import Feature, features_of

pytest.importorskip("torch")

from hierarchy_fixture import (
    CONTROLLERS,
    EXECUTE,
    PLANNERS,
    STEPS,
    SUBGOALS,
    Checkpoints,
)
from written import content, objects

from keystep.export.bundle import export_bundle
from keystep.export.manifest import ExportError, validate
from keystep.export.rehearsal import rehearse_bundle
from keystep.models import random_checkpoint
from keystep.models.checkpoint import read_checkpoint
from keystep.models.text import load_text_encoder
from keystep.provenance import git_commit


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return Checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def exported(checkpoint: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("export") / "two-levels.keystep"
    return export_bundle(checkpoint(CONTROLLERS["state"]), output, planner=checkpoint(PLANNERS["state"]))


@pytest.fixture
def written(exported: Path) -> dict[str, Any]:
    return json.loads((exported / "manifest.json").read_text())


def tensors(manifest: dict[str, Any], graph: str) -> dict[str, tuple[str, str, list[int]]]:
    entry = manifest["graphs"][graph]
    return {
        tensor["name"]: (tensor["role"], tensor["dtype"], tensor["shape"])
        for tensor in entry["inputs"] + entry["outputs"]
    }


# ---- what is written


def test_manifest_of_a_state_hierarchy(exported: Path, written: dict[str, Any]) -> None:
    assert keystep.read_manifest(exported) == written
    assert (written["name"], written["family"], written["goal"]) == ("two-levels", "subgoal", "text")
    assert [task["name"] for task in written["tasks"]] == ["task_0", "task_1"]  # what the planner was told
    assert written["chunk"] == {"horizon": 8, "execute": EXECUTE, "start": 0, "merge": "consumed_index"}
    planner = written["planner"]
    assert set(planner.pop("normalization")) == {"mode", "min", "max"}
    assert planner.pop("sampler")["guidance"] == 0.5
    unet = planner.pop("unet")
    assert (unet["file"], unet["down_dims"]) == ("plan_unet.safetensors", [16, 32])
    assert (unet["condition"], unet["precision"]) == (PLANNERS["state"].condition_features, "fp32")
    assert planner == {
        "subgoals": SUBGOALS,
        "steps_per_subgoal": STEPS,
        "replan": True,
        "guided": True,
        "subgoal": "observation.state",
        "text": {"encoder": "corpus", "max_bytes": 1000},
    }


def test_graphs_of_a_state_hierarchy(exported: Path, written: dict[str, Any]) -> None:
    onnx = pytest.importorskip("onnx")
    controller, planner = ["encode", "film", "denoise"], ["text", "plan_encode", "plan_film", "plan_denoise"]
    assert list(written["graphs"]) == [*controller, *planner]
    width = tensors(written, "plan_film")["plan_film"][2][1]
    condition = ("condition", "float32", [2, PLANNERS["state"].condition_features])
    assert tensors(written, "plan_encode")["plan_condition"] == condition
    assert tensors(written, "plan_film") == {
        "plan_condition": condition,
        "plan_film": ("condition", "float32", [2, width]),
    }
    assert tensors(written, "encode").keys() == {"observation.state", "goal.state", "condition"}
    assert tensors(written, "text") == {
        "text": ("text", "string", [1]),
        "goal_text": ("condition", "float32", [2, 16]),
    }
    assert tensors(written, "plan_encode")["plan.observation.state"] == (
        "observation.state",
        "float32",
        [1, 26],
    )
    assert tensors(written, "plan_denoise") == {
        "plan.sample": ("sample", "float32", [2, SUBGOALS, 26]),
        "plan.timestep": ("timestep", "int64", [1]),
        "plan_film": ("condition", "float32", [2, width]),
        "plan.model_output": ("model_output", "float32", [2, SUBGOALS, 26]),
    }
    for graph, rows in (("plan_denoise", "rows"), ("plan_encode", ""), ("plan_film", "")):
        (value,) = onnx.load(exported / f"{graph}.onnx").graph.output
        assert value.type.tensor_type.shape.dim[0].dim_param == rows, graph


def test_manifest_of_an_image_hierarchy(checkpoint: Checkpoints, tmp_path: Path) -> None:
    options: Any = {"replan": False, "resize": True, "name": "mine", "plan_ahead": 2}
    options["planner_sampler"] = {"kind": "ddpm", "inference_steps": 4, "guidance": 0}
    pair = checkpoint(CONTROLLERS["images"]), checkpoint(PLANNERS["images"])
    folder = export_bundle(pair[0], tmp_path / "x.keystep", planner=pair[1], **options)
    manifest = keystep.read_manifest(folder)
    planner = manifest["planner"]
    assert (manifest["name"], planner["replan"], planner["guided"]) == ("mine", False, True)
    camera = Feature("observation.images.static", "rgb", (16, 16, 3), resize=True)
    assert features_of(manifest["observation"]) == [camera]
    known = [read_checkpoint(path) for path in pair]
    expected = rehearse_bundle(
        *known, load_text_encoder(), name="mine", replan=False, resize=True, plan_ahead=2
    )
    assert expected["planner"]["plan_ahead"] == planner["plan_ahead"] == 2
    assert [expected[key] for key in ("name", "observation")] == [
        manifest[key] for key in ("name", "observation")
    ]
    assert planner["subgoal"] == "observation.images.static"
    assert planner["normalization"] == {"mode": "min_max", "min": [0.0] * 3, "max": [1.0] * 3}
    assert [planner["sampler"][key] for key in ("kind", "inference_steps", "guidance")] == ["ddpm", 4, 0]
    assert not {"plan_encode", "plan_film"} & {*manifest["graphs"]}
    assert planner["unet"] is None and manifest["unet"]["file"] == "unet.safetensors"
    assert tensors(manifest, "plan_denoise")["plan.observation.images.static"][2] == [1, 3, 16, 16]
    with np.load(folder / "golden.npz") as golden:
        shapes = {name: golden[name].shape[1:] for name in golden.files if "plan" in name or name == "text"}
    frames = (SUBGOALS, 3, 16, 16)
    assert shapes == {"text": (), "plan.noise": (4, *frames), "plan": frames, "plan.model_output": frames}


def test_a_transformer_is_one_graph(checkpoint: Checkpoints, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pair = checkpoint(CONTROLLERS["state"]), checkpoint(PLANNERS["tokens"])
    folder = export_bundle(pair[0], tmp_path / "x.keystep", planner=pair[1])
    manifest = keystep.read_manifest(folder)
    assert not {"plan_encode", "plan_film"} & {*manifest["graphs"]}
    assert manifest["planner"]["unet"] is None and manifest["unet"]["file"] == "unet.safetensors"
    inputs = tensors(manifest, "plan_denoise")
    assert inputs["plan.observation.state"][2] == [1, 26]
    assert inputs["plan.sample"][2] == [2, SUBGOALS, 26]
    graph = onnx.load(folder / "plan_denoise.onnx").graph
    rows = {value.name: value.type.tensor_type.shape.dim[0].dim_param for value in graph.input}
    assert rows["plan.sample"] == rows["goal_text"] == "rows" and not rows["plan.observation.state"]


def test_a_planner_without_dropout_has_one_row(checkpoint: Checkpoints, tmp_path: Path) -> None:
    planner = checkpoint(PLANNERS["without dropout"])
    folder = export_bundle(checkpoint(CONTROLLERS["act"]), tmp_path / "x.keystep", planner=planner)
    manifest = keystep.read_manifest(folder)
    assert manifest["planner"]["guided"] is False and manifest["sampler"] is None
    assert set(manifest["graphs"]) == {"act", "text", "plan_encode", "plan_film", "plan_denoise"}
    assert manifest["unet"] is None and manifest["planner"]["unet"]["film_scale"] is True
    assert tensors(manifest, "plan_denoise")["plan.sample"][2] == [1, SUBGOALS, 26]
    with np.load(folder / "golden.npz") as golden:
        assert "noise" not in golden.files and "model_output" not in golden.files


def test_provenance(written: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert written["provenance"] == {
        "keystep_version": keystep.__version__,
        "git_commit": git_commit(),
        "training": "none: random weights",
        "seed": 0,
        "planner": {"training": "none: random weights", "seed": 0},
    }
    monkeypatch.setattr("keystep.provenance.__file__", keystep.__file__)
    commit = git_commit()
    assert commit is None or re.fullmatch(r"[0-9a-f]{12}\+?", commit)
    monkeypatch.setattr("keystep.provenance.__file__", str(tmp_path / "provenance.py"))
    assert git_commit() is None  # outside a checkout
    monkeypatch.setenv("PATH", "")
    assert git_commit() is None


def test_schema_refuses_unknown_and_missing_keys(written: dict[str, Any]) -> None:
    paths = [path for path in objects(written) if {"planner", "graphs"} & {*path}]
    assert len(paths) > 25
    for path in paths:
        for key in ("surprise", *_at(written, path)):
            if (*path, key) == ("graphs", "plan_encode") or (
                key != "surprise" and (path[-1] == "errors" or key == "external")
            ):
                continue  # may be absent
            changed = copy.deepcopy(written)
            place = _at(changed, path)
            place.pop(key) if key in place else place.update(surprise=1)
            with pytest.raises(ExportError):
                validate(changed)


def _at(manifest: dict[str, Any], path: tuple[Any, ...]) -> Any:
    for key in path:
        manifest = manifest[key]
    return manifest


def test_a_number_of_actions_beforehand_is_within_a_subgoal(checkpoint: Checkpoints, tmp_path: Path) -> None:
    controller, planner = checkpoint(CONTROLLERS["act"]), checkpoint(PLANNERS["state"])
    for wrong in (-1, STEPS + 1):
        message = rf"plan_ahead: expected 0\.\.{STEPS} \(steps_per_subgoal\), got {wrong}"
        with pytest.raises(ExportError, match=message):
            export_bundle(controller, tmp_path / "x.keystep", planner=planner, plan_ahead=wrong)
    with pytest.raises(ExportError, match="plan_ahead: expected none for a policy without planner, got 3"):
        export_bundle(controller, tmp_path / "x.keystep", plan_ahead=3)
    assert list(tmp_path.iterdir()) == []


# ---- whole or not at all


@pytest.mark.parametrize("place", ["text_graph", "plan_graphs.plan_module", "plan_arrays", "build_manifest"])
def test_a_failure_leaves_nothing_behind_or_all(
    place: str, checkpoint: Checkpoints, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"keystep.export.bundle.{place}", fail)
    target = tmp_path / "x.keystep"
    pair: Any = {"checkpoint": checkpoint(CONTROLLERS["act"]), "planner": checkpoint(PLANNERS["state"])}
    with pytest.raises(KeyboardInterrupt):
        export_bundle(output=target, **pair)
    assert list(tmp_path.iterdir()) == []
    shutil.copytree(exported, target)
    with pytest.raises(KeyboardInterrupt):
        export_bundle(output=target, overwrite=True, **pair)
    assert content(target) == content(exported)
    assert list(tmp_path.iterdir()) == [target]


def test_random_planners_are_the_same_every_time(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        random_checkpoint(folder, PLANNERS["state"], seed=4)
    assert content(folders[0] / "text_encoder") == content(folders[1] / "text_encoder")
    for file in ("policy.json", "model.safetensors"):
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()
