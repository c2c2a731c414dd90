"""keystep.evaluate: counting, intervals, seeds, and what a profile says."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest

import keystep
from keystep import cli
from keystep.commands.options import PolicyOptions
from keystep.evaluate import Evaluation, EvaluationReport, TaskResult, evaluate, profile, wilson_interval
from keystep.evaluate.golden_cases import golden_cases
from keystep.evaluate.rollout import Worker
from keystep.files import write_json

ENV_ID = "fake_env:keystep-test/Reach-v0"
TASKS = ("lift_red", "push_red_left")


pytest.importorskip("gymnasium")


def open_stub(stub_bundle, **options):
    return functools.partial(keystep.load, stub_bundle, engine="stub", **options)


# ---- intervals and counting -----------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 10, 100, 997])
def test_wilson_interval_is_scipy_s(n):
    stats = pytest.importorskip("scipy.stats")
    for successes in {0, 1, n // 3, n // 2, n - 1, n}:
        interval = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
        np.testing.assert_allclose(wilson_interval(successes, n), (interval.low, interval.high), atol=1e-12)


def test_wilson_interval_edges():
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(0, 10)[0] == 0.0 and wilson_interval(10, 10)[1] == 1.0
    for successes in (-1, 11):
        with pytest.raises(ValueError, match="successes"):
            wilson_interval(successes, 10)


def test_families_merge_their_tasks():
    tasks = (
        TaskResult("lift_red", 10, 8, mean_steps=20.0),
        TaskResult("lift_blue", 10, 2, faults=1, mean_steps=40.0),
        TaskResult("stack", 10, 0),
    )
    report = EvaluationReport(env="env", seed=0, tasks=tasks, seconds=1.0)
    lift, stack = report.families
    assert (lift.name, lift.episodes, lift.successes, lift.faults) == ("lift", 20, 10, 1)
    assert lift.mean_steps == pytest.approx((8 * 20 + 2 * 40) / 10)
    assert stack.mean_steps is None
    assert report.total.interval == wilson_interval(10, 30)
    for word in ("lift_red", "8/10", "80.0%", "all", "10/30", "(1 policy faults)"):
        assert word in str(report)


# ---- closed loop ----------------------------------------------------------------------------------


def replay(policy, episode, seed):
    """One episode by hand, with nothing of keystep.evaluate."""
    from fake_env import ReachEnv  # after importorskip

    env = ReachEnv("rgb")
    observation, info = env.reset(seed=seed + episode, options={"task": "lift_red"})
    policy.reset(task="lift_red", seed=seed, episode=episode)
    done = False
    while not done:
        action = policy.act({key: observation[key] for key in list(observation)[:2]})
        observation, _, terminated, truncated, info = env.step(action)
        done = terminated or truncated
    return info["success"], env.steps


def test_evaluate_counts_what_happens(stub_bundle):
    seen = []
    with keystep.load(stub_bundle, engine="stub") as policy:
        report = evaluate(policy, ENV_ID, TASKS, episodes=12, seed=5, on_episode=seen.append)
        by_hand = [replay(policy, episode, seed=5) for episode in range(12)]
    lift = report.tasks[0]
    assert lift.solved == tuple(success for success, _ in by_hand)
    assert 0 < lift.successes < 12  # the fake environment is neither always nor never solved
    assert lift.mean_steps == pytest.approx(np.mean([steps for success, steps in by_hand if success]))
    assert [task.name for task in report.tasks] == list(TASKS) and len(seen) == 24
    assert report.latency[0]["actions"] >= 24
    json.dumps(report.to_dict(), allow_nan=False)


def test_processes_change_nothing(stub_bundle):
    open_policy = open_stub(stub_bundle)
    one = evaluate(open_policy, ENV_ID, TASKS, episodes=6, seed=1)
    two = evaluate(open_policy, ENV_ID, TASKS, episodes=6, seed=1, processes=2)
    assert two.tasks == one.tasks
    assert 1 <= len(two.latency) <= 2
    assert sum(report["actions"] for report in two.latency) == one.latency[0]["actions"]


def test_policy_faults_fail_the_episode(stub_bundle):
    report = evaluate(
        open_stub(stub_bundle, provider_options={"stub.nan_at_run": "1"}), ENV_ID, TASKS[:1], episodes=3
    )
    assert report.tasks[0].faults == 1 and report.tasks[0].solved[0] is False


def test_cost_is_measured(stub_bundle):
    worker = Worker(open_stub(stub_bundle)(), Evaluation(ENV_ID, TASKS, 2))
    assert 0 < worker.seconds_per_step() < 1
    assert worker.max_episode_steps == 20


def test_refusals(stub_bundle, make_stub, goal_manifest):
    open_policy = open_stub(stub_bundle)
    with pytest.raises(
        keystep.ArgumentError, match="task: expected one of lift_red, push_red_left, got 'dance'"
    ):
        evaluate(open_policy, ENV_ID, ["dance"], episodes=1)
    with pytest.raises(keystep.ArgumentError, match="tasks"):
        evaluate(open_policy, ENV_ID, [], episodes=1)
    with pytest.raises(keystep.ArgumentError, match="episodes: expected at least 1, got 0"):
        evaluate(open_policy, ENV_ID, TASKS, episodes=0)
    with pytest.raises(keystep.ArgumentError, match="goal"):
        evaluate(make_stub(goal_manifest), ENV_ID, ["anything"], episodes=1)
    with open_policy() as policy, pytest.raises(keystep.ArgumentError, match="policy"):
        evaluate(policy, ENV_ID, TASKS, episodes=1, processes=2)
    with pytest.raises(keystep.ArgumentError, match="env"):
        evaluate(open_policy, "keystep/Nowhere-v0", TASKS, episodes=1)


# ---- commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("the simulator broke")])
def test_what_was_played_is_kept(onnx_bundle, tmp_path, monkeypatch, error):
    """The bundles before it whole, of the one that ended its episodes so far."""
    from fake_env import ReachEnv  # after importorskip

    def reset(env, **arguments):
        observation = original(env, **arguments)
        env.resets = getattr(env, "resets", 0) + 1
        if env.resets == 6 and len(started) == 2:
            raise error
        return observation

    original, started = ReachEnv.reset, []
    monkeypatch.setattr(ReachEnv, "reset", reset)
    monkeypatch.setattr("keystep.commands.eval.cost", lambda *_: started.append(1) or "about 1 s")
    path = tmp_path / "kept.json"
    options = ["--env", ENV_ID, "--episodes", "4", "--tasks", *TASKS, "--json", str(path)]
    status = cli.run(["eval", str(onnx_bundle), str(onnx_bundle), *options])
    assert status == (130 if error is KeyboardInterrupt else 2)
    whole, part = json.loads(path.read_text())["reports"].values()
    assert whole["total"]["episodes"] == 8 and part["total"]["episodes"] == 5
    assert part["tasks"][0]["solved"] == whole["tasks"][0]["solved"]
    assert part["settings"]["unfinished"].startswith("5 of 8") and "unfinished" not in whole["settings"]


def test_the_reference_executes_what_the_bundle_does(monkeypatch):
    pytest.importorskip("torch")
    from keystep.commands import reference

    given = {}
    monkeypatch.setattr(
        "keystep.models.reference_hierarchy.ReferenceHierarchy", lambda *_, **options: given.update(options)
    )
    sampler = keystep.SamplerSpec(
        kind="ddim", train_steps=2, inference_steps=2, beta_schedule="table", betas=[0.1, 0.2]
    ).as_dict()
    manifest = {
        "chunk": {"execute": 3},
        "planner": {"replan": False, "sampler": sampler},
        "sampler": sampler | {"inference_steps": 1},
    }
    reference.hierarchy((Path("planner"), Path("controller")), manifest, PolicyOptions())
    assert (given["execute"], given["replan"]) == (3, False)
    assert given["planner_sampler"] == sampler | {"betas": (0.1, 0.2)}
    assert given["controller_sampler"]["inference_steps"] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampler": "ddmp"}, r"^sampler: expected ddpm \| ddim, got 'ddmp'"),
        ({"planner_sampler": "ddmp"}, r"^planner_sampler: expected ddpm \| ddim, got 'ddmp'"),
        ({"planner_sampler": "flow_euler"}, r"^planner_sampler: expected ddpm \| ddim, got 'flow_euler'"),
        ({"planner_steps": 101}, r"^planner_steps: expected 0 .the bundle's. or 1\.\.100, got 101"),
        ({"inference_steps": -1}, "^inference_steps: expected .* got -1"),
    ],
)
@pytest.mark.parametrize("controller", [True, False])
def test_the_reference_refuses_the_samplers_that_the_runtime_does(monkeypatch, options, words, controller):
    """Before a checkpoint is read; without a sampler (ACT) the controller takes no option of it."""
    pytest.importorskip("torch")
    from keystep.commands import reference

    monkeypatch.setattr("keystep.models.reference_hierarchy.ReferenceHierarchy", lambda *_, **options: None)
    sampler = keystep.SamplerSpec().as_dict()
    manifest = {
        "chunk": {"execute": 3},
        "planner": {"replan": False, "sampler": sampler},
        "sampler": sampler if controller else None,
    }
    if not controller and "planner" not in next(iter(options)):
        words = "expected a policy with a sampler, got one without"
    with pytest.raises(keystep.ArgumentError, match=words):
        reference.hierarchy((Path("planner"), Path("controller")), manifest, PolicyOptions(**options))
    reference.hierarchy((Path("planner"), Path("controller")), manifest, PolicyOptions())


def test_the_reference_of_a_flow_takes_no_diffusion():
    from keystep.commands.reference import changed

    flow = keystep.SamplerSpec(
        kind="flow_euler", prediction="velocity", timestep_rule="trailing", clip_sample=False
    ).as_dict()
    assert changed(flow, "bundle", 3)["inference_steps"] == 3
    with pytest.raises(keystep.ArgumentError, match=r"^sampler: expected flow_euler, got 'ddim'"):
        changed(flow, "ddim", 0)


def test_cost_is_shared_by_the_cores_there_are(stub_bundle, monkeypatch):
    from keystep.commands import eval as command

    monkeypatch.setattr("keystep.commands.eval.usable_cores", lambda: 2)
    monkeypatch.setattr(Worker, "seconds_per_step", lambda worker: 0.5)
    open_policy = open_stub(stub_bundle)
    evaluation = Evaluation(ENV_ID, TASKS, 4)
    assert command.cost(open_policy, evaluation, 64).startswith("about 40 s (500.0 ms a step, 20 steps")
    assert command.cost(open_policy, evaluation, 1).startswith("about 80 s")


# ---- profile --------------------------------------------------------------------------------------


def test_profile_of_the_stub(stub_bundle):
    report = profile(stub_bundle, ticks=103, engine="stub")
    assert report.latency.actions == 103
    assert report.latency.stages["tick"].count == 103
    assert report.allocations_per_tick == 0
    assert report.act_from_chunk_us is not None and report.act_from_chunk_us > 0
    assert report.peak_memory_mb >= report.loaded_memory_mb > 0
    assert report.machine["cores"] >= 1 and report.inference_steps == 2
    json.dumps(report.to_dict(), allow_nan=False)
    for word in ("time per action", "allocations per tick", "MB", report.machine["cpu"]):
        assert word in str(report)


def test_profile_runs_the_golden_observations(stub_bundle):
    cases = golden_cases(stub_bundle, keystep.read_manifest(stub_bundle))
    assert [case.task for case in cases] == ["lift_red", "push_red_left", "lift_red"]
    assert cases[0].goal is None
    assert set(cases[0].observation) == {"observation.state", "observation.images.static"}


def test_profile_of_no_ticks(stub_bundle):
    with pytest.raises(keystep.ArgumentError, match="ticks: expected at least 1, got 0"):
        profile(stub_bundle, ticks=0, engine="stub")


def test_json_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "figures.json"
    write_json(path, {"old": 1})
    with pytest.raises(ValueError):
        write_json(path, {"value": float("nan")})

    def no_space(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]
