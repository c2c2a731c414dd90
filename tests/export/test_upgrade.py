"""`keystep upgrade`: an older bundle in the newest form acts as before, bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stub_bundle import write_stub_bundle

pytest.importorskip("onnx")

import keystep
from keystep import cli
from keystep.export.manifest import VERSION
from keystep.export.upgrade import named_files, upgrade_bundle, upgraded

SHIPPED = sorted((Path(__file__).parents[2] / "bundles").glob("*.keystep"))


def actions(bundle: Path, **options: Any) -> np.ndarray:
    """Two chunks of two episodes on random observations."""
    rng, taken = np.random.default_rng(0), []
    with keystep.load(bundle, threads=1, **options) as policy:
        golden = np.load(bundle / "golden.npz")
        for episode in range(2):
            policy.reset(task=policy.task_names[episode], seed=episode)
            for _ in range(12):
                case = rng.integers(len(golden["actions"]))
                keys = [key for key in golden.files if key.startswith("observation.")]
                taken.append(policy.act({key: golden[key][case] for key in keys}))
    return np.stack(taken)


@pytest.mark.parametrize("bundle", SHIPPED, ids=lambda path: path.stem)
def test_the_same_bits(bundle: Path, tmp_path: Path) -> None:
    new = upgrade_bundle(bundle, tmp_path / "new.keystep")
    assert keystep.read_manifest(new)["version"] == VERSION
    for options in ({}, {"engine": "onnxruntime"}, {"precision": "bf16"}):
        np.testing.assert_array_equal(actions(new, **options), actions(bundle, **options))
    unet = sum(
        (bundle / name).stat().st_size for name in named_files(keystep.read_manifest(new)) if "unet" in name
    )
    before, after = (sum(file.stat().st_size for file in path.iterdir()) for path in (bundle, new))
    assert before - after > 0.9 * unet  # each weight once


def test_in_place_and_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    bundle = tmp_path / "mine.keystep"
    shutil.copytree(SHIPPED[-1], bundle)
    (bundle / "notes.txt").write_text("of no manifest")
    assert cli.run(["upgrade", str(bundle)]) == 0
    assert "20.7 MB before, 13.2 MB now" in capsys.readouterr().out
    first = {file.name: file.read_bytes() for file in bundle.iterdir()}
    assert set(first) == {"manifest.json", *named_files(json.loads(first["manifest.json"]))}
    assert cli.run(["upgrade", str(bundle)]) == 0
    assert {file.name: file.read_bytes() for file in bundle.iterdir()} == first


def test_only_what_must_change_does() -> None:
    old = keystep.read_manifest(SHIPPED[-1])
    new = upgraded(old)
    assert {key for key in new if new[key] != old[key]} == {"version", "action"}
    assert new["action"]["hold"] == {"mode": "values", "values": old["action"]["hold"]}
    assert upgraded(new) == new


def test_versions_that_are_not_read(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    bundle = write_stub_bundle(tmp_path / "old.keystep", version=1)
    assert cli.run(["upgrade", str(bundle), "--output", str(tmp_path / "new.keystep")]) == 2
    assert "version: expected 3 or 4 (export older ones again" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["old.keystep"]


@pytest.mark.parametrize("name", ["unet.safetensors", "golden.npz", "denoise.onnx"])
def test_a_damaged_bundle_is_refused(tmp_path: Path, name: str) -> None:
    bundle = tmp_path / "mine.keystep"
    shutil.copytree(SHIPPED[-1], bundle)
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    before = {file.name: file.read_bytes() for file in bundle.iterdir()}
    with pytest.raises(keystep.BundleError, match="is damaged or was changed"):
        upgrade_bundle(bundle)
    assert {file.name: file.read_bytes() for file in bundle.iterdir()} == before


def test_an_output_that_exists_stays(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="output: expected a new folder"):
        upgrade_bundle(SHIPPED[-1], tmp_path)


def test_answers_that_are_not_golden_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keystep.export.upgrade.differences", lambda folder: ["actions differ"])
    with pytest.raises(ValueError, match="actions differ"):
        upgrade_bundle(SHIPPED[-1], tmp_path / "new.keystep")
    assert not list(tmp_path.iterdir())
