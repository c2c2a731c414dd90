"""`keystep inspect`: what a bundle holds, which engine runs which graph, and why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import keystep

pytest.importorskip("torch")

from hierarchy_fixture import CONTROLLERS, PLANNERS, Checkpoints

from keystep.commands import inspect
from keystep.export.bundle import export_bundle

HIERARCHY = ("encode", "film", "denoise", "text", "plan_encode", "plan_film", "plan_denoise")
UNETS = {"film", "denoise", "plan_film", "plan_denoise"}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By name: a hierarchy of states, an ACT controller."""
    folder = tmp_path_factory.mktemp("bundles")
    checkpoint = Checkpoints(folder)
    state, act = checkpoint(CONTROLLERS["state"]), checkpoint(CONTROLLERS["act"])
    planner = checkpoint(PLANNERS["state"])
    return {
        "hierarchy": export_bundle(state, folder / "h.keystep", planner=planner, precision="bf16"),
        "act": export_bundle(act, folder / "a.keystep"),
    }


def rows(capsys: pytest.CaptureFixture[str], bundle: Path, **options: Any) -> dict[str, str]:
    """What is printed, by the label of its line."""
    inspect.main(bundle, **options)
    lines = capsys.readouterr().out.splitlines()
    return {label: text.strip() for label, _, text in (line.partition("  ") for line in lines)}


def test_unets_with_their_size_and_errors(
    bundles: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = rows(capsys, bundles["hierarchy"], threads=1)
    manifest = keystep.read_manifest(bundles["hierarchy"])
    for label, unet in (("unet", manifest["unet"]), ("plan unet", manifest["planner"]["unet"])):
        size = (bundles["hierarchy"] / unet["file"]).stat().st_size / 1e6
        assert shown[label].startswith(
            f"{unet['file']}, {size:.2f} MB, conditional_unet1d 16-32, bf16, errors"
        )
        for precision in ("bf16", "int8"):
            error = unet["errors"][precision]
            assert f"{precision} max {error['max']:.1e} rms {error['rms']:.1e}" in shown[label]
        assert "fp32" not in shown[label]
    assert shown["normalization"] == "observation.state mean_std, action min_max"
    assert shown["plan normalization"] == "min_max"
    assert shown["subgoals"] == "4 of observation.state, each for 5 actions, planned again"
    assert shown["plan sampler"].startswith("ddim, 10 of 100 steps, predicts v_prediction, guidance 0.5")


def test_features_have_rows_of_their_own(bundles: dict[str, Path]) -> None:
    """Whatever they are called."""
    manifest = keystep.read_manifest(bundles["act"])
    shown = inspect.summary(bundles["act"], manifest)
    (state,) = (entry for entry in manifest["observation"] if entry["key"] == "observation.state")
    for name in shown:
        key = f"observation.{name}"
        seen = manifest | {"observation": [*manifest["observation"], state | {"key": key}]}
        rows_with = inspect.summary(bundles["act"], seen)
        assert rows_with[key] == shown["observation.state"]
        assert rows_with.keys() == shown.keys() | {key}


def test_which_engine_runs_which_graph(bundles: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    shown = rows(capsys, bundles["hierarchy"], threads=1)
    for graph in HIERARCHY:
        engine, _, reason = shown[f"runs {graph}.onnx"].partition(": ")
        assert (engine, bool(reason)) == ("native" if graph in UNETS else "onnxruntime", True), graph
    assert "native" in shown["engine"] and "onnxruntime" in shown["engine"]
    shown = rows(capsys, bundles["hierarchy"], threads=1, engine="onnxruntime")
    assert {shown[f"runs {graph}.onnx"].partition(":")[0] for graph in HIERARCHY} == {"onnxruntime"}
    shown = rows(capsys, bundles["hierarchy"], threads=1, precision="int8", isa="portable")
    assert "int8" in shown["engine"] and "portable" in shown["engine"]


def test_bundles_without_weights_for_the_native_engine(
    bundles: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = rows(capsys, bundles["act"], threads=1)
    assert "unet" not in shown and "native" not in shown["engine"]
    assert shown["sampler"] == "none"
    graphs = [label for label in shown if label.startswith("runs ")]
    assert graphs and all(shown[label].startswith("onnxruntime: ") for label in graphs)


def test_without_onnx_runtime_the_rest_is_shown(
    bundles: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keystep.opening.find_onnxruntime", lambda: "/nowhere/libonnxruntime.so")
    shown = rows(capsys, bundles["hierarchy"])
    assert shown["engine"].startswith("not opened: ") and "/nowhere/libonnxruntime.so" in shown["engine"]
    assert "plan_unet.safetensors" in shown["plan unet"] and "graph film" in shown
    assert not [label for label in shown if label.startswith("runs ")]


def test_wrong_options_are_errors(bundles: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(keystep.ArgumentError, match="precision"):
        inspect.main(bundles["hierarchy"], precision="fp64")
    inspect.main(bundles["hierarchy"], manifest=True, precision="fp64")  # nothing is opened
    assert json.loads(capsys.readouterr().out)["version"] == 5


def test_a_hostile_bundle_cannot_speak_to_the_terminal(
    bundles: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "hostile.keystep"
    shutil.copytree(bundles["act"], folder)
    content = json.loads((folder / "manifest.json").read_text())
    evil = "\x1b[31m\x07\x7f\x9b2J\r\n\u202eé"
    content["name"] = evil
    content["action"]["units"][0] = evil
    content["provenance"] = {evil: evil}
    (folder / "manifest.json").write_text(json.dumps(content))
    for manifest in (False, True):
        inspect.main(folder, manifest=manifest, threads=1)
        printed = capsys.readouterr().out
        assert all(c.isprintable() or c == "\n" for c in printed)
        assert manifest or ("é" in printed and r"\x1b[31m\x07\x7f\x9b2J\r\n\u202e" in printed)
    assert json.loads(printed)["name"] == evil
