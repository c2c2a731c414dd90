"""keystep.evaluate: the protocols of HD-ExpIt, what they hand to the policy, and how results are shown."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest

import keystep

pytest.importorskip("gymnasium")

from fake_env import ENV_ID, TASKS, FakeHierarchy, ReachEnv, made_up_report

from keystep import cli
from keystep.evaluate import Evaluation, evaluate, evaluate_chains, standard_error
from keystep.evaluate.chains import shares
from keystep.evaluate.parallel import play
from keystep.evaluate.report import task_report
from keystep.evaluate.settings import draw_chain
from keystep.evaluate.tables import report_markdown
from keystep.suites.franka3blocks.instructions import HELD_OUT_CARRIERS, HELD_OUT_KINDS, held_out

STUB_TASKS = ("lift_red", "push_red_left")
BEGINNINGS = tuple(carrier.partition("{}")[0] for carrier in HELD_OUT_CARRIERS)


# ---- tasks in a row


def test_chains_are_drawn_from_the_seed():
    chains = [draw_chain(TASKS, 3, seed=4, index=index) for index in range(40)]
    assert chains == [draw_chain(TASKS, 3, seed=4, index=index) for index in range(40)]
    assert all(len(set(chain)) == 3 and set(chain) <= set(TASKS) for chain in chains)
    assert len(set(chains)) > 10
    assert chains != [draw_chain(TASKS, 3, seed=5, index=index) for index in range(40)]
    jobs = Evaluation(ENV_ID, TASKS, 40, seed=4, noise_seeds=(7, 8), chain_length=3).jobs
    assert [job.tasks for job in jobs] == chains * 2  # the same chains for both seeds of the noise
    assert [job.noise_seed for job in jobs] == [7] * 40 + [8] * 40


def chain_by_hand(policy, chain, index, seed):
    """Tasks solved in a row, with nothing of keystep.evaluate."""
    env = ReachEnv("state")
    observation, _ = env.reset(seed=seed + index, options={"task": chain[0]})
    for position, task in enumerate(chain):
        if position:
            observation, _ = env.set_task(task)
        policy.reset(task=task, seed=seed, episode=index * len(chain) + position)
        done = False
        while not done:
            observation, _, terminated, truncated, info = env.step(policy.act(observation))
            done = terminated or truncated
        if not info["success"]:
            return position
    return len(chain)


def test_chains_stop_at_the_first_failure():
    policy = FakeHierarchy()
    report = evaluate_chains(policy, ENV_ID, TASKS, chains=30, seed=3, length=4)
    resets = list(policy.resets)
    by_hand = [chain_by_hand(policy, draw_chain(TASKS, 4, 3, index), index, 3) for index in range(30)]
    reached = [chain.reached for chain in report.chains]
    assert reached == by_hand and len(set(reached)) >= 3
    assert len(resets) == sum(min(solved + 1, 4) for solved in reached)  # none after the first failure
    assert report.average_length == pytest.approx(np.mean(by_hand))
    assert report.error == pytest.approx(np.std(by_hand, ddof=1) / np.sqrt(30))
    assert report.reached == pytest.approx([np.mean(np.array(by_hand) >= count) for count in (1, 2, 3, 4)])
    for word in ("30 chains", f"{report.average_length:.2f} +- {report.error:.2f}"):
        assert word in str(report)
    json.dumps(report.to_dict(), allow_nan=False)


def test_no_reset_within_a_chain(monkeypatch):
    """Every task but the first starts where the one before has ended."""
    starts = []

    def set_task(env, task):
        starts.append((env.total, task))
        return original(env, task)

    original = ReachEnv.set_task
    monkeypatch.setattr(ReachEnv, "set_task", set_task)
    report = evaluate_chains(FakeHierarchy(shift=2.0), ENV_ID, TASKS, chains=3, seed=3, length=4)
    assert report.reached == (1.0,) * 4
    chains = [draw_chain(TASKS, 4, 3, index) for index in range(3)]
    assert [task for _, task in starts] == [task for chain in chains for task in chain[1:]]
    assert all(total > 0 for total, _ in starts)


def test_shares_and_errors():
    assert shares([0, 1, 5, 5], 5) == (0.75, 0.5, 0.5, 0.5, 0.5)
    values = [0.2, 0.4, 0.9]
    assert standard_error(values) == pytest.approx(np.std(values, ddof=1) / np.sqrt(3))
    assert standard_error([1.0]) is None


def test_chains_in_processes_and_of_a_flat_policy(stub_bundle):
    open_policy = functools.partial(keystep.load, stub_bundle, engine="stub")
    one, two = (
        evaluate_chains(open_policy, ENV_ID, STUB_TASKS, chains=6, seed=1, length=2, processes=processes)
        for processes in (1, 2)
    )
    assert one.chains == two.chains and 0 < one.average_length < 2


# ---- what the policy is told


def test_noise_seeds_repeat_the_same_resets():
    policy = FakeHierarchy()
    report = evaluate(policy, ENV_ID, TASKS[:2], episodes=8, seed=3, noise_seeds=(0, 1, 2))
    assert [reset["seed"] for reset in policy.resets] == [0] * 16 + [1] * 16 + [2] * 16
    assert [reset["episode"] for reset in policy.resets] == list(range(8)) * 6
    single = [evaluate(FakeHierarchy(), ENV_ID, TASKS[:2], 8, 3, noise_seeds=(seed,)) for seed in range(3)]
    rates = [one.total.success_rate for one in single]
    assert report.total.by_seed == pytest.approx(rates) and len(set(rates)) > 1
    assert report.total.seed_deviation == pytest.approx(np.std(rates, ddof=1))
    solved = np.array(report.tasks[0].solved).reshape(3, 8)  # seeds, resets
    assert report.tasks[0].error == pytest.approx(np.std(solved.mean(0), ddof=1) / np.sqrt(8))
    both = np.array([task.solved for task in report.tasks]).reshape(2, 3, 8)
    assert report.total.error == pytest.approx(np.std(both.mean((0, 1)), ddof=1) / np.sqrt(8))
    assert report.total.interval is None and report.to_dict()["total"]["wilson_95"] is None
    assert single[0].total.interval is not None and single[0].total.seed_deviation is None
    for word in ("std. error", "over seeds"):
        assert word in str(report) and word not in str(single[0])


def test_chain_errors_are_over_resets():
    report = evaluate_chains(FakeHierarchy(), ENV_ID, TASKS, 10, 3, length=2, noise_seeds=(0, 1, 2))
    assert len(report.by_seed) == 3
    assert report.average_length == pytest.approx(np.mean(report.by_seed))
    reached = np.array([chain.reached for chain in report.chains]).reshape(3, 10).mean(0)
    assert report.error == pytest.approx(np.std(reached, ddof=1) / np.sqrt(10))
    assert report.seed_deviation == pytest.approx(np.std(report.by_seed, ddof=1))
    assert f"over noise seeds {report.seed_deviation:.2f}" in str(report)
    assert f"(σ {report.seed_deviation:.2f})" in report_markdown({"one": report})


def test_guidance_and_paraphrases_reach_the_policy():
    policy = FakeHierarchy()
    sentences = {"stack": ("Pile them up.", "One on the other."), "lift_red": ("Up with it.",)}
    tasks = ("stack", "lift_red")
    evaluate(policy, ENV_ID, tasks, episodes=3, guidance=2.5, instructions=sentences)
    told = [reset["instruction"] for reset in policy.resets]
    assert told == ["Pile them up.", "One on the other.", "Pile them up."] + ["Up with it."] * 3
    assert {reset["guidance"] for reset in policy.resets} == {2.5}
    policy.resets.clear()
    evaluate(policy, ENV_ID, tasks, episodes=1)
    assert [(reset["task"], "guidance" in reset) for reset in policy.resets] == [
        ("stack", False),
        ("lift_red", False),
    ]


def test_ground_truth_comes_from_the_expert(monkeypatch):
    """Every n-th frame of its demonstration from the same reset; resets where it fails do not count."""
    from keystep.suites.franka3blocks.expert import STACK_CENTRED_M

    def rollout(env, task, seed, stack_aligned_m):
        assert stack_aligned_m == STACK_CENTRED_M
        if seed == 12:
            return None
        return {"observation.state": np.tile(seed + np.arange(5, dtype=np.float32)[:, None], 4)}

    monkeypatch.setattr("keystep.suites.franka3blocks.demonstrations.rollout_expert", rollout)
    policy = FakeHierarchy()
    report = evaluate(policy, ENV_ID, TASKS[:1], episodes=4, seed=10, ground_truth=True)
    assert len(policy.resets) == 3
    given = policy.resets[1]["subgoals"]["observation.state"]
    np.testing.assert_array_equal(given[:, 0], 11 + np.array([2, 4, 4]))  # the last frame stands in
    assert given.dtype == np.float32 and given.flags.c_contiguous
    assert (report.tasks[0].episodes, report.tasks[0].skipped) == (3, 1)
    assert "(1 without demonstration)" in str(report)


def test_policy_faults_end_a_chain():
    report = evaluate_chains(FakeHierarchy(fault_at=3), ENV_ID, TASKS, chains=2, seed=3, length=2)
    assert all(chain.fault and chain.reached == 0 and chain.steps == 3 for chain in report.chains)
    assert "(2 policy faults)" in str(report)


def test_refusals(stub_bundle):
    with keystep.load(stub_bundle, engine="stub") as flat:
        for settings, words in (
            ({"guidance": 1.0}, "guidance: expected a policy with a planner, got 'flat'"),
            ({"ground_truth": True}, "ground_truth: expected a policy with a planner"),
            ({"instructions": {"lift_red": ("Up!",)}}, "instructions: expected a policy with a planner"),
        ):
            with pytest.raises(keystep.ArgumentError, match=words):
                evaluate(flat, ENV_ID, STUB_TASKS[:1], episodes=1, **settings)
    for settings, words in (
        ({"chain_length": 5}, "tasks: expected 5 for a chain of as many, got 4"),
        ({"chain_length": 2, "ground_truth": True}, "ground_truth: expected single tasks"),
        ({"noise_seeds": (1, 1)}, "noise_seeds: expected each once"),
        ({"instructions": {"stack": ("Pile.",)}}, "instructions: expected at least one for every task"),
        ({"tasks": ("stack", "stack")}, "tasks: expected each once"),
        ({"chain_length": 0}, "chain_length: expected at least 1, got 0"),
        ({"seed": -1}, r"seed: expected 0 to 2\^63 - 1, got -1"),
        ({"noise_seeds": (1, 2**63)}, r"noise_seeds: expected 0 to 2\^63 - 1, got 9"),
    ):
        with pytest.raises(keystep.ArgumentError, match=words):
            Evaluation(ENV_ID, **{"tasks": TASKS} | settings)


def test_any_number_of_held_out_sentences_has_all_kinds():
    found = held_out("stack")
    for start in range(0, len(found), 3):
        frames = [sentence.startswith(BEGINNINGS) for sentence in found[start : start + 3]]
        assert frames == [True, False, False]  # carriers that training lacks come first of three
    said = {name: held_out(name) for name in TASKS}
    evaluation = Evaluation(ENV_ID, ("stack", "lift_red"), 7, instructions=said, kinds=HELD_OUT_KINDS)
    report = task_report(evaluation, play(FakeHierarchy(), evaluation))
    assert [kind.name for kind in report.kinds] == ["carrier", "frame", "words"]
    assert [kind.episodes for kind in report.kinds] == [6, 4, 4]
    assert report.kinds[0].solved[:3] == report.tasks[0].solved[::3]
    assert "| carrier |" in report_markdown({"one": report}) and "\nwords " in str(report)


# ---- tables and pictures


def test_markdown_of_several_policies():
    solved = {"lift_red": [True, True, False, True], "stack": [False, True, False, False]}
    one, other = made_up_report(solved), made_up_report({task: [True] * 4 for task in solved})
    table = report_markdown({"one": one, "other": other}).splitlines()
    assert table[0] == "| task | one | other |"
    assert table[2].startswith("| lift_red | 75.0 % (30.1..95.4) | 100.0 % (")
    assert table[4].startswith("| **all** | 50.0 % (")
    assert "MTLC; 8 episodes from seed 0; 95 % Wilson intervals" in table[-1]
    seeds = report_markdown({"one": made_up_report(solved, seeds=(0, 1))})
    assert "| lift_red | 37.5 ± 12.5 % (σ 53.0) |" in seeds and "deviation over 2 noise seeds" in seeds


def test_skipped_episodes_do_not_weigh_a_task_less():
    """All: the mean over tasks, where ground truth leaves unequal numbers of episodes."""
    report = made_up_report({"lift_red": [True] * 4, "stack": [False, None, None, True]}, seeds=(0,))
    stack, total = report.tasks[1], report.total
    assert (stack.episodes, stack.skipped, stack.success_rate) == (2, 2, 0.5)
    assert total.success_rate == total.by_seed[0] == 0.75 and total.successes == 5
    assert total.interval is None and total.error > 0
    nothing = made_up_report({"lift_red": [True] * 4, "stack": [None] * 4}, seeds=(0, 1))
    assert nothing.tasks[1].success_rate is None and nothing.tasks[1].by_seed == (None, None)
    assert nothing.total.success_rate == 0.5 and nothing.total.by_seed == (1.0, 0.0)
    json.dumps(nothing.to_dict(), allow_nan=False)
    assert "(8 without demonstration)" in str(nothing)
    table = report_markdown({"one": report, "other": nothing})
    assert "| 50.0 % (9.5..90.5) [2 skipped] | - [8 skipped] |" in table
    assert "± standard error over resets; 2 episodes without a demonstration skipped" in table
    pytest.importorskip("matplotlib")
    from keystep.evaluate.plots import report_figure

    figure = report_figure({"one": report, "other": nothing})
    assert [text.get_text() for text in figure.legends[0].texts] == ["one (2 skipped)", "other (8 skipped)"]
    assert "skipped" in figure.get_supxlabel()


def test_commands_write_tables_and_plots(stub_onnx, tmp_path, capsys):
    files = {kind: tmp_path / f"result.{kind}" for kind in ("json", "markdown", "plot")}
    options = [word for kind, path in files.items() for word in (f"--{kind}", str(path))]
    common = ["--env", ENV_ID, "--episodes", "4", "--tasks", *STUB_TASKS, "--noise-seeds", "0", "1", *options]
    for protocol in (["--protocol", "mtlc"], ["--protocol", "lh-mtlc", "--chain-length", "2"]):
        assert cli.run(["eval", str(stub_onnx), *protocol, *common]) == 0
        out = capsys.readouterr().out
        assert out.index("about") < out.index("latency of one process")
        result = json.loads(files["json"].read_text())
        assert result["settings"]["noise_seeds"] == [0, 1] and result["machine"]["cores"]
        assert files["markdown"].read_text().startswith("| task")
        assert files["plot"].read_bytes().startswith(b"\x89PNG")
    assert result["settings"]["protocol"] == "LH-MTLC" and len(result["chains"]) == 8
    assert sorted(tmp_path.glob("result*")) == sorted(files.values())


def test_commands_refuse(stub_bundle, capsys):
    for arguments, words in (
        (["eval"], "bundles: expected one"),
        (["eval", str(stub_bundle), str(stub_bundle), "--reference", "a"], "bundles"),
        (
            ["eval", str(stub_bundle), "--reference", "a", "b"],
            "reference: expected the checkpoint of the policy, got 2",
        ),
        (
            ["eval", str(stub_bundle), "--reference", "a", "--provider", "cuda"],
            "provider: expected cpu with reference, got 'cuda'",
        ),
        (["eval", str(stub_bundle), "--tasks", "dance"], "task: expected one of lift_red, push_red_left"),
        (["fig10", str(stub_bundle)], "family: expected subgoal, got 'flat'"),
        (["plans", str(stub_bundle)], "family"),
    ):
        assert cli.run(arguments) == 2
        assert words in capsys.readouterr().err


@pytest.fixture
def stub_onnx(onnx_bundle):
    pytest.importorskip("matplotlib")
    return onnx_bundle
