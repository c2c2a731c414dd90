"""The asynchronous mode from Python: `act` never waits, and `telemetry` says what it did."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from subgoal_stub import subgoal_changes

import keystep

HOLD = {"mode": "values", "values": [0.0, 0.0, 0.0]}


def ticks_until(policy, observation, condition, limit=20_000):
    for _ in range(limit):
        action = policy.act(observation)
        if condition(policy.telemetry()):
            return action
        time.sleep(0.0002)
    raise AssertionError(policy.telemetry())


def test_it_begins_with_the_hold_and_goes_on_with_the_chunks_of_lockstep(make_stub, observation):
    lockstep, policy = make_stub(), make_stub(mode="async", merge="replace")
    for runtime in (lockstep, policy):
        runtime.reset(task="lift_red", seed=3, episode=1)
    np.testing.assert_array_equal(policy.act(observation), HOLD["values"])
    first = ticks_until(policy, observation, lambda seen: seen.actions == 1)
    np.testing.assert_array_equal(first, lockstep.act(observation))
    seen = policy.telemetry()
    assert seen.consumed == 1 and seen.missed == seen.ticks - 1 == seen.underruns["starting"]
    assert policy.latency().actions == 1 and policy.latency().allocations == 0


def test_a_slow_engine_never_holds_the_tick_up(make_stub, observation):
    policy = make_stub(mode="async", provider_options={"stub.sleep_us": "1000000000"})
    policy.reset(task="lift_red")
    for _ in range(2000):  # a single run of a graph would take 1000 s
        policy.act(observation)
    assert policy.telemetry().underruns["starting"] == 2000
    assert policy.latency().stages["denoise"].count == 0


def test_an_interrupt_is_timed_and_nothing_from_before_it_goes_on(make_stub, observation):
    policy = make_stub(mode="async")
    policy.reset(task="lift_red")
    ticks_until(policy, observation, lambda seen: seen.actions > 3)
    for _ in range(5):
        before = policy.telemetry().actions
        policy.interrupt()
        ticks_until(policy, observation, lambda seen, before=before: seen.actions > before)
    report = policy.latency()
    assert report.stages["interrupt"].count == report.interrupts == policy.telemetry().interrupts == 5


@pytest.mark.parametrize("cause", ["late", "starting"])
def test_fault_raises(make_stub, observation, cause):
    policy = make_stub(
        mode="async", underrun="fault", provider_options={"stub.hang_at_run": "3", "stub.hang_us": "300000"}
    )
    policy.reset(task="lift_red")
    with pytest.raises(keystep.PolicyError, match="no action of the policy is ready") as caught:
        policy.act(observation)
    assert caught.value.status == "underrun"
    if cause == "starting":
        return
    while policy.telemetry().underruns["late"] == 0:  # the second chunk comes too late
        try:
            policy.act(observation)
        except keystep.PolicyError as error:
            assert error.status == "underrun"


def test_a_hung_engine_and_a_failed_one_are_told(make_stub, observation):
    policy = make_stub(
        mode="async", watchdog_us=1000, provider_options={"stub.hang_at_run": "1", "stub.hang_us": "3000000"}
    )
    policy.reset(task="lift_red")
    with pytest.raises(keystep.PolicyError) as hung:
        while policy.telemetry().actions == 0:  # ends at the latest when the call comes back
            policy.act(observation)
    assert hung.value.status == "engine_hung" and policy.telemetry().hangs == 1
    failing = make_stub(mode="async", provider_options={"stub.fail_at_run": "1"})
    failing.reset(task="lift_red")
    with pytest.raises(keystep.PolicyError, match=r"stub\.fail_at_run 1") as caught:
        ticks_until(failing, observation, lambda seen: False)
    assert caught.value.status == "engine_failure" and failing.telemetry().underruns["failed"] == 1


def test_plans_are_made_beside_the_ticks(make_stub, observation):
    policy = make_stub(subgoal_changes(), mode="async", provider_options={"stub.jitter_us": "200"})
    policy.reset(task="lift_red")
    ticks_until(policy, observation, lambda seen: seen.plans > 2)
    assert policy.plan() is not None and policy.plan_progress["plans"] > 2
    plans = policy.telemetry().plans
    policy.replan()
    ticks_until(policy, observation, lambda seen: seen.plans > plans)
    for call in (policy.predict_chunk, policy.predict_plan):
        with pytest.raises(keystep.PolicyError, match="expected lockstep") as caught:
            call(observation)
        assert caught.value.status == "busy"


def test_others_read_and_interrupt_while_one_acts(make_stub, observation):
    policy = make_stub(mode="async", provider_options={"stub.jitter_us": "200"})
    policy.reset(task="lift_red")
    done, wrong = threading.Event(), []

    def look_on():
        while not done.is_set():
            seen = policy.telemetry()
            if seen.ticks != seen.actions + seen.missed:
                wrong.append(seen)
            policy.latency()
            policy.interrupt()
            time.sleep(0.002)

    other = threading.Thread(target=look_on)
    other.start()
    for _ in range(500):
        policy.act(observation)
        time.sleep(0.0002)
    done.set()
    other.join()
    assert not wrong
    policy.close()
    with pytest.raises(keystep.PolicyError, match="closed"):
        policy.telemetry()


def test_telemetry_shows_itself(make_stub, observation):
    policy = make_stub(mode="async")
    policy.reset(task="lift_red")
    ticks_until(policy, observation, lambda seen: seen.actions > 3)
    seen = policy.telemetry()
    assert f"{seen.ticks} ticks, {seen.actions} actions" in str(seen) and "starting" in seen._repr_html_()
    assert '"underruns"' in seen.to_json()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "sync"}, "mode: expected lockstep | async, got 'sync'"),
        ({"underrun": "hold"}, "underrun: expected none (mode is lockstep), got 'hold'"),
        (
            {"mode": "async", "merge": "rtc"},
            "merge: expected x0blend | blend | replace | temporal_ensemble, ",
        ),
        ({"mode": "async", "request_below": 5}, "request_below: expected 0..4, got 5"),
        ({"mode": "async", "watchdog_us": "soon"}, "watchdog_us: expected"),
    ],
)
def test_wrong_options_are_refused(make_stub, options, message):
    with pytest.raises(keystep.ArgumentError) as caught:
        make_stub(**options)
    assert str(caught.value).startswith(message)


def test_lockstep_has_no_telemetry(make_stub):
    with pytest.raises(keystep.ArgumentError, match="mode: expected async"):
        make_stub().telemetry()
