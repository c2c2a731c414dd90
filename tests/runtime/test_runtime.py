"""keystep.Runtime from Python, on the stub engine: what a user of `load`, `reset`, `act` can rely on."""

from __future__ import annotations

import gc
import json
import threading
import time

import numpy as np
import pytest

import keystep


def test_episode_is_reproducible_from_seed_and_episode(make_stub, observation):
    def rollout(policy, **context):
        policy.reset(task="lift_red", **context)
        return np.stack([policy.act(observation) for _ in range(10)])

    first, second = make_stub(), make_stub()
    actions = rollout(first, seed=3, episode=1)
    assert actions.shape == (10, 3) and actions.dtype == np.float32
    np.testing.assert_array_equal(actions, rollout(first, seed=3, episode=1))
    np.testing.assert_array_equal(actions, rollout(second, seed=3, episode=1))
    assert (actions != rollout(first, seed=3, episode=2)).any()
    assert (actions != rollout(first, seed=4, episode=1)).any()


def test_onnxruntime_runs_the_same_loop(onnx_bundle, observation):
    with keystep.load(onnx_bundle, threads=1) as policy:
        assert "onnxruntime" in policy.description and "1 thread" in policy.description
        policy.reset(task="lift_red", seed=3)
        chunk = policy.predict_chunk(observation)
        actions = np.stack([policy.act(observation) for _ in range(4)])
        np.testing.assert_array_equal(actions, np.clip(chunk, -1, 1))
        # The whole path again in numpy: DDIM on model_output = 0.1 sample, identity normalisation of actions.
        sampler = keystep.Sampler(keystep.SamplerSpec(**policy.manifest["sampler"]))
        noise = keystep.noise((4, 3), seed=3)
        expected = sampler.sample(lambda sample, timestep: np.float32(0.1) * sample, noise)
        np.testing.assert_allclose(chunk, expected, atol=1e-6)


def test_given_noise_replaces_the_generator(make_stub, observation):
    policy = make_stub()
    policy.reset(task="lift_red", seed=5)
    generated = policy.predict_chunk(observation)
    np.testing.assert_array_equal(generated, policy.predict_chunk(observation, keystep.noise((4, 3), seed=5)))
    np.testing.assert_array_equal(
        generated, policy.predict_chunk(observation, keystep.noise((1, 4, 3), seed=5))
    )
    assert (generated != policy.predict_chunk(observation, np.zeros((4, 3), np.float32))).any()


def test_predict_chunk_changes_nothing_of_the_episode(make_stub, observation):
    policy = make_stub()

    def rollout(look_ahead):
        policy.reset(task="lift_red", seed=1)
        actions = []
        for _ in range(9):
            if look_ahead:
                policy.predict_chunk(observation)
            actions.append(policy.act(observation))
        return np.stack(actions)

    np.testing.assert_array_equal(rollout(look_ahead=False), rollout(look_ahead=True))


def test_task_by_name_instruction_or_first_observation(make_stub, observation):
    policy = make_stub()

    def first_action(reset_task, observed_task=None):
        policy.reset(task=reset_task, seed=1)
        return policy.act(observation | ({"task": observed_task} if observed_task else {}))

    named = first_action("push_red_left")
    assert (named != first_action("lift_red")).any()
    np.testing.assert_array_equal(named, first_action("Push the red block to the left."))
    np.testing.assert_array_equal(named, first_action(None, "push_red_left"))
    np.testing.assert_array_equal(named, first_action("push_red_left", "Push the red block to the left."))


def test_observed_task_must_be_the_episode_s(make_stub, observation):
    policy = make_stub()
    policy.reset(task="lift_red")
    policy.act(observation | {"task": "lift_red"})
    with pytest.raises(
        keystep.ArgumentError, match="task: expected 'lift_red' as given to reset, got 'push_red_left'"
    ):
        policy.act(observation | {"task": "push_red_left"})
    policy.reset()
    with pytest.raises(
        keystep.ArgumentError, match="task: expected one of lift_red, push_red_left, got None"
    ):
        policy.act(observation)


@pytest.mark.parametrize("task", ["fly", "", b"lift_red", b"\xff", 1, ["lift_red"]])
def test_wrong_task_leaves_the_episode_as_it_was(make_stub, observation, task):
    policy = make_stub()
    policy.reset(task="lift_red", seed=1)
    wanted = [policy.act(observation) for _ in range(6)]
    policy.reset(task="lift_red", seed=1)
    policy.act(observation)
    with pytest.raises(keystep.ArgumentError, match="task: expected"):
        policy.reset(task=task, seed=2)
    with pytest.raises(keystep.ArgumentError, match="task: expected"):
        policy.act(observation | {"task": task})
    np.testing.assert_array_equal(np.stack([policy.act(observation) for _ in range(5)]), wanted[1:])


def test_no_task_where_none_is_needed(make_stub, observation, goal_manifest):
    policy = make_stub(goal_manifest)
    for task in (None, ""):
        policy.reset(task=task, goal=observation)
        assert np.isfinite(policy.act(observation)).all()


def test_interrupt_drops_the_rest_of_the_chunk(make_stub, observation):
    policy = make_stub()
    policy.reset(task="lift_red", seed=1)
    undisturbed = np.stack([policy.act(observation) for _ in range(8)])
    policy.reset(task="lift_red", seed=1)
    policy.act(observation)
    policy.interrupt()
    # The second chunk starts at once.
    np.testing.assert_array_equal(policy.act(observation), undisturbed[4])
    assert policy.latency().interrupts == 1


def test_interrupt_ends_a_sample_in_flight(make_stub, observation):
    policy = make_stub(provider_options={"stub.sleep_us": "2000000"})
    policy.reset(task="lift_red")
    errors = []

    def tick():
        try:
            policy.act(observation)
        except keystep.PolicyError as error:
            errors.append(error)

    thread = threading.Thread(target=tick)
    thread.start()
    while thread.is_alive():  # the GIL is free while the policy computes, or this loop would not run
        policy.interrupt()
        time.sleep(0.01)
    thread.join()
    assert [error.status for error in errors] == ["interrupted"]


def test_two_threads_calling_act(make_stub, observation):
    policy = make_stub(provider_options={"stub.sleep_us": "300000"})
    policy.reset(task="lift_red")
    together = threading.Barrier(2)
    outcomes = []

    def tick():
        together.wait()
        try:
            outcomes.append(policy.act(observation).shape)
        except keystep.PolicyError as error:
            outcomes.append(error.status)

    threads = [threading.Thread(target=tick) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == ["busy", (3,)]  # the second is told at once, the first is not disturbed


def test_latency_while_another_thread_acts(make_stub, observation):
    policy = make_stub(provider_options={"stub.sleep_us": "100000"})
    policy.reset(task="lift_red")
    outcomes = set()
    thread = threading.Thread(target=policy.act, args=(observation,))
    thread.start()
    while thread.is_alive():
        try:
            policy.latency()
        except keystep.PolicyError as error:
            outcomes.add(error.status)
        time.sleep(0.001)
    thread.join()
    assert outcomes == {"busy"}  # and not half-written histograms
    assert policy.latency().actions == 1


def test_predict_chunk_checks_the_task(make_stub, observation):
    policy = make_stub()
    policy.reset(task="lift_red")
    with pytest.raises(keystep.ArgumentError, match="task: expected 'lift_red' as given to reset"):
        policy.predict_chunk(observation | {"task": policy.task_names[1]})
    wanted = policy.predict_chunk(observation | {"task": "lift_red"})
    policy.reset(task=policy.task_names[1])
    assert not np.array_equal(policy.predict_chunk(observation), wanted)
    policy.reset()
    with pytest.raises(keystep.ArgumentError, match="task: expected one of"):
        policy.predict_chunk(observation)
    assert np.array_equal(policy.predict_chunk(observation | {"task": "lift_red"}), wanted)


def test_act_before_reset_and_after_close(make_stub, observation):
    policy = make_stub()
    with pytest.raises(keystep.PolicyError) as caught:
        policy.act(observation)
    assert caught.value.status == "not_reset"
    policy.reset(task="lift_red")
    policy.close()
    policy.close()
    for use in (lambda: policy.act(observation), lambda: policy.predict_chunk(observation)):
        with pytest.raises(keystep.PolicyError) as caught:
            use()
        assert caught.value.status == "closed"
    with pytest.raises(keystep.Error, match="closed"):
        policy.reset(task="lift_red")


def test_context_manager_closes(make_stub, observation):
    with make_stub() as policy:
        policy.reset(task="lift_red")
    with pytest.raises(keystep.PolicyError, match="closed"):
        policy.act(observation)


def test_stale_observation_is_refused(make_stub, observation):
    policy = make_stub(max_observation_age_us=1_000_000)
    policy.reset(task="lift_red")
    policy.act(observation | {"timestamp_us": keystep.now_us()})
    with pytest.raises(keystep.PolicyError) as caught:
        policy.act(observation | {"timestamp_us": keystep.now_us() - 2_000_000})
    assert caught.value.status == "stale_observation"
    assert policy.latency().stale_observations == 1


def test_latency_report_counts_and_serialises(make_stub, observation):
    policy = make_stub(deadline_us=0.001)
    policy.reset(task="lift_red")
    for _ in range(9):
        policy.act(observation)
    report = policy.latency()
    assert (report.actions, report.chunks, report.deadline_misses) == (9, 3, 9)
    assert list(report.stages) == [
        *("observe", "plan", "score", "encode", "denoise", "gate", "tick", "interrupt")
    ]
    assert report.stages["tick"].count == 9 and report.stages["denoise"].count == 3
    assert report.time_per_action_us > 0
    assert json.loads(report.to_json())["stages"]["tick"]["p99_us"] == report.stages["tick"].p99_us
    for word in ("denoise", "p99.9", "time per action"):
        assert word in str(report)
    policy.reset_latency()
    assert policy.latency().actions == 0


def test_a_tick_allocates_nothing_and_the_counter_counts(make_stub, observation):
    policy = make_stub()
    policy.reset(task="lift_red")
    for _ in range(50):
        policy.act(observation)
    assert policy.latency().allocations == 0
    observation["observation.state"][0] = np.nan  # the message of a refused observation is allocated
    with pytest.raises(keystep.PolicyError):
        policy.act(observation)
    assert policy.latency().allocations > 0


def test_actions_belong_to_the_caller(make_stub, observation):
    policy = make_stub()
    policy.reset(task="lift_red")
    action = policy.act(observation)
    kept = action.copy()
    policy.act(observation)
    del policy
    gc.collect()
    np.testing.assert_array_equal(action, kept)
    action[:] = 0  # writable, and nobody else's


def test_manifest_and_names(make_stub):
    policy = make_stub()
    assert policy.task_names == ["lift_red", "push_red_left"]
    assert policy.manifest["chunk"]["horizon"] == 4
    assert policy.description.startswith("stub")
    assert policy.engine_choices == [
        {"file": f"{name}.onnx", "engine": "stub", "reason": "engine: stub"} for name in ("encode", "denoise")
    ]


def test_goal_policy_acts_on_its_goal(make_stub, observation, goal_manifest):
    policy = make_stub(goal_manifest)

    def first_action(value):
        goal = observation | {"observation.state": np.full(4, value, np.float32)}
        policy.reset(goal=goal, seed=1)
        return policy.act(observation)

    assert (first_action(0.0) != first_action(1.0)).any()
