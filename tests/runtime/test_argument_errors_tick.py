"""What is given at every tick: keys, stamps, arrays and noise."""

from __future__ import annotations

import json

import numpy as np
import pytest
from bad_values import IMAGE, STATE, kind
from subgoal_stub import STATE_KEY, subgoal_changes, zeros

import keystep


@pytest.mark.parametrize("key", ["timestamp_us", "now_us"])
@pytest.mark.parametrize(
    "value", [-1, 2**63, 2**64, 10**5000, 1.0, "1", True, [], np.array([1, 2])], ids=kind
)
def test_what_is_no_stamp(make_stub, observation, key, value):
    policy = make_stub(clock="external")
    policy.reset(task="lift_red")
    with pytest.raises(keystep.ArgumentError, match=rf"^{key}: expected an integer"):
        policy.act({"timestamp_us": 0, "now_us": 0, **observation, key: value})
    policy.act({"timestamp_us": np.int64(5), **observation, "now_us": 7})
    policy.act({"timestamp_us": None, "now_us": None, **observation})


def test_misspelt_keys(make_stub, observation):
    policy = make_stub()
    policy.reset(task="lift_red")
    for key, nearest in [
        ("timestamp", "timestamp_us"),
        ("time_stamp_us", "timestamp_us"),
        ("Observation.state", STATE),
        ("observation.State", STATE),
        ("state", None),
        ("observation.images.Static", IMAGE),
        ("Task", "task"),
        ("", None),
        ("\udcff", None),
        ("instruction", None),
    ]:
        replaced = {k: v for k, v in observation.items() if k != nearest} | {key: 0}
        for wrong in (observation | {key: 0}, replaced):
            with pytest.raises(keystep.ArgumentError, match=r"expected one of observation.state") as caught:
                policy.act(wrong)
            assert nearest is None or f"(nearest: '{nearest}')" in str(caught.value)
            assert key == "\udcff" or str(caught.value).startswith(key + ": ")
    for key in (b"observation.state", 0, None, ("a",), 1.5):
        for wrong in (observation | {key: 0}, {key: 0}):
            with pytest.raises(
                keystep.ArgumentError, match="observation: expected keys of type str"
            ) as caught:
                policy.act(wrong)
            assert repr(key) in str(caught.value)
    assert np.isfinite(policy.act(observation)).all()


def test_noise_of_no_rows_is_not_noise_to_generate(make_stub, observation):
    policy = make_stub(subgoal_changes())
    policy.reset(task="lift_red")
    policy.act(observation)
    for shape in ((0, 4, 3), (0,), (0, 3), (4, 0)):
        with pytest.raises(keystep.ArgumentError, match="noise: expected shape"):
            policy.predict_chunk(observation, zeros(*shape))
        with pytest.raises(keystep.ArgumentError, match="noise: expected shape"):
            policy.predict_plan(observation, zeros(*shape))


def test_masked_arrays(make_stub, observation):
    policy = make_stub(subgoal_changes())
    masked = np.ma.masked_array(observation[STATE], mask=[0, 1, 0, 0])
    unmasked = np.ma.masked_array(observation[STATE])
    policy.reset(task="lift_red")
    policy.act(observation)
    for array in (masked, unmasked):
        with pytest.raises(
            keystep.ArgumentError, match=r"observation.state: expected an array without a mask"
        ):
            policy.act(observation | {STATE: array})
    with pytest.raises(
        keystep.ArgumentError, match=r"subgoals: observation.state: expected an array without a mask"
    ):
        policy.reset(task="lift_red", subgoals={STATE_KEY: np.ma.masked_array(zeros(3, 4))})
    with pytest.raises(keystep.ArgumentError, match="noise: expected an array without a mask"):
        policy.predict_chunk(observation, np.ma.masked_array(zeros(4, 3)))


def test_memory_mapped_arrays(make_stub, observation, tmp_path):
    policy = make_stub()
    policy.reset(task="lift_red", seed=1)
    wanted = policy.act(observation)
    mapped = np.memmap(tmp_path / "state", np.float32, "w+", shape=(4,))
    mapped[:] = observation[STATE]
    policy.reset(task="lift_red", seed=1)
    np.testing.assert_array_equal(policy.act(observation | {STATE: mapped}), wanted)


def test_stamps_of_another_clock(make_stub, observation):
    wall = 1_790_000_000_000_000
    for limit in (0, 50_000):
        policy = make_stub(max_observation_age_us=limit)
        policy.reset(task="lift_red")
        for stamp in (wall, wall - 10_000_000, keystep.now_us() + 5_000_000, 2**63 - 1):
            for use in (policy.act, policy.predict_chunk):
                with pytest.raises(
                    keystep.PolicyError, match="timestamp_us: expected no later than"
                ) as caught:
                    use(observation | {"timestamp_us": stamp})
                assert caught.value.status == "bad_observation"
        policy.act(observation | {"timestamp_us": keystep.now_us()})
    with pytest.raises(keystep.PolicyError, match="now_us: expected none"):
        policy.act(observation | {"now_us": 3})


def test_simulated_time(make_stub, observation):
    policy = make_stub(clock="external", max_observation_age_us=50_000)
    policy.reset(task="lift_red")
    policy.act(observation | {"timestamp_us": 0, "now_us": 50_000})
    with pytest.raises(keystep.PolicyError) as caught:
        policy.act(observation | {"timestamp_us": 0, "now_us": 50_001})
    assert caught.value.status == "stale_observation"
    for stamp in ({"timestamp_us": 100_000, "now_us": 50_000}, {"timestamp_us": 5}):
        with pytest.raises(keystep.PolicyError, match=r"observation\.(timestamp|now)_us: expected") as caught:
            policy.act(observation | stamp)
        assert caught.value.status == "bad_observation"
    policy.act(observation)  # not stamped
    assert json.loads(policy.latency().to_json())["stale_observations"] == 1


def test_a_refused_stamp_says_nothing_of_sizes(make_stub, observation):
    policy = make_stub()
    policy.reset(task="lift_red")
    for wrong in ({"timestamp_us": 2**62}, {STATE: observation[STATE] * np.nan}):
        with pytest.raises(keystep.PolicyError, match=r"^observation\.") as caught:
            policy.act(observation | wrong)
        assert caught.value.status == "bad_observation"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_noise_that_is_not_finite(make_stub, observation, value):
    policy = make_stub(subgoal_changes())
    policy.reset(task="lift_red")
    policy.act(observation)
    chunk, plan = zeros(4, 3), zeros(3, 4)
    chunk[2, 1] = plan[2, 1] = value
    for use, noise in ((policy.predict_chunk, chunk), (policy.predict_plan, plan)):
        with pytest.raises(
            keystep.ArgumentError, match=r"^noise\[2, 1\]: expected finite numbers, got -?(nan|inf)"
        ):
            use(observation, noise)
    assert np.isfinite(policy.predict_chunk(observation, zeros(4, 3))).all()
