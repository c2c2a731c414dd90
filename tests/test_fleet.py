"""examples/fleet: two replicas behind Ray Serve, of which one is killed."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import keystep

pytest.importorskip("ray.serve", reason="needs the extra 'fleet'", exc_type=ImportError)
psutil = pytest.importorskip("psutil")

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture
def front(onnx_bundle, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, str(REPOSITORY / "examples/fleet/fleet.py"), str(onnx_bundle)]
    key = tmp_path / "key"
    key.write_text("s3cret\n")
    fleet = subprocess.Popen(
        [*command, "--port", str(port), "--key-file", str(key)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said = []
        while not (line := fleet.stdout.readline()).startswith("fleet of 2"):
            assert line, "".join(said)
            said.append(line)
        yield f"http://127.0.0.1:{port}/"
    finally:
        fleet.send_signal(signal.SIGINT)
        try:
            fleet.communicate(timeout=120)
        finally:
            fleet.kill()


def replica_of(client: keystep.Client) -> int:
    """The process that it is connected to."""
    port = client._socket._socket.getpeername()[1]
    (pid,) = {c.pid for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port}
    return pid


def act_until(clients, observation, condition, limit_s=240.0):
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, [client.counts for client in clients]
        for client in clients:
            with contextlib.suppress(keystep.ConnectionLost):  # it goes on looking
                assert np.isfinite(client.act(observation)).all()
        time.sleep(0.01)


def test_a_replica_is_killed_and_its_robots_go_on(front, observation):
    with pytest.raises(keystep.ConnectionLost, match="status 401"):
        keystep.Client(front, reconnect_s=120)
    robot = functools.partial(keystep.Client, front, key="s3cret", reconnect_s=120)
    clients = [robot()]
    while len(clients) < 2 or replica_of(clients[0]) == replica_of(clients[1]):
        for client in clients[1:]:
            client.close()
        clients[1:] = [robot()]
    for seed, client in enumerate(clients):
        client.reset(task="lift_red", seed=seed)
    act_until(clients, observation, lambda: all(client.counts.chunks > 3 for client in clients))
    killed, left = replica_of(clients[0]), replica_of(clients[1])
    os.kill(killed, signal.SIGKILL)
    chunks = [client.counts.chunks for client in clients]
    act_until(
        clients,
        observation,
        lambda: all(
            client.counts.chunks > before + 3 for client, before in zip(clients, chunks, strict=True)
        ),
    )
    assert [client.reconnects for client in clients] == [1, 0]
    assert replica_of(clients[1]) == left and replica_of(clients[0]) != killed
    for client in clients:
        client.close()
