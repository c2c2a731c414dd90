"""What one client, or one bad connection, can take from a server and from the others."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from pathlib import Path

import pytest
from serving import ask, frame, get, metric, opened, plain, serving, shake, wait_for

import keystep
from keystep.client.wire import WireError, pack, unpack
from keystep.serve import Limits, server, session
from keystep.serve.connection import CHUNK_BYTES, Connection, Gone

STATE_BUNDLE = Path("bundles/franka3blocks-state.keystep")


def slow(seconds: float) -> dict[str, object]:
    return {"engine": "stub", "provider_options": {"stub.sleep_us": str(int(seconds * 1e6))}}


@pytest.fixture
def request_(observation):
    return observation | {"prompt": "lift_red"}


@pytest.mark.parametrize(
    "bomb",
    [
        b"\xdd" + struct.pack("!I", 500_000) + b"\x90" * 500_000,  # lists: 56 bytes for each
        b"\xdd" + struct.pack("!I", 500_000) + b"\x80" * 500_000,  # maps: 64, and a call
        b"\xdc\x00\x20" + (b"\xdc\x0f\xff" + b"\xa2ab" * 4095) * 32,  # texts: 51
        b"\x91" * 100 + b"\xdd" + struct.pack("!I", 1 << 20) + b"\xc0" * (1 << 20),  # 8 MB before its items
        b"\xdc\x0f\xff" + (b"\xdc\x00\x20" + b"\xc0" * 32) * 4095,  # none of them long
    ],
)
def test_messages_that_are_large_only_once_they_are_read(bomb):
    with pytest.raises(WireError, match=r"^message: expected "):
        unpack(bomb)
    assert unpack(pack({"list": list(range(4000)), "map": {str(n): [n] for n in range(4000)}}))


def test_one_chunk_of_requests_at_most_is_read_ahead(stub_bundle, request_):
    """Each of these frames is 6 bytes, and hundreds once it is read."""
    with serving(stub_bundle, load=slow(600.0), grace_s=0.0) as running, opened(running) as client:
        shake(client)
        client.sendall(frame(pack(request_)))
        wait_for(lambda: metric(running, "running") == 1)
        flood = frame(b"") * 400_000
        client.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            while flood:
                flood = flood[client.send(flood) :]
        (connection,) = running._sessions
        wait_for(lambda: len(connection._frames) > 0)
        time.sleep(1.0)  # it is attended four times
        assert len(connection._frames) <= CHUNK_BYTES // 6 + 1


def test_the_server_hears_others_after_a_connection_that_fails_at_once(onnx_bundle, request_, monkeypatch):
    made = []

    def fails_at_first(*given):
        made.append(given)
        if len(made) == 1:
            raise OSError("gone already")
        return Connection(*given)

    monkeypatch.setattr(server, "Connection", fails_at_first)
    with serving(onnx_bundle) as running:
        with opened(running) as first:
            assert first.recv(1) == b""
        assert get(running, "/healthz")[0] == 200
        with plain(running) as client:
            client.recv()
            assert ask(client, request_)["start"] == 0


def test_one_client_that_cannot_be_attended_leaves_the_others_attended(stub_bundle, request_, monkeypatch):
    attend, failed = Connection.attend, []

    def fails_once(self, after_s):
        if not failed:
            failed.append(self)
            raise EOFError("unexpected")
        return attend(self, after_s)

    monkeypatch.setattr(Connection, "attend", fails_once)
    with serving(stub_bundle, load=slow(600.0), grace_s=0.0) as running, plain(running) as client:
        client.recv()
        client.send(pack(request_))
        wait_for(lambda: bool(failed))
        assert client.ping().wait(timeout=20)


def test_pings_are_answered_while_the_rate_holds_a_request(onnx_bundle, request_):
    with serving(onnx_bundle, rate_hz=0.02) as running, plain(running, ping_interval=None) as client:
        client.recv()
        for _ in range(4):
            ask(client, request_)
        client.send(pack(request_))  # for 50 s
        wait_for(lambda: metric(running, "requests_total") == 4)
        assert client.ping().wait(timeout=20)
        running._stopping.set()


def test_a_handshake_that_is_refused_makes_no_session(onnx_bundle, request_):
    with serving(onnx_bundle) as running:
        with opened(running) as client:
            client.sendall(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nOrigin: http://else\r\n\r\n")
            client.recv(100)
        wait_for(lambda: metric(running, "refused_total") == 1)
        assert metric(running, "connections_total") == 0


def test_a_session_that_cannot_be_made_is_told_and_takes_no_room(onnx_bundle, monkeypatch):
    def fails(self):
        raise MemoryError

    with serving(onnx_bundle, clients=1) as running:
        with monkeypatch.context() as patched, opened(running) as client:
            patched.setattr(keystep.Runtime, "session", fails)
            client.sendall(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
            client.sendall(
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            assert client.recv(100).startswith(b"HTTP/1.1 503 ")
        with plain(running) as client:
            client.recv()


@pytest.mark.parametrize("fails", [False, True])
def test_who_left_leaves_its_room(onnx_bundle, monkeypatch, fails):
    close = session.Session.close

    def closes(self):
        close(self)
        time.sleep(0.3)  # of a large one
        if fails:
            raise MemoryError

    monkeypatch.setattr(session.Session, "close", closes)
    monkeypatch.setattr(threading, "excepthook", lambda told: None)
    with serving(onnx_bundle, clients=1) as running:
        for _ in range(2):
            with plain(running) as client:
                client.recv()
            wait_for(lambda: running.clients == 0)


def test_who_left_the_queue_gets_no_turn(stub_bundle, request_, monkeypatch):
    made = []
    inner = keystep.Runtime.serve_chunk
    monkeypatch.setattr(
        keystep.Runtime, "serve_chunk", lambda self, *a, **k: made.append(self) or inner(self, *a, **k)
    )
    with serving(stub_bundle, load=slow(600.0), workers=1, grace_s=0.0) as running:
        with plain(running) as first, plain(running) as second:
            for client, name in ((first, "running"), (second, "waiting")):
                client.recv()
                client.send(pack(request_))
                wait_for(lambda name=name: metric(running, name) == 1)
            second.socket.shutdown(socket.SHUT_RDWR)
            wait_for(lambda: any(connection.has_left for connection in running._sessions))
            first.socket.shutdown(socket.SHUT_RDWR)
            wait_for(lambda: running.clients == 0)
        assert len(made) == 1


def test_a_reply_that_is_taken_too_slowly_and_networks_that_are_gone():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    connection = Connection(accepted, Limits(send_s=0.5), threading.Event())
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 40_000
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    connection.protocol.state = connection.protocol.state.OPEN

    def reads():
        for _ in range(40):
            client.recv(5000)
            time.sleep(0.1)
        while client.recv(1 << 20):
            pass

    reader = threading.Thread(target=reads)
    reader.start()
    with pytest.raises(Gone, match="stopped reading"):
        connection.send(bytes(64 << 20))
    accepted.close()
    reader.join()
    client.close()


def test_warnings_of_what_clients_say_are_not_kept():
    with serving(STATE_BUNDLE) as running, plain(running) as client:
        client.recv()
        for number in range(20):
            assert ask(client, {"keystep": {"reset": {"instruction": f"qzx{number} vvw{number}"}}})["reset"]
    assert len(vars(session).get("__warningregistry__", {})) <= 1
