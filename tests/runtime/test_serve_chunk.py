"""Chunks for somebody who executes them elsewhere: the loop's own, by whoever counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import keystep

STATE_BUNDLE = Path("bundles/franka3blocks-state.keystep")


@pytest.fixture(scope="module")
def policy():
    with keystep.load(STATE_BUNDLE, threads=1) as policy:
        yield policy


def seen(step: int) -> dict[str, np.ndarray]:
    return {"observation.state": np.float32(np.sin(np.arange(26) + step / 7) / 3)}


def test_a_chunk_has_the_actions_of_as_many_ticks(policy):
    with policy.session() as ticked, policy.session() as served:
        for session in (ticked, served):
            session.reset(task="lift_red", seed=3, episode=1)
        low, high = -1.0, 1.0
        for chunk in range(20):  # two plans and a half
            made = served.serve_chunk([seen(8 * chunk)], consumed=8 * chunk)
            actions = np.stack([ticked.act(seen(8 * chunk + step)) for step in range(8)])
            np.testing.assert_array_equal(made.rows.clip(low, high), actions)
            assert (made.goal, made.begins, made.until) == (chunk + 1, 8 * chunk, 8 * chunk + 8)
            assert made.planned == (chunk % 8 == 0)
        assert served.latency().allocations == 0


def test_the_goal_is_the_one_of_when_the_chunk_acts(policy):
    with policy.session() as session:
        session.reset(task="lift_red")
        first = session.serve_chunk([seen(0)], consumed=0)
        early = session.serve_chunk([seen(6)], consumed=6, ahead=3, previous=first.rows[6:], continues=1)
        assert (early.goal, early.begins, early.until) == (2, 8, 16)
        np.testing.assert_array_equal(early.rows[:2], first.rows[6:])  # what is executed meanwhile
        again = session.serve_chunk([seen(7)], consumed=7, ahead=3)
        assert (again.goal, again.begins) == (2, 8)  # known, and not made twice
        session.replan()
        anew = session.serve_chunk([seen(7)], consumed=7, ahead=3)
        assert (anew.goal, anew.begins, anew.planned) == (3, 7, True)


def test_counting_on_after_the_session_was_lost(policy):
    with policy.session() as session:
        session.reset(task="lift_red")
        made = session.serve_chunk([seen(0)], consumed=5003)
        assert (made.goal, made.begins, made.until) == (1, 5003, 5011)
        assert session.plan_progress["actions"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"consumed": 7}, "consumed: expected 8 or more, got 7"),
        ({"consumed": -1}, "consumed: expected 8 or more, got -1"),
        ({"consumed": 8, "ahead": -2}, "ahead: expected 0 or more, got -2"),
        ({"consumed": 8, "previous": np.zeros((2, 3), np.float32)}, "previous: expected "),
        ({"consumed": 8, "previous": np.zeros((2, 7))}, "previous: expected float32"),
        ({"consumed": 8, "previous": np.zeros((9, 7), np.float32)}, "previous: expected "),
        ({"consumed": 8, "previous": np.full((2, 7), np.nan, np.float32)}, "previous"),
        ({"consumed": 8, "continues": -1}, "goal: expected "),
        ({"consumed": 8, "previous": np.zeros((2, 7), np.float32), "rule": "wish"}, "rule: expected "),
    ],
)
def test_what_is_refused_changes_nothing(policy, arguments, message):
    with policy.session() as session, policy.session() as other:
        for each in (session, other):
            each.reset(task="lift_red")
            each.serve_chunk([seen(0)], consumed=8)
        with pytest.raises(keystep.Error, match=message):
            session.serve_chunk([seen(1)], **arguments)
        for bad in (np.full(26, np.nan, np.float32), np.zeros(25, np.float32), np.zeros(26)):
            with pytest.raises(keystep.Error, match="state"):
                session.serve_chunk([{"observation.state": bad}], consumed=8)
        after = [each.serve_chunk([seen(2)], consumed=9).rows for each in (session, other)]
        np.testing.assert_array_equal(*after)


def test_in_lockstep_alone(make_stub, observation):
    policy = make_stub(mode="async")
    policy.reset(task="lift_red")
    with pytest.raises(keystep.PolicyError, match="expected lockstep"):
        policy.serve_chunk([observation], consumed=0)
    with pytest.raises(keystep.ArgumentError, match="frames: expected 1 or more"):
        policy.serve_chunk([], consumed=0)
