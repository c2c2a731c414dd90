"""`keystep verify` finds what it is there to find."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import keystep

pytest.importorskip("torch")

from unit_policy import TINY, unit_checkpoint

from keystep.export.bundle import export_bundle
from keystep.export.verify import TOLERANCE, verify_bundle


def take_from(other: Path, target: Path, *place: str) -> None:
    """Another policy's file and a manifest that vouches for it: hashes are right, actions are not."""
    manifest = json.loads((target / "manifest.json").read_text())
    entry = manifest
    for key in place:
        entry = entry[key]
    content = (other / entry["file"]).read_bytes()
    (target / entry["file"]).write_bytes(content)
    entry["sha256"] = hashlib.sha256(content).hexdigest()
    (target / "manifest.json").write_text(json.dumps(manifest))


def test_verify_notices_other_weights(tmp_path: Path) -> None:
    config = replace(TINY, tasks=3)
    for seed in (0, 1):
        unit_checkpoint(tmp_path / f"run{seed}", config, seed=seed)
        export_bundle(tmp_path / f"run{seed}", tmp_path / f"{seed}.keystep")
    target, other = tmp_path / "0.keystep", tmp_path / "1.keystep"
    take_from(other, target, "graphs", "denoise")
    report = verify_bundle(target)
    assert not report.ok
    assert "DIFFERS" in str(report)
    by_pair = {(row.ours, row.reference, row.quantity): row.max_error for row in report.comparisons}
    assert by_pair["C++ runtime", "golden (torch)", "actions"] > 1e-2
    assert by_pair["C++ runtime", "ONNX from Python", "actions"] < TOLERANCE  # both run the wrong graph
    assert by_pair["native fp32", "golden (torch)", "norm. actions"] < TOLERANCE  # it has weights of its own


def test_verify_notices_other_weights_of_the_native_engine(tmp_path: Path) -> None:
    for seed in (0, 1):
        unit_checkpoint(tmp_path / f"run{seed}", TINY, seed=seed)
        export_bundle(tmp_path / f"run{seed}", tmp_path / f"{seed}.keystep")
    target, other = tmp_path / "0.keystep", tmp_path / "1.keystep"
    take_from(other, target, "unet")
    report = verify_bundle(target)
    different = {row.ours for row in report.comparisons if not row.within(TOLERANCE)}
    assert not report.ok and different == {"native fp32", "native bf16", "native int8"}


def test_rounded_weights_are_held_to_what_was_recorded(tmp_path: Path) -> None:
    unit_checkpoint(tmp_path / "run", TINY)
    folder = export_bundle(tmp_path / "run", tmp_path / "x.keystep", precision="int8")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["unet"]["errors"].keys() == {"int8"}
    recorded = manifest["unet"]["errors"]["int8"]["max"]
    assert recorded > TOLERANCE
    report = verify_bundle(folder)
    assert report.ok and f"ok (recorded {recorded:.2e})" in str(report)
    manifest["unet"]["errors"]["int8"]["max"] = 0.4 * recorded
    (folder / "manifest.json").write_text(json.dumps(manifest))
    report = verify_bundle(folder)
    assert [row.ours for row in report.comparisons if not row.within(TOLERANCE)] == ["native int8"]
    assert verify_bundle(folder, tolerance=1.1 * recorded).ok


def test_verify_notices_another_checkpoint(tmp_path: Path) -> None:
    for seed in (0, 1):
        unit_checkpoint(tmp_path / f"run{seed}", TINY, seed=seed)
    folder = export_bundle(tmp_path / "run0", tmp_path / "x.keystep")
    assert verify_bundle(folder).ok
    assert not verify_bundle(folder, tmp_path / "run1").ok


def test_verify_refuses_a_damaged_bundle(tmp_path: Path) -> None:
    unit_checkpoint(tmp_path / "run", TINY)
    folder = export_bundle(tmp_path / "run", tmp_path / "x.keystep")
    with (folder / "denoise.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(keystep.BundleError, match="sha256"):
        verify_bundle(folder)


@pytest.mark.parametrize("name", ["actions", "noise", "observation.state"])
def test_verify_refuses_golden_data_that_lack_an_array(tmp_path: Path, name: str) -> None:
    unit_checkpoint(tmp_path / "run", TINY)
    folder = export_bundle(tmp_path / "run", tmp_path / "x.keystep")
    with np.load(folder / "golden.npz") as archive:
        arrays = {key: archive[key] for key in archive.files if key != name}
    np.savez(folder / "golden.npz", **arrays)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["golden"]["sha256"] = hashlib.sha256((folder / "golden.npz").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(keystep.BundleError, match=rf"golden\.{name}: expected an array"):
        verify_bundle(folder)
