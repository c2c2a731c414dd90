"""Ctrl-C while a policy computes."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from subgoal_stub import subgoal_changes

import keystep

SLOW = {"stub.sleep_us": "3000000"}  # of every run of a graph
FAILS = SLOW | {
    "stub.fail_at_run": "1"
}  # at the end of the first run: whoever waits for it gets the failure, too


@contextmanager
def sending(number: int, times: int = 1):
    """The signal, half a second after the start and again as often as wanted."""
    stop = threading.Event()

    def send() -> None:
        for _ in range(times):
            if not stop.wait(0.5):
                os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def handled(number: int, handler):
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def test_reset_is_interrupted(make_stub, observation):
    policy = make_stub(subgoal_changes(), provider_options=SLOW)
    with pytest.raises(KeyboardInterrupt), sending(signal.SIGINT):
        policy.reset(task="lift_red")
    with pytest.raises(keystep.PolicyError, match="before reset"):
        policy.act(observation)


@pytest.mark.parametrize("use", ["act", "predict_chunk", "predict_plan"])
def test_a_computation_is_interrupted(make_stub, observation, use):
    policy = make_stub(subgoal_changes() if use == "predict_plan" else None, provider_options=FAILS)
    policy.reset(task="lift_red", seed=1)
    for _ in range(2):  # usable as before: it is interrupted again
        with pytest.raises(KeyboardInterrupt) as caught, sending(signal.SIGINT):
            getattr(policy, use)(observation)
        assert caught.value.__context__ is None  # in the middle, not at the end
    with pytest.raises(keystep.PolicyError, match=r"stub.fail_at_run"):
        getattr(policy, use)(observation)


def test_the_next_act_goes_on(make_stub, observation):
    policy = make_stub(provider_options={"stub.sleep_us": "700000"})
    policy.reset(task="lift_red", seed=1)
    with pytest.raises(KeyboardInterrupt), sending(signal.SIGINT):
        policy.act(observation)
    assert np.isfinite(policy.act(observation)).all()
    policy.reset(task="lift_red", seed=1)
    again = policy.act(observation)
    with make_stub() as fast:
        fast.reset(task="lift_red", seed=1)
        np.testing.assert_array_equal(again, fast.act(observation))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM])
def test_a_handler_that_returns_changes_nothing(make_stub, observation, number):
    """Whatever the number of signals: the same bits, and the computation comes to its end."""
    with make_stub() as fast:
        fast.reset(task="lift_red", seed=1)
        wanted = fast.act(observation)
    policy = make_stub(provider_options={"stub.sleep_us": "700000"})
    policy.reset(task="lift_red", seed=1)
    seen = []
    with handled(number, lambda *_: seen.append(threading.current_thread())), sending(number, 2):
        np.testing.assert_array_equal(policy.act(observation), wanted)
    assert seen and set(seen) == {threading.main_thread()}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_what_a_handler_raises_comes_through(make_stub, observation, number):
    def leave(*_):
        raise SystemExit("told to")

    policy = make_stub(provider_options={"stub.sleep_us": "1000000"})
    policy.reset(task="lift_red", seed=1)
    with handled(number, leave), pytest.raises(SystemExit, match="told to"), sending(number):
        policy.act(observation)


def test_a_handler_may_close_the_policy(make_stub, observation):
    policy = make_stub(provider_options=SLOW)
    policy.reset(task="lift_red", seed=1)
    handler = handled(signal.SIGTERM, lambda *_: policy.close())
    with handler, pytest.raises(keystep.PolicyError) as caught, sending(signal.SIGTERM):
        policy.act(observation)
    assert caught.value.status == "closed"


def test_a_handler_may_use_another_policy(make_stub, observation):
    slow, other = make_stub(provider_options=SLOW), make_stub()
    slow.reset(task="lift_red")
    other.reset(task="lift_red")

    def use(*_):
        assert np.isfinite(other.act(observation)).all()
        raise KeyboardInterrupt

    with handled(signal.SIGINT, use), pytest.raises(KeyboardInterrupt), sending(signal.SIGINT):
        slow.act(observation)


def test_other_threads_are_not_interrupted(make_stub, observation):
    policy = make_stub(provider_options={"stub.sleep_us": "500000"})
    policy.reset(task="lift_red", seed=1)
    got = []
    thread = threading.Thread(target=lambda: got.append(policy.act(observation)))
    with handled(signal.SIGINT, lambda *_: None), sending(signal.SIGINT):
        thread.start()
        thread.join()
    assert len(got) == 1
