"""The client's loop takes the actions of the asynchronous one, whatever the delay and the rule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feature_policy import DEPTH, RGB, draw, write_policy

import keystep
from keystep.client.loop import RemoteLoop
from keystep.client.wire import pack, unpack
from keystep.serve.metadata import metadata
from keystep.serve.session import Session

STATE_BUNDLE = Path("bundles/franka3blocks-state.keystep")


class LatePost:
    """Brings a reply so many ticks after it was asked for, over the wire's bytes."""

    def __init__(self, session: Session, delays: Callable[[int], int]) -> None:
        self.session, self.delays = session, delays
        self.tick = self.asked = 0
        self.due: tuple[int, Any] | None = None

    def post(self, request: dict[str, Any]) -> None:
        reply = unpack(pack(self.session.answer(unpack(pack(request)))))
        self.due = (self.tick + self.delays(self.asked), reply)
        self.asked += 1

    def collect(self) -> Any:
        if self.due is None or self.due[0] > self.tick:
            return None
        (_, reply), self.due = self.due, None
        return reply


def remote_actions(policy, delay, observe, ticks, merge, **episode):
    session = Session(policy.session())
    session.answer(unpack(pack({"keystep": {"reset": {**episode, "seed": 5, "episode": 2}}})))
    post = LatePost(session, lambda number: delay)
    loop = RemoteLoop(metadata(policy), post, merge, 0, 0, 0.01, "hold")
    actions = []
    for tick in range(ticks):
        post.tick = tick
        actions.append(loop.tick(observe(tick)))
    session.close()
    return np.stack(actions), loop.counts


def local_actions(bundle, delay, observe, ticks, merge, **episode):
    time = keystep.VirtualTime(chunk=(float(delay),))
    with keystep.load(bundle, threads=1, mode="async", merge=merge, virtual_time=time) as policy:
        policy.reset(**episode, seed=5, episode=2)
        return np.stack([policy.act(observe(tick)) for tick in range(ticks)]), policy.telemetry()


@pytest.mark.parametrize("merge", ["replace", "blend", "temporal_ensemble", "x0blend"])
@pytest.mark.parametrize("delay", [1, 2])
def test_a_flat_policy_acts_as_in_async_mode(onnx_bundle, merge, delay, observation):
    def observe(tick):
        return observation | {"observation.state": np.float32(np.sin(np.arange(4) + tick / 5))}

    wanted, told = local_actions(onnx_bundle, delay, observe, 60, merge, task="lift_red")
    with keystep.load(onnx_bundle, threads=1) as policy:
        got, counts = remote_actions(policy, delay, observe, 60, merge, task="lift_red")
    np.testing.assert_array_equal(got, wanted)
    assert (counts.chunks, counts.max_delay) == (told.chunks, told.max_delay)
    assert len(np.unique(got, axis=0)) > 30


@pytest.mark.parametrize("merge", ["replace", "blend", "trained", "x0blend"])
@pytest.mark.parametrize("delay", [1, 2, 3])
@pytest.mark.parametrize("planned", [True, False])
def test_subgoals_act_as_in_async_mode(merge, delay, planned):
    """A local planner is asked earlier, and has to see the same: plans are of a world that stands still."""
    episode: dict[str, Any] = {"task": "lift_red"}
    if not planned:
        subgoals = np.float32(np.sin(np.arange(8 * 26).reshape(8, 26)) / 3)
        episode = {"subgoals": {"observation.state": subgoals}}

    def observe(tick):
        return {"observation.state": np.float32(np.sin(np.arange(26) + (0 if planned else tick / 9)) / 3)}

    wanted, told = local_actions(STATE_BUNDLE, delay, observe, 150, merge, **episode)
    with keystep.load(STATE_BUNDLE, threads=1) as policy:
        got, counts = remote_actions(policy, delay, observe, 150, merge, **episode)
    np.testing.assert_array_equal(got, wanted)
    assert (counts.chunks, counts.max_delay) == (told.chunks, told.max_delay)


@pytest.mark.parametrize("merge", ["replace", "blend"])
@pytest.mark.parametrize("delay", [1, 2])
def test_histories_images_and_depth_act_as_in_async_mode(tmp_path, merge, delay):
    """Frames between the requests are sent along; chunks of one graph begin at their second row."""
    history = {"observation.state": 3, RGB: 2, DEPTH: 1}
    bundle = write_policy(tmp_path / "policy.keystep", history, start=1)
    rng = np.random.default_rng(1)
    frames = [draw(rng) for _ in range(40)]
    wanted, told = local_actions(bundle, delay, frames.__getitem__, 40, merge)
    with keystep.load(bundle, threads=1) as policy:
        got, counts = remote_actions(policy, delay, frames.__getitem__, 40, merge)
    np.testing.assert_array_equal(got, wanted)
    assert (counts.chunks, counts.max_delay) == (told.chunks, told.max_delay)
    assert len(np.unique(got, axis=0)) > 20


def test_an_interrupt_drops_what_is_left_and_what_is_on_its_way(onnx_bundle, observation):
    with keystep.load(onnx_bundle, threads=1) as policy:
        session = Session(policy.session())
        post = LatePost(session, lambda number: 2)
        loop = RemoteLoop(metadata(policy), post, "replace", 0, 0, 0.01, "hold")
        seen = observation | {"prompt": "lift_red"}
        taken = []
        for tick in range(12):
            post.tick = tick
            if tick == 5:
                loop.interrupt()
            loop.tick(seen)
            taken.append(loop.counts.actions)
        # Two ticks until the first chunk; after the interrupt one is thrown away, and made anew.
        assert taken[:5] == [0, 0, 1, 2, 3] and taken[5] == 3 and taken[-1] > 3
        assert loop.counts.outdated == 1
        session.close()


def test_what_the_server_says_is_raised_once_nothing_is_left(onnx_bundle, observation):
    class Refuses:
        def post(self, request):
            pass

        def collect(self):
            return failure

    failure = RuntimeError("engine: it failed")
    with keystep.load(onnx_bundle, threads=1) as policy:
        loop = RemoteLoop(metadata(policy), Refuses(), "replace", 0, 0, 0.01, "hold")
    np.testing.assert_array_equal(loop.tick(observation), [0, 0, 0])  # asked, and held meanwhile
    with pytest.raises(RuntimeError, match="it failed"):
        loop.tick(observation)
    with pytest.raises(ValueError, match=r"observation.state: expected float32 \(4,\), got float64"):
        loop.tick(observation | {"observation.state": np.zeros(4)})
