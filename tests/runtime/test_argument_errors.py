"""Every argument of the public functions: a wrong one is an ArgumentError that names it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from subgoal_stub import STATE_KEY, subgoal_changes, zeros

import keystep

STATE, IMAGE = "observation.state", "observation.images.static"


class Interrupting:
    """Somebody presses Ctrl-C while it is converted."""

    def __index__(self):
        raise KeyboardInterrupt

    __float__ = __fspath__ = __index__


class Failing:
    def __index__(self):
        raise LookupError("ours")

    __float__ = __fspath__ = __index__


def kind(value: object) -> str:
    """Of a test's parameter: pytest would print all digits of 10**5000, which Python refuses."""
    return type(value).__name__


BAD_INTEGERS = [-1, 2**64, 10**5000, 1.0, "1", None, True, [], np.float32(1), np.array([1, 2])]
BAD_OPTIONS = {
    "threads": [2**31, -(2**31) - 1, 2**64, 1.5, "2", True, np.array([1, 2])],
    "spin_us": [2**31, "1"],
    "inference_steps": [2**31, None, 2.0],
    "planner_steps": [-(2**63), 10**400],
    "max_observation_age_us": [2**63, "1", 1.5],
    "deadline_us": ["1", None, 10**400, True, 1j],
    "pin_threads": [1, 0, "no", [], np.array([True, False])],
    "replan": [1, "no"],
    "strict_text": [None, 1],
    "sampler": [None, 1, b"ddim", "dd\0im", "\udcff"],
    "planner_sampler": [3],
    "engine": [3, "st\0ub", "\udcff", b"stub"],
    "provider": [3, ["cpu"]],
    "optimization": [3],
    "precision": [3, b"fp32"],
    "isa": [3],
    "clock": [None, "wall", "stea\0dy"],
    "provider_options": [[("a", "b")], {"a": 1}, {1: "a"}, {"a\0": "b"}, "ab"],
    "onnxruntime_library": [5, "a\0b", b"a\0b", False],
    "extensions_library": [5, "a\0b"],
}


@pytest.mark.parametrize(
    ("option", "value"), [(name, value) for name, bad in BAD_OPTIONS.items() for value in bad], ids=kind
)
def test_options_of_load(stub_bundle, option, value):
    with pytest.raises(keystep.ArgumentError, match=rf"^{option}.*: expected "):
        keystep.load(stub_bundle, **{"engine": "stub"} | {option: value})


@pytest.mark.parametrize("path", [5, None, b"a\0b", "a\0b", "\udfff\ud800", ["a"], Failing], ids=kind)
@pytest.mark.parametrize("use", [keystep.load, keystep.read_manifest])
def test_what_is_no_path(use, path):
    with pytest.raises(keystep.ArgumentError, match=r"^path: expected a path"):
        use(path)


def test_paths_of_every_kind(stub_bundle):
    for path in (stub_bundle, str(stub_bundle), os.fsencode(stub_bundle)):
        assert keystep.read_manifest(path)["name"] == "stub"
        keystep.load(path, engine="stub").close()


@pytest.mark.parametrize("field", ["seed", "episode"])
@pytest.mark.parametrize("value", BAD_INTEGERS, ids=kind)
def test_what_is_no_seed(make_stub, observation, field, value):
    policy = make_stub()
    policy.reset(task="lift_red", seed=2**64 - 1, episode=2**32 - 1)
    first = policy.act(observation)
    with pytest.raises(keystep.ArgumentError, match=rf"^{field}: expected an integer"):
        policy.reset(task="lift_red", **{field: value})
    assert (policy.act(observation) != first).any()  # the episode goes on


@pytest.mark.parametrize("value", ["1", [1], True, 10**400, np.zeros(2), 1j], ids=kind)
def test_what_is_no_guidance(make_stub, value):
    with pytest.raises(keystep.ArgumentError, match=r"^guidance: expected a number"):
        make_stub(subgoal_changes()).reset(task="lift_red", guidance=value)


@pytest.mark.parametrize("key", ["timestamp_us", "now_us"])
@pytest.mark.parametrize(
    "value", [-1, 2**63, 2**64, 10**5000, 1.0, "1", True, [], np.array([1, 2])], ids=kind
)
def test_what_is_no_stamp(make_stub, observation, key, value):
    policy = make_stub(clock="external")
    policy.reset(task="lift_red")
    with pytest.raises(keystep.ArgumentError, match=rf"^{key}: expected an integer"):
        policy.act({"timestamp_us": 0, "now_us": 0, **observation, key: value})
    policy.act({"timestamp_us": np.int64(5), **observation, "now_us": 7})
    policy.act({"timestamp_us": None, "now_us": None, **observation})


def test_what_an_argument_raises_passes_through(make_stub, observation, stub_bundle):
    policy = make_stub()
    policy.reset(task="lift_red")
    sampler = keystep.Sampler(keystep.SamplerSpec())
    x = zeros(2, 2)
    for kind, error in ((Interrupting, KeyboardInterrupt), (Failing, LookupError)):
        uses = [
            lambda value: policy.reset(task="lift_red", seed=value),
            lambda value: policy.reset(task="lift_red", guidance=value),
            lambda value: policy.act(observation | {"timestamp_us": value}),
            lambda value: keystep.load(stub_bundle, threads=value),
            lambda value: keystep.load(stub_bundle, deadline_us=value),
            lambda value: keystep.load(stub_bundle, onnxruntime_library=value),
            lambda value: keystep.load(value),
            lambda value: keystep.read_manifest(value),
            lambda value: keystep.noise((2,), seed=value),
            lambda value: keystep.noise((value,), seed=0),
            lambda value: keystep.SamplerSpec(train_steps=value),
            lambda value: keystep.SamplerSpec(eta=value),
            lambda value: sampler.step(x, value, x),
        ]
        for use in uses:
            with pytest.raises(error):
                use(kind())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *[({"seed": value}, "seed: expected an integer") for value in BAD_INTEGERS],
        ({"seed": 0, "episode": 2**32}, "episode: expected an integer in 0..4294967295, got 4294967296"),
        ({"seed": 0, "chunk": 2**64}, "chunk: expected an integer"),
        ({"seed": 0, "step": -1}, "step: expected an integer"),
        *[
            ({"seed": 0, "shape": shape}, "shape")
            for shape in (3, "ab", None, (1.5,), (-1,), ("2",), (2**62, 8))
        ],
        ({"seed": 0, "shape": (2**63,)}, "shape[0]: expected an integer"),
        ({"seed": 0, "shape": (1,) * 65}, "shape: expected at most 32 axes, got 65"),
    ],
    ids=kind,
)
def test_noise(arguments, message):
    with pytest.raises(keystep.ArgumentError, match="^" + re.escape(message)):
        keystep.noise(**{"shape": (2, 2)} | arguments)


def test_noise_beyond_two_to_the_31_chunks():
    draws = [
        keystep.noise((8,), 7, chunk=chunk)
        for chunk in (5, 2**31 | 5, 2**32 | 5, 2**32 | 2**31 | 5, 2**33 | 5)
    ]
    assert len({draw.tobytes() for draw in draws}) == len(draws)


SPEC_FIELDS = {
    "kind": [1, None, "dd\0pm"],
    "train_steps": [2**31, 1.5, "a", None],
    "inference_steps": [2**31, []],
    "betas": [1, "0.1", [None], ["a"], None, b"ab"],
    "beta_start": ["a", None, 10**400],
    "clip_sample": [1, None, "yes"],
    "steps_offset": [1.5],
    "guidance": ["1"],
    "noise": [0],
}


@pytest.mark.parametrize(
    ("field", "value"), [(name, value) for name, bad in SPEC_FIELDS.items() for value in bad], ids=kind
)
def test_sampler_spec(field, value):
    with pytest.raises(keystep.ArgumentError, match=rf"^{field}.*: expected "):
        keystep.SamplerSpec(**{field: value})
    spec = keystep.SamplerSpec()
    with pytest.raises(keystep.ArgumentError, match=rf"^{field}.*: expected "):
        setattr(spec, field, value)
    assert spec == keystep.SamplerSpec()


def test_sampler():
    for spec in (None, {}, "ddim"):
        with pytest.raises(keystep.ArgumentError, match="spec: expected a SamplerSpec"):
            keystep.Sampler(spec)
    x = zeros(2, 2)
    sampler = keystep.Sampler(keystep.SamplerSpec(guidance=1.0))
    for timestep in (3.7, "90", None, 2**70, 91):
        with pytest.raises(keystep.ArgumentError, match="timestep: expected"):
            sampler.step(x, timestep, x)
    for output in (None, 1.0, x[0, 0], zeros(3, 2, 2), [x, x]):
        with pytest.raises(keystep.ArgumentError, match="denoise: expected"):
            sampler.sample(lambda *_, output=output: output, x)
    for noise in (None, [1.0], np.float32(1), np.array(1, np.float32)):
        with pytest.raises(keystep.ArgumentError, match="noise: expected"):
            keystep.Sampler(keystep.SamplerSpec(kind="ddpm")).sample(lambda x, t: x, noise)


def test_misspelt_keys(make_stub, observation):
    policy = make_stub()
    policy.reset(task="lift_red")
    for key, nearest in [
        ("timestamp", "timestamp_us"),
        ("time_stamp_us", "timestamp_us"),
        ("Observation.state", STATE),
        ("observation.State", STATE),
        ("state", None),
        ("observation.images.Static", IMAGE),
        ("Task", "task"),
        ("", None),
        ("\udcff", None),
        ("instruction", None),
    ]:
        replaced = {k: v for k, v in observation.items() if k != nearest} | {key: 0}
        for wrong in (observation | {key: 0}, replaced):
            with pytest.raises(keystep.ArgumentError, match=r"expected one of observation.state") as caught:
                policy.act(wrong)
            assert nearest is None or f"(nearest: '{nearest}')" in str(caught.value)
            assert key == "\udcff" or str(caught.value).startswith(key + ": ")
    for key in (b"observation.state", 0, None, ("a",), 1.5):
        for wrong in (observation | {key: 0}, {key: 0}):
            with pytest.raises(
                keystep.ArgumentError, match="observation: expected keys of type str"
            ) as caught:
                policy.act(wrong)
            assert repr(key) in str(caught.value)
    assert np.isfinite(policy.act(observation)).all()


def test_noise_of_no_rows_is_not_noise_to_generate(make_stub, observation):
    policy = make_stub(subgoal_changes())
    policy.reset(task="lift_red")
    policy.act(observation)
    for shape in ((0, 4, 3), (0,), (0, 3), (4, 0)):
        with pytest.raises(keystep.ArgumentError, match="noise: expected shape"):
            policy.predict_chunk(observation, zeros(*shape))
        with pytest.raises(keystep.ArgumentError, match="noise: expected shape"):
            policy.predict_plan(observation, zeros(*shape))


def test_masked_arrays(make_stub, observation):
    policy = make_stub(subgoal_changes())
    masked = np.ma.masked_array(observation[STATE], mask=[0, 1, 0, 0])
    unmasked = np.ma.masked_array(observation[STATE])
    policy.reset(task="lift_red")
    policy.act(observation)
    for array in (masked, unmasked):
        with pytest.raises(
            keystep.ArgumentError, match=r"observation.state: expected an array without a mask"
        ):
            policy.act(observation | {STATE: array})
    with pytest.raises(
        keystep.ArgumentError, match=r"subgoals: observation.state: expected an array without a mask"
    ):
        policy.reset(task="lift_red", subgoals={STATE_KEY: np.ma.masked_array(zeros(3, 4))})
    with pytest.raises(keystep.ArgumentError, match="noise: expected an array without a mask"):
        policy.predict_chunk(observation, np.ma.masked_array(zeros(4, 3)))


def test_memory_mapped_arrays(make_stub, observation, tmp_path):
    policy = make_stub()
    policy.reset(task="lift_red", seed=1)
    wanted = policy.act(observation)
    mapped = np.memmap(tmp_path / "state", np.float32, "w+", shape=(4,))
    mapped[:] = observation[STATE]
    policy.reset(task="lift_red", seed=1)
    np.testing.assert_array_equal(policy.act(observation | {STATE: mapped}), wanted)


def test_after_close_every_method_says_closed(make_stub, observation):
    policy = make_stub(subgoal_changes())
    policy.reset(task="lift_red")
    policy.act(observation)
    policy.close()
    policy.close()
    uses = [
        lambda: policy.reset(task="lift_red"),
        lambda: policy.reset(task=5, seed=-1),
        lambda: policy.reset(instruction="anything"),
        lambda: policy.act(observation),
        lambda: policy.act({"task": "no such"}),
        lambda: policy.act(None),
        lambda: policy.predict_chunk(observation),
        lambda: policy.predict_plan(observation),
        lambda: policy.plan(),
        lambda: policy.plan_progress,
        lambda: policy.replan(),
        lambda: policy.interrupt(),
        lambda: policy.latency(),
        lambda: policy.reset_latency(),
        lambda: policy.__enter__(),
    ]
    for use in uses:
        with pytest.raises(keystep.PolicyError, match="the runtime is closed") as caught:
            use()
        assert caught.value.status == "closed"
    assert policy.task_names and policy.manifest and policy.description and policy.engine_choices


def test_a_flat_policy_says_closed_too(make_stub, observation):
    policy = make_stub()
    policy.close()
    for use in (
        policy.replan,
        policy.plan,
        lambda: policy.plan_progress,
        lambda: policy.predict_plan(observation),
    ):
        with pytest.raises(keystep.PolicyError, match="the runtime is closed"):
            use()


def test_a_subinterpreter_is_refused():
    program = (
        "import _xxsubinterpreters as sub\n"
        "try: sub.run_string(sub.create(), 'import keystep._core')\n"
        "except sub.RunFailedError as error: print(error)"
    )
    if sys.version_info >= (3, 13):
        pytest.skip("_xxsubinterpreters has another name")
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert "keystep: expected the main interpreter, got a subinterpreter" in result.stdout


def test_stamps_of_another_clock(make_stub, observation):
    wall = 1_790_000_000_000_000
    for limit in (0, 50_000):
        policy = make_stub(max_observation_age_us=limit)
        policy.reset(task="lift_red")
        for stamp in (wall, wall - 10_000_000, keystep.now_us() + 5_000_000, 2**63 - 1):
            for use in (policy.act, policy.predict_chunk):
                with pytest.raises(
                    keystep.PolicyError, match="timestamp_us: expected no later than"
                ) as caught:
                    use(observation | {"timestamp_us": stamp})
                assert caught.value.status == "bad_observation"
        policy.act(observation | {"timestamp_us": keystep.now_us()})
    with pytest.raises(keystep.PolicyError, match="now_us: expected none"):
        policy.act(observation | {"now_us": 3})


def test_simulated_time(make_stub, observation):
    policy = make_stub(clock="external", max_observation_age_us=50_000)
    policy.reset(task="lift_red")
    policy.act(observation | {"timestamp_us": 0, "now_us": 50_000})
    with pytest.raises(keystep.PolicyError) as caught:
        policy.act(observation | {"timestamp_us": 0, "now_us": 50_001})
    assert caught.value.status == "stale_observation"
    for stamp in ({"timestamp_us": 100_000, "now_us": 50_000}, {"timestamp_us": 5}):
        with pytest.raises(keystep.PolicyError, match=r"observation\.(timestamp|now)_us: expected") as caught:
            policy.act(observation | stamp)
        assert caught.value.status == "bad_observation"
    policy.act(observation)  # not stamped
    assert json.loads(policy.latency().to_json())["stale_observations"] == 1


@pytest.mark.parametrize("name", ["\ud800", "a\0b", 5])
def test_names_of_fields_that_are_no_text(name):
    with pytest.raises(
        (keystep.ArgumentError, TypeError), match=r"SamplerSpec's field: expected|must be str"
    ):
        keystep.SamplerSpec(**{name: 1})
    with pytest.raises(TypeError, match="no field 'xxx") as caught:
        keystep.SamplerSpec(**{"x" * 1_000_000: 1})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("shape", [(2**40,), (2**20, 2**20), (0, 2**40), (2**28 + 1,), [2**14, 2**15]])
def test_noise_that_no_memory_should_hold(shape):
    with pytest.raises(keystep.ArgumentError, match=r"^shape\[.\]: expected an integer in 0\.\."):
        keystep.noise(shape, seed=1)


class Unwritable:
    def __repr__(self):
        raise ValueError("no")


def test_messages_are_bounded_and_quote_once(make_stub, observation):
    policy = make_stub()
    policy.reset(task="lift_red")
    long = "x" * 1_000_000
    for value in (10**6000, long, [long], "\ud800" * 1000, b"x" * 1_000_000, Unwritable()):
        with pytest.raises(keystep.ArgumentError, match=r"^task: expected 'lift_red' as given to") as caught:
            policy.act(observation | {"task": value})
        assert len(str(caught.value)) < 700
    fresh = make_stub()
    fresh.reset()
    with pytest.raises(keystep.ArgumentError, match=r"^task: expected one of .*an integer of 19932 bits"):
        fresh.act(observation | {"task": 10**6000})
    for key in (10**6000, (10**6000,), long, b"x" * 1_000_000, (long,), "\ud800" * 100_000, Unwritable()):
        with pytest.raises(keystep.ArgumentError, match="expected") as caught:
            policy.act(observation | {key: 0})
        assert len(str(caught.value)) < 700
    with pytest.raises(keystep.ArgumentError, match=r"got 'x'$"):
        keystep.Sampler("x")
    with pytest.raises(keystep.ArgumentError, match=r"^seed: expected an integer, got str$"):
        policy.reset(task="lift_red", seed="x")
    with pytest.raises(keystep.ArgumentError, match=r"^guidance: expected a number, got 'é'$"):
        make_stub(subgoal_changes()).reset(task="lift_red", guidance="é")


def test_a_refused_stamp_says_nothing_of_sizes(make_stub, observation):
    policy = make_stub()
    policy.reset(task="lift_red")
    for wrong in ({"timestamp_us": 2**62}, {STATE: observation[STATE] * np.nan}):
        with pytest.raises(keystep.PolicyError, match=r"^observation\.") as caught:
            policy.act(observation | wrong)
        assert caught.value.status == "bad_observation"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_noise_that_is_not_finite(make_stub, observation, value):
    policy = make_stub(subgoal_changes())
    policy.reset(task="lift_red")
    policy.act(observation)
    chunk, plan = zeros(4, 3), zeros(3, 4)
    chunk[2, 1] = plan[2, 1] = value
    for use, noise in ((policy.predict_chunk, chunk), (policy.predict_plan, plan)):
        with pytest.raises(
            keystep.ArgumentError, match=r"^noise\[2, 1\]: expected finite numbers, got -?(nan|inf)"
        ):
            use(observation, noise)
    assert np.isfinite(policy.predict_chunk(observation, zeros(4, 3))).all()
