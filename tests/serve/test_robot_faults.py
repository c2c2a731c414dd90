"""What must not reach a robot, and must not hold it up: of servers that are lost, others, slow or wrong."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import traceback

import numpy as np
import pytest
from serving import metric, serving, wait_for
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

import keystep
from keystep.client.loop import RemoteLoop
from keystep.client.wire import pack, unpack
from keystep.serve import Server
from keystep.serve.metadata import metadata


@pytest.fixture
def policy(onnx_bundle):
    with keystep.load(onnx_bundle, threads=1) as policy:
        yield policy


def chunk(start: int, goal: int = 0, **changes):
    reply = {
        "actions": np.zeros((4, 3), np.float32),
        "start": start,
        "goal": goal,
        "begins": 0,
        "until": None,
    }
    return reply | changes


@contextlib.contextmanager
def played(*connections):
    """A server that does with each connection what is said here, the last time again and again."""
    met = []

    def handler(connection):
        met.append(connection)
        connections[min(len(met), len(connections)) - 1](connection)

    with serve(handler, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


def act_until(client, observation, condition, limit_s=30.0):
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, client.counts
        client.act(observation)
        time.sleep(0.002)


def test_what_was_seen_before_the_connection_was_lost_is_not_acted_on(policy, observation):
    """The robot may have been moved since; and goals are counted anew there."""
    greeting, back, asked = pack(metadata(policy)), threading.Event(), []

    def loses(connection):
        connection.send(greeting)
        request = unpack(connection.recv())
        connection.send(pack(chunk(request["keystep"]["consumed"], goal=1)))
        connection.recv()  # and closes

    def answers(connection):
        connection.send(greeting)
        back.set()
        for message in connection:
            asked.append(unpack(message))
            connection.send(pack(chunk(asked[-1]["keystep"]["consumed"], goal=1)))

    def seen(value):
        return observation | {"observation.state": np.full(4, value, np.float32)}

    with played(loses, answers) as port, keystep.Client(port=port, merge="x0blend") as client:
        act_until(client, seen(0.25), lambda: client.counts.requests == 2)
        assert back.wait(30)
        time.sleep(0.2)  # for what is not to come
        act_until(client, seen(0.5), lambda: len(asked) > 0)
        np.testing.assert_array_equal(asked[0]["observation.state"], seen(0.5)["observation.state"])
        assert asked[0]["keystep"]["goal"] == 0 and client.reconnects == 1


def test_a_prompt_that_was_told_once_holds_over_a_new_connection(policy, observation):
    greeting, asked = pack(metadata(policy)), []

    def answers(connection, requests):
        connection.send(greeting)
        for message in connection:
            request = unpack(message)
            if "reset" in request["keystep"]:
                connection.send(pack({"reset": True}))
                continue
            requests.append(request)
            connection.send(pack(chunk(request["keystep"]["consumed"])))
            if len(requests) == 3:
                return

    first = []
    with (
        played(lambda there: answers(there, first), lambda there: answers(there, asked)) as port,
        keystep.Client(port=port, merge="replace") as client,
    ):
        client.reset(task="lift_red")
        act_until(client, observation, lambda: client.counts.actions > 0)
        client.act(observation | {"prompt": "push_red_left"})
        act_until(client, observation, lambda: len(asked) > 0)
        assert asked[0]["prompt"] == "push_red_left"


def test_another_policy_at_the_same_address_is_refused(policy, make_stub, observation):
    other = make_stub({"name": "other"})
    with Server(policy, port=0) as first:
        client = keystep.Client(*first.address, reconnect_s=30)
        client.infer(observation | {"prompt": "lift_red"})
    with Server(other, port=first.address[1]) as second:
        for _ in range(2):
            with pytest.raises(
                keystep.ServerError, match="the policy there was, 'stub', got another, 'other'"
            ):
                client.infer(observation | {"prompt": "lift_red"})
        client.close()
        wait_for(lambda: second.clients == 0)
        assert metric(second, "chunks_total") == 0


def test_an_episode_that_cannot_be_begun_again_is_none(policy, observation):
    greeting = pack(metadata(policy))

    def loses(connection):
        connection.send(greeting)
        connection.recv()
        connection.send(pack({"reset": True}))

    def refuses(connection):
        connection.send(greeting)
        for message in connection:
            resets = "reset" in unpack(message).get("keystep", {})
            connection.send("task: expected another" if resets else pack(chunk(0)))

    with played(loses, refuses) as port, keystep.Client(port=port) as client:
        client.reset(task="lift_red", seed=3)
        for _ in range(2):
            with pytest.raises(keystep.ServerError, match="task: expected another"):
                client.infer(observation)


def test_a_server_that_refuses_is_not_asked_at_every_tick(policy, observation):
    greeting, met = pack(metadata(policy)), []

    def loses(connection):
        connection.send(greeting)
        connection.recv()

    def other(connection):
        met.append(connection)
        connection.send(pack(metadata(policy) | {"bundle": "other"}))
        connection.recv()

    def fails():
        with contextlib.suppress(RuntimeError):
            client.act(observation | {"prompt": "lift_red"})
        return client.counts.failed >= 50

    with played(loses, other) as port, keystep.Client(port=port) as client:
        began = time.monotonic()
        wait_for(fails)
        assert 1 <= len(met) <= 2 + time.monotonic() - began  # one a second
        with pytest.raises(keystep.ServerError, match="expected the policy there was"):
            client.infer(observation)


def test_a_policy_may_know_very_many_tasks(policy):
    tasks = [f"pick number {n}" for n in range(70_000)]

    def tells(connection):
        connection.send(pack(metadata(policy) | {"tasks": tasks}))
        connection.recv()

    with played(tells) as port, keystep.Client(port=port, reconnect_s=0) as client:
        assert client.metadata["tasks"] == tasks


class Post:
    """Replies at once."""

    def __init__(self, reply):
        self.reply, self.requests = reply, []

    def post(self, request):
        self.requests.append(request)

    def collect(self):
        return self.reply() if callable(self.reply) else self.reply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"actions": np.full((4, 3), np.nan, np.float32)}, "reply.actions: expected finite numbers"),
        ({"actions": np.full((4, 3), np.inf, np.float32)}, "reply.actions: expected finite numbers"),
        ({"actions": np.zeros((4, 3))}, "reply.actions: expected float32"),
        ({"actions": np.zeros((3, 3), np.float32)}, r"reply.actions: expected float32 \(4, 3\), got"),
        ({"actions": np.zeros((4, 2), np.float32)}, r"reply.actions: expected float32 \(4, 3\), got"),
        ({"actions": [[0.0] * 3] * 4}, "reply.actions: expected an array, got list"),
        ({"start": None}, "reply.start: expected a whole number"),
        ({"begins": 0.5}, "reply.begins: expected a whole number"),
        ({"until": "soon"}, "reply.until: expected a whole number"),
    ],
)
def test_a_reply_that_is_no_chunk_never_reaches_the_robot(policy, observation, change, message):
    loop = RemoteLoop(metadata(policy), Post(chunk(0) | change), "replace", 0, 0, 0.01, "hold")
    np.testing.assert_array_equal(loop.tick(observation), [0, 0, 0])
    with pytest.raises(keystep.ServerError, match=message):
        loop.tick(observation)
    assert loop.counts.chunks == loop.counts.actions == 0


def test_a_failure_that_is_told_every_period_does_not_grow(policy, observation):
    post = Post(keystep.ConnectionLost("gone"))
    loop = RemoteLoop(metadata(policy), post, "replace", 0, 0, 0.01, "hold")
    loop.tick(observation)
    depths = []
    for _ in range(5):
        with pytest.raises(keystep.ConnectionLost, match="gone") as told:
            loop.tick(observation)
        post.reply = None  # asked again, and not answered
        depths.append(len(list(traceback.walk_tb(told.value.__traceback__))))
    assert len(set(depths)) == 1, depths


def test_a_chunk_for_what_was_seen_too_long_ago_is_not_given(policy, observation):
    delay_s = [0.0]

    def late():
        time.sleep(delay_s[0])
        return chunk(0)

    loop = RemoteLoop(metadata(policy), Post(late), "replace", 0, 0, 0.01, "hold", max_age_s=0.2)
    delay_s[0] = 0.3
    loop.tick(observation)
    loop.tick(observation)  # once it may have been the robot that paused
    with pytest.raises(keystep.ServerError, match=r"expected a chunk within 0.2 s, got it after 0\.\d s"):
        loop.tick(observation)
    assert loop.counts.outdated == 2 and loop.counts.actions == 0
    with pytest.raises(ValueError, match="max_age_s: expected more than 0, got 0"):
        RemoteLoop(metadata(policy), Post(None), "replace", 0, 0, 0.01, "hold", max_age_s=0)


def test_a_new_prompt_leaves_nothing_of_the_old_one(policy, observation):
    post = Post(None)
    loop = RemoteLoop(metadata(policy), post, "x0blend", 0, 0, 0.01, "hold")
    loop.tick(observation | {"prompt": "lift_red"})
    post.reply = chunk(0)
    loop.tick(observation | {"prompt": "lift_red"})
    post.reply = None
    assert loop.counts.actions == 1 and loop.counts.left == 3
    loop.tick(observation | {"prompt": "push_red_left"})
    assert loop.counts.actions == 1 and loop.counts.left == 0 and loop.counts.underruns == 2
    assert "previous" not in post.requests[-1]["keystep"] or post.requests[-1]["prompt"] == "lift_red"


def test_a_prompt_that_says_the_task_of_the_reset_changes_nothing(policy, observation):
    post = Post(None)
    loop = RemoteLoop(metadata(policy), post, "replace", 0, 0, 0.01, "hold")
    loop.reset("lift_red")
    loop.tick(observation)
    post.reply = chunk(0)
    loop.tick(observation)
    post.reply = None
    loop.tick(observation | {"prompt": "lift_red"})
    assert loop.counts.actions == 2


def test_a_prompt_that_is_no_text_is_told_and_the_next_one_asked_for(policy, observation):
    with Server(policy, port=0) as server, keystep.Client(*server.address) as client:
        with pytest.raises(ValueError, match="prompt: expected a text, got object"):
            client.act(observation | {"prompt": object()})
        act_until(client, observation | {"prompt": "lift_red"}, lambda: client.counts.chunks > 0)


def test_a_reset_that_is_refused_loses_no_request(policy, observation):
    seen = observation | {"prompt": "lift_red"}
    with Server(policy, port=0) as server, keystep.Client(*server.address) as client:
        client.act(seen)
        with pytest.raises(keystep.ServerError, match="fly"):
            client.reset(task="fly")
        act_until(client, seen, lambda: client.counts.chunks > 0)


def test_a_request_of_the_episode_before_is_not_sent_into_the_next(policy, observation):
    with Server(policy, port=0) as server, keystep.Client(*server.address, merge="replace") as client:
        client.reset(task="lift_red")
        act_until(client, observation, lambda: client.counts.actions > 3)
        errand, gate = client._errand, threading.Event()
        wait_for(lambda: errand._reply is not None or client._loop._asked is None)
        sent = errand._request
        errand._request = lambda *given: gate.wait(60) and sent(*given)
        requests = client.counts.requests
        act_until(client, observation, lambda: client.counts.requests > requests)
        wait_for(lambda: errand._message is None)  # its thread has it, and was not heard yet
        client.reset(task="lift_red")
        gate.set()
        chunks = client.counts.chunks
        act_until(client, observation, lambda: client.counts.chunks > chunks + 3)
        assert client.counts.failed == 0


def test_a_server_that_only_pings_is_lost_in_time(policy, observation):
    def pings(connection):
        connection.send(pack(metadata(policy)))
        with contextlib.suppress(ConnectionClosed):
            for _ in range(100):
                connection.ping()
                time.sleep(0.1)

    with (
        played(pings) as port,
        keystep.Client(port=port, timeout_s=1.0, reconnect_s=0) as client,
        pytest.raises(keystep.ConnectionLost, match=r"timed out|expected the whole message within 1 s"),
    ):
        client.infer(observation)


def test_closing_does_not_wait_for_a_server_that_says_nothing(policy, observation):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with Server(policy, port=0) as server:
            client = keystep.Client(*server.address, timeout_s=60, reconnect_s=120)
        client._address = ("127.0.0.1", silent.getsockname()[1], *client._address[2:])
        client.act(observation | {"prompt": "lift_red"})
        opened, _ = silent.accept()  # it is being connected again
        closing = threading.Thread(target=client.close)
        closing.start()
        closing.join(20)
        assert not closing.is_alive()
        opened.close()


def test_options_that_are_wrong_leave_no_connection(onnx_bundle):
    with serving(onnx_bundle) as server:
        with pytest.raises(ValueError, match="underrun: expected") as refused:
            keystep.Client(*server.address, underrun="repeat")
        wait_for(lambda: server.clients == 0, limit_s=20)
        assert refused.value.__traceback__ is not None  # which would have held it
