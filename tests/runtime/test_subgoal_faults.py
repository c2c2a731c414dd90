"""What goes wrong in a hierarchy: bad episodes, bad plans, other threads. The loop goes on."""

from __future__ import annotations

import re
import threading

import numpy as np
import pytest
from subgoal_stub import IMAGE, STATE_KEY, rollout, subgoal_changes, zeros

import keystep


def narrow_state(planner_std=1.0):
    """The controller sees the state 10 times larger than it is, the planner as `planner_std` says."""
    planner = {"mode": "mean_std", "mean": [0.0] * 4, "std": [planner_std] * 4}
    changes = subgoal_changes(normalization=planner)
    changes["observation"][0]["normalization"]["std"] = [0.1] * 4
    changes["planner"]["sampler"]["clip_sample"] = False
    return changes


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        ("  \n", "instruction: expected a task or an instruction, got white space only"),
        ("a" * 10_000, "instruction: expected at most 64 bytes, got 10000"),
        ("\udcff", "instruction: expected UTF-8"),
        (b"lift\xff", "instruction: expected a str or None, got bytes"),
        ("a\0b", "instruction: expected text, got a NUL at 1"),
    ],
)
def test_text_no_encoder_takes(make_stub, observation, instruction, message):
    policy = make_stub(subgoal_changes())
    wanted = rollout(policy, observation, 2)
    rollout(policy, observation, 1)
    with pytest.raises(keystep.ArgumentError, match=re.escape(message)):
        policy.reset(instruction=instruction, seed=8)
    np.testing.assert_array_equal(policy.act(observation), wanted[1])  # the episode before goes on


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        ("", "tasks[0].instruction: expected a task or an instruction, got none"),
        ("x" * 65, "tasks[0].instruction: expected at most 64 bytes, got 65"),
        ("a\0b", "tasks[0].instruction: expected text, got a NUL at 1"),
    ],
)
def test_instruction_that_no_encoder_takes(make_stub, instruction, message):
    tasks = [{"name": "one", "instruction": instruction}]
    with pytest.raises(keystep.BundleError, match=re.escape(message)):
        make_stub(subgoal_changes() | {"tasks": tasks})
    if "\0" not in instruction:  # which no task may hold
        make_stub({"tasks": tasks})  # flat: nobody reads it


@pytest.mark.parametrize(
    ("subgoals", "message"),
    [
        ({STATE_KEY: zeros(2, 4)}, "subgoals: expected 3, got 2"),
        ({STATE_KEY: np.full((3, 4), 3e38, np.float32)}, "subgoals[0]: expected values that are finite once"),
        ({STATE_KEY: zeros(0, 4)}, "subgoals: expected at least one, got none"),
        (
            {STATE_KEY: np.full((3, 4), np.nan, np.float32)},
            "subgoals[0].state[0] (a): expected a finite",
        ),
        ({STATE_KEY: zeros(3, 5)}, "subgoals: observation.state: expected shape (subgoals, 4), got (3, 5)"),
        ({STATE_KEY: zeros(4)}, "expected shape (subgoals, 4), got (4,)"),
        ({STATE_KEY: np.zeros((3, 4))}, "subgoals: observation.state: expected float32, got float64"),
        ({IMAGE: np.zeros((3, 6, 8, 3), np.uint8)}, "subgoals: observation.state: expected an array, got no"),
        (
            {STATE_KEY: zeros(3, 4), "x": 1},
            "subgoals: expected the key observation.state alone, got more",
        ),
        (zeros(3, 4), "subgoals: expected a dict, got numpy.ndarray"),
    ],
)
def test_wrong_subgoals(make_stub, observation, subgoals, message):
    policy = make_stub(narrow_state())
    wanted = rollout(policy, observation, 2)
    policy.reset(task="lift_red", seed=3, episode=1)
    np.testing.assert_array_equal(policy.act(observation), wanted[0])
    with pytest.raises(keystep.ArgumentError, match=re.escape(message)):
        policy.reset(task="lift_red", subgoals=subgoals)
    np.testing.assert_array_equal(policy.act(observation), wanted[1])  # the episode before goes on


class Sequence(np.ndarray):
    def __getitem__(self, index):
        raise ValueError("not by index")


class Liar(np.ndarray):
    def __getitem__(self, index):
        return np.full(4, 7, np.float64)


@pytest.mark.parametrize("kind", [Sequence, Liar])
def test_subgoals_in_a_subclass_of_array(make_stub, kind):
    policy = make_stub(subgoal_changes())
    subgoals = np.arange(12, dtype=np.float32).reshape(3, 4)
    policy.reset(task="lift_red", subgoals={STATE_KEY: subgoals.view(kind)})
    np.testing.assert_allclose(policy.plan()[STATE_KEY], subgoals, atol=1e-5)


def test_wrong_image_subgoals(make_stub):
    policy = make_stub(subgoal_changes(IMAGE))
    for shape in ((3, 8, 6, 3), (3, 3, 6, 8), (6, 8, 3)):
        with pytest.raises(keystep.ArgumentError, match=r"subgoals: observation\.images\.static"):
            policy.reset(task="lift_red", subgoals={IMAGE: np.zeros(shape, np.uint8)})


def test_plan_that_is_infinite_to_the_controller(make_stub, observation):
    """Finite to the planner: it is dropped like one with NaN, and the next tick plans anew."""
    policy = make_stub(narrow_state(planner_std=1e19))
    policy.reset(task="lift_red")
    far = observation | {STATE_KEY: np.full(4, 1e38, np.float32)}  # 1e19 to the planner
    with pytest.raises(keystep.PolicyError) as caught:
        policy.act(far)
    assert caught.value.status == "rejected_plan" and policy.plan() is None
    near = observation | {STATE_KEY: zeros(4)}
    policy.act(near)
    assert np.isfinite(policy.plan()[STATE_KEY]).all() and policy.plan_progress["plans"] == 1


def test_units_that_no_float_holds(make_stub):
    changes = narrow_state(planner_std=1e38)
    with pytest.raises(keystep.BundleError, match=re.escape("planner.normalization: expected widths that")):
        make_stub(changes)
    changes["planner"]["normalization"]["mean"] = [1e300] * 4
    with pytest.raises(
        keystep.BundleError, match=re.escape("planner.normalization.std[0]: expected a width")
    ):
        make_stub(changes)


def test_nan_in_a_plan(make_stub, observation):
    policy = make_stub(subgoal_changes(), provider_options={"stub.nan_at_run": "2"})
    policy.reset(task="lift_red")
    with pytest.raises(keystep.PolicyError, match="the planner produced NaN or Inf") as caught:
        policy.act(observation)
    assert caught.value.status == "rejected_plan" and policy.plan() is None
    assert np.isfinite(policy.act(observation)).all()
    report = policy.latency()
    assert (report.rejected_plans, report.plans) == (1, 1) and "1 plans, 0 chunks rejected" in str(report)


def test_failed_replan_leaves_no_plan(make_stub, observation):
    policy = make_stub(subgoal_changes(), provider_options={"stub.nan_at_run": "6"})  # of the second plan
    rollout(policy, observation, 2)
    policy.replan()
    with pytest.raises(keystep.PolicyError, match="the planner produced NaN"):
        policy.act(observation)
    assert policy.plan() is None
    assert policy.plan_progress == {"plans": 1, "subgoal": 0, "actions": 0}
    policy.act(observation)
    assert policy.plan_progress == {"plans": 2, "subgoal": 0, "actions": 1}


def test_rejected_chunk_drops_the_plan_but_not_given_subgoals(make_stub, observation):
    policy = make_stub(subgoal_changes(), provider_options={"stub.nan_at_run": "4"})  # of the first chunk
    policy.reset(task="lift_red")
    with pytest.raises(keystep.PolicyError, match="the policy produced NaN"):
        policy.act(observation)
    policy.act(observation)
    assert policy.plan_progress["plans"] == 2
    policy = make_stub(subgoal_changes(), provider_options={"stub.nan_at_run": "2"})
    policy.reset(task="lift_red", subgoals={STATE_KEY: zeros(3, 4)})
    with pytest.raises(keystep.PolicyError, match="the policy produced NaN"):
        policy.act(observation)
    policy.act(observation)
    assert policy.plan_progress == {"plans": 0, "subgoal": 0, "actions": 1}


def test_guidance_of_a_planner_trained_without_dropout(make_stub):
    policy = make_stub(subgoal_changes(guided=False))
    policy.reset(task="lift_red", guidance=0)
    with pytest.raises(
        keystep.ArgumentError, match=r"guidance: expected 0 \(the planner was trained without"
    ):
        policy.reset(task="lift_red", guidance=1.5)
    for guidance in (-1, 1e39, 1e300, np.nan):
        with pytest.raises(keystep.ArgumentError, match=r"guidance: expected a value in \[0, 1000000\], got"):
            policy.reset(task="lift_red", guidance=guidance)


def test_plans_after_close(make_stub, observation):
    policy = make_stub(subgoal_changes())
    rollout(policy, observation, 1)
    policy.close()
    uses = [
        policy.plan,
        lambda: policy.plan_progress,
        policy.replan,
        lambda: policy.predict_plan(observation),
    ]
    for use in [*uses, lambda: policy.reset(task="lift_red")]:
        with pytest.raises(keystep.PolicyError) as caught:
            use()
        assert caught.value.status == "closed"


def test_reading_the_plan_while_another_thread_closes(make_stub, observation):
    """Large image plans: reading one takes long enough for `close` to come in between."""
    for _ in range(5):
        policy = make_stub(subgoal_changes(IMAGE))
        rollout(policy, observation, 1)
        outcomes = []

        def read(policy=policy, outcomes=outcomes):
            try:
                while True:
                    policy.plan()
            except keystep.PolicyError as error:
                outcomes.append(error.status)

        thread = threading.Thread(target=read)
        thread.start()
        policy.close()
        thread.join()
        assert outcomes == ["closed"]


def test_interrupted_ticks_allocate_nothing(make_stub, observation):
    policy = make_stub(subgoal_changes(), provider_options={"stub.sleep_us": "20000"})
    policy.reset(task="lift_red")
    done = threading.Event()

    def interrupt():
        while not done.wait(0.002):
            policy.interrupt()

    thread = threading.Thread(target=interrupt)
    thread.start()
    for _ in range(3):
        with pytest.raises(keystep.PolicyError, match="interrupted"):
            policy.act(observation)
    done.set()
    thread.join()
    assert policy.latency().allocations == 0


@pytest.mark.parametrize("shape", [(16385, 1, 3), (1, 16385, 3)])
def test_image_larger_than_any(make_stub, observation, shape):
    policy = make_stub(subgoal_changes(IMAGE, resize=True))
    policy.reset(task="lift_red")
    with pytest.raises(keystep.ArgumentError, match=r"of 1\.\.16384 pixels a side"):
        policy.act(observation | {IMAGE: np.zeros(shape, np.uint8)})
