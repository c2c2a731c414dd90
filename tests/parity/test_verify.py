"""`keystep verify` finds what it is there to find."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from own_weights import give_own_weights

import keystep

pytest.importorskip("torch")

from unit_policy import TINY, unit_checkpoint

from keystep.export import bundle
from keystep.export.bundle import export_bundle
from keystep.export.comparison import TOLERANCE, Comparison
from keystep.export.manifest import ExportError
from keystep.export.verify import verify_bundle
from keystep.models import DiffusionConfig, SamplerConfig, load_policy, random_checkpoint, save_checkpoint


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
    assert by_pair["ONNX from Python", "golden (torch)", "model output"] > 1e-2  # it is the graph's fault
    assert by_pair["native fp32", "golden (torch)", "actions"] < TOLERANCE  # it has weights of its own


def test_verify_notices_other_weights_of_the_native_engine(tmp_path: Path) -> None:
    for seed in (0, 1):
        unit_checkpoint(tmp_path / f"run{seed}", TINY, seed=seed)
        export_bundle(tmp_path / f"run{seed}", tmp_path / f"{seed}.keystep")
    target, other = tmp_path / "0.keystep", tmp_path / "1.keystep"
    give_own_weights(target)
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


# ---- units and rounding

STEADY = replace(TINY, sampler=SamplerConfig(prediction="sample", timestep_rule="leading"))


def scaled_checkpoint(folder: Path, config: DiffusionConfig, offset: float, width: float, mode: str) -> None:
    """A random policy whose states and actions are offset +- width."""
    checkpoint = random_checkpoint(folder, config)
    policy, _ = load_policy(folder)

    def stats(dimensions: int) -> dict[str, object]:
        ends = {"min": [offset - width] * dimensions, "max": [offset + width] * dimensions}
        spread = {"mean": [offset + width / 7] * dimensions, "std": [width / 2] * dimensions}
        return ends | spread | {"q01": ends["min"], "q99": ends["max"], "count": 1000}

    table = {"action": stats(config.action_dim), "observation.state": stats(config.vector_width)}
    bounds = {
        "min": [offset - 2 * width] * config.action_dim,
        "max": [offset + 2 * width] * config.action_dim,
    }
    hold = {"mode": "values", "values": [offset] * config.action_dim}
    action = checkpoint.action | bounds | {"hold": hold}
    modes = {"action": mode, "observation.state": mode}
    changed = replace(checkpoint, stats=table, action=action, normalization=modes)
    save_checkpoint(folder, changed, policy.state_dict())


@pytest.mark.parametrize("mode", ["min_max", "mean_std", "quantile"])
@pytest.mark.parametrize(
    ("offset", "width"), [(0, 180), (750, 750), (0, 1e6), (2048.3, 0.5), (1e6, 10), (0, 1e-4)]
)
def test_units_make_no_difference(offset: float, width: float, mode: str, tmp_path: Path) -> None:
    """Degrees, counts, a narrow range far from zero: the same network is as right in all of them."""
    if width == 1e-4 and mode != "mean_std":
        offset, width = 0, 1.1e-3  # what is narrower counts as constant
    scaled_checkpoint(tmp_path / "run", STEADY, offset, width, mode)
    folder = export_bundle(tmp_path / "run", tmp_path / "x.keystep")
    report = verify_bundle(folder, tmp_path / "run")
    assert report.ok, str(report)
    for row in report.comparisons:
        if row.quantity == "actions":
            scale = max(width / 2, 1e-2) if mode == "mean_std" else width
            assert row.physical == pytest.approx(row.max_error * scale, rel=0.05, abs=1e-12)
        else:
            assert row.physical is None


AMPLIFYING = {
    "guided": replace(TINY, tasks=3, condition_dropout=0.1),
    "noisy end": replace(TINY, sampler=SamplerConfig(timestep_rule="trailing")),
}


@pytest.mark.parametrize("name", AMPLIFYING)
def test_a_policy_that_magnifies_rounding(name: str, tmp_path: Path) -> None:
    """What export accepts verify accepts, and both say why; and another's weights are still noticed."""
    options = {"inference_steps": 4} | ({"guidance": 5.0} if name == "guided" else {})
    for seed in (0, 1):
        random_checkpoint(tmp_path / f"run{seed}", AMPLIFYING[name], seed=seed)
        export_bundle(tmp_path / f"run{seed}", tmp_path / f"{seed}.keystep", **options)
    report = verify_bundle(tmp_path / "0.keystep", tmp_path / "run0")
    beyond = [row for row in report.comparisons if row.max_error > TOLERANCE and not row.recorded]
    assert report.ok and beyond and "(rounding " in str(report), str(report)
    take_from(tmp_path / "1.keystep", tmp_path / "0.keystep", "graphs", "denoise")
    assert not verify_bundle(tmp_path / "0.keystep").ok


def test_export_refuses_what_verify_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs that compute another policy than torch: nothing is left behind."""
    unit_checkpoint(tmp_path / "run", STEADY)
    right = bundle.golden_arrays

    def wrong(*arguments: object) -> dict[str, np.ndarray]:
        arrays = right(*arguments)  # type: ignore[arg-type]
        return arrays | {"actions": arrays["actions"] + np.float32(3e-4)}

    monkeypatch.setattr(bundle, "golden_arrays", wrong)
    with pytest.raises(ExportError, match=r"verify.actions: expected C\+\+ runtime to be golden") as caught:
        export_bundle(tmp_path / "run", tmp_path / "x.keystep")
    assert "within 0.0001 in network units, got 0.0003" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_one_rule() -> None:
    row = Comparison("native int8", "golden (torch)", "actions", 0.1, 0.1)
    assert row.allowed() == TOLERANCE and row.allowed(0.2) == 0.2 and not row.within()
    assert replace(row, recorded=0.06).within() and not replace(row, recorded=0.04).within()
    assert replace(row, rounding=0.03).within() and not replace(row, rounding=0.02).within()
    assert not replace(row, max_error=float("nan"), rounding=1.0).within()


def test_a_policy_without_finite_answers_is_not_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit_checkpoint(tmp_path / "run", TINY)
    nothing = {"actions": np.full((4, 8, 7), np.nan, np.float32)}
    monkeypatch.setattr(bundle, "golden_arrays", lambda *_: nothing)
    with pytest.raises(ExportError, match=r"golden.actions: expected finite answers of the trained policy"):
        export_bundle(tmp_path / "run", tmp_path / "x.keystep")
    assert not (tmp_path / "x.keystep").exists()


def test_verify_refuses_what_is_no_graph(tmp_path: Path) -> None:
    unit_checkpoint(tmp_path / "run", TINY)
    folder = export_bundle(tmp_path / "run", tmp_path / "x.keystep")
    content = b"hello"
    (folder / "encode.onnx").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["graphs"]["encode"]["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(keystep.Error, match=r"encode"):
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


def test_a_scorer_of_a_bundle_without_one_is_refused(tmp_path: Path) -> None:
    bundle = Path(__file__).parents[2] / "bundles/franka3blocks-rgb.keystep"
    with pytest.raises(
        keystep.ArgumentError, match=r"scorer: expected none \(the bundle has no scorer\), got"
    ):
        verify_bundle(bundle, tmp_path, tmp_path, scorer=tmp_path)
