"""`keystep.Client` against a server: control loops, restarts, and a robot that has nothing else installed."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from serving import metric, serving, wait_for

import keystep
import keystep.client
from keystep.client.websocket import address_of
from keystep.serve import Limits, Server


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.fixture
def seen(observation):
    return observation | {"prompt": "lift_red"}


def act_until(client, observation, condition, limit_s=60.0):
    until = time.monotonic() + limit_s
    while not condition(client.counts):
        assert time.monotonic() < until, client.counts
        action = client.act(observation)
        time.sleep(0.002)
    return action


def test_act_never_waits_and_gives_the_policys_actions(onnx_bundle, observation):
    seen = observation
    with serving(onnx_bundle) as server, keystep.Client(*server.address, merge="replace") as client:
        client.reset(task="lift_red", seed=3, episode=1)
        np.testing.assert_array_equal(client.act(seen), [0, 0, 0])
        first = act_until(client, seen, lambda counts: counts.actions == 1)
        with keystep.load(onnx_bundle, threads=1) as local:
            local.reset(task="lift_red", seed=3, episode=1)
            np.testing.assert_array_equal(first, local.act(seen))
        act_until(client, seen, lambda counts: counts.chunks > 10)
        assert client.counts.failed == client.reconnects == 0
        client.interrupt()
        act_until(client, seen, lambda counts: counts.chunks > 15)


def test_a_slow_server_never_holds_act_up(stub_bundle, seen):
    slow = {"engine": "stub", "provider_options": {"stub.sleep_us": "600000000"}}
    with serving(stub_bundle, load=slow, grace_s=0.0) as server:
        client = keystep.Client(*server.address, reconnect_s=0)
        for _ in range(2000):  # a single run of a graph would take 600 s
            client.act(seen)
        assert client.counts.underruns == 2000 and client.counts.requests == 1
        server.stop()
        client.close()


def test_a_server_that_starts_again_is_found_and_the_episode_begun(onnx_bundle, seen):
    with keystep.load(onnx_bundle, threads=1) as runtime:
        first = Server(runtime, port=0, limits=Limits(grace_s=0.0))
        host, port = first.address
        with keystep.Client(host, port, merge="replace", reconnect_s=60) as client:
            client.reset(task="lift_red", seed=3)
            act_until(client, seen, lambda counts: counts.chunks > 2)
            first.stop()
            again = []
            starter = threading.Timer(0.5, lambda: again.append(Server(runtime, port=port)))
            starter.start()
            chunks = client.counts.chunks
            act_until(client, seen, lambda counts: counts.chunks > chunks + 3)
            starter.join()
            assert client.reconnects == 1
            reply = client.infer(seen)  # goes on counting there
            assert reply["actions"].shape == (4, 3) and metric(again[0], "chunks_total") > 3
        again[0].stop()


def test_infer_over_a_connection_that_was_lost(onnx_bundle, seen):
    with keystep.load(onnx_bundle, threads=1) as runtime:
        with Server(runtime, port=0) as first:
            client = keystep.Client(*first.address, reconnect_s=0)
            before = client.infer(seen)
        with pytest.raises(keystep.ConnectionLost):
            client.infer(seen)
        with Server(runtime, port=first.address[1]):
            after = client.infer(seen)
            np.testing.assert_array_equal(before["actions"], after["actions"])
            with pytest.raises(keystep.ServerError, match="expected float32, got float64"):
                client.infer(seen | {"observation.state": np.zeros(4)})
            assert client.infer(seen)["start"] == 4
            client.close()


def test_keys_addresses_and_options_that_are_wrong(onnx_bundle):
    with serving(onnx_bundle, key="right") as server:
        with pytest.raises(keystep.ConnectionLost, match="refused with status 401: key: expected"):
            keystep.Client(*server.address, key="wrong")
        with keystep.Client(f"ws://127.0.0.1:{server.address[1]}", key="right") as client:
            assert client.metadata["name"] == "stub"
        for options, message in (
            ({"merge": "trained"}, "merge: expected x0blend | blend | replace | temporal_ensemble, got"),
            ({"underrun": "repeat"}, "underrun: expected hold | fault, got 'repeat'"),
            ({"request_below": 9}, "request_below: expected 0..4, got 9"),
        ):
            with pytest.raises(ValueError) as refused:
                keystep.Client(*server.address, key="right", **options)
            assert message in str(refused.value)
    with pytest.raises(keystep.ConnectionLost, match="Connection refused"):
        keystep.Client(*server.address, reconnect_s=0)
    with pytest.raises(ValueError, match="host: expected"):
        keystep.Client("ftp://here")
    assert address_of("wss://robots.example/", None) == ("robots.example", 443, True)
    assert address_of("here", None) == ("here", 8000, False)
    assert address_of("::1", None) == address_of("[::1]", None) == ("::1", 8000, False)
    assert address_of("fe80::2%eth0", 7) == ("fe80::2%eth0", 7, False)
    assert address_of("ws://[::1]:81", None) == ("::1", 81, False)
    for wrong in ("ws://::1", "ws://[::1", "ws://[here]", "[::1", "here:99999", "here:x"):
        with pytest.raises(ValueError, match=rf"^host: expected .*, got '{re.escape(wrong)}'"):
            address_of(wrong, None)


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
def test_an_address_of_ipv6_needs_no_brackets(onnx_bundle, seen):
    with serving(onnx_bundle, host="::1") as server, keystep.Client("::1", server.address[1]) as client:
        assert client.act(seen) is not None
    with pytest.raises(keystep.ConnectionLost, match=rf"^server \[::1\]:{server.address[1]}: "):
        keystep.Client("::1", server.address[1], reconnect_s=0)


def test_closing_leaves_nothing_behind(onnx_bundle, seen):
    threads = threading.active_count()
    with serving(onnx_bundle) as server:
        for _ in range(5):
            with keystep.Client(*server.address) as client:
                client.act(seen)
        wait_for(lambda: server.clients == 0)
        assert metric(server, "dropped_total") == 0
    wait_for(lambda: threading.active_count() == threads)


PROGRAM = """
import sys
from importlib.abc import MetaPathFinder

class Only(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("keystep", "torch", "websockets", "onnxruntime"):
            raise ImportError(name)

sys.meta_path.insert(0, Only())
sys.path.insert(0, sys.argv[1])
import numpy as np
from robot import Client
with Client("127.0.0.1", int(sys.argv[2])) as client:
    seen = {"observation.state": np.zeros(4, np.float32)}
    seen["observation.images.static"] = np.zeros((6, 8, 3), np.uint8)
    client.reset(task="lift_red")
    print(client.infer(seen)["actions"].shape, client.act(seen).shape)
"""


def test_the_folder_alone_is_a_client(onnx_bundle, tmp_path):
    shutil.copytree(Path(keystep.client.__file__).parent, tmp_path / "robot")
    with serving(onnx_bundle) as server:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(server.address[1])]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.stdout == "(4, 3) (3,)\n", ended.stderr
