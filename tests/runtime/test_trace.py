"""Traces of the loop, read with Perfetto's own classes: spans nest, flows and counters tell what happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter, defaultdict

import numpy as np
import pytest
from stub_bundle import EXECUTE, stub_observation, write_stub_bundle
from subgoal_stub import STEPS, SUBGOALS, subgoal_changes

import keystep

perfetto_golden = pytest.importorskip("perfetto_golden", reason="needs the package perfetto")
perfetto = perfetto_golden.perfetto
BEGIN, END = perfetto_golden.BEGIN, perfetto_golden.END
TICKS = 30


class Parsed:
    """A trace by Perfetto's classes; checks what holds of every trace of ours."""

    def __init__(self, content: bytes):
        self.packets = perfetto.Trace.FromString(content).packet
        self.tracks, self.counters, self.spans, self.open = {}, defaultdict(list), [], defaultdict(list)
        self.instants, self.dangling = [], []
        names, arguments, last = {}, {}, defaultdict(int)
        for packet in self.packets:
            for known, entries in (
                (names, packet.interned_data.event_names),
                (arguments, packet.interned_data.debug_annotation_names),
            ):
                for entry in entries:
                    assert entry.iid not in known and entry.name not in known.values(), "interned once"
                    known[entry.iid] = entry.name
            if packet.HasField("track_descriptor"):
                self.tracks[packet.track_descriptor.uuid] = packet.track_descriptor
            if not packet.HasField("track_event"):
                continue
            event, track = packet.track_event, packet.track_event.track_uuid
            assert packet.trusted_packet_sequence_id == 1 and packet.sequence_flags == 2
            assert packet.timestamp >= last[track], "monotone on each track"
            last[track] = packet.timestamp
            if event.type == perfetto_golden.COUNTER:
                self.counters[self.tracks[track].name].append(event.counter_value)
            elif event.type == END:
                self.open[track].pop()["end"] = packet.timestamp
            else:
                values = {arguments[one.name_iid]: one.int_value for one in event.debug_annotations}
                span = {
                    "name": names[event.name_iid],
                    "track": track,
                    "start": packet.timestamp,
                    "parent": self.open[track][-1] if self.open[track] else None,
                    "flows": list(event.flow_ids),
                } | values
                if event.type == BEGIN:
                    self.open[track].append(span)
                    self.spans.append(span)
                else:
                    self.instants.append(span)

    def __getitem__(self, name):
        return [span for span in self.spans if span["name"] == name]


def traced(tmp_path, ticks=TICKS, interrupt_at=(), **changes):
    """A trace of `ticks` ticks with the stub engine, and its actions."""
    bundle = write_stub_bundle(tmp_path / "stub.keystep", **changes)
    file = tmp_path / "run.pftrace"
    with keystep.load(bundle, engine="stub", trace=file) as policy:
        policy.reset("lift_red", seed=3, episode=5)
        actions = []
        for tick in range(ticks):
            if tick in interrupt_at:
                policy.interrupt()
            actions.append(policy.act(stub_observation()))
        report = policy.trace_report()
    assert report.dropped == 0 and report.error == "" and report.bytes <= file.stat().st_size
    return Parsed(file.read_bytes()), np.stack(actions)


def test_our_bytes_are_those_of_protobuf():
    """What tests/cpp/loop/test_trace.cpp compares ours with."""
    assert perfetto_golden.GOLDEN.read_bytes() == perfetto_golden.golden()


def test_a_tick_holds_what_it_computed(tmp_path):
    trace, _ = traced(tmp_path)
    assert not any(trace.open.values()), "balanced"
    for span in trace.spans:
        parent = span["parent"]
        assert span["end"] >= span["start"]
        assert parent is None or parent["start"] <= span["start"] <= span["end"] <= parent["end"]
    chunks = -(-TICKS // EXECUTE)
    counts = Counter(span["name"] for span in trace.spans)
    assert counts == {
        "tick": TICKS,
        "action": TICKS,
        "chunk": chunks,
        "observe": chunks,
        "encode": chunks,
        "denoise": chunks,
        "denoise step": 2 * chunks,
        "gate": TICKS + chunks,
    }
    parents = {(span["name"], span["parent"] and span["parent"]["name"]) for span in trace.spans}
    assert parents == {
        ("tick", None),
        ("action", "tick"),
        ("chunk", "tick"),
        ("observe", "chunk"),
        ("encode", "chunk"),
        ("denoise", "chunk"),
        ("denoise step", "denoise"),
        ("gate", "chunk"),
        ("gate", "action"),
    }
    assert [span["tick"] for span in trace["tick"]] == list(range(1, TICKS + 1))
    assert [span["step"] for span in trace["denoise step"]] == [0, 1] * chunks
    assert [span["chunk"] for span in trace["chunk"]] == list(range(chunks))
    assert [span["consumed"] for span in trace["action"]] == list(range(TICKS))
    assert [(one["name"], one["episode"]) for one in trace.instants] == [("reset", 5)]


def test_a_plan_and_its_steps(tmp_path):
    trace, _ = traced(tmp_path, **subgoal_changes())
    plans = -(-TICKS // (SUBGOALS * STEPS))
    assert len(trace["plan"]) == plans
    steps = [span for span in trace["denoise step"] if span["parent"]["name"] == "plan"]
    assert [span["step"] for span in steps] == [0, 1] * plans
    assert {span["parent"]["name"] for span in trace["plan"]} == {"tick"}


def test_an_action_flows_from_its_observation(tmp_path):
    interrupts = (2, 9, 10, 17)
    trace, _ = traced(tmp_path, interrupt_at=interrupts)
    origin = {}
    for span in trace["observe"]:
        (flow,) = span["flows"]
        assert flow not in origin
        origin[flow] = span["observation"]
    # An interrupt or the end of the chunk begins another, made from the observation of that tick.
    wanted, left, newest = [], 0, 0
    for tick in range(TICKS):
        if left == 0 or tick in interrupts:
            left, newest = EXECUTE, tick + 1
        wanted.append(newest)
        left -= 1
    assert [origin[flow] for span in trace["action"] for flow in span["flows"]] == wanted
    assert sorted(origin.values()) == sorted(set(wanted))


def test_counters_and_interrupts(tmp_path):
    trace, _ = traced(tmp_path, ticks=10, interrupt_at=(6,))
    assert trace.counters["chunk buffer"] == [3, 2, 1, 0, 3, 2, 3, 2, 1, 0]
    assert trace.counters["epoch"] == [1]
    (waited,) = trace["interrupt to action"]
    assert waited["waited_ns"] == waited["end"] - waited["start"] > 0
    seventh = trace["tick"][6]
    assert waited["start"] <= seventh["start"] <= waited["end"] <= seventh["end"]
    counters = {d.name: d.counter.unit_name for d in trace.tracks.values() if d.HasField("counter")}
    assert counters == {"chunk buffer": "actions", "epoch": "interrupts", "dropped": "events"}


def test_the_asynchronous_loop(tmp_path):
    """Threads have tracks; what is executed flows from observations that came after the last interrupt."""
    bundle = write_stub_bundle(tmp_path / "stub.keystep", **subgoal_changes())
    file = tmp_path / "run.pftrace"
    with keystep.load(bundle, engine="stub", mode="async", trace=file) as policy:
        policy.reset("lift_red")
        for wanted in (30, 60):
            for _ in range(20_000):
                policy.act(stub_observation())
                if policy.telemetry().actions >= wanted:
                    break
                time.sleep(0.0005)
            policy.interrupt()
        taken = policy.telemetry().actions
    trace = Parsed(file.read_bytes())
    assert not any(trace.open.values()) and len(trace["action"]) == taken >= 60
    tracks = {span["name"]: trace.tracks[span["track"]].name for span in trace.spans}
    assert {tracks[name] for name in ("tick", "action", "gate")} == {"tick"}
    assert {tracks[name] for name in ("chunk", "observe", "encode", "denoise")} == {"controller"}
    assert tracks["plan"] == "planner"
    observed = {flow: span for span in trace["observe"] for flow in span["flows"]}
    waits = [(wait["end"] - wait["waited_ns"], wait["end"]) for wait in trace["interrupt to action"]]
    assert waits
    newest = 0
    for action in trace["action"]:
        (flow,) = action["flows"]
        made_of = observed[flow]
        assert newest <= made_of["observation"] <= action["parent"]["tick"]
        assert made_of["start"] < action["start"]
        for interrupted, answered in waits:
            assert action["end"] < answered or made_of["start"] > interrupted
        newest = made_of["observation"]
    epochs = trace.counters["epoch"]
    assert epochs == sorted(set(epochs)) and len(trace.counters["chunk buffer"]) == taken
    marks = Counter(one["name"] for one in trace.instants)
    assert marks["underrun"] == len(trace["tick"]) - taken


def test_a_trace_changes_no_action(tmp_path):
    _, actions = traced(tmp_path, **subgoal_changes())
    with keystep.load(tmp_path / "stub.keystep", engine="stub") as policy:
        assert policy.trace_report() is None
        policy.reset("lift_red", seed=3, episode=5)
        assert np.array_equal(actions, [policy.act(stub_observation()) for _ in range(TICKS)])


def test_a_tick_that_fails_is_marked(tmp_path):
    bundle = write_stub_bundle(tmp_path / "stub.keystep")
    bad = stub_observation() | {"observation.state": np.full(4, np.nan, np.float32)}
    with keystep.load(bundle, engine="stub", trace=tmp_path / "run.pftrace") as policy:
        policy.reset("lift_red")
        with pytest.raises(keystep.PolicyError):
            policy.act(bad)
        policy.act(stub_observation())
    trace = Parsed((tmp_path / "run.pftrace").read_bytes())
    assert [one["name"] for one in trace.instants] == ["reset", "tick failed"]
    assert len(trace["tick"]) == 2 and len(trace["action"]) == 1


def test_sessions_have_tracks_of_their_own(tmp_path):
    bundle = write_stub_bundle(tmp_path / "stub.keystep")
    with keystep.load(bundle, engine="stub", trace=tmp_path / "run.pftrace") as policy:
        sessions = [policy.session() for _ in range(3)]

        def run(session):
            session.reset("lift_red")
            for _ in range(50):
                session.act(stub_observation())
            session.close()

        threads = [threading.Thread(target=run, args=(session,)) for session in sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    trace = Parsed((tmp_path / "run.pftrace").read_bytes())
    assert sorted(Counter(span["track"] for span in trace["tick"]).values()) == [50] * 3
    flows = {flow: span["track"] for span in trace["observe"] for flow in span["flows"]}
    assert all(flows[flow] == span["track"] for span in trace["action"] for flow in span["flows"])


KILLED = """
import sys
import keystep
from stub_bundle import stub_observation
policy = keystep.load(sys.argv[1], engine="stub", trace=sys.argv[2])
policy.reset("lift_red")
while True:
    policy.act(stub_observation())
    if policy.trace_report().events > 200:
        print("there", flush=True)
"""


def test_a_killed_process_leaves_a_trace(tmp_path):
    bundle = write_stub_bundle(tmp_path / "stub.keystep")
    file = tmp_path / "run.pftrace"
    paths = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", KILLED, bundle, file]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}) as child:
        assert child.stdout.readline() == b"there\n"
        child.send_signal(signal.SIGKILL)
    trace = Parsed(file.read_bytes())
    assert len(trace["action"]) > 10
    assert sum(map(len, trace.open.values())) <= 4  # of the tick it died in


def test_a_full_disk_is_one_warning(tmp_path):
    bundle = write_stub_bundle(tmp_path / "stub.keystep")
    policy = keystep.load(bundle, engine="stub", trace="/dev/full")
    policy.reset("lift_red")
    for _ in range(20):
        policy.act(stub_observation())
    with pytest.warns(keystep.TraceWarning, match="room for more in /dev/full, got No space left"):
        policy.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy.close()


def test_what_cannot_be_written_is_refused(tmp_path):
    bundle = write_stub_bundle(tmp_path / "stub.keystep")
    with pytest.raises(keystep.Error, match=r"trace: expected a file that can be written, got .*none"):
        keystep.load(bundle, engine="stub", trace=tmp_path / "none" / "run.pftrace")
    with pytest.raises(keystep.ArgumentError, match="trace: expected a path"):
        keystep.load(bundle, engine="stub", trace=3)
