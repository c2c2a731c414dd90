"""Bundles of manifest versions 1 and 2 still load, act and verify."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_weights import give_own_weights

pytest.importorskip("torch", reason="training packages are not installed")

import onnx
from hierarchy_fixture import CONTROLLERS, PLANNERS, write_checkpoint

import keystep
from keystep.export.bundle import export_bundle, graph_entry
from keystep.export.verify import verify_bundle
from keystep.features import Feature
from keystep.models import PRESETS, camera_feature, random_checkpoint, state_feature


def join(folder: Path, manifest: dict[str, Any], first: str, second: str) -> None:
    """One graph of two, named as the first: before version 3 `encode` projected the condition, too."""
    models = [onnx.load(folder / f"{name}.onnx") for name in (first, second)]
    (between,) = (value.name for value in models[1].graph.input)
    models[1] = onnx.compose.add_prefix(models[1], "film/", rename_inputs=False, rename_outputs=False)
    onnx.save(onnx.compose.merge_models(*models, io_map=[(between, between)]), folder / f"{first}.onnx")
    (folder / f"{second}.onnx").unlink()
    del manifest["graphs"][second]
    manifest["graphs"][first] = graph_entry(folder / f"{first}.onnx")


def without_unets(folder: Path, manifest: dict[str, Any]) -> None:
    """Graphs and manifest as before version 3, and the hold as before version 4."""
    manifest["action"]["hold"] = manifest["action"]["hold"]["values"]
    for owner in filter(None, (manifest, manifest["planner"])):
        if unet := owner.pop("unet"):
            (folder / unet["file"]).unlink()
    for first, second in (("encode", "film"), ("plan_encode", "plan_film")):
        if second in manifest["graphs"]:
            join(folder, manifest, first, second)


@pytest.mark.parametrize("cameras", [(), (camera_feature("static", 32, 32),)])
def test_a_bundle_as_version_1_wrote_it(tmp_path: Path, cameras: tuple[Feature, ...]) -> None:
    seen = (state_feature(26), *cameras)
    random_checkpoint(tmp_path / "run", replace(PRESETS["tiny"], tasks=2, observation=seen, image_width=16))
    bundle = export_bundle(tmp_path / "run", tmp_path / "old.keystep")
    give_own_weights(bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    without_unets(bundle, manifest)
    assert manifest.pop("planner") is None
    for image in manifest["observation"]["images"]:
        assert image.pop("resize") is False
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"version": 1}))
    report = verify_bundle(bundle)
    assert report.ok and {row.ours for row in report.comparisons} == {"ONNX from Python", "C++ runtime"}
    observation = {"observation.state": np.zeros(26, np.float32)}
    observation |= {"observation.images.static": np.zeros((32, 32, 3), np.uint8)} if cameras else {}
    with keystep.load(bundle, threads=1) as policy:
        policy.reset(task="task_1")
        assert policy.act(observation).shape == (7,)
        if cameras:
            with pytest.raises(keystep.ArgumentError, match=r"images\.static: expected .*32"):
                policy.act(observation | {"observation.images.static": np.zeros((16, 16, 3), np.uint8)})


@pytest.mark.parametrize("controller", ["state", "act"])
def test_a_hierarchy_as_version_2_wrote_it(tmp_path: Path, controller: str) -> None:
    write_checkpoint(tmp_path / "planner", PLANNERS["state"])
    write_checkpoint(tmp_path / "run", CONTROLLERS[controller])
    bundle = export_bundle(tmp_path / "run", tmp_path / "old.keystep", planner=tmp_path / "planner")
    give_own_weights(bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    without_unets(bundle, manifest)
    assert not [name for name in manifest["graphs"] if "film" in name]
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"version": 2}))
    report = verify_bundle(bundle, tmp_path / "run", tmp_path / "planner")
    assert report.ok, str(report)
    with keystep.load(bundle, threads=1) as policy:
        policy.reset(instruction="Lift the red block.")
        assert policy.act({"observation.state": np.zeros(26, np.float32)}).shape == (7,)
        assert {choice["engine"] for choice in policy.engine_choices} == {"onnxruntime"}
