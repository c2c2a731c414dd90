"""Hostile and truncated messages: one line each, and the session goes on as if nothing had been.

KEYSTEP_FUZZ=1000000 pytest tests/serve/test_fuzz.py tries so many.
"""

from __future__ import annotations

import os
import random
import socket

import numpy as np
import pytest
from serving import ask, frame, get, handshake, opened, plain, same, serving, shake

import keystep
from keystep.client.wire import WireError, pack, unpack
from keystep.serve.session import Session

COUNT = int(os.environ.get("KEYSTEP_FUZZ", 4000))
ODD = [
    *(None, True, -1, 0, 1.5, float("nan"), 2**63, -(2**63), "", "a" * 5000, "\ud7ff", b"\x00\xff", [], {}),
    *([[]], {"a": 1}, {b"__ndarray__": True}, {b"__npgeneric__": True, b"dtype": "<f4", b"data": "x"}),
    {b"__ndarray__": True, b"dtype": "O", b"shape": [1], b"data": b"\0" * 8},
    {b"__ndarray__": True, b"dtype": "<f4", b"shape": [2**40, 2**40], b"data": b""},
    {b"__ndarray__": True, b"dtype": "<f4", b"shape": [-1], b"data": b"\0" * 4},
    {b"__ndarray__": True, b"dtype": "<f4,<f4", b"shape": [1], b"data": b"\0" * 8},
    *(np.zeros(4, np.float32), np.zeros((1,) * 8, np.float32), np.zeros(0, np.float32), np.float32(3)),
    *(np.zeros((3, 3), np.float32), np.full((1, 3), np.inf, np.float32), np.zeros(4, ">f4")),
]
KEYS = ["observation.state", "observation.images.static", "prompt", "task", "keystep", "else", ""]
ASIDE = ["consumed", "ahead", "goal", "previous", "rule", "history", "replan", "reset", "else"]
RESET = ["task", "goal", "seed", "episode", "instruction", "guidance", "subgoals", "else"]


def odd_message(draw: random.Random, good: dict) -> object:
    """The good one with a few values that are not."""
    message = dict(good)
    for _ in range(draw.randint(1, 3)):
        kind = draw.random()
        if kind < 0.4:
            message[draw.choice(KEYS)] = draw.choice(ODD)
        elif kind < 0.7:
            message["keystep"] = {draw.choice(ASIDE): draw.choice(ODD) for _ in range(draw.randint(1, 3))}
        elif kind < 0.9:
            message["keystep"] = {"reset": {draw.choice(RESET): draw.choice(ODD)}}
        else:
            return draw.choice(ODD)
    return message


def damaged(draw: random.Random, data: bytes) -> bytes:
    """Some bytes of it changed, lost, doubled or put in."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(changed) + 1)
        kind = draw.randrange(5)
        if kind == 0:
            del changed[at:]
        elif kind == 1 and at < len(changed):
            changed[at] = draw.randrange(256)
        elif kind == 2:
            changed[at:at] = draw.randbytes(draw.randint(1, 9))
        elif kind == 3:
            del changed[at : at + draw.randint(1, 9)]
        else:
            changed[at:at] = changed[draw.randrange(len(changed) + 1) :][:50]
    return bytes(changed)


@pytest.fixture
def good(observation):
    return observation | {"prompt": "lift_red"}


def test_any_message_is_answered_or_refused_in_a_line(stub_bundle, good):
    draw = random.Random(0)
    episode = {"keystep": {"reset": {"task": "lift_red", "seed": 1}}} | good
    refused = 0
    with keystep.load(stub_bundle, engine="stub") as policy:
        session = Session(policy.session())
        wanted = session.answer(episode)
        for number in range(COUNT):
            data = pack(odd_message(draw, good))
            if number % 2:
                data = damaged(draw, data)
            try:
                reply = session.answer(unpack(data))
                assert "actions" in reply or reply == {"reset": True}
            except (WireError, keystep.Error) as error:
                assert len(str(error)) < 2000 and "Traceback" not in str(error)
                refused += 1
            if number % 100 == 0:
                assert same(session.answer(episode), wanted)
        assert COUNT / 3 < refused < COUNT
        session.close()


def test_any_bytes_on_the_wire_end_one_connection_at_most(onnx_bundle, good, caplog):
    draw = random.Random(1)
    whole = frame(pack(good))
    limits = {"handshake_s": 0.3, "message_s": 0.3, "message_bytes": 5000, "clients": 200}
    with serving(onnx_bundle, **limits) as server, plain(server) as bystander:
        bystander.recv()
        for number in range(min(COUNT // 40, 3000)):
            with opened(server) as client:
                play(client, draw, whole, number)
            if number % 20 == 0:
                assert ask(bystander, good)["actions"].shape == (4, 3)
        assert get(server, "/healthz")[0] == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def play(client: socket.socket, draw: random.Random, whole: bytes, number: int) -> None:
    try:
        if number % 3 == 0:
            client.sendall(damaged(draw, handshake()))
        else:
            shake(client)
            client.sendall(damaged(draw, whole) if number % 3 == 1 else draw.randbytes(300))
        if number % 7 == 0:
            client.settimeout(1)
            client.recv(65536)
    except OSError:
        pass
