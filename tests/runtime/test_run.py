"""`Runtime.run`: our own clock around `act`, by callables and through shared memory."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from multiprocessing import resource_tracker, shared_memory

import numpy as np
import pytest
from stub_bundle import stub_manifest

import keystep

HOLD = [0.0, 0.0, 0.0]


@pytest.fixture
def name():
    chosen = f"keystep-pytest-{os.getpid()}"
    yield chosen
    for each in (chosen, f"{chosen}-a"):
        with contextlib.suppress(keystep.Error):
            keystep.SharedArrays.remove(each)


@pytest.mark.parametrize("mode", ["lockstep", "async"])
def test_callables_are_called_once_a_period(make_stub, observation, mode):
    policy, other = make_stub(mode=mode), make_stub()
    policy.reset(task="lift_red", seed=3)
    other.reset(task="lift_red", seed=3)
    given = []
    report = policy.run(500, lambda: observation, lambda *pair: given.append(pair), periods=30)
    assert report.periods == 30 and report.statuses["ok"] == 30 and report.rate_hz == 500
    assert len(given) == 31 and {status for _, status in given[:30]} == {"ok"}
    np.testing.assert_array_equal(given[30][0], HOLD)  # no velocity is left behind
    assert given[30][1] == "interrupted"
    if mode == "lockstep":
        for action, _ in given[:30]:
            np.testing.assert_array_equal(action, other.act(observation))
    assert report == policy.run_report() == keystep.RunReport.from_dict(report.to_dict())
    assert report.latency.count == 30 and report.interval.count == 29
    assert "30 periods at 500 Hz" in str(report) and "Max:" in report._repr_html_()


def test_the_rate_is_the_bundles_and_a_task_may_come_with_the_observation(make_stub, observation):
    policy = make_stub(manifest={"control_rate_hz": 200.0})
    policy.reset()
    told = observation | {"task": "push_red_left"}
    report = policy.run(None, lambda: told, lambda *_: None, periods=2)
    assert report.rate_hz == 200 and report.statuses["ok"] == 2


def test_it_ends_from_the_source_and_from_another_thread(make_stub, observation):
    policy = make_stub()
    policy.reset(task="lift_red")

    def seen():
        policy.stop()
        return observation

    given = []
    assert policy.run(1000, seen, lambda *pair: given.append(pair)).periods == 0
    assert [status for _, status in given] == ["interrupted"]  # nothing after the stop but the hold
    begun = threading.Event()
    stopper = threading.Thread(target=lambda: (begun.wait(60), policy.stop()))
    stopper.start()
    report = policy.run(1000, lambda: observation, lambda *_: begun.set())
    stopper.join()
    assert report.periods >= 1
    policy.stop()  # none is in progress: nothing
    assert policy.run(1000, lambda: observation, lambda *_: None, periods=3).periods == 3


def test_what_source_and_sink_raise_is_raised_and_the_report_stays(make_stub, observation):
    policy = make_stub()
    policy.reset(task="lift_red")
    given, seen = [], iter([observation, observation])
    with pytest.raises(StopIteration):
        policy.run(1000, lambda: next(seen), lambda *pair: given.append(pair))
    assert policy.run_report().periods == 2 and given[-1][1] == "interrupted" and len(given) == 3

    def refuse(action, status):
        raise OSError("the arm is gone")

    with pytest.raises(OSError, match="the arm is gone"):
        policy.run(1000, lambda: observation, refuse)
    with pytest.raises(keystep.ArgumentError, match=r"source: .*observation.state: expected"):
        policy.run(1000, dict, lambda *_: None)
    policy.close()
    with pytest.raises(keystep.PolicyError, match="closed"):
        policy.run(1000, lambda: observation, lambda *_: None)


def test_a_bad_observation_is_a_hold_and_the_run_goes_on(make_stub, observation):
    policy = make_stub()
    policy.reset(task="lift_red")
    bad = observation | {"observation.state": np.full(4, np.nan, np.float32)}
    seen = iter([observation, bad, observation])
    given = []
    report = policy.run(1000, lambda: next(seen), lambda *pair: given.append(pair), periods=3)
    assert [status for _, status in given] == ["ok", "bad_observation", "ok", "interrupted"]
    np.testing.assert_array_equal(given[1][0], HOLD)
    assert report.statuses["bad_observation"] == 1


def test_before_reset_it_ends_with_one_error(make_stub, observation):
    policy = make_stub()
    with pytest.raises(keystep.PolicyError) as caught:
        policy.run(1000, lambda: observation, lambda *_: None)
    assert caught.value.status == "not_reset"


def test_ctrl_c_ends_it(make_stub, observation):
    policy = make_stub(provider_options={"stub.sleep_us": "1000000000"})  # inside a call of the engine
    policy.reset(task="lift_red")
    given = []
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        policy.run(100, lambda: observation, lambda *pair: given.append(pair))
    assert given[-1][1] == "interrupted"


def test_one_run_at_a_time(make_stub, observation):
    policy = make_stub()
    policy.reset(task="lift_red")
    begun, reports = threading.Event(), []
    first = threading.Thread(
        target=lambda: reports.append(policy.run(1000, lambda: observation, lambda *_: begun.set()))
    )
    first.start()
    begun.wait(60)
    with pytest.raises(keystep.PolicyError, match="another one is in progress") as caught:
        policy.run(1000, lambda: observation, lambda *_: None)
    assert caught.value.status == "busy"
    policy.stop()  # that of the first, still
    first.join(60)
    assert reports[0].periods >= 1 and policy.run_report() == reports[0]


def test_a_new_task_from_another_thread(make_stub, observation):
    policy = make_stub()
    policy.reset(task="lift_red")

    def change():
        for _ in range(20):
            policy.reset(task="push_red_left")
        policy.stop()

    threading.Timer(0.05, change).start()
    report = policy.run(1000, lambda: observation, lambda *_: None)
    assert report.periods == report.statuses["ok"] + report.statuses["busy"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"rate_hz": -1.0}, "rate_hz: expected 0.001..100000"),
        ({"rate_hz": "fast"}, "rate_hz: expected"),
        ({"periods": -1}, "periods: expected"),
        ({"fifo_priority": 100}, r"fifo_priority: expected 0 \(none\) or 1..99, got 100"),
        ({"cores": [-1]}, "cores: expected"),
        ({"prefault_stack": -1}, "prefault_stack: expected"),
    ],
)
def test_bad_arguments_are_named(make_stub, observation, arguments, message):
    policy = make_stub()
    policy.reset(task="lift_red")
    with pytest.raises(keystep.ArgumentError, match=message):
        policy.run(
            **{"rate_hz": 1000.0, "source": lambda: observation, "sink": print, "periods": 1} | arguments
        )


def test_what_was_asked_for_is_there_or_refused_with_a_reason(make_stub, observation):
    policy = make_stub()
    policy.reset(task="lift_red")
    core = min(os.sched_getaffinity(0))
    report = policy.run(
        1000, lambda: observation, lambda *_: None, periods=3, fifo_priority=50, cores=[core],
        lock_memory=True, prefault_stack=1 << 18,
    )  # fmt: skip
    thread = report.thread
    assert (thread.policy, thread.priority) == ("SCHED_FIFO", 50) or "SCHED_FIFO 50" in thread.fifo_refusal
    assert thread.cores == (core,) and thread.prefaulted == 1 << 18
    assert thread.memory_locked or "mlockall" in thread.memory_refusal
    assert all(f"not obtained: {refusal}" in str(report) for refusal in thread.refusals)
    huge = policy.run(1000, lambda: observation, lambda *_: None, periods=1, prefault_stack=1 << 40)
    assert "bytes left" in huge.thread.stack_refusal and huge.thread.prefaulted == 0


def _robot(name, manifest, observation, wanted):
    """Another process: shows what it sees, reads what it is to do, ends after so many."""
    with keystep.SharedArrays.create(name, keystep.observation_fields(manifest)) as seen:
        seen.write(observation)
        done = keystep.SharedArrays.open(f"{name}-a", wait_s=60)
        while done.count < wanted:
            seen.write(observation)
        seen.end()
        while (record := done.newest()).status != "interrupted":
            pass
        assert record.arrays["action"].tolist() == HOLD


def test_a_robot_in_another_process(make_stub, observation, name):
    policy = make_stub(mode="async", max_observation_age_us=60_000_000)
    policy.reset(task="lift_red")
    robot = multiprocessing.get_context("spawn").Process(
        target=_robot, args=(name, policy.manifest, observation, 20)
    )
    robot.start()
    source = keystep.SharedArrays.open(name, wait_s=60)
    with keystep.SharedArrays.create(f"{name}-a", keystep.action_fields(policy.manifest)) as sink:
        threading.Thread(target=lambda: (robot.join(), policy.stop())).start()  # also if it fails
        report = policy.run(1000, source, sink)  # until the robot ends it
        robot.join()
        assert robot.exitcode == 0
        assert sink.count >= 21 and report.periods == report.statuses["ok"] == sink.count - 1


def _writer(name, observation, begun):
    seen = keystep.SharedArrays.open(name, wait_s=60)
    while True:
        seen.write(observation)
        begun.set()


def test_a_robot_that_is_killed(make_stub, observation, name):
    policy = make_stub()
    policy.reset(task="lift_red")
    spawn = multiprocessing.get_context("spawn")
    begun = spawn.Event()
    with keystep.SharedArrays.create(name, keystep.observation_fields(policy.manifest)) as source:
        robot = spawn.Process(target=_writer, args=(name, observation, begun))
        robot.start()
        assert begun.wait(60) and source.has_writer
        given = []
        threading.Timer(0.2, robot.kill).start()
        with pytest.raises(keystep.Error, match=r"to have a writer, got none .* its process is gone"):
            policy.run(200, source, lambda *pair: given.append(pair))
        robot.join()
        assert given[-1][1] == "interrupted"  # the hold
        record = source.newest()
        assert not source.has_writer and record.age_us > 100_000
        with pytest.raises(keystep.Error, match="within 0 s, got one of a process that is gone"):
            policy.run(200, source, lambda *_: None, wait_s=0)
        source.write(observation)  # whoever comes next
        assert source.has_writer and policy.run(200, source, lambda *_: None, periods=2).periods == 2


def test_one_writer_at_a_time(name):
    fields = [("x", "float32", (1,))]
    one = {"x": np.zeros(1, np.float32)}
    with keystep.SharedArrays.create(name, fields) as first:
        first.write(one)
        second = keystep.SharedArrays.open(name)
        with pytest.raises(keystep.Error, match="got another writer at work"):
            second.write(one)
        first.end()
        with pytest.raises(keystep.Error, match="got arrays that have ended"):
            first.write(one)
        keystep.SharedArrays.remove(name)
        with keystep.SharedArrays.create(name, fields):
            first.close()  # its name is another's by now
            keystep.SharedArrays.open(name)


@pytest.mark.parametrize(
    "field", [["x", "float32", 3], ["x", "float32"], "x", ("x", "float32", "3"), ("x", "f", (1,)), 7]
)
def test_fields_that_are_none(name, field):
    with pytest.raises(keystep.ArgumentError, match=r"(fields|x): expected"):
        keystep.SharedArrays.create(name, [field])


def test_fields_may_be_lists(name):
    with keystep.SharedArrays.create(name, [["x", "float32", [3]]]) as arrays:
        assert arrays.fields == [("x", "float32", (3,))]


def test_the_layout_is_what_the_page_says(name):
    fields = [("image", "uint8", (2, 3, 3)), ("state", "float32", (4,))]
    with keystep.SharedArrays.create(name, fields) as arrays:
        state = np.arange(4, dtype=np.float32)
        for n in range(3):
            arrays.write({"image": np.full((2, 3, 3), n, np.uint8), "state": state + n}, timestamp_us=n)
        memory = shared_memory.SharedMemory(name)  # numpy alone reads it
        try:
            header = np.ndarray(8, "u8", memory.buf)
            assert memory.buf[:8] == b"keystep\0" and np.ndarray(2, "u4", memory.buf, 8).tolist() == [1, 2]
            slot_bytes, size, count, ended = header[2:6].tolist()
            assert (slot_bytes, size, count, ended) == (64 + 64 + 64, 64 + 2 * 128 + 2 * slot_bytes, 3, 0)
            entry = 64 + 128  # of the second field
            assert bytes(memory.buf[entry : entry + 6]) == b"state\0"
            assert np.ndarray(2, "u4", memory.buf, entry + 80).tolist() == [0, 1]
            assert np.ndarray(3, "i8", memory.buf, entry + 88).tolist() == [4, 0, 0]
            offset, length = np.ndarray(2, "u8", memory.buf, entry + 112).tolist()
            slot = 64 + 2 * 128 + count % 2 * slot_bytes
            assert np.ndarray(3, "i8", memory.buf, slot).tolist() == [2, -1, 0]
            assert length == 16
            assert np.ndarray(4, "f4", memory.buf, slot + offset).tolist() == [2, 3, 4, 5]
        finally:
            del header
            memory.close()
            resource_tracker.unregister(memory._name, "shared_memory")  # it would remove the name


def test_arrays_are_checked(make_stub, name):
    policy = make_stub()
    policy.reset(task="lift_red")
    fields = keystep.observation_fields(stub_manifest())
    with keystep.SharedArrays.create(name, fields) as arrays:
        assert arrays.newest() is None and arrays.fields == fields
        good = {key: np.zeros(shape, dtype) for key, dtype, shape in fields}
        with pytest.raises(keystep.ArgumentError, match=r"arrays: expected observation\.state"):
            arrays.write({})
        for wrong in (np.zeros(5, np.float32), np.zeros(4), [0.0] * 4):
            with pytest.raises(keystep.ArgumentError, match=r"observation\.state: expected"):
                arrays.write(good | {"observation.state": wrong})
        with pytest.raises(keystep.Error, match="source: expected a record within 0 s, got none"):
            policy.run(100, arrays, print, wait_s=0)
        with pytest.raises(keystep.ArgumentError, match="sink: expected action float32"):
            arrays.write(good)
            policy.run(100, arrays, arrays)
        with pytest.raises(keystep.Error, match="File exists"):
            keystep.SharedArrays.create(name, fields)
    with pytest.raises(keystep.Error, match="No such file"):
        keystep.SharedArrays.open(name)
    with pytest.raises(keystep.ArgumentError, match="name: expected"):
        keystep.SharedArrays.open("../x", wait_s=60)
