"""examples/robot: both twins against a world in another process."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from fake_arm import ENDLESS, SHORT, SHORT_STEPS
from robot_programs import (
    FOLDER,
    PATIENT,
    ROBOT,
    ROOT,
    STARTED,
    TWINS,
    ends,
    program,
    running,
    start,
    start_world,
    wait_until_ready,
    write_world,
)
from stub_bundle import write_onnx_bundle

import keystep


@pytest.fixture(autouse=True)
def nothing_goes_on() -> Iterator[None]:
    """A test that fails leaves no process behind."""
    yield
    for process in STARTED:
        if process.poll() is None:
            process.kill()
            process.communicate()
    STARTED.clear()


def numbers(pattern: str, text: str) -> list[int]:
    """The groups of the first match."""
    found = re.search(pattern, text)
    assert found, f"{pattern} in {text}"
    return [int(group) for group in found.groups()]


def world_counts(world: str) -> list[int]:
    return numbers(r"after (\d+) steps; (\d+) commands executed, (\d+) lost, (\d+) steps held", world)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_onnx_bundle(tmp_path_factory.mktemp("robot") / "onnx.keystep")


@pytest.fixture
def name() -> Iterator[str]:
    chosen = f"keystep-robot-{os.getpid()}"
    yield chosen
    for part in ("state", "camera", "command"):
        with contextlib.suppress(keystep.Error):
            keystep.SharedArrays.remove(f"{chosen}-{part}")


@pytest.fixture(scope="module")
def runs(bundle: Path) -> Callable[[str], tuple[str, str]]:
    """What robot and world say after two seconds, once for each twin."""
    said: dict[str, tuple[str, str]] = {}

    def run(twin: str) -> tuple[str, str]:
        if twin not in said:
            command, name = program(twin), f"keystep-robot-{os.getpid()}-{twin}"
            world = start_world(bundle, name, "--env", ENDLESS, *PATIENT)
            robot = start(*command, bundle, "--name", name, "--seconds", 2, *ROBOT)
            said[twin] = ends(robot), ends(world)
        return said[twin]

    return run


@pytest.mark.parametrize("twin", TWINS)
def test_each_action_is_executed_once_or_counted(runs: Callable[[str], tuple[str, str]], twin: str) -> None:
    robot, world = runs(twin)
    assert "ended by: --seconds" in robot
    (periods,) = numbers(r"(\d+) periods at 60 Hz", robot)
    sent, replaced = numbers(r"(\d+) actions sent, (\d+) replaced before", robot)
    steps, executed, lost, held = world_counts(world)
    assert periods == 120 and sent + replaced == periods + 1  # the hold at the end
    assert executed + lost == periods + 1 and lost >= replaced
    assert steps == executed + held


def shape(report: str) -> list[str]:
    """Its lines without what differs from run to run."""
    report = re.sub(r"\([^()]*\)|not ok: [^;]*", "~", report)
    report = re.sub(r"\d+(?:,\d{3})*(?:\.\d+)?", "0", report)
    return [" ".join(line.split()) for line in report.splitlines()]


def test_the_reports_are_alike(runs: Callable[[str], tuple[str, str]]) -> None:
    python, cpp = (shape(runs(twin)[0]) for twin in TWINS)
    assert python == cpp
    text = "\n".join(python)
    for part in ("SCHED_", "P0:", "arm at 0 Hz", "camera at 0 Hz", "without one", "denoise 0", "engine:"):
        assert part in text


@pytest.mark.parametrize("twin", TWINS)
def test_the_world_ends_it(bundle: Path, name: str, twin: str) -> None:
    command = program(twin)
    world = start_world(bundle, name, "--env", SHORT, "--clock", "commands", *PATIENT)
    robot = start(*command, bundle, "--name", name, *ROBOT)
    report, said = ends(robot), ends(world)
    assert "ended by: the world" in report
    assert f"world: success after {SHORT_STEPS} steps" in report
    steps, executed, _, held = world_counts(said)
    assert "world: success" in said and steps == executed == SHORT_STEPS and held == 0
    assert not list(Path("/dev/shm").glob(f"{name}*"))  # no name is left behind


@pytest.mark.parametrize("twin", TWINS)
def test_a_killed_world_is_noticed(bundle: Path, name: str, twin: str) -> None:
    command = program(twin)
    world = start_world(bundle, name, "--env", ENDLESS, *PATIENT)
    robot = start(*command, bundle, "--name", name, *ROBOT)
    commands = running(world, name)
    world.kill()
    world.communicate()
    said = ends(robot, 1)
    assert "ended by: an error" in said  # with the whole report
    expected = f"robot: shared memory {name}-(state|camera): expected a world, got none: its process is gone"
    assert re.search(f"^{expected}$", said, re.MULTILINE)
    last = commands.newest()
    assert last is not None and commands.ended
    np.testing.assert_array_equal(last.arrays["action"], [0, 0, 0])  # no velocity is left behind
    # What it left behind is neither a world for a robot nor in the way of another world without a word.
    said = ends(start(*command, bundle, "--name", name, "--wait-s", "0"), 1)
    assert re.fullmatch(r"robot: shared memory .*-state: expected a record, got one of .* s ago\. .*\n", said)
    said = ends(start_world(bundle, name, "--env", ENDLESS), 1)
    assert said.startswith(f"world: shared memory {name}-command: File exists") and "--replace" in said
    world = start_world(bundle, name, "--env", SHORT, "--replace", *PATIENT)
    wait_until_ready(world)  # else the robot could still find the old one
    assert "ended by: the world" in ends(start(*command, bundle, "--name", name, *ROBOT))
    ends(world)


@pytest.mark.parametrize("twin", TWINS)
def test_a_killed_robot_is_noticed(bundle: Path, name: str, twin: str) -> None:
    command = program(twin)
    world = start_world(bundle, name, "--env", ENDLESS, *PATIENT)
    robot = start(*command, bundle, "--name", name, *ROBOT)
    running(world, name)
    robot.kill()
    robot.communicate()
    said = ends(world, 1)
    message = "expected a robot's program, got none: its process is gone"
    assert f"world: shared memory {name}-command: {message}" in said
    assert not list(Path("/dev/shm").glob(f"{name}*"))


@pytest.mark.parametrize("hangs", ["world", "robot"])
@pytest.mark.parametrize("twin", TWINS)
def test_one_that_hangs_is_noticed(bundle: Path, name: str, twin: str, hangs: str) -> None:
    command = program(twin)
    patience = {one: "120" if one == hangs else "3" for one in ("world", "robot")}
    world = start_world(bundle, name, "--env", ENDLESS, "--patience-s", patience["world"])
    robot = start(*command, bundle, "--name", name, "--wait-s", "300", "--patience-s", patience["robot"])
    running(world, name)
    stopped, other = (world, robot) if hangs == "world" else (robot, world)
    stopped.send_signal(signal.SIGSTOP)
    said = ends(other, 1)
    assert re.search(r"expected a record within 3 s, got none for .* s: a .* hangs$", said, re.MULTILINE)
    if hangs == "robot":
        assert world_counts(said)[3] > 0  # it held meanwhile
    stopped.kill()


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_the_hold(bundle: Path, name: str, twin: str, number: int) -> None:
    command = program(twin)
    world = start_world(bundle, name, "--env", ENDLESS, *PATIENT)
    robot = start(*command, bundle, "--name", name, *ROBOT)
    commands = running(world, name)
    robot.send_signal(number)
    assert "ended by: Ctrl-C" in ends(robot)
    last = commands.newest()
    assert last is not None and commands.ended
    np.testing.assert_array_equal(last.arrays["action"], [0, 0, 0])
    ends(world)


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize(
    "options, message",
    [
        (["--wait-s", "0"], r"shared memory NAME-state: No such file .* within 0 s\. Does world\.py run"),
        (["--arm-hz", "30"], r"arm_hz: expected at least the bundle's 60, got 30"),
        (["--underrun", "jump"], r"underrun: expected .*jump"),
        (["--name", "a/b"], r"name: expected .*a/b"),
        (["--task", "dance"], r"task: expected .*dance"),
        (["--fifo-priority", "100"], r"fifo_priority: expected 0 \(none\) or 1\.\.99, got 100"),
        (["--camera-hz", "0"], r"camera_hz: expected above 0, up to 100000, got 0"),
    ],
)
def test_bad_input_is_one_line(bundle: Path, name: str, twin: str, options: list[str], message: str) -> None:
    command = program(twin)
    with contextlib.ExitStack() as stack:
        if "--wait-s" not in options:
            write_world(stack, name)
        said = ends(start(*command, bundle, "--name", name, *PATIENT, *options), 1)
    assert re.fullmatch(f"robot: {message.replace('NAME', name)}.*", said.splitlines()[-1])
    assert "ended by" not in said  # nothing was begun


@pytest.mark.parametrize("twin", TWINS)
def test_a_bundle_that_is_not_there_or_not_the_worlds(bundle: Path, name: str, twin: str) -> None:
    command = program(twin)
    said = ends(start(*command, bundle.parent / "none"), 1)
    assert said.startswith("robot: ") and "none" in said and said.count("\n") == 1
    with contextlib.ExitStack() as stack:
        write_world(stack, name, width=5)
        said = ends(start(*command, bundle, "--name", name, *PATIENT), 1)
    wanted = "step int64 (1), executed int64 (1), success int64 (1), observation.state float32"
    assert said == (
        f"robot: shared memory {name}-state: expected {wanted} (4), got {wanted} (5). Is the world's bundle "
        "another one?\n"
    )


@pytest.mark.parametrize(
    "options, message",
    [
        (["--env", "no/Such-v0"], "env: "),
        (["--name", "a/b", "--env", ENDLESS], "name: expected"),
        (["--env", "CartPole-v1"], "env: expected"),
    ],
)
def test_a_bad_world_is_one_line(bundle: Path, options: list[str], message: str) -> None:
    said = ends(start(sys.executable, FOLDER / "world.py", bundle, *options), 1)
    assert said.splitlines()[-1].startswith(f"world: {message}")


@pytest.mark.skipif(find_spec("pybullet") is None, reason="pybullet: needs the extra 'bullet'")
@pytest.mark.parametrize("twin", TWINS)
def test_the_shipped_policy_in_a_simulator(name: str, twin: str) -> None:
    command, bundle = program(twin), ROOT / "bundles/franka3blocks-state.keystep"
    world = start_world(bundle, name, "--env", "keystep/Franka3Blocks-bullet", *PATIENT)
    robot = start(*command, bundle, "--name", name, "--seconds", 3, *ROBOT)
    report, said = ends(robot), ends(world)
    assert "robot: franka3blocks-state, lift_red" in report and "camera at" not in report
    (actions,) = numbers(r"ticks, (\d+) actions", report)
    steps, executed, lost, held = world_counts(said)
    assert actions > 0 and executed > 0 and steps == executed + held
    (last,) = numbers(r"executed last: (\d+)", report)
    assert last <= executed + lost
