"""Bad bundles: refused by the loader with the field, what was expected and what came."""

from __future__ import annotations

import hashlib

import pytest

import keystep


def assert_refused(folder, *words, error=keystep.BundleError, **options):
    with pytest.raises(error) as caught:
        keystep.load(folder, **{"engine": "stub"} | options)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_missing_folder(tmp_path):
    assert_refused(tmp_path / "nothing.keystep", "nothing.keystep", "expected")


def test_missing_graph(stub_bundle):
    (stub_bundle / "denoise.onnx").unlink()
    assert_refused(stub_bundle, "denoise.onnx")


def test_truncated_graph_has_the_wrong_hash(stub_bundle):
    (stub_bundle / "encode.onnx").write_bytes((stub_bundle / "encode.onnx").read_bytes()[:-1])
    assert_refused(stub_bundle, "encode", "sha256", "expected", "got")


def test_truncated_graph_with_a_matching_hash(onnx_bundle, edit_manifest):
    graph = onnx_bundle / "denoise.onnx"
    graph.write_bytes(graph.read_bytes()[:-20])
    digest = hashlib.sha256(graph.read_bytes()).hexdigest()
    edit_manifest(onnx_bundle, lambda m: m["graphs"]["denoise"].update(sha256=digest))
    assert_refused(onnx_bundle, "denoise", engine="onnxruntime")


def test_changed_golden_data(stub_bundle):
    with (stub_bundle / "golden.npz").open("ab") as file:
        file.write(b"!")
    assert_refused(stub_bundle, "golden", "sha256")


def test_manifest_that_is_not_json(stub_bundle):
    text = (stub_bundle / "manifest.json").read_text()
    (stub_bundle / "manifest.json").write_text(text[: len(text) // 2])
    assert_refused(stub_bundle, "manifest.json")


MANIFEST_EDITS = {
    "newer version": (lambda m: m.update(version=6), ("version", "expected 5", "got 6", "newer")),
    "version 4": (lambda m: m.update(version=4), ("got 4 (run `keystep upgrade BUNDLE`)",)),
    "version 2": (lambda m: m.update(version=2), ("got 2 (too old to upgrade: export it again)",)),
    "other format": (lambda m: m.update(format="zip"), ("format", "keystep-bundle", "zip")),
    "unknown key": (lambda m: m.update(colour="red"), ("colour",)),
    "unknown nested key": (lambda m: m["chunk"].update(overlap=1), ("chunk", "overlap")),
    "missing key": (lambda m: m.pop("control_rate_hz"), ("control_rate_hz",)),
    "wrong type": (lambda m: m["chunk"].update(horizon="8"), ("chunk.horizon",)),
    "path leaving the folder": (
        lambda m: m["graphs"]["encode"].update(file="../encode.onnx"),
        ("../encode.onnx",),
    ),
    "absolute path": (lambda m: m["graphs"]["encode"].update(file="/etc/hostname"), ("/etc/hostname",)),
    "zero width": (lambda m: norm(m).update(std=[1.0, 0.0, 1.0, 1.0]), ("observation[0].normalization.std",)),
    "zero range": (lambda m: action_norm(m).update(max=[-1.0, 1.0, 1.0]), ("action", "max")),
    "too few statistics": (
        lambda m: norm(m).update(mean=[0.0] * 3),
        ("observation[0].normalization.mean", "4", "3"),
    ),
    "execute beyond horizon": (lambda m: m["chunk"].update(execute=5), ("execute", "5")),
    "bounds crossed": (lambda m: m["action"].update(min=[2.0, -1.0, -1.0]), ("action",)),
    "no inference steps": (lambda m: m["sampler"].update(inference_steps=0), ("inference_steps", "0")),
    "more inference steps than trained": (
        lambda m: m["sampler"].update(inference_steps=101),
        ("inference_steps", "101"),
    ),
    "guidance no float holds": (lambda m: m["sampler"].update(guidance=1e39), ("sampler.guidance", "1e+39")),
    "width no float divides by": (
        lambda m: norm(m).update(std=[1e-40] * 4),
        ("normalization.std[0]",),
    ),
    "unknown schedule": (lambda m: m["sampler"].update(beta_schedule="cubic"), ("beta_schedule", "cubic")),
}


def norm(manifest):
    return manifest["observation"][0]["normalization"]


def action_norm(manifest):
    return manifest["action"]["normalization"]


@pytest.mark.parametrize("name", MANIFEST_EDITS)
def test_edited_manifest(stub_bundle, edit_manifest, name):
    keystep.load(stub_bundle, engine="stub").close()  # it is the edit that is refused
    edit, words = MANIFEST_EDITS[name]
    edit_manifest(stub_bundle, edit)
    assert_refused(stub_bundle, *words)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_non_finite_number_in_the_manifest(stub_bundle, value):
    text = (stub_bundle / "manifest.json").read_text()
    (stub_bundle / "manifest.json").write_text(text.replace('"mean": [0.0,', f'"mean": [{value},', 1))
    assert_refused(stub_bundle, "manifest.json")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_symbolic_axis(onnx_bundle, edit_manifest, axis):
    """Only the two rows of guidance may be symbolic, and this policy has none."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(onnx_bundle / "denoise.onnx")
    (value,) = (value for value in model.graph.input if value.name == "sample")
    value.type.tensor_type.shape.dim[axis].dim_param = "n"
    onnx.save(model, onnx_bundle / "denoise.onnx")
    digest = hashlib.sha256((onnx_bundle / "denoise.onnx").read_bytes()).hexdigest()
    edit_manifest(onnx_bundle, lambda m: m["graphs"]["denoise"].update(sha256=digest))
    assert_refused(onnx_bundle, "denoise", ".shape: expected [1, 4, 3]", "-1", engine="onnxruntime")


def test_symlink_out_of_the_folder(stub_bundle, tmp_path):
    graph = stub_bundle / "encode.onnx"
    outside = tmp_path / "outside.onnx"
    graph.rename(outside)
    graph.symlink_to(outside)
    assert_refused(stub_bundle, "encode.onnx")


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_shape_mismatch_between_manifest_and_graph(onnx_bundle, edit_manifest, side):
    film = ("encode", "outputs", 0), ("denoise", "inputs", 2)
    places = film if side == "outputs" else (("encode", "inputs", 0),)
    edit = {"shape": [1, 3]} if side == "outputs" else {"dtype": "int64"}
    for graph, where, index in places:
        edit_manifest(onnx_bundle, lambda m, g=graph, w=where, i=index: m["graphs"][g][w][i].update(edit))
    assert_refused(onnx_bundle, "encode", "expected", "got", engine="onnxruntime")
