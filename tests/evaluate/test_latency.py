"""The world goes on while the policy thinks: declared latencies, and success under them."""

from __future__ import annotations

import functools
import json
import math

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")

from eval_runs import run, state_bundle
from fake_env import made_up_report

import keystep
from keystep import cli
from keystep.commands.eval_latency import LatencyOptions
from keystep.evaluate import evaluate
from keystep.evaluate.latencies import LoopRule, declared
from keystep.evaluate.latency_sweep import LatencyCell, LatencySweep, paired, plan_cells
from keystep.uncertainty import paired_interval, wilson_interval

ENV_ID = "fake_env:keystep-test/Reach-v0"


def profile_file(path, plans=3):
    """What `keystep profile --json` writes, as far as it is read."""
    quantiles = {"p50_us": 2000, "p90_us": 4000, "p99_us": 8000, "p999_us": 9000, "max_us": 9500}
    stages = {
        name: quantiles | {"count": count}
        for name, count in (("observe", 9), ("encode", 9), ("denoise", 9), ("plan", plans))
    }
    path.write_text(json.dumps({"format": "keystep-profile", "version": 1, "latency": {"stages": stages}}))
    return path


# ---- what is declared ------------------------------------------------------------------------------


def test_periods_and_ms():
    latency = declared("chunk=3,plan=50ms")
    assert latency.virtual_time(60) == keystep.VirtualTime(chunk=(3.0,), plan=(3.0,))
    assert latency.virtual_time(20) == keystep.VirtualTime(chunk=(3.0,), plan=(1.0,))
    assert declared("0").is_zero and declared("chunk=0,plan=0").is_zero and not latency.is_zero


def test_a_profile_s_distribution(tmp_path):
    time = declared(str(profile_file(tmp_path / "p.json"))).virtual_time(1000)
    assert len(time.chunk) == len(time.plan) == 1000
    for share, ms in ((0.5, 2), (0.9, 4), (0.99, 8), (0.999, 9)):
        np.testing.assert_allclose(np.quantile(time.plan, share), ms, rtol=0.02)
        np.testing.assert_allclose(np.quantile(time.chunk, share), 3 * ms, rtol=0.02)  # of three stages
    without = profile_file(tmp_path / "none.json", plans=0)
    assert declared(str(without)).virtual_time(1000).plan == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "latency: expected 0, FILE.json, or chunk=.. and plan=.., each once, got ''"),
        ("3", "latency: expected 0, FILE.json"),
        ("chunk=3,chunk=4", "latency: expected 0, FILE.json"),
        ("chunk=-1", "latency.chunk: expected a number of control periods, of ms .*, got '-1'"),
        ("plan=fast", "latency.plan: expected a number of control periods"),
        ("plan=nothing.json", "latency.plan: expected a readable file"),
        ("chunk=" + 400 * "9", "latency.chunk: expected a number"),
        ("chunk=٣", "latency.chunk: expected a number"),
    ],
)
def test_what_is_no_latency_is_named(text, message):
    with pytest.raises(keystep.ArgumentError, match=message):
        declared(text)


def test_a_file_that_is_no_profile_is_named(tmp_path):
    stages = {stage: {"count": math.inf} for stage in ("observe", "encode", "denoise")}
    endless = json.dumps({"latency": {"stages": stages}})
    for content in ("[]", "{", '{"latency": {"stages": {}}}', endless, 100_000 * "["):
        (tmp_path / "other.json").write_text(content)
        with pytest.raises(keystep.ArgumentError, match=r"latency.chunk: expected .*other.json to be of"):
            declared(f"chunk={tmp_path / 'other.json'}")


def test_rules_name_what_does_not_go_together():
    with pytest.raises(keystep.ArgumentError, match="merge: expected none in mode lockstep, got 'blend'"):
        LoopRule("lockstep", "blend")
    with pytest.raises(keystep.ArgumentError, match="control_rate: expected more than 0, got 0"):
        plan_cells([LoopRule("async")], [], [0.0])


def test_cells_begin_without_latency_and_ms_are_played_at_every_rate():
    rules = [LoopRule("lockstep"), LoopRule("async", "blend")]
    cells = plan_cells(rules, [declared("chunk=3"), declared("0"), declared("chunk=9ms")], [20.0, 60.0])
    seen = [(cell.rule.name, cell.latency.text, cell.rate_hz) for cell in cells]
    one = [("0", None), ("chunk=3", None), ("chunk=9ms", 20.0), ("chunk=9ms", 60.0)]
    assert seen == [(name, *cell) for name in ("lockstep", "async blend") for cell in one]
    actions = [cell.periods["chunk"] for cell in cells[:4]]
    assert actions == pytest.approx([0, 3, 0.18, 0.54])  # the same latency, at another rate more actions


def test_a_control_rate_changes_the_actions_of_a_profile_s_latency(tmp_path):
    spread = {"count": 5, "p50_us": 40e3, "p90_us": 40e3, "p99_us": 40e3, "p999_us": 40e3, "max_us": 40e3}
    nothing = dict.fromkeys(spread, 0.0) | {"count": 5}
    stages = {"observe": nothing, "encode": nothing, "denoise": spread, "plan": nothing | {"count": 0}}
    (tmp_path / "a.json").write_text(json.dumps({"format": "keystep-profile", "latency": {"stages": stages}}))
    cells = plan_cells([LoopRule("async")], [declared(str(tmp_path / "a.json"))], [25.0, 50.0, 100.0])
    assert [cell.rate_hz for cell in cells] == [None, 25.0, 50.0, 100.0]
    for cell in cells[1:]:
        taken = cell.load_options()["virtual_time"].chunk
        assert len(taken) == 1000 and set(taken) == {0.04 * cell.rate_hz}


def test_options_of_the_command_are_cells():
    manifest = {"control_rate_hz": 60.0}
    options = LatencyOptions(latency=("chunk=50ms",), mode=("async",), control_rate=(30.0, 60.0))
    assert [cell.periods["chunk"] for cell in options.cells(manifest)] == pytest.approx([0, 1.5, 3])
    weighed = LatencyOptions(
        merge=("x0blend", "replace"), merge_decay=("linear",), merge_overlap=(2, 6), latency=("0",)
    )
    names = [cell.rule.name for cell in weighed.cells(manifest)]
    assert names == ["async x0blend linear overlap 2", "async x0blend linear overlap 6", "async replace"]
    loaded = weighed.cells(manifest)[1].load_options()
    assert (loaded["merge_decay"], loaded["merge_overlap"]) == ("linear", 6)
    assert weighed.cells(manifest)[2].load_options()["merge_overlap"] is None


def test_what_says_the_same_is_one_cell():
    texts = ("chunk=3,plan=12", "plan=12,chunk=3.0", "chunk=3ms", "chunk=3.ms", "chunk=4")
    cells = plan_cells([LoopRule("async")], [declared(text) for text in texts], [20.0])
    assert [cell.latency.text for cell in cells] == ["0", "chunk=3,plan=12", "chunk=3ms", "chunk=4"]


# ---- differences of pairs --------------------------------------------------------------------------


def test_paired_intervals():
    rng = np.random.default_rng(5)
    for _ in range(50):
        first = list(rng.random(40) < rng.random())
        second = [value if rng.random() < 0.8 else not value for value in first]
        low, high = paired_interval(first, second)
        change = (sum(second) - sum(first)) / 40
        assert -1 - 1e-9 <= low <= change <= high <= 1 + 1e-9
        np.testing.assert_allclose(paired_interval(second, first), (-high, -low))
    with pytest.raises(ValueError, match="second: expected as many as first"):
        paired_interval([True], [])


def test_pairs_that_agree_say_more_than_their_sums():
    first = [True] * 50 + [False] * 50
    alike = paired_interval(first, first)
    crossed = paired_interval(first, first[::-1])
    low, high = wilson_interval(50, 100)
    assert alike[1] - alike[0] < 0.6 * (crossed[1] - crossed[0])
    assert alike[0] > low - high and alike[0] < 0 < alike[1]


def test_a_sweep_compares_with_its_own_rule_and_the_first():
    solved = {"lift_red": [True] * 8 + [False] * 2}
    fewer = {"lift_red": [True] * 5 + [False] * 5}
    lockstep, loop = LoopRule("lockstep"), LoopRule("async")
    cells = (
        LatencyCell(lockstep, declared("0"), None, made_up_report(solved)),
        LatencyCell(lockstep, declared("chunk=3"), None, made_up_report(fewer)),
        LatencyCell(loop, declared("0"), None, made_up_report(fewer)),
        LatencyCell(loop, declared("chunk=3"), None),
    )
    found = LatencySweep(cells).to_dict()["cells"]
    assert [cell["against_no_latency"]["difference"] for cell in found] == pytest.approx([0, -0.3, 0])
    assert [cell["against_first"]["difference"] for cell in found] == pytest.approx([0, -0.3, -0.3])
    table = LatencySweep(cells).markdown()
    assert "| async | 0 | - | 0 | 50.0 %" in table and "| lockstep | chunk=3 | - | chunk 3 | 50.0 %" in table
    clustered = paired(made_up_report(solved, seeds=(1, 2)), made_up_report(fewer, seeds=(1, 2)))
    assert clustered.interval is not None and clustered.interval[0] < -0.15 < clustered.interval[1] < 0.1


# ---- closed loop -----------------------------------------------------------------------------------


def opener(bundle, mode, time, **options):
    return functools.partial(keystep.load, bundle, engine="stub", mode=mode, virtual_time=time, **options)


def solved_and_steps(policy, processes=1):
    report = evaluate(policy, ENV_ID, ["lift_red"], 30, seed=4, processes=processes)
    return [(task.solved, task.mean_steps, task.faults) for task in report.tasks]


@pytest.mark.parametrize("mode", ["lockstep", "async"])
def test_the_same_seeds_give_the_same_bits_in_any_number_of_processes(stub_bundle, mode):
    time = keystep.VirtualTime(chunk=(0.5, 2.0, 5.0))
    policy = opener(stub_bundle, mode, time)
    once = solved_and_steps(policy)
    assert once == solved_and_steps(policy) == solved_and_steps(policy, processes=2)


def test_without_latency_async_is_as_good_as_lockstep_and_late_lockstep_is_not(stub_bundle):
    none, late = keystep.VirtualTime(), keystep.VirtualTime(chunk=(6.0,))
    lockstep, asynchronous, stands_still = (
        np.mean(solved_and_steps(opener(stub_bundle, mode, time))[0][0])
        for mode, time in (("lockstep", none), ("async", none), ("lockstep", late))
    )
    assert lockstep == np.mean(
        solved_and_steps(functools.partial(keystep.load, stub_bundle, engine="stub"))[0][0]
    )
    assert asynchronous >= lockstep - 0.1  # its first action comes a tick later
    assert stands_still <= lockstep


def test_actions_repeat_to_the_bit_and_the_engine_s_speed_does_not_matter(make_stub, observation):
    def actions(mode, **options):
        time = keystep.VirtualTime(chunk=(0.0, 2.0, 3.5))
        policy = make_stub(mode=mode, virtual_time=time, **options)
        policy.reset(task="lift_red", seed=3, episode=1)
        taken = []
        for number in range(40):
            if number == 17:
                policy.interrupt()
            taken.append(policy.act(observation))
        return np.array(taken), policy.telemetry()

    for mode in ("lockstep", "async"):
        taken, told = actions(mode)
        again, told_again = actions(mode, provider_options={"stub.sleep_us": "2000"})
        np.testing.assert_array_equal(taken, again)
        assert told == told_again and 0 < told.missed < told.ticks == 40
        assert told.actions + told.missed == told.ticks


def test_the_core_names_what_is_wrong(make_stub):
    for time, message in (
        (keystep.VirtualTime(chunk=(-1.0,)), r"virtual_time.chunk\[0\]: expected 0..1000000 control periods"),
        (keystep.VirtualTime(plan=(float("nan"),)), r"virtual_time.plan\[0\]: expected"),
        (keystep.VirtualTime(skips=False), "virtual_time.skips: expected true"),
    ):
        with pytest.raises(keystep.ArgumentError, match=message):
            make_stub(virtual_time=time)


# ---- the command -----------------------------------------------------------------------------------


def test_the_command_plays_every_cell(capsys, bundle, tmp_path):
    pytest.importorskip("matplotlib")
    files = {name: tmp_path / f"out.{name}" for name in ("json", "markdown", "plot")}
    outputs = [word for name, path in files.items() for word in (f"--{name}", path)]
    status, out, err = run(
        capsys, bundle, "--env", ENV_ID, "--env-kwargs", "obs_mode=state", "--tasks", "lift_red",
        "--episodes", 3, "--latency", "chunk=3", "--latency", "chunk=100ms", "--merge", "blend",
        "--merge", "naive", "--mode", "async", *outputs,
    )  # fmt: skip
    assert status == 0, err
    cells = json.loads(files["json"].read_text())["cells"]
    assert [(cell["merge"], cell["latency"]) for cell in cells] == [
        (merge, latency) for merge in ("blend", "naive") for latency in ("0", "chunk=3", "chunk=100ms")
    ]
    assert all(cell["report"]["total"]["episodes"] == 3 for cell in cells)
    assert all(0 < cell["ticks_without_action"] < 1 for cell in cells)
    assert "async naive" in out and "async naive" in files["markdown"].read_text()
    assert files["plot"].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--latency", "chunk=x"], "latency.chunk: expected"),
        (["--mode", "lockstep", "--merge", "blend"], "merge: expected none in mode lockstep"),
        (["--merge", "none"], "merge: expected "),
        (["--latency", "chunk=9ms", "--control-rate", "0"], "control_rate: expected more than 0"),
        (
            ["--latency", "0", "--control-rate", "30"],
            "control_rate: expected a latency in ms (chunk=50ms) or",
        ),
        (["--latency", "chunk=3", "--control-rate", "30"], "beside it, got chunk=3"),
        (["--control-rate", "30"], "beside it, got none"),
        (["--mode", "lockstep", "--merge-decay", "linear"], "merge_decay: expected none in mode lockstep"),
        (["--merge", "blend", "--merge-overlap", "2"], "merge_overlap: expected merge x0blend or trained"),
        (["--merge", "x0blend", "--merge-overlap", "99"], "merge_overlap: expected 0.."),
        (["--latency", "chunk=1", "--latency", "chunk=99999999999"], "virtual_time.chunk[0]: expected"),
        (["--mode", "lockstep", "--mode", "async", "--merge", "nonsense"], "merge: expected"),
        (["--mode", "lockstep", "--mode", "async", "--merge", "trained"], "not trained with --rtc"),
    ],
)
def test_the_command_names_what_is_wrong_before_anything_is_played(capsys, bundle, options, message):
    status, out, err = run(
        capsys, bundle, "--env", ENV_ID, "--env-kwargs", "obs_mode=state", "--tasks", "lift_red", *options
    )
    assert status != 0 and message in err and "Traceback" not in err
    assert "1 of" not in out


def test_one_bundle_at_a_time(capsys, bundle, tmp_path):
    other = state_bundle(tmp_path / "other.keystep")
    words = [bundle, other, "--engine", "stub", "--env", ENV_ID, "--tasks", "lift_red", "--latency", "0"]
    assert cli.run(["eval", *map(str, words)]) != 0
    assert "bundles: expected one with latency, got 2" in capsys.readouterr().err
