"""Bad input to the loader and the runtime: the message names the field, what was expected and what came."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest

import keystep


def assert_refused(folder, *words, error=keystep.BundleError, **options):
    with pytest.raises(error) as caught:
        keystep.load(folder, **{"engine": "stub"} | options)
    for word in words:
        assert word in str(caught.value), str(caught.value)


# ---- the bundle -----------------------------------------------------------------------------------


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
    "newer version": (lambda m: m.update(version=2), ("version", "1", "2")),
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
    "zero width": (lambda m: norm(m).update(std=[1.0, 0.0, 1.0, 1.0]), ("observation.state", "std")),
    "zero range": (lambda m: action_norm(m).update(max=[-1.0, 1.0, 1.0]), ("action", "max")),
    "too few statistics": (lambda m: norm(m).update(mean=[0.0] * 3), ("observation.state", "mean", "4", "3")),
    "execute beyond horizon": (lambda m: m["chunk"].update(execute=5), ("execute", "5")),
    "bounds crossed": (lambda m: m["action"].update(min=[2.0, -1.0, -1.0]), ("action",)),
    "no inference steps": (lambda m: m["sampler"].update(inference_steps=0), ("inference_steps", "0")),
    "more inference steps than trained": (
        lambda m: m["sampler"].update(inference_steps=101),
        ("inference_steps", "101"),
    ),
    "unknown schedule": (lambda m: m["sampler"].update(beta_schedule="cubic"), ("beta_schedule", "cubic")),
}


def norm(manifest):
    return manifest["normalization"]["observation.state"]


def action_norm(manifest):
    return manifest["normalization"]["action"]


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


# ---- the options of load --------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["cuda", "tensorrt", "openvino"])
def test_provider_that_is_not_installed(onnx_bundle, provider):
    package = {"openvino": "onnxruntime-openvino"}.get(provider, "onnxruntime-gpu")
    assert_refused(
        onnx_bundle, provider, package, error=keystep.ProviderError, engine="onnxruntime", provider=provider
    )


def test_library_that_does_not_exist(onnx_bundle, tmp_path):
    missing = tmp_path / "libonnxruntime.so"
    assert_refused(
        onnx_bundle,
        str(missing),
        error=keystep.ProviderError,
        engine="onnxruntime",
        onnxruntime_library=missing,
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("provider", "npu"),
        ("engine", "torch"),
        ("optimization", "extreme"),
        ("threads", -1),
        ("inference_steps", -1),
        ("inference_steps", 101),
        ("deadline_us", -1.0),
        ("max_observation_age_us", -1),
    ],
)
def test_option_out_of_range(onnx_bundle, option, value):
    options = {"engine": "onnxruntime"} | {option: value}
    assert_refused(
        onnx_bundle, option, "expected", str(value).removesuffix(".0"), error=keystep.ArgumentError, **options
    )


# ---- the episode ----------------------------------------------------------------------------------


def test_unknown_task(make_stub):
    with pytest.raises(
        keystep.ArgumentError, match=re.escape("task: expected one of lift_red, push_red_left, got 'dance'")
    ):
        make_stub().reset(task="dance")


def test_goal_missing_and_unwanted(make_stub, observation, goal_manifest):
    with pytest.raises(keystep.ArgumentError, match="goal: expected a goal observation, got none"):
        make_stub(goal_manifest).reset()
    with pytest.raises(keystep.ArgumentError, match="goal: expected none"):
        make_stub().reset(task="lift_red", goal=observation)


def test_goal_is_checked_like_an_observation(make_stub, observation, goal_manifest):
    policy = make_stub(goal_manifest)
    del observation["observation.state"]
    with pytest.raises(keystep.ArgumentError, match=r"goal: observation\.state"):
        policy.reset(goal=observation)
    with pytest.raises(keystep.ArgumentError, match="goal"):
        policy.reset(goal=observation | {"observation.state": np.full(4, np.nan, np.float32)})


STATE, IMAGE = "observation.state", "observation.images.static"
BAD_OBSERVATIONS = {
    "missing state": (lambda o: o.pop(STATE), "observation.state: expected an array, got no such key"),
    "missing image": (
        lambda o: o.pop(IMAGE),
        "observation.images.static: expected an array, got no such key",
    ),
    "unknown key": (
        lambda o: o.update({"observation.images.wrist": o[IMAGE]}),
        "observation.images.wrist: expected one of observation.state, observation.images.static, got",
    ),
    "shape": (
        lambda o: o.update({STATE: np.zeros(5, np.float32)}),
        "observation.state: expected shape (4,), got (5,)",
    ),
    "batch dimension": (
        lambda o: o.update({STATE: o[STATE][None]}),
        "observation.state: expected shape (4,), got (1, 4)",
    ),
    "image shape": (
        lambda o: o.update({IMAGE: np.zeros((3, 6, 8), np.uint8)}),
        "observation.images.static: expected shape (6, 8, 3), got (3, 6, 8)",
    ),
    "float64": (
        lambda o: o.update({STATE: o[STATE].astype(np.float64)}),
        "observation.state: expected float32, got float64",
    ),
    "byte order": (
        lambda o: o.update({STATE: o[STATE].astype(">f4")}),
        "observation.state: expected float32, got >f4",
    ),
    "float image": (
        lambda o: o.update({IMAGE: o[IMAGE].astype(np.float32)}),
        "observation.images.static: expected uint8, got float32",
    ),
    "list": (lambda o: o.update({STATE: [0.0] * 4}), "observation.state: expected a numpy array, got list"),
    "non-contiguous": (
        lambda o: o.update({STATE: np.zeros(8, np.float32)[::2]}),
        "observation.state: expected a C-contiguous array, got strides (8,) bytes",
    ),
    "non-contiguous image": (
        lambda o: o.update({IMAGE: np.zeros((3, 6, 8), np.uint8).transpose(1, 2, 0)}),
        "observation.images.static: expected a C-contiguous array",
    ),
    "time stamp": (lambda o: o.update(timestamp_us="now"), "timestamp_us: expected an integer, got str"),
}


@pytest.mark.parametrize("name", BAD_OBSERVATIONS)
def test_bad_observation(make_stub, observation, name):
    policy = make_stub()
    policy.reset(task="lift_red")
    good = dict(observation)
    edit, message = BAD_OBSERVATIONS[name]
    edit(observation)
    for use in (policy.act, policy.predict_chunk):
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            use(observation)
        assert isinstance(caught.value, keystep.ArgumentError)
    assert np.isfinite(policy.act(good)).all()  # nothing is lost: the episode goes on


@pytest.mark.parametrize("value", [None, [1, 2], np.zeros(4, np.float32)])
def test_observation_that_is_not_a_dict(make_stub, value):
    policy = make_stub()
    policy.reset(task="lift_red")
    with pytest.raises(keystep.ArgumentError, match="observation: expected a dict"):
        policy.act(value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_observation(make_stub, observation, value):
    policy = make_stub()
    policy.reset(task="lift_red")
    bad = observation | {STATE: np.array([0, 0, value, 0], np.float32)}
    with pytest.raises(keystep.PolicyError, match=r"observation\.state") as caught:
        policy.act(bad)
    assert caught.value.status == "bad_observation"
    assert np.isfinite(policy.act(observation)).all()


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 4, 3), (1, 1, 4, 3)])
def test_noise_of_the_wrong_shape(make_stub, observation, shape):
    policy = make_stub()
    policy.reset(task="lift_red")
    with pytest.raises(keystep.Error, match="noise"):
        policy.predict_chunk(observation, np.zeros(shape, np.float32))


def test_nan_from_the_model_in_the_middle_of_an_episode(make_stub, observation):
    policy = make_stub(provider_options={"stub.nan_at_run": "3"})  # two runs a chunk: the second chunk
    policy.reset(task="lift_red")
    for _ in range(4):
        policy.act(observation)
    with pytest.raises(keystep.PolicyError, match="NaN or Inf") as caught:
        policy.act(observation)
    assert caught.value.status == "rejected_chunk"
    assert policy.latency().rejected_chunks == 1
    assert np.isfinite(policy.act(observation)).all()  # the next tick samples anew


def test_engine_that_fails_in_the_middle_of_an_episode(make_stub, observation):
    policy = make_stub(provider_options={"stub.fail_at_run": "3"})
    policy.reset(task="lift_red")
    for _ in range(4):
        policy.act(observation)
    with pytest.raises(keystep.PolicyError) as caught:
        policy.act(observation)
    assert caught.value.status == "engine_failure"
    assert policy.act(observation).shape == (3,)


# ---- the sampler on its own -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [("kind", "euler"), ("inference_steps", 0), ("inference_steps", 101), ("eta", -0.1), ("prediction", "x")],
)
def test_sampler_spec_out_of_range(field, value):
    with pytest.raises(keystep.ArgumentError, match=field):
        keystep.Sampler(keystep.SamplerSpec(**{field: value}))


def test_sampler_spec_without_such_a_field():
    with pytest.raises(TypeError, match="'steps'"):
        keystep.SamplerSpec(steps=10)


def test_sampler_step_checks_its_arrays():
    sampler = keystep.Sampler(keystep.SamplerSpec(kind="ddpm", inference_steps=10))
    good = np.zeros((8, 7), np.float32)
    bad_calls = {
        "timestep: expected one of": (good, 5, good, good),
        "sample: expected float32, got float64": (good, 90, good.astype(np.float64), good),
        "model_output: expected shape (8, 7), got (7, 8)": (np.zeros((7, 8), np.float32), 90, good, good),
        "noise: expected shape (8, 7), got None": (good, 90, good, None),
        "sample: expected a C-contiguous array": (good, 90, np.zeros((7, 8), np.float32).T, good),
    }
    for message, arguments in bad_calls.items():
        with pytest.raises(keystep.ArgumentError, match=re.escape(message)):
            sampler.step(*arguments)
