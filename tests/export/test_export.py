"""Exporting: what is written, what is refused, and that nothing is ever left half-written."""

from __future__ import annotations

import copy
import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from written import content, objects

import keystep

torch = pytest.importorskip("torch")

from keystep.export import bundle  # noqa: E402
from keystep.export.bundle import export_bundle  # noqa: E402
from keystep.export.manifest import ExportError, validate  # noqa: E402
from keystep.export.verify import verify_bundle  # noqa: E402
from keystep.models import PRESETS, CheckpointError, random_checkpoint  # noqa: E402

CONFIG = replace(PRESETS["tiny"], tasks=2)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    random_checkpoint(folder, CONFIG)
    return folder


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_bundle(checkpoint, tmp_path_factory.mktemp("export") / "tiny.keystep")


@pytest.fixture
def written(exported: Path) -> dict[str, Any]:
    return json.loads((exported / "manifest.json").read_text())


# ---- what is written


def test_the_runtime_accepts_the_bundle(exported: Path) -> None:
    assert keystep.read_manifest(exported)["name"] == "tiny"
    assert set(content(exported)) == {
        "manifest.json",
        "encode.onnx",
        "film.onnx",
        "denoise.onnx",
        "unet.safetensors",
        "golden.npz",
    }


def test_manifest_says_what_the_graphs_take(written: dict[str, Any]) -> None:
    def shapes(graph: str, side: str) -> dict[str, list[int]]:
        return {tensor["name"]: tensor["shape"] for tensor in written["graphs"][graph][side]}

    chunk = [1, CONFIG.horizon, CONFIG.action_dim]
    condition, film = {"condition": [1, CONFIG.condition_width]}, shapes("film", "outputs")
    assert shapes("encode", "outputs") == shapes("film", "inputs") == condition
    assert film.keys() == {"film"} and film["film"][1] == 2 * (16 + 16 + 32 + 32 + 32 + 32 + 16 + 16)
    assert shapes("encode", "inputs") == {"observation.state": [1, CONFIG.vector_width], "task": [1]}
    assert shapes("denoise", "inputs") == {"sample": chunk, "timestep": [1], **film}
    assert shapes("denoise", "outputs") == {"model_output": chunk}


def test_sampler_has_the_fields_of_the_core(written: dict[str, Any]) -> None:
    assert set(written["sampler"]) == set(keystep.SamplerSpec().as_dict())


def test_golden_data(exported: Path) -> None:
    with np.load(exported / "golden.npz", allow_pickle=False) as golden:
        shapes = {name: (golden[name].dtype.name, golden[name].shape) for name in golden.files}
    chunk = (CONFIG.horizon, CONFIG.action_dim)
    assert shapes == {
        "observation.state": ("float32", (4, CONFIG.vector_width)),
        "task": ("int64", (4,)),
        "noise": ("float32", (4, 1, *chunk)),
        "actions": ("float32", (4, *chunk)),
        "model_output": ("float32", (4, *chunk)),
    }


def test_exporting_twice_gives_the_same_golden_data(checkpoint: Path, exported: Path, tmp_path: Path) -> None:
    again = export_bundle(checkpoint, tmp_path / "again.keystep")
    with np.load(exported / "golden.npz") as first, np.load(again / "golden.npz") as second:
        assert first.files == second.files
        assert all(np.array_equal(first[name], second[name]) for name in first.files)


def test_options_reach_the_manifest(checkpoint: Path, tmp_path: Path) -> None:
    folder = export_bundle(
        checkpoint,
        tmp_path / "x.keystep",
        name="mine",
        execute=3,
        inference_steps=5,
        kind="ddpm",
        timestep_rule="leading",
    )
    read = keystep.read_manifest(folder)
    assert (read["name"], read["chunk"]["execute"]) == ("mine", 3)
    assert (read["sampler"]["kind"], read["sampler"]["inference_steps"]) == ("ddpm", 5)
    with np.load(folder / "golden.npz") as golden:
        assert golden["noise"].shape[1] == 5  # initial, and every step but the last


# ---- the schema


def test_schema_accepts_what_is_written(written: dict[str, Any]) -> None:
    validate(written)


def test_schema_refuses_an_unknown_key_anywhere(written: dict[str, Any]) -> None:
    paths = objects(written)
    assert len(paths) > 20
    for path in paths:
        changed = copy.deepcopy(written)
        place = changed
        for key in path:
            place = place[key]
        place["surprise"] = 1
        with pytest.raises(ExportError):
            validate(changed)


def test_schema_refuses_a_missing_key_anywhere(written: dict[str, Any]) -> None:
    for path in objects(written):
        place = written
        for key in path:
            place = place[key]
        for missing in list(place):
            if path[-1:] == ("errors",) or missing == "external":
                continue  # each may be there or not
            changed = copy.deepcopy(written)
            there = changed
            for key in path:
                there = there[key]
            del there[missing]
            with pytest.raises(ExportError):
                validate(changed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(version=2), "version"),
        (lambda m: m["chunk"].update(execute=99), "chunk.execute: expected an integer in 1..8, got 99"),
        (lambda m: m["sampler"].update(inference_steps=101), "sampler.inference_steps: expected 1..100"),
        (lambda m: m["sampler"].update(inference_steps=0), "sampler.inference_steps"),
        (
            lambda m: m["sampler"].update(betas=[0.5]),
            "sampler.betas: expected no values, beta_schedule is not 'table', got 1",
        ),
        (
            lambda m: m["graphs"].update(sample=m["graphs"]["denoise"]),
            r"graphs\.sample: expected one of the keys .*, got an unknown key",
        ),
        (lambda m: m["golden"].update(file="../golden.npz"), "golden.file"),
        (lambda m: m["graphs"]["encode"].update(sha256="no"), "graphs.encode.sha256"),
        (lambda m: m["action"]["min"].append(0.0), "action.min: expected 7 values, got 8"),
        (
            lambda m: m["action"]["hold"]["values"].__setitem__(0, float("nan")),
            r"action.hold.values\[0\]: expected a finite number",
        ),
        (
            lambda m: m["action"].update(hold={"mode": "last", "values": [0.0] * 7}),
            r"action\.hold\.values: expected one of the keys mode, got an unknown key",
        ),
        (lambda m: m["action"].update(hold={"mode": "values"}), r"action\.hold\.values: expected a value"),
        (lambda m: m["action"].update(hold={"mode": "zero"}), r"action\.hold\.mode: expected values \| last"),
        (
            lambda m: m["action"].update(hold=[0.0] * 7),
            r"action\.hold: expected an object, got an array of 7",
        ),
        (
            lambda m: m["action"]["normalization"].pop("max"),
            r"action\.normalization\.max: expected a value",
        ),
        (
            lambda m: m["action"]["units"].__setitem__(1, "\ud800"),
            r"action\.units\[1\]: expected text that is valid UTF-8, got '\\ud800'",
        ),
        (
            lambda m: m["provenance"].update({"\udc80": 1}),
            r"provenance\.\\udc80: expected text that is valid UTF-8",
        ),
        (lambda m: m["unet"].update(precision="fp64"), "unet.precision"),
        (lambda m: m["unet"].update(down_dims=[]), "unet.down_dims"),
        (lambda m: m["unet"].update(down_dims=[16] * 9), "unet.down_dims"),
        (lambda m: m["unet"]["down_dims"].__setitem__(0, 65537), r"unet.down_dims\[0\]"),
        (lambda m: m["unet"].update(kernel_size=0), "unet.kernel_size"),
        (lambda m: m["unet"].update(condition=0), "unet.condition"),
        (lambda m: m["unet"].update(file="/unet.safetensors"), "unet.file"),
        (lambda m: m["unet"]["errors"].update(fp64={"max": 0.0, "rms": 0.0}), "unet.errors"),
        (lambda m: m["unet"]["errors"].update(int8={"max": -1.0, "rms": 0.0}), "unet.errors.int8.max"),
        (
            lambda m: m["unet"]["errors"].update(int8={"max": float("inf"), "rms": 0.0}),
            "unet.errors.int8.max: expected a finite number",
        ),
        (lambda m: m["graphs"].pop("film"), r"unet: expected null \(there is no graph film\)"),
        (lambda m: m["graphs"].pop("denoise"), r"unet: expected null \(there is no graph denoise\)"),
        (lambda m: m["observation"].pop(), "observation: "),
        (
            lambda m: m["observation"][0].update(kind="sound"),
            r"state\.kind: expected vector \| rgb \| depth, got",
        ),
        (lambda m: m["observation"][0].update(dtype="uint8"), r"state\.dtype: expected float32, got"),
        (lambda m: m["observation"][0].update(resize=True), r"state\.resize: expected one of the keys"),
        (lambda m: m["observation"][0].pop("history"), r"state\.history: expected a value, got no such key"),
        (lambda m: m["observation"][0].update(history=0), r"state\.history: expected an integer in 1\.\."),
        (lambda m: m["observation"][0].update(key="state"), r"state\.key: expected observation\.<name>"),
        (
            lambda m: m["observation"][0].update(shape=[2]),
            r"observation\.state\.names: expected 2 values, got 26",
        ),
        (
            lambda m: m["observation"][0]["normalization"]["std"].__setitem__(1, 0.0),
            r"observation\.state\.normalization\.std\[1\]",
        ),
        (
            lambda m: m["observation"][0]["normalization"]["std"].append(1.0),
            r"observation\.state\.normalization\.std: expected 26 values, got 27",
        ),
        (lambda m: m["chunk"].update(start=1), r"chunk\.start: expected an integer in 0\.\.0"),
    ],
)
def test_bad_manifests(
    written: dict[str, Any], change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    change(written)
    with pytest.raises(ExportError, match=message):
        validate(written)


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp16"}, "precision: expected one of fp32, bf16, int8, got 'fp16'"),
        ({"inference_steps": 0}, "sampler.inference_steps: expected an integer in 1..1000000, got 0"),
        ({"inference_steps": 101}, "sampler.inference_steps: expected 1..100 .train_steps., got 101"),
        ({"execute": 9}, "execute: expected 1..8"),
        ({"execute": 0}, "execute: expected 1..8"),
        ({"name": ""}, "name"),
        ({"kind": "euler"}, r"sampler\.kind: expected ddpm \| ddim \| flow_euler, got 'euler'"),
        (
            {"timestep_rule": "backwards"},
            r"sampler\.timestep_rule: expected leading \| trailing \| linspace \| hd_expit",
        ),
        ({"steps": 10}, "sampler.steps: expected a field of SamplerConfig"),
        ({"train_steps": 1000}, "sampler.train_steps: expected 100 as trained, got 1000"),
        ({"prediction": "sample"}, "sampler.prediction: expected 'epsilon' as trained"),
        ({"guidance": 1.0}, "sampler.guidance: expected 0 for a policy trained without condition_dropout"),
    ],
)
def test_bad_options_leave_nothing_behind(
    checkpoint: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        export_bundle(checkpoint, tmp_path / "x.keystep", **options)
    assert list(tmp_path.iterdir()) == []


def test_non_finite_weights_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(checkpoint / "model.safetensors")
    weights["unet.final.1.bias"][0] = float("inf")
    spoiled = tmp_path / "spoiled"
    spoiled.mkdir()
    save_file(weights, spoiled / "model.safetensors")
    (spoiled / "policy.json").write_bytes((checkpoint / "policy.json").read_bytes())
    with pytest.raises(CheckpointError, match=r"unet\.final\.1\.bias: expected finite weights"):
        export_bundle(spoiled, tmp_path / "x.keystep")
    assert {file.name for file in tmp_path.iterdir()} == {"spoiled"}


def test_too_large_for_a_protobuf(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights beyond the limit lie beside their graph, are hashed by the manifest, and compute the same."""
    whole = export_bundle(checkpoint, tmp_path / "whole.keystep", seed=1)
    monkeypatch.setattr(bundle, "MAX_BYTES", 1000)
    parted = export_bundle(checkpoint, tmp_path / "parted.keystep", seed=1)
    manifest = keystep.read_manifest(parted)
    named = {
        name: {entry["file"] for entry in graph.get("external", [])}
        for name, graph in manifest["graphs"].items()
    }
    assert named["encode"] == {"encode.onnx.data"}  # the rest of it is in no other file
    assert named["film"] == {"unet.safetensors"} <= named["denoise"]
    assert {file.name for file in parted.glob("*.data")} == set().union(*named.values()) - {
        "unet.safetensors"
    }
    assert "external" not in keystep.read_manifest(whole)["graphs"]["encode"]
    assert verify_bundle(parted).ok
    golden = np.load(whole / "golden.npz")
    observation = {key: golden[key][0] for key in golden.files if key.startswith("observation.")}
    chunks = []
    for path in (whole, parted):
        with keystep.load(path, engine="onnxruntime", threads=1) as policy:
            policy.reset(task=policy.task_names[0] if policy.task_names else None, seed=0)
            chunks.append(policy.predict_chunk(observation))
    np.testing.assert_array_equal(*chunks)


# ---- whole or not at all


FAILURES: dict[str, BaseException] = {
    "full disk": OSError(errno.ENOSPC, "No space left on device"),
    "ctrl-c": KeyboardInterrupt(),
}
PLACES = (
    "export.graphs.to_onnx",
    "export.unet_weights.save_file",
    "export.bundle.write_golden",
    "export.bundle.build_manifest",
    "export.bundle.measured_errors",
    "files.sync_folder",
)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_leaves_nothing_behind(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, failure: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise FAILURES[failure]

    monkeypatch.setattr(f"keystep.{place}", fail)
    with pytest.raises(type(FAILURES[failure])):
        export_bundle(checkpoint, tmp_path / "x.keystep")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", [*PLACES, "files._swap"])
def test_a_failed_overwrite_keeps_the_old_bundle(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    target = export_bundle(checkpoint, tmp_path / "x.keystep")
    before = content(target)

    def fail(*_: Any, **__: Any) -> None:
        raise FAILURES["full disk"]

    monkeypatch.setattr(f"keystep.{place}", fail)
    with pytest.raises(OSError, match="No space left"):
        export_bundle(checkpoint, target, inference_steps=5, overwrite=True)
    assert content(target) == before
    assert list(tmp_path.iterdir()) == [target]


def test_the_old_bundle_comes_back_if_the_new_cannot_be_renamed(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = export_bundle(checkpoint, tmp_path / "x.keystep")
    before, rename = content(target), Path.rename

    def fail_for_the_new(self: Path, to: Path) -> Path:
        if ".tmp-" in self.name:
            raise FAILURES["full disk"]
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises(OSError, match="No space left"):
        export_bundle(checkpoint, target, inference_steps=5, overwrite=True)
    assert content(target) == before
    assert list(tmp_path.iterdir()) == [target]


def test_overwriting_is_asked_for(checkpoint: Path, tmp_path: Path) -> None:
    target = export_bundle(checkpoint, tmp_path / "x.keystep")
    with pytest.raises(FileExistsError, match="expected a new folder"):
        export_bundle(checkpoint, target)
    export_bundle(checkpoint, target, inference_steps=5, overwrite=True)
    assert keystep.read_manifest(target)["sampler"]["inference_steps"] == 5
    assert list(tmp_path.iterdir()) == [target]


def test_only_bundles_are_overwritten(checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "thesis"
    target.mkdir()
    (target / "chapter1.txt").write_text("precious")
    with pytest.raises(ExportError, match="expected a bundle to overwrite"):
        export_bundle(checkpoint, target, overwrite=True)
    assert (target / "chapter1.txt").read_text() == "precious"
