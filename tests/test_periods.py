"""The benchmark of periods: loops side by side, their figures, and a run that is broken off and goes on."""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import replace

import numpy as np
import pytest
from stub_bundle import HORIZON, TASKS, stub_manifest, write_manifest, write_stub_bundle
from subgoal_stub import subgoal_changes

import keystep
from benchmarks import periods, periods_loops, periods_slices, periods_torch
from benchmarks.periods_figures import figures_of, limits_of, report_markdown
from benchmarks.periods_loops import KeystepLoop
from benchmarks.periods_plot import save_plot
from benchmarks.periods_slices import ASYNC, LOCKSTEP, LOOPS, TORCH, Deliveries, Spec
from keystep.files import sha256

RATE = 200.0
PERIODS = 40
FIGURES = {
    "slices",
    "due",
    "actions",
    "missed",
    "skipped",
    "stalls",
    "interval_ms",
    "stages_ms",
    "underruns",
    "late_goals",
    "max_delay",
    "system",
    "seconds",
    "first_ms",
    "limits_ms",
    "options",
    "measured",
}


@pytest.fixture
def options(tmp_path):
    """Of a short run of a stub policy, beside which torch finds a tiny network that sees the same."""
    write_stub_bundle(tmp_path / "policy.keystep")
    return periods.Options(
        policies=(str(tmp_path / "policy.keystep"),),
        rate_hz=RATE,
        seconds=2 * PERIODS / RATE,
        slice_seconds=PERIODS / RATE,
        threads=1,
        engine="stub",
        fifo_priority=0,
        lock_memory=False,
        output=tmp_path / "out" / "periods.json",
        plot=tmp_path / "out" / "periods.png",
        store=tmp_path / "store",
    )


def planning_stub(folder):
    """A stub bundle of subgoals whose golden data has texts."""
    write_stub_bundle(folder, **subgoal_changes())
    with np.load(folder / "golden.npz", allow_pickle=False) as archive:
        np.savez(folder / "golden.npz", **archive, text=np.array([TASKS[0]["instruction"]] * 3))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["golden"]["sha256"] = sha256(folder / "golden.npz")
    write_manifest(folder, manifest)
    return folder


def torch_twin(folder):
    models = pytest.importorskip("keystep.models", reason="needs torch")
    pytest.importorskip("diffusers")
    seen = (models.state_feature(4), models.camera_feature("static", 6, 8))
    config = replace(models.PRESETS["tiny"], observation=seen, horizon=HORIZON, execute=HORIZON)
    models.random_checkpoint(folder / "checkpoint", config)


@pytest.mark.parametrize("loop", [ASYNC, LOCKSTEP])
@pytest.mark.parametrize("planned", [False, True])
def test_a_slice_accounts_for_every_period(tmp_path, loop, planned):
    bundle = (planning_stub if planned else write_stub_bundle)(tmp_path / "stub.keystep")
    measured = KeystepLoop(Spec(loop, str(bundle), RATE, options={"engine": "stub"})).slice(PERIODS)
    report, at = measured["report"], measured["at_us"]
    assert at == sorted(at) and len(at) == report["statuses"]["ok"] <= report["periods"]
    assert 0 <= report["periods"] <= PERIODS
    assert report["interval"]["count"] >= report["periods"]  # times are of the lead-in, too
    assert set(measured["stages"]) <= ({"chunk", "plan"} if planned else {"chunk"})
    if loop == ASYNC:
        told = measured["telemetry"]
        assert told["underruns"]["starting"] == told["underruns"]["interrupted"] == 0
        assert told["ticks"] == report["periods"] and told["actions"] == len(at)
        assert sum(told["underruns"].values()) == report["periods"] - len(at)
    else:
        assert measured["telemetry"] is None and len(at) == report["periods"]
        assert (
            report["skipped"] > PERIODS / 2 or ("plan" in measured["stages"]) == planned
        )  # every 12 actions
    json.dumps(measured, allow_nan=False)


@pytest.mark.parametrize(
    ("slept", "points"),
    [
        ({}, [*range(10)]),
        ({3: 4}, [0, 1, 2, 3, 7, 8, 9]),  # ticks again four points later
        ({3: 4, 8: 6}, [0, 1, 2, 3, 7, 8]),  # over the last one, too
        ({8: 1}, [*range(10)]),
    ],
)
def test_points_slept_over_have_no_tick_and_the_last_one_ends_it(monkeypatch, slept, points):
    now = [5_000_000_000]
    monkeypatch.setattr(periods_slices.time, "monotonic_ns", lambda: now[0])
    deliveries, ticked, point = periods_slices.Deliveries(100.0, 10, 0.02), [], 0
    for _ in range(3):  # the lead-in of two periods, in which there is an action, and the first that counts
        measured = deliveries.begin()
        if not measured:
            assert not deliveries.end(True)
            now[0] += 10_000_000
    assert measured
    while not deliveries.over:
        ticked.append(point)
        now[0] += 2_000_000
        if deliveries.end(True):
            break
        steps = slept.get(point, 1)
        point += steps
        now[0] += steps * 10_000_000 - 2_000_000
        if not deliveries.over:
            assert not deliveries.begin()
    assert ticked == points
    assert deliveries.at_us == [10_000 * number + 2000 for number in points]


@pytest.mark.parametrize("late_ms", [0, 4, 9])
def test_a_first_period_that_begins_late_adds_none(monkeypatch, late_ms):
    now = [5_000_000_000]
    monkeypatch.setattr(periods_slices.time, "monotonic_ns", lambda: now[0])
    deliveries = Deliveries(100.0, periods=10, lead_in_s=0.0)
    assert not deliveries.begin() and not deliveries.end(True)
    for number in range(10):
        now[0] = 6_000_000_000 + number * 10_000_000 + (late_ms * 1_000_000 if number == 0 else 0)
        assert not deliveries.over and deliveries.begin() == (number == 0)
        assert deliveries.end(True) == (number == 9)
    assert len(deliveries.at_us) == 10


def test_the_first_chunk_of_a_run_is_not_missed(tmp_path, monkeypatch):
    # A chunk takes 8 periods and more; every slice is a run, which begins with a new one.
    monkeypatch.setattr(periods_loops, "LEAD_IN_S", 0.0)
    bundle = write_stub_bundle(tmp_path / "stub.keystep")
    load = {"engine": "stub", "provider_options": {"stub.sleep_us": "40000"}}
    loop = KeystepLoop(Spec(ASYNC, str(bundle), RATE, options=load))
    for _ in range(3):
        measured = loop.slice(PERIODS)
        told = measured["telemetry"]["underruns"]
        assert told["starting"] == told["interrupted"] == 0


def test_a_lead_in_ends_with_an_action(monkeypatch):
    now = itertools.count(1, 10_000_000)  # a call of the clock every 10 ms
    monkeypatch.setattr(periods_slices.time, "monotonic_ns", lambda: next(now))
    deliveries = Deliveries(100.0, periods=3, lead_in_s=0.02)
    assert not deliveries.begin() and not deliveries.end(True)
    assert not deliveries.begin() and deliveries.begin()  # 20 ms later
    assert not deliveries.over and not deliveries.end(True) and deliveries.at_us == [20_000]
    assert not deliveries.begin() and deliveries.end(True) and deliveries.at_us == [20_000, 40_000]
    assert deliveries.over
    late = Deliveries(100.0, periods=3, lead_in_s=0.02)
    assert not any(late.begin() or late.end(False) for _ in range(9))
    late.end(True)
    assert late.begin()
    monkeypatch.setattr(periods_slices, "PATIENCE_S", 0.1)
    never = Deliveries(100.0, periods=3, lead_in_s=0.02)
    with pytest.raises(RuntimeError, match="expected an action"):
        for _ in range(99):
            never.begin()


def inherited_scheduling():
    """As a report names it."""
    policy, priority = periods_torch.POLICIES[os.sched_getscheduler(0)], os.sched_getparam(0).sched_priority
    return f"{policy} {priority}" if priority else policy


def test_three_loops_side_by_side(options, tmp_path, capsys):
    torch_twin(tmp_path)
    assert periods.main(options) == 0
    result = json.loads(options.output.read_text())
    assert result["benchmark"] == "periods" and result["machine"]["cpu"]
    assert result["settings"]["rate_hz"] == RATE and result["settings"]["policies"] == ["stub"]
    loops = result["policies"]["stub"]["loops"]
    assert list(loops) == list(LOOPS)
    mine = inherited_scheduling()
    for loop in loops.values():
        assert set(loop) == FIGURES and loop["slices"] == 2
        assert loop["missed"] == loop["due"] - loop["actions"] >= loop["skipped"] >= 0
        # Nothing was asked for, so it is what this process hands down.
        assert loop["system"]["scheduling"] == [mine] and not loop["system"]["refusals"]
    assert loops[TORCH]["stages_ms"]["chunk"]["max"] > 0 and loops[ASYNC]["underruns"]["starting"] == 0
    report = options.output.with_suffix(".md").read_text()
    assert all(report.count(f"| {loop} |") == 3 for loop in LOOPS) and report.endswith(
        capsys.readouterr().out[-200:-1]
    )
    assert options.plot.read_bytes().startswith(b"\x89PNG") and options.plot.stat().st_size < 150_000
    assert not list(options.store.iterdir())
    drawn = options.plot.stat().st_mtime_ns
    assert periods.main(replace(options, redraw=True)) == 0 and options.plot.stat().st_mtime_ns > drawn


class Scripted:
    """In place of a loop's process; breaks off after `left` slices of all."""

    left, made = 0, 0

    def __init__(self, spec):
        self.spec = spec

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def slice(self, periods):
        if Scripted.left == 0:
            raise KeyboardInterrupt
        Scripted.left -= 1
        Scripted.made += 1
        return scripted_slice(periods)


def scripted_slice(periods, skipped=0, at_us=None, needs_us=1000.0, **telemetry):
    spread = {"count": periods, "min_us": 1.0, "avg_us": 2.0, "p99_us": 3.0, "max_us": 4.0}
    refusals = {f"{name}_refusal": "" for name in ("fifo", "cores", "memory", "stack")}
    thread = {"policy": "SCHED_FIFO", "priority": 80, "memory_locked": True, **refusals}
    counts = ("overruns", "minor_faults", "major_faults", "involuntary_switches")
    report = {"periods": periods - skipped, "skipped": skipped, "latency": spread, "thread": thread}
    report |= {"load_before": [0.5, 0, 0], "load_after": [1.5, 0, 0], **dict.fromkeys(counts, 2)}
    told = {"underruns": {"late": 0, "starting": 0}, "late_goals": 0, "max_delay": 1} | telemetry
    stages = {"chunk": dict.fromkeys(("p50_us", "p99_us", "max_us"), needs_us)}
    at = [5000 * n for n in range(periods)] if at_us is None else at_us
    return {"at_us": at, "report": report, "stages": stages, "telemetry": told}


def test_what_was_broken_off_goes_on(options, monkeypatch, capsys):
    options = replace(options, loops=("async", "lockstep"))
    monkeypatch.setattr(periods, "LoopProcess", Scripted)
    Scripted.left, Scripted.made = 3, 0
    assert periods.main(options) == 130
    assert "goes on" in capsys.readouterr().err
    loops = json.loads(options.output.read_text())["policies"]["stub"]["loops"]
    assert [loops[name]["slices"] for name in (ASYNC, LOCKSTEP)] == [2, 1]
    Scripted.left = 9
    assert periods.main(options) == 0
    assert Scripted.made == 4
    assert periods.main(options) == 0  # all of it anew
    assert Scripted.made == 8
    Scripted.left = 1
    assert periods.main(options) == 130
    Scripted.left = 9
    assert periods.main(replace(options, slice_seconds=1 / RATE * 20)) == 0  # slices of another length
    assert Scripted.made == 17


def test_pieces_stand_in_one_table(options, tmp_path, monkeypatch):
    monkeypatch.setattr(periods, "LoopProcess", Scripted)
    other = write_stub_bundle(tmp_path / "other.keystep", name="other")
    Scripted.left = 99
    for policies in options.policies, (str(other),):
        for loop in "lockstep", "async":
            assert periods.main(replace(options, policies=policies, loops=(loop,), append=True)) == 0
    policies = json.loads(options.output.read_text())["policies"]
    assert list(policies) == ["stub", "other"]
    assert all(list(policy["loops"]) == [ASYNC, LOCKSTEP] for policy in policies.values())
    report = options.output.with_suffix(".md").read_text()
    assert report.count("## stub") == report.count("## other") == 1
    whole = options.output.read_bytes()
    digest = policies["stub"]["bundle_sha256"]
    options.output.write_bytes(whole.replace(digest.encode(), b"0" * 64))
    with pytest.raises(
        keystep.ArgumentError, match=f"append: expected stub of bundle {digest:.12}, got of 0000"
    ):
        periods.main(replace(options, append=True))
    options.output.write_bytes(whole)
    with pytest.raises(keystep.ArgumentError, match=r"append: .*periods.json with seconds 9.0, got 0.4"):
        periods.main(replace(options, seconds=9.0, append=True))
    options.output.write_text('{"settings": []}')
    with pytest.raises(keystep.ArgumentError, match="append: expected results of periods"):
        periods.main(replace(options, append=True))
    options.output.write_bytes(whole.replace(b'"cpu"', b'"gpu"'))
    with pytest.raises(keystep.ArgumentError, match="append: expected results of periods"):
        periods.main(replace(options, append=True))


def test_nothing_measured_writes_nothing(options, monkeypatch):
    monkeypatch.setattr(periods, "LoopProcess", Scripted)
    Scripted.left = 0
    assert periods.main(replace(options, loops=("async",))) == 130
    assert not options.output.exists()


def test_figures_by_hand():
    # 100 Hz: one action late by half a period and one lost, and a slice without any of that.
    late = scripted_slice(6, skipped=1, at_us=[0, 10_000, 35_000, 40_000, 60_000], needs_us=2000.0)
    good = scripted_slice(3, at_us=[0, 10_000, 20_000], late_goals=2, max_delay=3)
    found = figures_of([late, good], 100.0)
    assert (found["due"], found["actions"], found["missed"], found["skipped"]) == (9, 8, 1, 1)
    assert found["stalls"] == 2  # 25 and 20 ms
    assert found["interval_ms"] == pytest.approx(
        {"min": 5, "avg": 80 / 6, "p99": found["interval_ms"]["p99"], "max": 25}
    )
    assert found["stages_ms"]["chunk"] == pytest.approx({"p50": 1.5, "p99": 1.5, "max": 2})
    assert found["late_goals"] == 2 and found["max_delay"] == 3
    assert found["system"]["scheduling"] == ["SCHED_FIFO 80, memory locked"]
    assert found["system"]["load"] == [0.5, 1.5] and found["system"]["involuntary_switches"] == 4
    assert found["seconds"] == [[0, 25.0]] and found["first_ms"] == [0, 10, 35, 40, 60]


def test_a_slice_without_an_action_has_figures():
    found = figures_of([scripted_slice(4, at_us=[])], 100.0)
    assert found["missed"] == 4 and found["interval_ms"] is None and found["seconds"] == []
    loop = found | {"limits_ms": {"chunk": 0.5}, "measured": {"commit": "abc"}}
    report = report_markdown({"p": {"notes": [], "loops": {ASYNC: loop}}}, 100.0)
    assert "needs 1.0 ms a chunk (p99), has 0 ms" in report and "4 (100.0 %)" in report


def test_the_picture_of_a_whole_run_is_small(tmp_path):
    pytest.importorskip("matplotlib")
    draw = np.random.default_rng(0)
    whole = figures_of([scripted_slice(200)], 50.0)
    whole["seconds"] = [[second, 20 + draw.exponential(50)] for second in range(600)]
    whole["first_ms"] = (20 * np.arange(200) + draw.random(200)).tolist()
    policies = {name: {"loops": dict.fromkeys(LOOPS, whole)} for name in "abc"}
    save_plot(tmp_path / "periods.png", policies, 50.0)
    assert 10_000 < (tmp_path / "periods.png").stat().st_size < 150_000


@pytest.mark.parametrize(
    ("horizon", "execute", "request_below", "left"),
    [(8, 8, 0, 4), (16, 8, 0, 8), (16, 2, 0, 8), (16, 8, 4, 3)],
)
def test_a_chunk_has_the_actions_that_are_left_when_it_is_asked_for(horizon, execute, request_below, left):
    manifest = stub_manifest(chunk={"horizon": horizon, "execute": execute, "start": 0})
    assert limits_of(manifest, ASYNC, 50.0, request_below) == {"chunk": 20.0 * left}
    assert limits_of(manifest, TORCH, 50.0) == {"chunk": 20.0}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rate_hz": 0.0}, "rate_hz: expected more than 0"),
        ({"seconds": float("nan")}, "seconds: expected more than 0"),
        ({"slice_seconds": 0.001}, "slice_seconds: expected at least two periods"),
        ({"policies": ("nowhere",)}, "policies: expected franka3blocks-state"),
        ({"loops": ()}, "expected at least one"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, wrong, message):
    with pytest.raises(keystep.ArgumentError, match=message):
        periods.main(replace(options, **wrong))
