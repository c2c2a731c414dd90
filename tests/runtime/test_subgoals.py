"""Hierarchies from Python, on the stub engine: plans, subgoals from outside, texts, and what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from subgoal_stub import (
    IMAGE,
    STATE_KEY,
    SUBGOALS,
    act_changes,
    rollout,
    subgoal_changes,
    write_onnx_graphs,
    zeros,
)

import keystep


def test_plan_holds_each_subgoal_for_n_actions(make_stub, observation):
    policy = make_stub(subgoal_changes())
    policy.reset(task="lift_red", seed=1)
    assert policy.plan() is None
    plans = []
    for tick in range(24):
        policy.act(observation)
        wanted = {"plans": tick // 12 + 1, "subgoal": tick // 4 % 3, "actions": tick % 4 + 1}
        assert policy.plan_progress == wanted
        plans.append(policy.plan()[STATE_KEY])
    assert plans[0].shape == (SUBGOALS, 4) and plans[0].dtype == np.float32
    np.testing.assert_array_equal(plans[0], plans[11])
    assert (plans[11] != plans[12]).any()
    report = policy.latency()
    assert (report.plans, report.actions, report.stages["plan"].count) == (2, 24, 2)
    assert "2 plans" in str(report) and report.allocations == 0


def test_episode_is_reproducible(make_stub, observation):
    first, second = make_stub(subgoal_changes()), make_stub(subgoal_changes())
    actions = rollout(first, observation)
    np.testing.assert_array_equal(actions, rollout(first, observation))
    np.testing.assert_array_equal(actions, rollout(second, observation))
    assert (actions != rollout(first, observation, episode=2)).any()
    assert (actions != rollout(first, observation, guidance=0.0)).any()
    np.testing.assert_array_equal(actions, rollout(first, observation, guidance=2.0))  # the manifest's


def test_plan_by_the_public_sampler(make_stub, observation):
    """Unguided, the stub's denoiser is 0.1 sample + 0.001 timestep + c; the plan is min_max of [0, 1]."""
    policy = make_stub(subgoal_changes(guided=False))
    policy.reset(instruction="Lift!", seed=5, episode=2)
    text = np.frombuffer(b"Lift!", np.uint8).mean() / 256
    bias = np.float32(text + (2 * observation[STATE_KEY] - 1).mean())
    sampler = keystep.Sampler(keystep.SamplerSpec(**policy.manifest["planner"]["sampler"]))

    def expected(noise):
        denoise = lambda x, t: np.float32(0.1) * x + np.float32(0.001 * t) + bias  # noqa: E731
        return (sampler.sample(denoise, noise) + 1) / 2

    for plan in range(2):
        policy.replan()
        noise = keystep.noise((SUBGOALS, 4), seed=5, episode=2, chunk=0x80000000 | plan)
        np.testing.assert_allclose(policy.predict_plan(observation)[STATE_KEY], expected(noise), atol=1e-5)
        policy.act(observation)
        np.testing.assert_allclose(policy.plan()[STATE_KEY], expected(noise), atol=1e-5)
    other = keystep.noise((SUBGOALS, 4), seed=9)
    np.testing.assert_allclose(policy.predict_plan(observation, other)[STATE_KEY], expected(other), atol=1e-5)
    np.testing.assert_allclose(policy.plan()[STATE_KEY], expected(noise), atol=1e-5)


def test_onnxruntime_runs_the_same_hierarchy(make_stub, observation, tmp_path):
    """With guidance in a batch of two, and without it on the first row alone; numpy does the rest."""
    make_stub(subgoal_changes()).close()
    folder = next(tmp_path.glob("stub*.keystep"))
    write_onnx_graphs(folder)
    noise = keystep.noise((SUBGOALS, 4), seed=3, chunk=0x80000000)
    with keystep.load(folder, threads=1) as policy:
        sampler = keystep.Sampler(keystep.SamplerSpec(**policy.manifest["planner"]["sampler"]))
        chunks = keystep.Sampler(keystep.SamplerSpec(**policy.manifest["sampler"]))
        for guidance, text in ((2.0, "0.5"), (0.0, "0.5"), (0.0, "-1"), (0.25, "-1")):
            policy.reset(instruction=text, seed=3, guidance=guidance)
            action = policy.act(observation)

            def both_rows(sample, timestep, number=float(text), guidance=guidance):
                guided = (1 + guidance) * (0.1 * sample + number) - guidance * 0.1 * sample
                return np.stack([guided, guided]).astype(
                    np.float32
                )  # the sampler guides equal rows to the same

            plan = (sampler.sample(both_rows, noise) + 1) / 2
            np.testing.assert_allclose(policy.plan()[STATE_KEY], plan, atol=1e-5)
            bias = np.float32((observation[STATE_KEY] + plan[0]).sum())
            chunk = chunks.sample(
                lambda x, t, bias=bias: np.float32(0.1) * x + bias, keystep.noise((4, 3), seed=3)
            )
            np.testing.assert_allclose(action, np.clip(chunk[0], -1, 1), atol=1e-5)
        with pytest.raises(keystep.Error, match=r"graphs\.text: "):
            policy.reset(instruction="not a number")
        with pytest.raises(keystep.PolicyError, match="act was called before reset"):
            policy.act(observation)
        policy.reset(instruction="7")
        assert np.isfinite(policy.act(observation)).all()


def test_replanning_on_off_and_asked_for(make_stub, observation):
    policy = make_stub(subgoal_changes(), replan=False)
    rollout(policy, observation, 20)
    assert policy.plan_progress == {"plans": 1, "subgoal": 2, "actions": 12}
    policy.replan()
    policy.act(observation)
    assert policy.plan_progress == {"plans": 2, "subgoal": 0, "actions": 1}
    assert make_stub(subgoal_changes(replan=False), replan=True).plan_progress["plans"] == 0
    policy = make_stub(subgoal_changes(replan=False), replan=True)
    rollout(policy, observation, 20)
    assert policy.plan_progress["plans"] == 2


def test_samplers_are_chosen_at_load(make_stub, observation):
    def plan(**options):
        policy = make_stub(subgoal_changes(), **options)
        rollout(policy, observation, 1)
        return policy.plan()[STATE_KEY]

    base = plan()
    np.testing.assert_array_equal(base, plan(planner_sampler="ddim", planner_steps=2))
    np.testing.assert_array_equal(base, plan(sampler="ddpm", inference_steps=100))  # the controller's
    different = [plan(planner_steps=steps) for steps in (10, 30, 50, 70)]
    different.append(plan(planner_sampler="ddpm", planner_steps=100))
    assert all((other != base).any() for other in different)


def test_subgoals_from_outside(make_stub, observation):
    policy = make_stub(subgoal_changes())
    subgoals = {STATE_KEY: np.arange(12, dtype=np.float32).reshape(3, 4)}
    rollout(policy, observation, 20, subgoals=subgoals)
    np.testing.assert_allclose(policy.plan()[STATE_KEY], subgoals[STATE_KEY], atol=1e-5)
    assert policy.plan_progress == {"plans": 0, "subgoal": 2, "actions": 12}
    assert policy.latency().plans == 0


def test_image_plans_are_pictures(make_stub, observation):
    policy = make_stub(subgoal_changes(IMAGE))
    rollout(policy, observation, 1)
    for plan in (policy.plan(), policy.predict_plan(observation)):
        assert plan[IMAGE].shape == (SUBGOALS, 6, 8, 3) and plan[IMAGE].dtype == np.uint8
    pictures = np.random.default_rng(0).integers(0, 256, (3, 6, 8, 3), np.uint8)
    rollout(policy, observation, 5, subgoals={IMAGE: pictures})
    np.testing.assert_array_equal(policy.plan()[IMAGE], pictures)


def test_images_of_another_size(make_stub, observation):
    large = observation | {IMAGE: np.full((60, 80, 3), 128, np.uint8)}  # as grey as the small one
    policy = make_stub(subgoal_changes(IMAGE, resize=True))
    np.testing.assert_array_equal(rollout(policy, large), rollout(policy, observation))
    rollout(policy, observation, subgoals={IMAGE: np.zeros((3, 12, 5, 3), np.uint8)})
    with pytest.raises(keystep.ArgumentError, match=re.escape("expected shape (height, width, 3)")):
        policy.act(observation | {IMAGE: np.zeros((6, 8), np.uint8)})
    policy = make_stub(subgoal_changes(IMAGE))
    policy.reset(task="lift_red")
    with pytest.raises(keystep.ArgumentError, match=re.escape("expected shape (6, 8, 3), got (60, 80, 3)")):
        policy.act(large)


def test_task_is_a_name_and_instruction_any_text(make_stub, observation):
    policy = make_stub(subgoal_changes())
    named = rollout(policy, observation)
    np.testing.assert_array_equal(named, rollout(policy, observation, task="Lift the red block."))
    told = {"task": None, "instruction": "Réchauffe le café ☕"}
    words = rollout(policy, observation, **told)
    assert (named != words).any()
    np.testing.assert_array_equal(named, rollout(policy, observation | {"task": "lift_red"}, task=None))
    repeated = observation | {"task": told["instruction"]}
    np.testing.assert_array_equal(words, rollout(policy, repeated, **told))
    with pytest.raises(
        keystep.ArgumentError, match="task: expected 'Réchauffe le café ☕' as given to reset"
    ):
        policy.act(observation | {"task": "others"})


def test_images_of_sizes_seen_before_allocate_nothing(make_stub, observation):
    policy = make_stub(subgoal_changes(IMAGE, resize=True))
    policy.reset(task="lift_red")
    seen = [observation | {IMAGE: np.full(size, 9, np.uint8)} for size in ((60, 80, 3), (30, 40, 3))]
    for large_or_small in (*seen, *seen):
        for _ in range(4):  # one chunk, and one subgoal
            policy.act(large_or_small)
    policy.reset_latency()
    for i in range(48):
        policy.act(seen[i // 4 % 2])
    assert policy.latency().allocations == 0


def test_plans_as_floats(make_stub, observation):
    policy = make_stub(subgoal_changes(IMAGE))
    rollout(policy, observation, 1)
    floats = policy.predict_plan(observation, as_float=True)[IMAGE]
    assert floats.shape == (SUBGOALS, 3, 6, 8) and floats.dtype == np.float32
    pictures = (floats.clip(0, 1) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(policy.predict_plan(observation)[IMAGE], pictures)


def test_flat_policies_have_no_planner(make_stub, observation):
    policy = make_stub()
    for refused in (
        lambda: policy.reset(task="lift_red", guidance=1.0),
        lambda: policy.reset(task="lift_red", subgoals={STATE_KEY: zeros(3, 4)}),
        lambda: policy.predict_plan(observation),
        policy.plan,
        policy.replan,
        lambda: make_stub(planner_steps=10),
        lambda: make_stub(planner_sampler="ddpm"),
        lambda: make_stub(replan=False),
    ):
        with pytest.raises(keystep.ArgumentError, match="planner"):
            refused()


def test_one_step_controller(make_stub, observation):
    policy = make_stub(act_changes())
    policy.reset(task="push_red_left")
    chunk = policy.predict_chunk(observation)
    np.testing.assert_array_equal(
        np.stack([policy.act(observation) for _ in range(4)]), np.clip(chunk, -1, 1)
    )
    with pytest.raises(keystep.PolicyError, match="noise: expected none"):
        policy.predict_chunk(observation, zeros(4, 3))
    with pytest.raises(keystep.ArgumentError, match="inference_steps: expected 0"):
        make_stub(act_changes(), inference_steps=10)
