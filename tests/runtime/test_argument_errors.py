"""Every argument of loading and of an episode: a wrong one is an ArgumentError that names it."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from bad_values import BAD_INTEGERS, Failing, Interrupting, kind
from subgoal_stub import subgoal_changes, zeros

import keystep

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


def test_what_an_argument_raises_passes_through(make_stub, observation, stub_bundle):
    policy = make_stub()
    policy.reset(task="lift_red")
    sampler = keystep.Sampler(keystep.SamplerSpec())
    x = zeros(2, 2)
    for made, error in ((Interrupting, KeyboardInterrupt), (Failing, LookupError)):
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
                use(made())


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
