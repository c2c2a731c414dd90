"""Every mode of normalisation, of planner and controller alike: torch = ONNX = C++, over episodes, too."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import keystep

pytest.importorskip("torch")

from hierarchy_fixture import CONTROLLERS, PLANNERS, LinearEnv, live, write_checkpoint

from keystep.export.bundle import export_bundle
from keystep.export.verify import verify_bundle
from keystep.models import load_model, save_checkpoint
from keystep.models.reference import ReferencePolicy
from keystep.models.reference_hierarchy import ReferenceHierarchy

STATE = "observation.state"
MODES = ("min_max", "mean_std", "quantile")
PREDICTIONS = ("epsilon", "sample", "v_prediction")


def normalized_by(folder: Path, name: str, modes: dict[str, str], **sampler: object) -> Path:
    """A network of the hierarchy fixture that normalises so."""
    config = {**PLANNERS, "controller": CONTROLLERS["state"], "act": CONTROLLERS["act"]}[name]
    if sampler:
        config = replace(config, sampler=replace(config.sampler, **sampler))
    write_checkpoint(folder, config, seed=5 if name in PLANNERS else 6)
    model, checkpoint = load_model(folder)
    save_checkpoint(folder, replace(checkpoint, normalization=modes), model.state_dict())
    return folder


@pytest.mark.parametrize(("ours", "theirs"), list(itertools.product(MODES, MODES)))
def test_a_hierarchy_of_any_two_modes(ours: str, theirs: str, tmp_path: Path) -> None:
    """The planner's subgoals reach the controller in its own units, whatever both are."""
    clip = {"clip_range": 2.75}
    planner = normalized_by(tmp_path / "planner", "state", {STATE: theirs}, **clip)
    modes = {STATE: ours, "action": theirs}
    controller = normalized_by(tmp_path / "controller", "controller", modes, **clip)
    folder = export_bundle(controller, tmp_path / "x.keystep", planner=planner)
    manifest = json.loads((folder / "manifest.json").read_text())
    found = {entry["key"]: entry["normalization"]["mode"] for entry in manifest["observation"]}
    assert found | {"action": manifest["action"]["normalization"]["mode"]} == modes
    assert manifest["planner"]["normalization"]["mode"] == theirs
    assert manifest["sampler"]["clip_range"] == manifest["planner"]["sampler"]["clip_range"] == 2.75
    report = verify_bundle(folder, controller, planner)
    assert report.ok, str(report)
    with keystep.load(folder, threads=1) as runtime:
        runtime.reset("task_0", seed=3)
        reference = ReferenceHierarchy(planner, controller)
        reference.reset("task_0", seed=3)
        got, want = (live(policy, LinearEnv(1), 30) for policy in (runtime, reference))
    for values, wanted in zip(got, want, strict=True):
        np.testing.assert_allclose(values, wanted, atol=1e-4)


@pytest.mark.parametrize("mode", ["mean_std", "quantile"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_samplers_clip_where_they_are_told(mode: str, prediction: str, tmp_path: Path) -> None:
    """In torch, ONNX and C++; a range of 1 would give other actions."""
    sampler = {"prediction": prediction, "clip_range": 1.5, "timestep_rule": "leading"}
    modes = {STATE: mode, "action": mode}
    folder = normalized_by(tmp_path / "run", "controller", modes, **sampler)
    bundle = export_bundle(folder, tmp_path / "x.keystep")
    report = verify_bundle(bundle, folder)
    assert report.ok, str(report)
    narrow = export_bundle(folder, tmp_path / "narrow.keystep", clip_range=1.0)
    actions = [np.load(path / "golden.npz")["actions"] for path in (bundle, narrow)]
    assert np.abs(actions[0] - actions[1]).max() > 1e-2


@pytest.mark.parametrize("mode", MODES)
def test_act(mode: str, tmp_path: Path) -> None:
    folder = normalized_by(tmp_path / "run", "act", {STATE: mode, "action": mode})
    report = verify_bundle(export_bundle(folder, tmp_path / "x.keystep"), folder)
    assert report.ok, str(report)


def test_ddpm_clips_there_too(tmp_path: Path) -> None:
    modes = {STATE: "quantile", "action": "quantile"}
    folder = normalized_by(tmp_path / "run", "controller", modes, clip_range=1.5)
    bundle = export_bundle(folder, tmp_path / "x.keystep", kind="ddpm")
    assert verify_bundle(bundle, folder).ok
    rng = np.random.default_rng(0)
    seen = {STATE: rng.standard_normal(26).astype(np.float32)}
    goal = {STATE: rng.standard_normal(26).astype(np.float32)}
    reference = ReferencePolicy(folder, kind="ddpm")
    with keystep.load(bundle, threads=1) as runtime:
        runtime.reset(goal=goal, seed=2)
        reference.reset(goal=goal, seed=2)
        np.testing.assert_allclose(runtime.act(seen), reference.act(seen), atol=1e-4)
