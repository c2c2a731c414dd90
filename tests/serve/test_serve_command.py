"""`keystep serve` as a process: what it prints, signals, what it refuses."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import keystep

STATE = {"engine": "stub"}


def start(*words: str, **options) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "keystep", "serve", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes, **options)


def port_of(line: str) -> int:
    assert line.startswith("serving stub on ws://127.0.0.1:"), line
    return int(line.removeprefix("serving stub on ws://127.0.0.1:").partition(",")[0])


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_after_what_runs(onnx_bundle, observation, number, status):
    server = start(str(onnx_bundle), "--port", "0")
    try:
        port = port_of(server.stdout.readline())
        with keystep.Client(port=port, reconnect_s=0) as client:
            client.infer(observation | {"prompt": "lift_red"})
            server.send_signal(number)
            out, err = server.communicate(timeout=120)
            with pytest.raises(keystep.ConnectionLost, match="code 1001: the server stops"):
                client.infer(observation)
    finally:
        server.kill()
    assert server.returncode == status and err == ""
    assert out.splitlines() == ["stopping: 1 clients", "served 1 chunks"]


def test_a_key_from_a_file_or_the_environment(stub_bundle, tmp_path):
    (tmp_path / "key").write_text("s3cret\n")
    for words, options in (
        (["--key-file", str(tmp_path / "key")], {}),
        ([], {"env": {"KEYSTEP_SERVE_KEY": "s3cret", "PATH": ""}}),
    ):
        server = start(str(stub_bundle), "--engine", "stub", "--port", "0", *words, **options)
        try:
            port = port_of(server.stdout.readline())
            with pytest.raises(keystep.ConnectionLost, match="status 401"):
                keystep.Client(port=port)
            with keystep.Client(port=port, key="s3cret") as client:
                assert client.metadata["name"] == "stub"
        finally:
            server.terminate()
            server.communicate(timeout=120)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "70000"], "error: port: expected 0..65535, got 70000"),
        (["--clients", "0"], "clients: expected 1 or more, got 0"),
        (["--key-file", "/nowhere"], "error: "),
        (["--host", "256.1.1.1"], "error: "),
    ],
)
def test_what_it_refuses_in_a_line(stub_bundle, words, message):
    server = start(str(stub_bundle), "--engine", "stub", *words)
    out, err = server.communicate(timeout=120)
    assert server.returncode == 2 and message in err and "Traceback" not in err and out == ""


def test_a_bundle_that_writes_or_is_none(tmp_path: Path):
    server = start(str(tmp_path))
    assert "error: " in server.communicate(timeout=120)[1] and server.returncode == 2
