"""openpi's protocol: the greeting, chunks, one line for what is wrong; sessions on their own."""

from __future__ import annotations

import contextlib
import functools
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgpack
import numpy as np
import pytest
from serving import ask, get, metric, plain, same, serving, wait_for
from stub_bundle import ACTION, HORIZON
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

import keystep
from keystep.client.wire import unpack
from keystep.serve.session import Session

STATE_BUNDLE = Path("bundles/franka3blocks-state.keystep")


def openpi_packb(message):
    """As openpi_client.msgpack_numpy packs: facts of the format, checked against the package elsewhere."""

    def array(value):
        if isinstance(value, np.ndarray):
            told = {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str}
            return told | {b"shape": value.shape}
        if isinstance(value, np.generic):
            return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
        return value

    return functools.partial(msgpack.packb, default=array)(message)


@pytest.fixture
def server(onnx_bundle):
    with serving(onnx_bundle, message_bytes=1 << 20) as server:
        yield server


@pytest.fixture
def request_(observation):
    return observation | {"prompt": "lift_red"}


def test_metadata_then_chunks(server, request_):
    with plain(server) as client:
        told = unpack(client.recv())
        assert told["protocol"] == 1 and told["tasks"] == ["lift_red", "push_red_left"]
        joins = {"merge": "consumed_index", "ensemble_decay": 0.01}
        assert told["chunk"] == joins | {"rows": HORIZON, "execute": 4, "max_delay": 0, "continues": True}
        for number in range(3):
            reply = ask(client, openpi_packb(request_))
            assert reply["actions"].shape == (HORIZON, ACTION) and reply["actions"].dtype == np.float32
            assert reply["start"] == 4 * number and reply["server_timing"]["infer_ms"] > 0
            assert ("prev_total_ms" in reply["server_timing"]) == (number > 0)
            assert np.abs(reply["actions"]).max() <= 1


def test_keys_as_openpi_writes_them(server, request_):
    with plain(server) as client:
        client.recv()
        slashed = {key.replace("observation.", "observation/"): value for key, value in request_.items()}
        assert ask(client, slashed)["start"] == 0


def test_two_interleaved_clients_are_as_each_alone():
    def requests(shift, prompt):
        for step in range(10):
            state = np.float32(np.sin(np.arange(26) * shift + step) / 3)
            yield {"observation.state": state, "prompt": prompt}

    def alone(server, *given):
        with plain(server) as client:
            client.recv()
            return [ask(client, request) for request in requests(*given)]

    with serving(STATE_BUNDLE) as server:
        first, second = alone(server, 1.0, "lift_red"), alone(server, 2.0, "push_red_left")
        with plain(server) as one, plain(server) as two:
            one.recv(), two.recv()
            pairs = zip(requests(1.0, "lift_red"), requests(2.0, "push_red_left"), strict=True)
            for (left, right), a, b in zip(pairs, first, second, strict=True):
                assert same(ask(one, left), a) and same(ask(two, right), b)
    assert not same(first[0], second[0])


@pytest.mark.parametrize("workers", [1, 3])
def test_eight_clients_at_once_are_as_each_would_be_with_a_runtime_of_its_own(workers):
    """Plans, chunks and noise: bit for bit, whoever waits for whom."""
    prompts = ("lift_red", "push_red_left", "lift_blue", "lift_red")

    def requests(number):
        for step in range(20):  # three plans
            state = np.float32(np.sin(np.arange(26) * (number + 1) + step) / 3)
            told = {"observation.state": state, "prompt": prompts[number % len(prompts)]}
            if step == 0:
                told["keystep"] = {"reset": {"task": told["prompt"], "seed": number // 2, "episode": number}}
            yield told

    def asked(server, number):
        with plain(server) as client:
            client.recv()
            return [ask(client, request) for request in requests(number)]

    with serving(STATE_BUNDLE, workers=workers) as server, ThreadPoolExecutor(8) as robots:
        replies = list(robots.map(functools.partial(asked, server), range(8)))
    with keystep.load(STATE_BUNDLE, threads=1) as runtime:
        for number, given in enumerate(replies):
            with contextlib.closing(Session(runtime.session())) as alone:
                for request, reply in zip(requests(number), given, strict=True):
                    assert same(reply, alone.answer(request)), number
    assert sum(reply["planned"] for reply in replies[0]) == 3


def test_seed_reset_and_a_new_prompt(server, request_):
    def begin(client, **reset):
        assert ask(client, {"keystep": {"reset": {"task": "lift_red", **reset}}}) == {"reset": True}
        return ask(client, request_)

    with plain(server) as client:
        client.recv()
        default, seeded = begin(client), begin(client, seed=7, episode=2)
        assert same(begin(client, seed=7, episode=2), seeded) and not same(default, seeded)
        assert ask(client, request_)["start"] == 4
        assert ask(client, request_ | {"prompt": "push_red_left"})["start"] == 0  # another episode
        both = ask(client, request_ | {"keystep": {"reset": {"task": "lift_red", "seed": 7, "episode": 2}}})
        assert same(both, seeded)


BAD_OBSERVATIONS = [
    ({"observation.state": np.zeros(5, np.float32)}, "observation.state: expected"),
    ({"observation.state": np.zeros(4)}, "observation.state: expected float32, got float64"),
    ({"observation.state": np.full(4, np.nan, np.float32)}, "observation.state"),
    ({"observation.state": [0.0, 0.0, 0.0, 0.0]}, "observation.state: expected"),
    ({"observation.state": None}, "observation.state"),
    ({"observation.images.static": np.zeros((8, 6, 3), np.uint8)}, "observation.images.static: expected"),
    ({"observation.images.static": np.zeros((6, 8, 3), np.float32)}, "observation.images.static: expected"),
    ({"observation.joints": np.zeros(3, np.float32)}, "observation.joints"),
    ({"prompt": "fly"}, "fly"),
    ({"prompt": 7}, "prompt: expected a text"),
    ({"keystep": 3}, "keystep: expected a map"),
    ({"keystep": {"consume": 3}}, "keystep: expected only"),
    ({"keystep": {"consumed": -3}}, "keystep.consumed: expected"),
    ({"keystep": {"consumed": 1.5}}, "keystep.consumed: expected"),
    ({"keystep": {"consumed": 0, "previous": [[1.0]]}}, "keystep.previous: expected an array"),
    ({"keystep": {"consumed": 0, "previous": np.zeros((9, 9), np.float32)}}, "previous"),
    ({"keystep": {"rule": "wish"}}, "keystep.rule: expected"),
    ({"keystep": {"history": [{}]}}, "keystep.history: expected at most 0"),
    ({"keystep": {"reset": {"seed": -1}}}, "keystep.reset.seed: expected"),
    ({"keystep": {"reset": {"task": "fly"}}}, "fly"),
    ({"keystep": {"reset": {"guidance": "much"}}}, "keystep.reset.guidance: expected a number"),
    ({"keystep": {"reset": {"task": "lift_red", "goal": {"a": 1}}}}, "goal"),
    ({"keystep": {"reset": {"task": "lift_red", "subgoals": {"a": 1}}}}, "subgoals"),
    ({"keystep": {"replan": True}}, "replan: expected"),
]


@pytest.mark.parametrize(("change", "message"), BAD_OBSERVATIONS)
def test_one_line_says_what_is_wrong_and_the_connection_goes_on(server, request_, change, message):
    with plain(server) as client:
        client.recv()
        said = ask(client, request_ | change)
        assert isinstance(said, str) and message in said and "\n" not in said and "Traceback" not in said
        assert ask(client, request_)["start"] == 0
    assert metric(server, "errors_total") == 1


def test_a_missing_feature_is_named(server, request_):
    with plain(server) as client:
        client.recv()
        for key in ("observation.state", "observation.images.static"):
            said = ask(client, {name: value for name, value in request_.items() if name != key})
            assert key in said


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x81\xa1a", "text", b"\x93\x01\x02"])
def test_what_is_no_message_ends_the_connection_with_a_line(server, data):
    with plain(server) as client:
        client.recv()
        said = ask(client, data)
        assert said.startswith(("message: expected", "request: expected a map"))
        if said.startswith("message:"):
            with pytest.raises(ConnectionClosed) as ended:
                client.recv(timeout=30)
            assert ended.value.rcvd.code == 1007


def test_a_message_that_is_too_long_names_both_numbers(server, request_):
    with plain(server) as client:
        client.recv()
        assert "expected" in ask(client, request_ | {"observation.state": np.zeros(250_000, np.float32)})
        with pytest.raises(ConnectionClosedError) as ended:
            ask(client, request_ | {"observation.state": np.zeros(300_000, np.float32)})
    assert ended.value.rcvd.code == 1009
    assert "1048576" in ended.value.rcvd.reason and "1200" in ended.value.rcvd.reason


def test_health_metrics_and_strangers(server, request_):
    assert get(server, "/healthz") == (200, "OK\n")
    assert get(server, "/")[0] == 426 and get(server, "/else")[0] == 404
    with plain(server) as client:
        client.recv()
        ask(client, request_)
        wait_for(lambda: metric(server, "chunks_total") == 1)  # once it is sent
        text = get(server, "/metrics")[1]
        assert "keystep_clients 1\n" in text and "keystep_chunks_total 1\n" in text
        assert 'keystep_infer_seconds_bucket{le="+Inf"} 1\n' in text
        with pytest.raises(InvalidStatus) as refused:  # a web page
            plain(server, origin="http://example.org")
        assert refused.value.response.status_code == 403
    wait_for(lambda: metric(server, "clients") == 0 and metric(server, "refused_total") == 3)
    assert metric(server, "dropped_total") == 0


def test_a_key_where_one_is_asked_for(onnx_bundle):
    with serving(onnx_bundle, key="s3cret") as server:
        for wrong in (None, "s3cre", "s3crets"):
            with pytest.raises(InvalidStatus) as refused:
                plain(server, key=wrong)
            assert refused.value.response.status_code == 401
        with plain(server, key="s3cret") as client:
            assert unpack(client.recv())["protocol"] == 1
        assert get(server, "/healthz")[0] == 200
        assert get(server, "/metrics")[0] == 401 and get(server, "/metrics", key="s3cret")[0] == 200


def test_no_more_clients_than_there_is_room_for(onnx_bundle):
    with serving(onnx_bundle, clients=2) as server:
        with plain(server), plain(server):
            with pytest.raises(InvalidStatus) as refused:
                plain(server)
            assert refused.value.response.status_code == 503
            assert b"clients: expected at most 2, got one more" in refused.value.response.body
            assert get(server, "/healthz")[0] == 200
        wait_for(lambda: server.clients == 0)
        with plain(server) as client:
            client.recv()


def test_a_rate_makes_the_next_ones_wait(onnx_bundle, request_):
    with serving(onnx_bundle, rate_hz=50.0) as server, plain(server) as client:
        client.recv()
        began = time.monotonic()
        for _ in range(14):
            ask(client, request_)
        assert time.monotonic() - began >= 9.5 / 50
        assert 0 < metric(server, "throttled_total") <= 14


def test_a_task_has_two_texts_and_is_one_episode():
    state = {"observation.state": np.zeros(26, np.float32)}
    with serving(STATE_BUNDLE) as server, plain(server) as client:
        client.recv()
        assert ask(client, {"keystep": {"reset": {"task": "lift_red", "seed": 3}}}) == {"reset": True}
        starts = [
            ask(client, state | {"prompt": prompt})["start"]
            for prompt in ("lift_red", "Lift the red block.", "lift_red", "push_red_left")
        ]
        assert starts == [0, 8, 16, 0]


def test_subgoals_that_were_given_stay_whatever_the_prompt():
    state = {"observation.state": np.zeros(26, np.float32)}
    subgoals = {"observation.state": np.zeros((8, 26), np.float32)}
    with serving(STATE_BUNDLE) as server, plain(server) as client:
        client.recv()
        ask(client, {"keystep": {"reset": {"subgoals": subgoals}}})
        replies = [ask(client, state | {"prompt": "lift_red"}) for _ in range(2)]
        assert [reply["start"] for reply in replies] == [0, 8]
        assert not any(reply["planned"] for reply in replies)


def test_of_tasks_that_are_told_by_one_text_the_first_is_meant(make_stub, observation):
    tasks = [{"name": name, "instruction": "Lift it."} for name in ("lift_red", "lift_blue")]
    with make_stub({"tasks": tasks}) as runtime:
        runtime.reset(task="Lift it.")
        served = Session(runtime.session())
        served.answer(observation | {"prompt": "Lift it."})
        assert served._runtime._core.about() == runtime._core.about() == "lift_red"
        served.close()
