"""What clients, files and signals do to a server that runs."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from serving import (
    ask,
    assert_ended,
    frame,
    get,
    handshake,
    metric,
    opened,
    plain,
    same,
    serving,
    shake,
    wait_for,
)
from stub_bundle import write_stub_bundle
from websockets.exceptions import ConnectionClosed

import keystep
from keystep.client.wire import pack, unpack

STATE_BUNDLE = Path("bundles/franka3blocks-state.keystep")


def slow(seconds: float) -> dict[str, object]:
    """A stub that takes so long for every run of a graph, of which a chunk has three."""
    return {"engine": "stub", "provider_options": {"stub.sleep_us": str(int(seconds * 1e6))}}


@pytest.fixture
def request_(observation):
    return observation | {"prompt": "lift_red"}


def test_pings_are_answered_and_others_greeted_while_a_chunk_is_made(stub_bundle, request_):
    """openpi #717: the event loop stood still, and clients gave up on it."""
    pings = {"ping_interval": 0.5, "ping_timeout": 1.5}
    with serving(stub_bundle, load=slow(2.0), workers=1) as server, plain(server, **pings) as client:
        client.recv()
        client.send(pack(request_))
        wait_for(lambda: metric(server, "running") == 1)
        began = time.monotonic()
        with plain(server) as second:
            assert unpack(second.recv(timeout=30))["protocol"] == 1
            assert get(server, "/healthz")[0] == 200
            assert metric(server, "running") == 1, time.monotonic() - began
        assert unpack(client.recv(timeout=60))["server_timing"]["infer_ms"] > 5000


def test_who_leaves_frees_its_worker(stub_bundle, request_):
    with serving(stub_bundle, load=slow(600.0), workers=1) as server:
        with plain(server) as client:
            client.recv()
            client.send(pack(request_))
            wait_for(lambda: metric(server, "running") == 1)
            client.socket.shutdown(socket.SHUT_RDWR)
        wait_for(lambda: metric(server, "running") == 0 and server.clients == 0)
        wait_for(lambda: metric(server, "dropped_total") == 1)


def test_one_chunk_at_a_time_and_the_others_in_turn(stub_bundle, request_):
    with serving(stub_bundle, load=slow(0.1), workers=1, clients=4) as server:
        stack = contextlib.ExitStack()
        clients = [stack.enter_context(plain(server)) for _ in range(4)]
        for client in clients:
            client.recv()
            client.send(pack(request_))
        waited = [unpack(client.recv(timeout=60))["server_timing"]["queue_ms"] for client in clients]
        stack.close()
        assert sorted(waited)[0] == 0 and sorted(waited)[-1] > 500
        assert metric(server, "waiting") == 0


def test_a_client_that_stops_reading_is_dropped_and_nobody_waits(onnx_bundle, request_):
    with serving(onnx_bundle, send_s=0.5) as server, opened(server) as stuck:
        shake(stuck)
        data = 100 * frame(bytes(125), opcode=9)  # pings, whose answers fill the buffers soon
        stuck.settimeout(0.2)
        with pytest.raises(OSError):  # first it cannot send any more, then it is gone
            left = b""
            for _ in range(1_000_000):
                left = left or data
                try:
                    left = left[stuck.send(left) :]
                except TimeoutError:
                    with plain(server) as other:
                        other.recv()
                        assert ask(other, request_)["start"] == 0
        wait_for(lambda: server.clients == 0)
        wait_for(lambda: metric(server, "dropped_total") == 1)


def test_a_message_that_never_ends_is_dropped(onnx_bundle, request_):
    data = frame(pack(request_))
    with (
        serving(onnx_bundle, message_s=0.5, handshake_s=0.5) as server,
        opened(server) as half,
        opened(server) as silent,
        opened(server) as patient,
    ):
        shake(half)
        half.sendall(data[:-1])
        silent.sendall(b"GET / HT")
        shake(patient)
        patient.sendall(data)
        assert_ended(half)
        assert_ended(silent)
        patient.sendall(data)  # who says nothing for a while is none of them
        wait_for(lambda: metric(server, "chunks_total") == 2)


def test_who_does_not_wait_for_the_handshake_is_dropped(onnx_bundle, request_):
    with serving(onnx_bundle) as server, opened(server) as hasty:
        hasty.sendall(handshake() + frame(pack(request_)))
        assert assert_ended(hasty) == b""
        assert get(server, "/healthz")[0] == 200


def test_a_flood_of_small_fragments_is_bounded(onnx_bundle):
    with serving(onnx_bundle, message_bytes=1000) as server, opened(server) as client:
        shake(client)
        parts = [frame(b"x", opcode=2, last=False)] + [frame(b"x", opcode=0, last=False)] * 2000
        client.sendall(b"".join(parts))
        assert b"\x03\xf1" in assert_ended(client)  # 1009


def test_a_bundle_that_is_swapped_changes_nothing(tmp_path):
    bundle = tmp_path / "policy.keystep"
    shutil.copytree(STATE_BUNDLE, bundle)
    request = {"observation.state": np.zeros(26, np.float32), "prompt": "lift_red"}
    with serving(bundle) as server:
        with plain(server) as client:
            told = client.recv()
            before = [ask(client, request) for _ in range(3)]
        for file in bundle.iterdir():  # in place: whoever still read them would see it
            file.write_bytes(b"\0" * 64)
        shutil.rmtree(bundle)
        write_stub_bundle(bundle)
        with plain(server) as client:
            assert client.recv() == told
            after = [ask(client, request) for _ in range(3)]
            sentence = ask(client, request | {"prompt": "please lift the red block"})
        assert all(same(*pair) for pair in zip(before, after, strict=True)) and sentence["planned"]


def test_a_stop_lets_what_runs_come_to_its_end(stub_bundle, request_):
    options = {"load": slow(0.5), "workers": 1}
    with serving(stub_bundle, **options) as server, plain(server) as busy, plain(server) as idle:
        busy.recv(), idle.recv()
        busy.send(pack(request_))
        wait_for(lambda: metric(server, "running") == 1)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        assert unpack(busy.recv(timeout=60))["start"] == 0
        for client in (busy, idle):
            with pytest.raises(ConnectionClosed) as ended:
                client.recv(timeout=60)
            assert ended.value.rcvd.code == 1001 and ended.value.rcvd.reason == "the server stops"
        stopping.join()
        with pytest.raises(OSError):
            opened(server)


def test_a_stop_breaks_off_what_takes_too_long(stub_bundle, request_):
    with serving(stub_bundle, load=slow(600.0), grace_s=0.2) as server, plain(server) as client:
        client.recv()
        client.send(pack(request_))
        wait_for(lambda: metric(server, "running") == 1)
        server.stop()
        assert "interrupted" in client.recv(timeout=60)
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=60)


def test_what_fails_inside_is_told_to_the_log_alone(onnx_bundle, request_, monkeypatch, caplog):
    def broken(self, *_, **__):
        raise KeyError("a secret of the server")

    with serving(onnx_bundle) as server, plain(server) as client:
        client.recv()
        with monkeypatch.context() as patched:
            patched.setattr(keystep.Runtime, "serve_chunk", broken)
            said = ask(client, request_)
        assert said == "server: the request failed, and its log says why"
        assert "a secret of the server" in caplog.text
        assert ask(client, request_)["start"] == 0
