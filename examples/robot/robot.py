"""A robot's program: a camera thread, an arm thread, and a policy between them. Twin of robot.cpp.

    python examples/robot/robot.py BUNDLE [--task NAME] [--seconds S]

The robot is world.py, in another process. With another one, `Camera` and `Arm` hold its drivers:

    camera thread     30 Hz  a frame of the robot       -> newest frame
    arm thread       100 Hz  a state of the robot       -> newest state;  newest action -> the robot
    policy's clock    60 Hz  newest frame and state     -> tick           -> newest action
    keystep's own            what the tick saw          -> plans, chunks  (mode async: no tick waits for them)

Two rates. An action of a policy is for one period of the *bundle's* control rate, 1/60 s here. A relative one
("so much further"), applied 100 times a second, would move the arm 1.7 times as far. So the policy ticks at
the bundle's rate, and each action has a number. The arm thread sends the newest one, with its number, until
there is another: the robot executes each number once, and takes what it knows for a sign of life. Nothing is
interpolated: no value reaches the robot that is not the policy's, or the hold that the bundle declares.

The end, whatever it is, leaves the robot with the hold (where the bundle declares one), and with a report.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from loop import Loop
from segments import camera_fields, check_writer, command_fields, connect, first_record, state_fields

import keystep


@dataclass(frozen=True)
class Arguments:
    """Run a policy on the robot that world.py simulates.

    Attributes:
        bundle: its folder.
        task: what the policy is told; the bundle's first task when not given.
        seed: of the policy's noise.
        name: of the shared memory, as world.py was given it.
        seconds: so long; 0: until the world ends, or Ctrl-C.
        arm_hz: rate of the arm thread, at least the bundle's.
        camera_hz: rate of the camera thread.
        underrun: what the robot is given while the policy has no action, see docs/real_time.md.
        max_age_ms: the policy is asked for nothing by what is older; first what is left, then underrun.
        patience_s: a world that shows nothing new for so long hangs.
        wait_s: so long for the world to be there.
        fifo_priority: SCHED_FIFO of the arm's thread and of the policy's clock, where permitted; 0: none.
        lock_memory: mlockall, where permitted.
    """

    bundle: Annotated[Path, tyro.conf.Positional]
    task: str | None = None
    seed: int = 0
    name: str = "keystep-robot"
    seconds: float = 0.0
    arm_hz: float = 100.0
    camera_hz: float = 30.0
    underrun: str = "hold"
    max_age_ms: int = 200
    patience_s: float = 1.0
    wait_s: float = 10.0
    fifo_priority: int = 0
    lock_memory: bool = False


class Camera:
    """The camera's driver."""

    def __init__(self, arguments: Arguments, manifest: dict[str, Any]) -> None:
        wait_s, self._patience_s = arguments.wait_s, arguments.patience_s
        self._shown = connect(f"{arguments.name}-camera", camera_fields(manifest), wait_s)
        self.newest = first_record(self._shown, wait_s, self._patience_s)

    def step(self) -> None:
        """Of the camera thread."""
        frame = self._shown.newest()
        assert frame is not None  # the first one was there
        self.newest = frame  # one reference, replaced at once: whoever reads has this frame or the one before
        check_writer(self._shown, frame, self._patience_s, "a world")


class Arm:
    """The arm's driver."""

    def __init__(self, arguments: Arguments, manifest: dict[str, Any], at_end: Callable[[], None]) -> None:
        name, wait_s, self._patience_s = arguments.name, arguments.wait_s, arguments.patience_s
        self._shown = connect(f"{name}-state", state_fields(manifest), wait_s)
        self._told = connect(f"{name}-command", command_fields(manifest), wait_s)
        self.newest = first_record(self._shown, wait_s, self._patience_s)
        self._at_end = at_end
        self._command: tuple[int, np.ndarray] = (0, np.empty(0, np.float32))  # number 0: none yet
        self._sent = self._repeated = self._replaced = 0
        self._last = 0  # number that was sent

    def take(self, action: np.ndarray, status: str) -> None:
        """Of the policy's thread: its action of this period, or a hold where `status` is not ok."""
        self._command = (self._command[0] + 1, action.copy())

    def step(self) -> None:
        """Of the arm thread."""
        state = self._shown.newest()
        assert state is not None
        self.newest = state
        self._send()
        check_writer(self._shown, state, self._patience_s, "a world")
        if self._shown.ended:
            self._at_end()

    def _send(self) -> None:
        number, action = self._command
        if number == 0:
            return
        self._sent += number != self._last
        self._repeated += number == self._last
        self._replaced += max(0, number - self._last - 1)
        self._last = number
        self._told.write({"number": np.array([number]), "action": action})

    def close(self) -> None:
        """After both threads: the last action, which is the run's hold, and that no other will follow."""
        self._send()
        self._told.end()

    @property
    def ended(self) -> bool:
        """By the world."""
        return self._shown.ended

    def __str__(self) -> str:
        step, executed, success = (int(self.newest.arrays[key][0]) for key in ("step", "executed", "success"))
        return (
            f"{self._sent} actions sent, {self._replaced} replaced before, {self._repeated} repetitions\n"
            f"world: {'success' if success else 'no success'} after {step} steps; executed last: {executed}"
        )


class Robot:
    """The threads, and what the policy sees of them."""

    def __init__(self, arguments: Arguments, policy: keystep.Runtime) -> None:
        self.arguments, self.policy = arguments, policy
        manifest, rate_hz = policy.manifest, policy.manifest["control_rate_hz"]
        if arguments.arm_hz < rate_hz:  # else it would leave actions out
            raise keystep.ArgumentError(
                f"arm_hz: expected at least the bundle's {rate_hz:g}, got {arguments.arm_hz:g}"
            )
        self.arm = Arm(arguments, manifest, policy.stop)
        self.loops = [Loop("arm", arguments.arm_hz, self.arm.step, arguments.fifo_priority)]
        self.camera = Camera(arguments, manifest) if camera_fields(manifest) else None
        if self.camera is not None:
            self.loops.append(Loop("camera", arguments.camera_hz, self.camera.step))
        self._keys = {entry["key"] for entry in manifest["observation"]}

    def see(self) -> dict[str, Any]:
        """The newest of everything, as old as the oldest of it. Raises what a thread raised: the run ends."""
        for loop in self.loops:
            loop.check()
        records = [self.arm.newest] + ([self.camera.newest] if self.camera else [])
        arrays = {
            key: array for record in records for key, array in record.arrays.items() if key in self._keys
        }
        return arrays | {"timestamp_us": min(record.timestamp_us for record in records)}

    def run(self) -> str:
        """Until the world ends, or the time is over, or Ctrl-C: which one."""
        arguments, policy = self.arguments, self.policy
        periods = round(arguments.seconds * policy.manifest["control_rate_hz"])
        try:
            with ExitStack() as threads:
                threads.callback(self.arm.close)  # last
                for loop in self.loops:
                    threads.enter_context(loop)
                policy.run(
                    None, self.see, self.arm.take, periods=periods,
                    fifo_priority=arguments.fifo_priority, lock_memory=arguments.lock_memory,
                )  # fmt: skip
        except KeyboardInterrupt:
            return "Ctrl-C"
        return "the world" if self.arm.ended else "--seconds"

    def report(self, end: str) -> str:
        """What the system gave, how time was kept, what was missing."""
        policy = self.policy
        lines = [
            f"ended by: {end}",
            f"policy at {policy.manifest['control_rate_hz']:g} Hz:",
            policy.run_report(),
        ]
        return "\n".join(map(str, [*lines, *self.loops, self.arm, policy.telemetry(), policy.latency()]))


def main(arguments: Arguments) -> None:
    """Load, connect, run, report."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the robot is left with the hold
    with keystep.load(
        arguments.bundle, mode="async", underrun=arguments.underrun,
        max_observation_age_us=1000 * arguments.max_age_ms,
    ) as policy:  # fmt: skip
        robot = Robot(arguments, policy)
        task = arguments.task or next(iter(policy.task_names), None)
        policy.reset(task=task, seed=arguments.seed)
        print(f"robot: {policy.manifest['name']}, {task}", flush=True)
        end = "an error"
        try:
            end = robot.run()
        finally:
            if policy.run_report() is not None:  # it began
                print(robot.report(end), flush=True)


if __name__ == "__main__":
    try:
        main(tyro.cli(Arguments))
    except (keystep.Error, OSError) as error:
        sys.exit(f"robot: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
