"""A child of a process that loaded a bundle: it is told, and never hangs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

BUNDLES = Path(__file__).parents[2] / "bundles"
CHILD = """
import os, signal, sys, threading
import numpy as np
import keystep
bundle, engine, threads, how = sys.argv[1:]
policy = keystep.load(bundle, engine=engine, threads=int(threads))
observation = {"observation.state": np.zeros(26, np.float32)}
policy.reset(task="stack")
wanted = [policy.act(observation) for _ in range(3)]
if how == "busy":  # another thread is inside when the process forks
    policy.interrupt()
    thread = threading.Thread(target=lambda: [policy.act(observation) for _ in range(50)])
    thread.start()
pid = os.fork()
if pid == 0:
    signal.alarm(100)
    uses = [lambda: policy.act(observation), lambda: policy.reset(task="stack"), lambda: policy.latency(),
            lambda: policy.plan(), lambda: policy.plan_progress, lambda: policy.replan(),
            lambda: policy.interrupt(),
            lambda: policy.predict_chunk(observation), lambda: policy.predict_plan(observation)]
    for use in uses:
        try:
            use()
            os._exit(3)
        except keystep.PolicyError as error:
            if error.status != "forked":
                os._exit(4)
    if how == "again":  # a child loads for itself
        with keystep.load(bundle, engine=engine, threads=int(threads)) as own:
            own.reset(task="stack")
            if engine != "stub" and not all((own.act(observation) == action).all() for action in wanted):
                os._exit(5)
    if how in ("close", "again", "busy"):
        policy.close()
        policy.close()
        try:
            policy.act(observation)
            os._exit(6)
        except keystep.PolicyError as error:
            if error.status != "closed":
                os._exit(7)
    if how == "del":
        del policy, uses
    if how == "_exit":
        os._exit(0)
    sys.exit(0)
_, status = os.waitpid(pid, 0)
if how == "busy":
    thread.join()
policy.act(observation)  # the parent goes on
policy.close()
sys.exit(0 if status == 0 else f"child: {os.waitstatus_to_exitcode(status)}")
"""


@pytest.mark.parametrize("how", ["close", "del", "exit", "_exit", "again", "busy"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("engine", ["auto", "onnxruntime", "stub"])
def test_a_forked_child_is_told(engine, threads, how):
    if how != "close" and engine == "stub" and threads == 2:
        pytest.skip("the stub has no threads")
    bundle = BUNDLES / "franka3blocks-state.keystep"
    arguments = [sys.executable, "-c", CHILD, str(bundle), engine, str(threads), how]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=600)
    assert (result.returncode, result.stderr) == (0, "")


def _use(policy) -> None:
    signal.alarm(100)
    try:
        policy.latency()
    except Exception as error:
        os._exit(0 if getattr(error, "status", "") == "forked" else 1)
    os._exit(2)


def test_a_process_of_multiprocessing(make_stub):
    policy = make_stub()
    process = multiprocessing.get_context("fork").Process(target=_use, args=(policy,))
    process.start()
    process.join()
    assert process.exitcode == 0
