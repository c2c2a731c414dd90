"""Sessions of one policy: their own episodes on shared weights."""

import threading

import numpy as np
import pytest
from stub_bundle import stub_observation, write_stub_bundle

import keystep


@pytest.fixture
def policy(tmp_path):
    with keystep.load(write_stub_bundle(tmp_path / "stub.keystep"), engine="stub") as policy:
        yield policy


def actions(session, seed, ticks=12):
    rng = np.random.default_rng(seed)
    session.reset(session.task_names and next(iter(session.task_names)), seed=seed)
    seen = stub_observation()
    all_actions = []
    for _ in range(ticks):
        seen["observation.state"] = rng.normal(size=4).astype(np.float32)
        all_actions.append(session.act(seen))
    return np.stack(all_actions)


def test_sessions_know_nothing_of_each_other(policy):
    with policy.session() as other:
        first, second = actions(policy, 1), actions(other, 2)
        assert not np.array_equal(first, second)
        assert np.array_equal(actions(other, 1), first)
        assert policy.latency().actions == 12
        assert other.latency().actions == 24
        assert other.manifest == policy.manifest
        assert other.description == policy.description


def test_one_closes_and_the_other_goes_on(policy):
    wanted = actions(policy, 3)
    other, third = policy.session(), policy.session()
    policy.close()
    assert np.array_equal(actions(other, 3), wanted)
    with pytest.raises(keystep.PolicyError, match="closed"):
        policy.session()
    with pytest.raises(keystep.PolicyError, match="closed"):
        actions(policy, 3)
    other.close()
    assert np.array_equal(actions(third, 3), wanted)
    third.close()


def test_a_thread_for_each(policy):
    wanted = actions(policy, 4, ticks=200)
    sessions = [policy.session() for _ in range(3)]
    results = [None] * 3

    def run(index):
        results[index] = actions(sessions[index], 4, ticks=200)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(result, wanted) for result in results)
