"""A server for tests, and clients that are not keystep's: of `websockets`, and of bare sockets."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from websockets.sync.client import ClientConnection, connect

import keystep
from keystep.client.wire import pack, unpack
from keystep.serve import Limits, Server


@contextlib.contextmanager
def serving(
    bundle: Path,
    key: str | None = None,
    load: dict[str, Any] | None = None,
    host: str = "127.0.0.1",
    **limits: Any,
) -> Iterator[Server]:
    """On a free port."""
    options = {"threads": 1, **(load or {})}
    with keystep.load(bundle, **options) as runtime:
        chosen = Limits(**{"grace_s": 5.0, **limits})
        with Server(runtime, host=host, port=0, key=key, limits=chosen) as server:
            yield server


def plain(server: Server, key: str | None = None, **options: Any) -> ClientConnection:
    """A websocket as openpi's client opens it; its greeting is not read."""
    headers = {"Authorization": f"Api-Key {key}"} if key else None
    uri = "ws://{}:{}".format(*server.address)
    return connect(uri, compression=None, max_size=None, additional_headers=headers, **options)


def ask(connection: ClientConnection, message: Any) -> Any:
    """The reply, or the text that says what is wrong."""
    connection.send(message if isinstance(message, bytes | str) else pack(message))
    reply = connection.recv(timeout=60)
    return reply if isinstance(reply, str) else unpack(reply)


def get(server: Server, path: str, key: str | None = None) -> tuple[int, str]:
    """By HTTP."""
    request = urllib.request.Request("http://{}:{}{}".format(*server.address, path))
    if key:
        request.add_header("Authorization", f"Api-Key {key}")
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def opened(server: Server) -> socket.socket:
    """A bare connection."""
    return socket.create_connection(server.address, timeout=30)


def metric(server: Server, name: str) -> int:
    lines = get(server, "/metrics")[1].splitlines()
    (value,) = [line.split()[1] for line in lines if line.startswith(f"keystep_{name} ")]
    return int(value)


def wait_for(condition: Callable[[], bool], limit_s: float = 60.0) -> None:
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.01)


def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    """Two replies, but for their times."""
    names = set(left) - {"server_timing"}
    equal = all(np.array_equal(left[name], right[name]) for name in names)
    return equal and names == set(right) - {"server_timing"}


# ---- bare frames


def shake(client: socket.socket) -> None:
    """To a websocket, whose greeting is not read."""
    client.sendall(handshake())
    told = b""
    while b"\r\n\r\n" not in told:
        told += client.recv(1)
    assert told.startswith(b"HTTP/1.1 101")


def handshake() -> bytes:
    lines = ["GET / HTTP/1.1", "Host: here", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13"]
    return "\r\n".join([*lines, "", ""]).encode()


def frame(payload: bytes, opcode: int = 2, last: bool = True) -> bytes:
    """Masked with zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + struct.pack("!H", size)
    return bytes([(0x80 if last else 0) | opcode]) + length + bytes(4) + payload


def assert_ended(client: socket.socket) -> bytes:
    """What it was told until then."""
    client.settimeout(60)
    told = b""
    try:
        while data := client.recv(65536):
            told += data
    except ConnectionResetError:
        pass
    return told
