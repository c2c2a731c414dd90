"""Recordings for Rerun, read back with its own reader."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from stub_bundle import ACTION, stub_observation, write_stub_bundle
from subgoal_stub import IMAGE, STEPS, SUBGOALS, subgoal_changes

import keystep
from keystep import cli
from keystep.evaluate.rerun_file import RerunPolicy

chunks = pytest.importorskip("rerun.chunk", reason="needs rerun-sdk")
TICKS = 14


def rows(file):
    """How many rows each entity has on the timeline of ticks, and the tables of each."""
    count, tables = Counter(), {}
    for chunk in chunks.RrdReader(file).stream():
        if not chunk.is_static and "tick" in chunk.timeline_names:
            count[chunk.entity_path] += chunk.num_rows
            tables.setdefault(chunk.entity_path, []).append(chunk.to_record_batch())
    return count, tables


def values(batches, component):
    """Of an entity, tick by tick."""
    found = []
    for batch in batches:
        (name,) = [name for name in batch.schema.names if name.endswith(component)]
        ticks = batch.column("tick").to_pylist()
        found += zip(ticks, batch.column(name).to_pylist(), strict=True)
    return [value for _, value in sorted(found, key=lambda row: row[0])]


@pytest.mark.parametrize("key", ["observation.state", IMAGE])
def test_an_episode_is_all_there(tmp_path, key):
    bundle = write_stub_bundle(tmp_path / "stub.keystep", **subgoal_changes(key))
    policy = RerunPolicy(keystep.load(bundle, engine="stub"), tmp_path / "run.rrd")
    policy.reset(task="lift_red")
    actions = [policy.act(stub_observation()) for _ in range(TICKS)]
    policy.finish(True)
    policy.close()
    count, tables = rows(tmp_path / "run.rrd")
    plans = -(-TICKS // (SUBGOALS * STEPS))
    assert count["/action"] == count["/state/state"] == count["/camera/static"] == TICKS
    assert count["/plan/subgoal"] == count["/ms/tick"] == TICKS
    assert count["/ms/plan"] == plans and count["/told"] == 2
    shown = key.removeprefix("observation.").removeprefix("images.")
    assert [count[f"/plan/{shown}/{number}"] for number in range(SUBGOALS)] == [plans] * SUBGOALS
    written = np.asarray(values(tables["/action"], "scalars"), np.float32)
    assert written.shape == (TICKS, ACTION) and np.array_equal(written, np.stack(actions))


def test_a_failure_is_written_and_raised(tmp_path):
    bundle = write_stub_bundle(tmp_path / "stub.keystep")
    policy = RerunPolicy(keystep.load(bundle, engine="stub"), tmp_path / "run.rrd")
    policy.reset("lift_red")
    with pytest.raises(keystep.PolicyError):
        policy.act(stub_observation() | {"observation.state": np.full(4, np.nan, np.float32)})
    policy.close()
    _, tables = rows(tmp_path / "run.rrd")
    assert "finite" in str(values(tables["/told"], "text"))


def test_the_asynchronous_loop_is_recorded_as_it_is(tmp_path):
    bundle = write_stub_bundle(tmp_path / "stub.keystep")
    time = keystep.VirtualTime(chunk=(2.0,))
    policy = RerunPolicy(
        keystep.load(bundle, engine="stub", mode="async", virtual_time=time), tmp_path / "run.rrd"
    )
    policy.reset("lift_red")
    for _ in range(TICKS):
        policy.act(stub_observation())
    seen = policy.telemetry()
    assert seen.ticks == TICKS and seen.underruns["starting"] == 2  # nobody has reset them
    policy.close()
    count, tables = rows(tmp_path / "run.rrd")
    assert count["/loop/left"] == count["/loop/delay"] == count["/ms/tick"] == TICKS
    assert count["/ms/denoise"] == seen.chunks
    told = values(tables["/told"], "text")
    assert told.count(["no action: starting"]) == 2


def test_with_latencies_a_recording_is_refused(tmp_path, capsys):
    bundle = write_stub_bundle(tmp_path / "stub.keystep")
    file = tmp_path / "run.rrd"
    assert cli.run(["eval", str(bundle), "--mode", "async", "--rerun", str(file)]) == 2
    assert "rerun: expected none with latency, mode, merge" in capsys.readouterr().err
    assert not file.exists()
