"""Ctrl-C while a policy computes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from subgoal_stub import subgoal_changes

import keystep

HERE = Path(__file__).parent
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


@pytest.mark.parametrize("use", ["reset", "predict_plan"])
def test_a_handler_may_close_a_policy_with_a_planner(make_stub, observation, use):
    policy = make_stub(subgoal_changes(), provider_options=SLOW if use == "reset" else FAILS)
    if use == "predict_plan":
        policy.reset(task="lift_red")
    handler = handled(signal.SIGTERM, lambda *_: policy.close())
    with handler, pytest.raises(keystep.PolicyError) as caught, sending(signal.SIGTERM):
        policy.reset(task="lift_red") if use == "reset" else policy.predict_plan(observation)
    assert caught.value.status == "closed"
    with pytest.raises(keystep.PolicyError, match="closed"):
        policy.plan()


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


# ---- with the rest of the process


@pytest.mark.parametrize("use", ["reset", "act", "predict_plan"])
@pytest.mark.parametrize("then", ["go on", "raise", "close", "load"])
def test_a_handler_may_fork(make_stub, observation, use, then):
    """The parent goes on; the child's call ends with "forked", or with what its handler did."""
    policy = make_stub(subgoal_changes(), provider_options={"stub.sleep_us": "700000"})
    if use != "reset":
        policy.reset(task="lift_red")
    children = []

    def fork(*_):
        children.append(os.fork())
        if children[0] != 0:
            return
        signal.alarm(100)
        if then == "raise":
            raise InterruptedError
        if then == "close":
            policy.close()
        if then == "load":
            with make_stub() as own:
                own.reset(task="lift_red")
                own.act(observation)

    wanted = {"raise": "InterruptedError", "close": "closed"}.get(then, "forked")
    with handled(signal.SIGUSR1, fork):
        sender = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1))
        sender.start()
        try:
            policy.reset(task="lift_red") if use == "reset" else getattr(policy, use)(observation)
        except BaseException as error:
            if children == [0]:
                os._exit(getattr(error, "status", type(error).__name__) != wanted)
            raise
        if children == [0]:
            os._exit(2)
    sender.join()
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
    policy.reset(task="lift_red")


PROGRAM = """
import faulthandler, os, signal, sys, threading, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from stub_bundle import stub_observation, write_stub_bundle
import keystep
signal.signal(signal.SIGINT, signal.default_int_handler)
bundle = write_stub_bundle(Path(sys.argv[2]) / "stub.keystep")
policy = keystep.load(bundle, engine="stub", provider_options={"stub.sleep_us": "200000"})
policy.reset(task="lift_red")

def compute():
    policy.interrupt()
    policy.act(stub_observation())

def sent(work):
    sender = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    sender.start()
    try:
        work()
        return "lost"
    except KeyboardInterrupt:
        return "raised"

compute()
"""
LIBRARY = """
chain, when, unregister = sys.argv[3] == "chain", sys.argv[4], sys.argv[5] == "unregister"
report = open(os.devnull, "w")
register = lambda: faulthandler.register(signal.SIGINT, file=report, chain=chain)
if when == "between":
    register()
else:  # while the policy computes
    threading.Timer(0.1, register).start()
for _ in range(2):
    compute()
if unregister:
    faulthandler.unregister(signal.SIGINT)
print(sent(lambda: time.sleep(0.5)), sent(compute))
"""
CLOSER = """
os.closerange(3, 200)
files = [os.open(f"{sys.argv[2]}/{i}", os.O_CREAT | os.O_RDWR) for i in range(20)]
print(sent(compute), sum(os.fstat(file).st_size for file in files))
"""


def said(program: str, *arguments: object) -> str:
    command = [sys.executable, "-c", PROGRAM + program, str(HERE), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.strip()


@pytest.mark.parametrize("unregister", ["unregister", "stay"])
@pytest.mark.parametrize("when", ["between", "meanwhile"])
@pytest.mark.parametrize("chain", ["chain", "alone"])
def test_another_library_has_a_handler(tmp_path, chain, when, unregister):
    """It finds Python's, and its own, as they were: Ctrl-C arrives wherever it lets it."""
    wanted = "lost lost" if (chain, unregister) == ("alone", "stay") else "raised raised"
    assert said(LIBRARY, tmp_path, chain, when, unregister) == wanted


def test_no_file_of_others_is_written(tmp_path):
    """Some programs close every descriptor, and use the numbers again."""
    assert said(CLOSER, tmp_path) == "raised 0"
