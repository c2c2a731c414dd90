"""Bad options, observations and calls: the message names the field, what was expected and what came."""

from __future__ import annotations

import re

import numpy as np
import pytest

import keystep


def assert_refused(folder, *words, error=keystep.BundleError, **options):
    with pytest.raises(error) as caught:
        keystep.load(folder, **{"engine": "stub"} | options)
    for word in words:
        assert word in str(caught.value), str(caught.value)


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
        ("precision", "fp16"),
        ("precision", "int8"),
        ("isa", "sse2"),
        ("isa", "portable"),
        ("spin_us", -1),
        ("spin_us", 100_001),
    ],
)
def test_option_out_of_range(onnx_bundle, option, value):
    """The engine is onnxruntime: no precision and no instructions to choose."""
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
    "misaligned": (
        lambda o: o.update({STATE: np.frombuffer(bytes(17), np.float32, count=4, offset=1)}),
        "observation.state: expected an aligned array",
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
