"""Bundles of manifest version 1 still load, act and verify."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="training packages are not installed")

import keystep
from keystep.export.bundle import export_bundle
from keystep.export.verify import verify_bundle
from keystep.models import PRESETS, CameraConfig, random_checkpoint


@pytest.mark.parametrize("cameras", [(), (CameraConfig("static", 32, 32),)])
def test_a_bundle_as_version_1_wrote_it(tmp_path: Path, cameras: tuple[CameraConfig, ...]) -> None:
    random_checkpoint(tmp_path / "run", replace(PRESETS["tiny"], tasks=2, cameras=cameras, image_width=16))
    bundle = export_bundle(tmp_path / "run", tmp_path / "old.keystep")
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest.pop("planner") is None
    for image in manifest["observation"]["images"]:
        assert image.pop("resize") is False
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"version": 1}))
    assert verify_bundle(bundle).ok
    observation = {"observation.state": np.zeros(26, np.float32)}
    observation |= {"observation.images.static": np.zeros((32, 32, 3), np.uint8)} if cameras else {}
    with keystep.load(bundle, threads=1) as policy:
        policy.reset(task="task_1")
        assert policy.act(observation).shape == (7,)
        if cameras:
            with pytest.raises(keystep.ArgumentError, match=r"images\.static: expected .*32"):
                policy.act(observation | {"observation.images.static": np.zeros((16, 16, 3), np.uint8)})
