"""keystep profile: its JSON and schema, rates, traces and pictures, comparisons."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from stub_bundle import stub_observation, write_stub_bundle
from subgoal_stub import subgoal_changes

import keystep
from keystep import cli, evaluate
from keystep.evaluate.profile import profile
from keystep.evaluate.profile_comparison import (
    compare_bundles,
    compare_files,
    compare_rounds,
    read_profile,
)
from keystep.evaluate.trace_export import arrows, chrome_trace
from keystep.evaluate.trace_plot import durations_us, plot_trace
from keystep.evaluate.trace_reader import read_trace
from keystep.files import write_json

SCHEMA = json.loads((Path(evaluate.__file__).parent / "profile.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_stub_bundle(tmp_path_factory.mktemp("bundle") / "stub.keystep")


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """Of 40 ticks of a policy that plans, with an interrupt."""
    folder = tmp_path_factory.mktemp("trace")
    file = folder / "run.pftrace"
    bundle = write_stub_bundle(folder / "stub.keystep", **subgoal_changes())
    with keystep.load(bundle, engine="stub", trace=file) as policy:
        policy.reset("lift_red")
        for tick in range(40):
            if tick == 10:
                policy.interrupt()
            policy.act(stub_observation())
    return file


def test_the_json_is_what_the_schema_says(bundle):
    report = profile(bundle, ticks=60, engine="stub", rate_hz=2000.0).to_dict()
    report = json.loads(json.dumps(report, allow_nan=False))
    VALIDATOR.validate(report)
    assert len(report["rounds"]) == 10 and report["options"]["engine"] == "stub"
    assert report["rate_hz"] == 2000 and report["latency"]["deadline_us"] == 500
    assert set(report) == set(SCHEMA["required"]) == set(SCHEMA["properties"])
    for name in SCHEMA["required"]:
        assert not VALIDATOR.is_valid({key: value for key, value in report.items() if key != name})
    assert not VALIDATOR.is_valid(report | {"version": 1})
    assert report["run"] is None and report["allocations_per_tick"] == 0


def test_the_asynchronous_mode(bundle, tmp_path):
    report = profile(bundle, ticks=40, engine="stub", mode="async", rate_hz=1000.0)
    VALIDATOR.validate(json.loads(json.dumps(report.to_dict(), allow_nan=False)))
    assert report.telemetry["ticks"] == report.latency.stages["tick"].count == 40
    assert report.telemetry["actions"] == report.latency.actions
    assert "without one" in str(report) and report.options["mode"] == "async"
    told = report.run
    assert told["rate_hz"] == 1000 and told["periods"] == 40 == sum(told["statuses"].values())
    assert told["interval"]["count"] > 40  # the warm-up is of the same run
    assert report.late_ticks == told["overruns"]
    assert sum(report.telemetry["underruns"].values()) == 40 - report.latency.actions
    assert all(word in str(report) for word in ("SCHED_OTHER", "page faults", "switches", "interval"))
    assert report.act_from_chunk_us is None and len(report.rounds) == 10


def test_what_the_clock_is_refused_is_in_the_report(bundle):
    report = profile(bundle, ticks=5, engine="stub", mode="async", rate_hz=500.0, thread={"cores": [1000]})
    assert "not obtained:" in str(report) and len(report.rounds) == 5
    for thread in ({"fifo_priority": 1}, {"lock_memory": True}):
        with pytest.raises(keystep.ArgumentError, match=r"expected none \(mode is lockstep\)"):
            profile(bundle, ticks=5, engine="stub", thread=thread)


def test_a_tick_that_fails_is_told(bundle):
    wrong = {"stub.fail_ppm": "1000000"}
    with pytest.raises(keystep.Error, match=r"expected 200 ticks that are ok, got .*engine_failure"):
        profile(bundle, ticks=200, engine="stub", mode="async", rate_hz=500.0, provider_options=wrong)


def test_rounds_are_the_whole(bundle):
    report = profile(bundle, ticks=100, engine="stub")
    ticks = [means["tick"] for means in report.rounds]
    assert len(ticks) == 10
    assert np.mean(ticks) == pytest.approx(report.latency.stages["tick"].mean_us)


def test_late_ticks_are_counted(bundle):
    assert profile(bundle, ticks=50, engine="stub", rate_hz=1e9).late_ticks > 40
    slow = profile(bundle, ticks=5, engine="stub", rate_hz=20.0)
    assert slow.late_ticks < 5 and "at 20 Hz" in str(slow)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_rate_is_refused(bundle, rate):
    with pytest.raises(keystep.ArgumentError, match="rate: expected more than 0 Hz"):
        profile(bundle, ticks=5, engine="stub", rate_hz=rate)


def test_ratios_by_hand():
    a = [{"tick": 2.0, "plan": 1.0}, {"tick": 8.0}, {"tick": 4.0}]
    b = [{"tick": 4.0, "gate": 1.0}, {"tick": 16.0}, {"tick": 8.0}]
    (paired,) = compare_rounds(a, b, paired=True)
    assert paired.stage == "tick" and paired.a_us == pytest.approx(4) and paired.b_us == pytest.approx(8)
    assert (paired.ratio, paired.low, paired.high) == pytest.approx((2, 2, 2))
    (apart,) = compare_rounds(a, b, paired=False)
    # Welch with equal variances: 4 degrees of freedom, of which the quantile is 2.776.
    half = 2.7764 * math.sqrt(2 * math.log(2) ** 2 / 3)
    assert (apart.low, apart.high) == pytest.approx((2 * math.exp(-half), 2 * math.exp(half)), rel=1e-4)
    assert compare_rounds([{"tick": 1.0}], [{"tick": 3.0}], paired=True)[0].low is None


def test_two_files(bundle, tmp_path):
    for name in ("a", "b"):
        write_json(tmp_path / f"{name}.json", profile(bundle, ticks=40, engine="stub").to_dict())
    changed = json.loads((tmp_path / "b.json").read_text())
    changed["machine"]["cpu"] = "another"
    changed["rounds"] = [
        {name: 3 * value for name, value in means.items()}
        for means in read_profile(tmp_path / "a.json")["rounds"]
    ]
    write_json(tmp_path / "b.json", changed)
    found = compare_files(tmp_path / "a.json", tmp_path / "b.json")
    assert [stage.ratio for stage in found.stages] == pytest.approx([3] * len(found.stages))
    assert not found.interleaved and any("cpu differs" in note and "another" in note for note in found.notes)
    json.dumps(found.to_dict(), allow_nan=False)
    assert "B / A" in str(found) and "tick" in str(found)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "compare: expected JSON in"),
        ("[]", "compare: expected keystep-profile version 2 in"),
        ('{"format": "keystep-profile", "version": 3}', r"got \('keystep-profile', 3\)"),
        ('{"format": "keystep-profile", "version": 1}', "compare: expected rounds in"),
    ],
)
def test_what_is_no_profile_is_refused(tmp_path, content, words):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(keystep.ArgumentError, match=words):
        compare_files(tmp_path / "a.json", tmp_path / "a.json")


def test_two_bundles_in_turn(bundle):
    found = compare_bundles(bundle, bundle, ticks=100, engine="stub")
    stages = {stage.stage: stage for stage in found.stages}
    assert found.interleaved and {"tick", "encode", "denoise", "gate"} <= set(stages)
    assert all(stage.low <= stage.ratio <= stage.high for stage in found.stages)
    with pytest.raises(keystep.ArgumentError, match="ticks: expected at least 20 to compare, got 19"):
        compare_bundles(bundle, bundle, ticks=19, engine="stub")


# ---- traces ---------------------------------------------------------------------------------------


def test_our_reader_reads_what_perfetto_reads(trace):
    perfetto = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    packets = perfetto.Trace.FromString(trace.read_bytes()).packet
    events = [packet for packet in packets if packet.HasField("track_event")]
    ours = read_trace(trace)
    kinds = [packet.track_event.type for packet in events]
    assert ours.complete and len(ours.slices) == kinds.count(1) == kinds.count(2)
    assert len(ours.instants) == kinds.count(3)
    assert sum(len(series.values) for series in ours.counters.values()) == kinds.count(4)
    times = [packet.timestamp for packet in events if packet.track_event.type == 1]
    assert [span.start_ns for span in ours.slices] == times
    assert sum(span.end_ns - span.start_ns for span in ours.slices) == sum(
        packet.timestamp * (1 if packet.track_event.type == 2 else -1)
        for packet in events
        if packet.track_event.type in (1, 2)
    )


def test_a_cut_trace_is_read_up_to_there(trace, tmp_path):
    content = trace.read_bytes()
    whole = read_trace(trace)
    cut = tmp_path / "cut.pftrace"
    for length in range(len(content) - 120, len(content)):
        cut.write_bytes(content[:length])
        found = read_trace(cut)
        assert len(whole.slices) - 10 < len(found.slices) <= len(whole.slices)
    cut.write_bytes(b"")
    assert read_trace(cut).slices == []


def test_what_is_no_trace_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    file = tmp_path / "run.pftrace"
    file.write_bytes(b"PK\x03\x04 a zip")
    with pytest.raises(ValueError, match="expected a Perfetto trace, got no packet at byte 0"):
        read_trace(file)
    for _ in range(300):  # a packet of noise: refused or passed over, never another error
        content = rng.bytes(int(rng.integers(1, 40)))
        file.write_bytes(bytes([10, len(content)]) + content)
        try:
            read_trace(file)
        except ValueError as error:
            assert "expected a packet of a Perfetto trace at byte 0" in str(error)


def test_chrome_json(trace):
    read = read_trace(trace)
    events = json.loads(json.dumps(chrome_trace(read), allow_nan=False))["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    assert [(e["name"], round(e["ts"] * 1e3), round(e["dur"] * 1e3)) for e in spans] == [
        (span.name, span.start_ns, span.end_ns - span.start_ns) for span in read.slices
    ]
    ends = {kind: [e["id"] for e in events if e["ph"] == kind] for kind in "sf"}
    assert ends["s"] == ends["f"] == list(range(1, len(arrows(read)) + 1)) and ends["s"]
    threads = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert {threads[e["tid"]] for e in spans} == {"tick", "interrupts"}
    levels = [e["args"]["actions"] for e in events if e["ph"] == "C" and e["name"] == "chunk buffer"]
    assert len(levels) == 40 and set(levels) == {0, 1, 2, 3}


def test_arrows_lead_from_observations_to_actions(trace):
    read = read_trace(trace)
    assert sum(span.name == "action" for span in read.slices) == len(arrows(read))
    assert all(second.name == "action" for _, second in arrows(read))


def test_the_picture(trace):
    pytest.importorskip("matplotlib")
    read = read_trace(trace)
    assert {"tick", "plan", "encode", "denoise", "action"} <= set(durations_us(read))
    for first in (None, 0, 39):
        figure = plot_trace(read, first, 12)
        assert len(figure.axes) == 3
        figure.canvas.draw()
    with pytest.raises(keystep.ArgumentError, match=r"first: expected a tick in 0\.\.39, got 40"):
        plot_trace(read, 40)
    read.slices.clear()
    with pytest.raises(keystep.ArgumentError, match="trace: expected spans called tick, got none"):
        plot_trace(read)


# ---- the commands ---------------------------------------------------------------------------------


def test_the_command_draws_and_compares(capsys, bundle, tmp_path):
    pytest.importorskip("matplotlib")
    trace, plot, figures = tmp_path / "run.pftrace", tmp_path / "run.png", tmp_path / "a.json"
    arguments = ["profile", str(bundle), "--ticks", "40", "--engine", "stub"]
    assert cli.run([*arguments, "--trace", str(trace), "--plot", str(plot), "--json", str(figures)]) == 0
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert (
        cli.run(["profile", "--compare", str(figures), str(figures), "--json", str(tmp_path / "c.json")]) == 0
    )
    assert "B / A" in capsys.readouterr().out
    assert {stage["ratio"] for stage in json.loads((tmp_path / "c.json").read_text())["stages"]} == {1.0}
    chrome = tmp_path / "run.json"
    assert cli.run(["trace", str(trace), "--json", str(chrome), "--plot", str(plot)]) == 0
    assert "denoise step" in capsys.readouterr().out
    assert json.loads(chrome.read_text())["traceEvents"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "bundle: expected a folder, or --compare A B, got none"),
        (["BUNDLE", "--compare", "BUNDLE", "BUNDLE"], "bundle: expected none with --compare, got "),
        (["--compare", "BUNDLE", "none.json"], "compare: expected two bundles or two JSON files, got "),
        (["--compare", "none.json", "none.json"], "none.json"),
        (["BUNDLE", "--rate", "0"], "rate: expected more than 0 Hz, got 0"),
        (["BUNDLE", "--trace", "/none/run.pftrace"], "trace: expected a file that can be written"),
    ],
)
def test_the_command_refuses(capsys, bundle, arguments, words):
    arguments = [argument.replace("BUNDLE", str(bundle)) for argument in arguments]
    assert cli.run(["profile", *arguments, "--engine", "stub", "--ticks", "5"]) == 2
    assert words in capsys.readouterr().err
